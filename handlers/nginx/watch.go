package nginx

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/handlers/web"
)

// bindTimeout is how long nginx tries to bind a new port before it gives up, five times every half second, and some more.
const bindTimeout = 4 * time.Second

// retireTimeout is how long old workers are waited for, on a host that has hardly any processor time left.
const retireTimeout = 4 * time.Second

// watch tells whether a reload worked. "nginx -s reload" exits with 0 as soon as the signal is sent; when the new
// configuration cannot be served, the old workers stay (spec agent-web 5).
//
// What is looked at, every 5 ms, is the master's children: new workers exist once the new configuration is in force, and
// then the old ones stop accepting, which is waited for so that the next request is answered by the new configuration, and
// the next reload finds nothing of this one under way. On an idle host that takes a tenth of a second, which nginx gives its
// new workers to start. A failure costs what nginx itself takes to give up, unless its log says so earlier. An old worker
// that is busy with a download has stopped accepting too.
func (s *Service) watch(pid int) func(context.Context) error {
	before, visible := web.Children(s.host, pid)
	tail := web.TailFrom(s.host, s.errorLog())
	return func(ctx context.Context) error {
		if !visible {
			return s.staysUp(ctx)
		}
		wait, cancel := context.WithTimeout(ctx, bindTimeout)
		defer cancel()
		err := web.Poll(wait, func() (bool, error) { return s.replaced(pid, before, tail) })
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("nginx kept its old configuration: no new worker started within %s: %s", bindTimeout, web.LastLines(tail.Text(), 3))
		}
		if err != nil {
			return err
		}
		wait, cancel = context.WithTimeout(ctx, retireTimeout)
		defer cancel()
		_ = web.Poll(wait, func() (bool, error) { return s.retired(before), nil }) // one that hangs is nothing to take a change back for
		return nil
	}
}

// replaced says that a worker of the new configuration runs.
func (s *Service) replaced(pid int, before map[int]bool, tail web.Tail) (bool, error) {
	if !web.Alive(s.host, pid) {
		return false, fmt.Errorf("nginx ended when it read the new configuration: %s", web.LastLines(tail.Text(), 3))
	}
	now, _ := web.Children(s.host, pid)
	for child := range now {
		if !before[child] {
			return true, nil
		}
	}
	if log := tail.Text(); strings.Contains(log, "still could not bind()") {
		return false, fmt.Errorf("nginx kept its old configuration: %s", web.LastLines(log, 3))
	}
	return false, nil
}

// retired says that no old worker accepts connections any more.
func (s *Service) retired(before map[int]bool) bool {
	for pid := range before {
		title, err := s.host.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && web.Alive(s.host, pid) && !strings.Contains(string(title), "shutting down") {
			return false
		}
	}
	return true
}

// errorLog is the main configuration's log file, "" when it names none.
func (s *Service) errorLog() string {
	conf, err := s.host.ReadFile(s.layout.NginxConf)
	if err != nil {
		return ""
	}
	nodes, _ := parse(string(conf))
	for _, n := range nodes {
		if p := n.arg(1); n.name() == "error_log" && path.IsAbs(p) {
			return p
		}
	}
	return ""
}

// staysUp watches the unit where processes cannot be seen.
func (s *Service) staysUp(ctx context.Context) error {
	end := time.Now().Add(s.settle)
	return web.Poll(ctx, func() (bool, error) {
		st, err := s.server.State(ctx)
		if err != nil {
			return false, err
		}
		if !st.Running() {
			return false, errors.New("nginx ended when it read the new configuration")
		}
		return time.Now().After(end), nil
	})
}
