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
// What is looked at, every 5 ms, is the process and its own log: Apache says "resuming normal operations" when
// the new configuration is in force and every port is bound, and httpd never suppresses that notice in a log file. On an
// idle Debian host that is a few milliseconds after the signal. Then the old workers are given retireTime to go, so that the
// next request is not answered by one that is still to hear of the reload; idle ones go within some milliseconds, one that
// is busy takes no new connection anyway and is not waited for longer. Waiting for an answered request instead would cost
// up to a second for nothing: the parent starts new workers at its next one-second round, and connections wait meanwhile.
// Where the log is not a file, new workers are the sign, or that the process lives on for the settle time; where processes
// cannot be seen either, it is that the unit does. Key and port problems, which kill Apache latest, are checked before the reload
// as well.
func (s *Service) watch(pid int) func(context.Context) error {
	seen := s.look()
	before, visible := web.Children(s.host, pid)
	return func(ctx context.Context) error {
		if !visible {
			return s.staysUp(ctx)
		}
		if err := s.inForce(ctx, seen, pid, before); errors.Is(err, context.DeadlineExceeded) {
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

// watchStart tells whether a start worked. Debian's unit counts as started when the first process has left; the one that stays
// then reads the configuration again, and a reload finds it only by the PID file that it writes after that.
func (s *Service) watchStart() func(context.Context) error {
	seen := s.look()
	return func(ctx context.Context) error {
		st, err := s.server.State(ctx)
		if err != nil {
			return err
		}
		if _, visible := web.Children(s.host, st.MainPID); !visible {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, riseTime)
		defer cancel()
		if err := s.inForce(ctx, seen, st.MainPID, nil); !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil // it runs, and says nothing that we read
	}
}

// riseTime is how long a started process is waited for: spec agent-web 2.5.
const riseTime = 30 * time.Second

// sight is what is looked at while Apache reads its configuration.
type sight struct {
	log   web.Tail
	isLog bool // the log is a file
}

func (s *Service) look() sight {
	var errorLog string
	if l, err := s.load(); err == nil {
		errorLog = l.errorLog
	}
	return sight{web.TailFrom(s.host, errorLog), errorLog != ""}
}

// inForce waits until a process has its configuration in force, or ended of it.
func (s *Service) inForce(ctx context.Context, seen sight, pid int, before map[int]bool) error {
	settled := time.Now().Add(s.settle)
	return web.Poll(ctx, func() (bool, error) {
		if !web.Alive(s.host, pid) {
			return false, fmt.Errorf("apache ended when it read the configuration: %s", web.LastLines(seen.log.Text(), 5))
		}
		return resumed(seen.log.Text(), pid) || s.newWorker(pid, before) || !seen.isLog && time.Now().After(settled), nil
	})
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

// resumed says that a process has told so in its log. Each MPM has a number of its own for the line: AH00163, AH00292, AH00489.
func resumed(log string, pid int) bool {
	for line := range strings.Lines(log) {
		_, rest, _ := strings.Cut(line, fmt.Sprintf("[pid %d", pid))
		if strings.Contains(line, "configured -- resuming normal operations") && (strings.HasPrefix(rest, "]") || strings.HasPrefix(rest, ":")) {
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
