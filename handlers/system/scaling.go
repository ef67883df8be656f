package system

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

const (
	metricWorkers      = 10
	metricTimeout      = 3 * time.Second
	metricErrorLength  = 255
	metricLineLength   = 4096
	definitionsTimeout = 20 * time.Second
)

// ScalingMetrics measures what the coordinator asks for.
//
// Params:  none
// Result:  list of agentapi.ScalingMetric in the order of the definitions; [] when there are none
// Errors:  QueryEnvError (no coordinator, no answer within 20 s, a definition with an unknown method)
// Effects: runs the programs that definitions with the method "execute" name, for at most 3 s each
// Source:  spec agent-core 4.4
func (s *Service) ScalingMetrics(ctx context.Context, _ handlers.NoParams) ([]agentapi.ScalingMetric, error) {
	definitions, err := s.definitions(ctx)
	if err != nil {
		return nil, err
	}
	metrics := make([]agentapi.ScalingMetric, len(definitions))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(metricWorkers, len(definitions)) {
		workers.Go(func() {
			for i := range next {
				metrics[i] = s.measure(ctx, definitions[i])
			}
		})
	}
	for i := range definitions {
		next <- i
	}
	close(next)
	workers.Wait()
	return metrics, nil
}

func (s *Service) definitions(ctx context.Context) ([]agentapi.ScalingMetricDefinition, error) {
	if s.opts.Metrics == nil {
		return nil, queryEnvError(agentapi.KindUnsupported, "no coordinator is configured that defines scaling metrics")
	}
	ctx, cancel := context.WithTimeout(ctx, definitionsTimeout)
	defer cancel()
	definitions, err := s.opts.Metrics.ScalingMetrics(ctx)
	if typed, ok := errors.AsType[*agentapi.Error](err); ok {
		return nil, typed
	}
	if err != nil {
		return nil, queryEnvError(agentapi.KindUnavailable, err.Error())
	}
	for _, d := range definitions {
		if d.Method != "execute" && d.Method != "read" {
			return nil, queryEnvError(agentapi.KindInternal, fmt.Sprintf("metric %.80q has the unknown retrieve-method %.40q", d.Name, d.Method))
		}
	}
	return definitions, nil
}

func queryEnvError(kind agentapi.Kind, text string) error {
	return &agentapi.Error{Kind: kind, Class: "QueryEnvError", Text: text}
}

func (s *Service) measure(ctx context.Context, d agentapi.ScalingMetricDefinition) agentapi.ScalingMetric {
	m := agentapi.ScalingMetric{ID: d.ID, Name: d.Name}
	fetch := s.readMetric
	if d.Method == "execute" {
		fetch = s.executeMetric
	}
	text, err := fetch(ctx, d.Path)
	if err == nil {
		m.Value, err = parseMetric(text)
	}
	if err != nil {
		m.Error = shorten(err.Error(), metricErrorLength)
	}
	return m
}

// executeMetric is what a program printed. It runs without arguments.
func (s *Service) executeMetric(ctx context.Context, path string) (string, error) {
	st, err := os.Stat(s.host.Path(path))
	if err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		//lint:ignore ST1005 callers of the old agent match on the text
		return "", fmt.Errorf("File is not executable: '%s'", path)
	}
	out, err := s.host.Run(ctx, host.Cmd{Path: s.host.Path(path), Timeout: metricTimeout, MaxOutput: metricLineLength})
	failed, _ := errors.AsType[*host.CommandError](err)
	switch {
	case errors.Is(err, host.ErrTimeout):
		return "", errors.New("Timeouted")
	case failed != nil && failed.Err == nil:
		if text := strings.TrimSpace(string(failed.Output.Stderr)); text != "" {
			return "", errors.New(text)
		}
		return "", fmt.Errorf("exitcode: %d", failed.Output.Code)
	case err != nil:
		return "", err
	}
	return strings.TrimSpace(string(out.Stdout)), nil
}

// readMetric is the first line of a file.
func (s *Service) readMetric(_ context.Context, path string) (string, error) {
	//lint:ignore ST1005 callers of the old agent match on the text
	unreadable := fmt.Errorf("File is not readable: '%s'", path)
	f, err := os.OpenFile(s.host.Path(path), os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hold us
	if err != nil {
		return "", unreadable
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", unreadable
	}
	line, err := bufio.NewReader(io.LimitReader(f, metricLineLength)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", unreadable
	}
	return strings.TrimSpace(line), nil
}

// parseMetric reads a decimal number. Python takes "nan" and "inf", which JSON cannot carry; Go takes hexadecimal and
// underscores, which no old agent took.
func parseMetric(text string) (agentapi.Float, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.ContainsAny(text, "xX_") || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("could not convert string to float: %s", text)
	}
	return agentapi.Float(v), nil
}

// shorten keeps the first n characters.
func shorten(text string, n int) string {
	text = strings.ToValidUTF8(text, "?")
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n])
}
