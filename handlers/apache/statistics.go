package apache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/web"
)

const (
	statusAddr    = "127.0.0.1:80"
	statusTimeout = 5 * time.Second
	statusLimit   = 1 << 20 // bytes
)

// GetWebserverStatistics is what Apache's mod_status tells about itself, one text for each of its keys. Where there is
// nothing to tell, the one key is errmsg: this method never fails.
//
// Result:  {"Uptime": "12", "BusyWorkers": "1", "Scoreboard": "W_…", …} or {"errmsg": string}
// Effects: one request to loopback, of at most 5 s and 1 MiB
// Source:  spec agent-web 2.5, 6 S15
func (s *Service) GetWebserverStatistics(ctx context.Context, _ handlers.NoParams) (map[string]string, error) {
	stats, err := s.statistics(ctx)
	if err != nil {
		return map[string]string{"errmsg": err.Error()}, nil
	}
	return stats, nil
}

func (s *Service) statistics(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	code, body, err := web.GetLocal(ctx, s.statusAddr, "/server-status?auto", statusLimit)
	if err != nil {
		return nil, shortly(err)
	}
	switch code {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, errors.New("mod_status is not enabled")
	default:
		return nil, fmt.Errorf("HTTP Error %d: %s", code, http.StatusText(code))
	}
	stats := parseStatus(string(body))
	if _, ok := stats["Scoreboard"]; !ok {
		return nil, fmt.Errorf("what answers at %s is not Apache's status page", s.statusAddr)
	}
	return stats, nil
}

// Stats is what mod_status counts, for metrics.
type Stats struct {
	Requests, SentBytes      float64 // since Apache was started
	BusyWorkers, IdleWorkers float64
}

// Stats asks a running Apache; ok is false when none runs, or when it tells nothing.
//
// Errors: an Apache that runs and does not answer within ctx
func (s *Service) Stats(ctx context.Context) (stats Stats, ok bool, err error) {
	state, err := s.host.Units().State(ctx, s.layout.ApacheUnit)
	if err != nil || state.Active != "active" { // what else answers there is not asked
		return stats, false, ctx.Err()
	}
	told, err := s.statistics(ctx)
	if err != nil {
		return stats, false, ctx.Err()
	}
	number := func(key string) float64 {
		v, _ := strconv.ParseFloat(told[key], 64) // a key that is missing is 0
		return v
	}
	return Stats{number("Total Accesses"), number("Total kBytes") * 1024, number("BusyWorkers"), number("IdleWorkers")}, true, nil
}

// shortly says an error in the words callers know.
func shortly(err error) error {
	switch e, isURL := errors.AsType[*url.Error](err); {
	case errors.Is(err, syscall.ECONNREFUSED):
		//lint:ignore ST1005 callers of the old agent match on the text
		return errors.New("Connection refused")
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("timed out")
	case isURL:
		return e.Err
	}
	return err
}

// parseStatus reads "key: value" lines. Values may hold colons; the first line of the page has none.
func parseStatus(text string) map[string]string {
	stats := map[string]string{}
	for row := range strings.Lines(text) {
		if key, value, ok := strings.Cut(row, ":"); ok {
			stats[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return stats
}
