package apache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/handlers/web"
)

// watch tells whether a graceful reload worked. "apachectl graceful" exits with 0 as soon as the signal is sent; the
// process then reads the configuration, and ends when it cannot be served (spec agent-web 5 and 8.1).
//
// What is looked at, every 5 ms, is the process and its own log: Apache says "resuming normal operations" (AH00163) when
// the new configuration is in force and every port is bound, and httpd never suppresses that notice in a log file. On an
// idle Debian host that is a few milliseconds after the signal. Then the old workers are given retireTime to go, so that the
// next request is not answered by one that is still to hear of the reload; idle ones go within some milliseconds, one that
// is busy takes no new connection anyway and is not waited for longer. Waiting for an answered request instead would cost
// up to a second for nothing: the parent starts new workers at its next one-second round, and connections wait meanwhile.
// Where the log is not a file, a new worker is the sign, and where processes cannot be seen either, that the unit
// stays up for the settle time. Key and port problems, which kill Apache latest, are checked before the reload as well.
func (s *Service) watch(pid int) func(context.Context) error {
	var errorLog string
	if l, err := s.load(); err == nil {
		errorLog = l.errorLog
	}
	tail := web.TailFrom(s.host, errorLog)
	before, visible := web.Children(s.host, pid)
	return func(ctx context.Context) error {
		if !visible {
			return s.staysUp(ctx)
		}
		done := func() (bool, error) {
			if !web.Alive(s.host, pid) {
				return false, fmt.Errorf("apache ended when it read the new configuration: %s", web.LastLines(tail.Text(), 5))
			}
			return resumed(tail.Text(), pid) || s.newWorker(pid, before), nil
		}
		if err := web.Poll(ctx, done); errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("apache did not take the new configuration within %s", web.ReloadTimeout)
		} else if err != nil {
			return err
		}
		retire, cancel := context.WithTimeout(ctx, retireTime)
		defer cancel()
		_ = web.Poll(retire, func() (bool, error) { return s.gone(before), nil })
		return nil
	}
}

// retireTime is how long old workers are waited for once the new configuration is in force.
const retireTime = 250 * time.Millisecond

func (s *Service) gone(pids map[int]bool) bool {
	for pid := range pids {
		if web.Alive(s.host, pid) {
			return false
		}
	}
	return true
}

func resumed(log string, pid int) bool {
	for line := range strings.Lines(log) {
		_, rest, _ := strings.Cut(line, fmt.Sprintf("[pid %d", pid))
		if strings.Contains(line, "AH00163") && (strings.HasPrefix(rest, "]") || strings.HasPrefix(rest, ":")) {
			return true
		}
	}
	return false
}

// newWorker says that a worker of the new configuration runs. A helper such as cgid's daemon starts earlier, while
// Apache may still give up; it is alone, where workers come in numbers, so one process is no proof.
func (s *Service) newWorker(pid int, before map[int]bool) bool {
	now, ok := web.Children(s.host, pid)
	if !ok {
		return false
	}
	fresh := 0
	for child := range now {
		if !before[child] {
			fresh++
		}
	}
	return fresh > 2
}

// staysUp watches the unit where nothing better can be seen.
func (s *Service) staysUp(ctx context.Context) error {
	end := time.Now().Add(s.settle)
	return web.Poll(ctx, func() (bool, error) {
		st, err := s.server.State(ctx)
		if err != nil {
			return false, err
		}
		if !st.Running() {
			return false, fmt.Errorf("apache ended when it read the new configuration")
		}
		return time.Now().After(end), nil
	})
}
