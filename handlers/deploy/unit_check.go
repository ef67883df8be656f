package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// pauses are the waits of a start: for its health check, and for a unit without a port to show that it stays up.
type pauses struct {
	first, most time.Duration // between two tries; each is twice the one before
	settle      time.Duration
	answer      time.Duration // for one answer
}

var defaultPauses = pauses{first: 50 * time.Millisecond, most: 3 * time.Second, settle: 3 * time.Second, answer: 30 * time.Second}

const (
	startTimeout    = 120 * time.Second
	maxStartTimeout = 30 * time.Minute
	maxCheckedBody  = 1 << 20
)

// checker asks one unit whether it serves.
type checker struct {
	addr   string // host:port
	method string
	path   string // "" means: a connection is enough
	status int    // 0: any
	match  *regexp.Regexp
	client *http.Client
}

// newChecker makes a checker of what was asked for; the error is about that.
func newChecker(host string, port int, c *agentapi.HealthCheck, answer time.Duration) (checker, error) {
	k := checker{addr: net.JoinHostPort(host, strconv.Itoa(port))}
	if c == nil || c.Path == "" {
		return k, nil
	}
	k.method, k.path, k.status = strings.ToUpper(c.Method), c.Path, c.Status
	if k.method == "" {
		k.method = http.MethodGet
	}
	if !strings.HasPrefix(k.path, "/") {
		k.path = "/" + k.path
	}
	if k.status == 0 && c.Match == "" {
		k.status = http.StatusOK
	}
	if c.Match != "" {
		var err error
		if k.match, err = regexp.Compile("(?s)" + c.Match); err != nil {
			return k, invalid("healthcheck.match: %v", err)
		}
	}
	if _, err := http.NewRequest(k.method, "http://"+k.addr+k.path, nil); err != nil {
		return k, invalid("healthcheck: %v", err)
	}
	k.client = &http.Client{
		Timeout:       answer,
		Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return k, nil
}

// errAnswer is an answer that is wrong: asking again does not help.
type errAnswer struct{ text string }

func (e errAnswer) Error() string { return e.text }

// try asks once. An errAnswer is final; any other error may pass.
func (k checker) try(ctx context.Context) error {
	if k.path == "" {
		return dial(ctx, k.addr)
	}
	req, err := http.NewRequestWithContext(ctx, k.method, "http://"+k.addr+k.path, nil)
	if err != nil {
		return errAnswer{err.Error()}
	}
	req.Header.Set("User-Agent", "reeve-healthcheck")
	res, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if k.status != 0 && res.StatusCode != k.status {
		return errAnswer{fmt.Sprintf("%s %s answers %s, not %d", k.method, k.path, res.Status, k.status)}
	}
	if k.match == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxCheckedBody))
	if err != nil {
		return err
	}
	if !k.match.Match(body) {
		return errAnswer{fmt.Sprintf("the body of %s %s does not match %q", k.method, k.path, strings.TrimPrefix(k.match.String(), "(?s)"))}
	}
	return nil
}

func dial(ctx context.Context, addr string) error {
	d := net.Dialer{Timeout: 2 * time.Second}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// listens says whether something accepts connections.
func listens(ctx context.Context, host string, port int) bool {
	return dial(ctx, net.JoinHostPort(host, strconv.Itoa(port))) == nil
}

// ownAddress is an address under which others reach this host: what listens on the loopback address only is not reached.
func ownAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return loopback
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	return loopback
}

const loopback = "127.0.0.1"

// awaitHealthy waits until a started unit serves; web is whether it has a process that listens.
func (s *Service) awaitHealthy(ctx context.Context, p agentapi.StartUnitParams, k checker, web bool) error {
	pause, began := s.pauses.first, time.Now()
	for {
		if err := s.wantUp(ctx, p); err != nil {
			return err
		}
		var err error
		if web {
			err = k.try(ctx)
		} else if time.Since(began) < s.pauses.settle {
			err = errors.New("it has to stay up for a moment")
		}
		if err == nil {
			return s.wantUp(ctx, p)
		}
		if answer, wrong := errors.AsType[errAnswer](err); wrong {
			return unitError("the health check failed: %s", answer)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return s.tooLate(ctx, p, k, err)
		case <-timer.C:
		}
		pause = min(2*pause, s.pauses.most)
	}
}

// tooLate says why a unit did not come to serve in time.
func (s *Service) tooLate(ctx context.Context, p agentapi.StartUnitParams, k checker, last error) error {
	if !errors.Is(context.Cause(ctx), errStartTimeout) {
		return context.Cause(ctx)
	}
	host, _, _ := net.SplitHostPort(k.addr)
	if host != loopback && !listens(context.WithoutCancel(ctx), host, p.Port) && listens(context.WithoutCancel(ctx), loopback, p.Port) {
		return unitError("it listens on %s:%d only; it has to listen on 0.0.0.0:$PORT", loopback, p.Port)
	}
	return unitError("it did not serve in time: %v", last)
}

// wantUp fails when a process of the unit ended.
func (s *Service) wantUp(ctx context.Context, p agentapi.StartUnitParams) error {
	for _, process := range p.Processes {
		d, err := s.host.UnitControl().Detail(ctx, unitService(p.App, p.Unit, process.Name))
		if err != nil {
			if ctx.Err() != nil {
				return nil // the caller says what that means
			}
			return err
		}
		if d.Restarts > 0 || !d.Running() && d.Active != "activating" || d.Sub == "auto-restart" {
			return unitError("process %s ended (%s)", process.Name, howEnded(d.Result, d.ExitStatus))
		}
	}
	return nil
}

// howEnded is systemd's result of a service in words.
func howEnded(result string, status int) string {
	switch result {
	case "success":
		return "exit code 0"
	case "exit-code":
		return "exit code " + strconv.Itoa(status)
	case "signal", "core-dump":
		return "signal " + strconv.Itoa(status)
	case "oom-kill":
		return "out of memory"
	case "":
		return "without a result"
	}
	return result
}

func unitError(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "UnitError", format, args...)
}
