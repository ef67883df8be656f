package web

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Numbers that get_service_status answers with (spec agent-web 1.5).
const (
	StatusRunning    = 0
	StatusNotRunning = 3
	StatusUnknown    = 4
)

// Server is a web server as a unit of the host. Its methods return errors of class InitdError.
type Server struct {
	Host *host.Host
	Unit string
	Log  *slog.Logger
	// Test runs the server's own test of the configuration in place.
	Test func(ctx context.Context) error
	// Watch looks at the running server before a reload, and returns how to wait until the reload is known to have worked.
	// Both servers answer "done" to a reload that then fails (spec agent-web 5).
	Watch func(pid int) func(ctx context.Context) error
	// WatchStart looks before a start and returns how to wait until the server is up; nil where the job itself waits for that.
	WatchStart func() func(ctx context.Context) error
}

const startTimeout = 90 * time.Second

// ReloadTimeout bounds a reload and the wait for its effect.
const ReloadTimeout = 30 * time.Second

// State is the unit's state; a unit that is not installed is an error.
func (s *Server) State(ctx context.Context) (host.UnitState, error) {
	st, err := s.Host.Units().State(ctx, s.Unit)
	if err != nil {
		return st, initd(err)
	}
	if st.Load == "not-found" {
		return st, agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "%s is not installed on this host", s.Unit)
	}
	return st, nil
}

// Status is the number of spec agent-web 1.5.
func (s *Server) Status(ctx context.Context) int {
	st, err := s.State(ctx)
	switch {
	case err != nil:
		return StatusUnknown
	case st.Running():
		return StatusRunning
	}
	return StatusNotRunning
}

// Start starts the server; one that runs is left alone.
func (s *Server) Start(ctx context.Context) error {
	st, err := s.State(ctx)
	if err != nil || st.Running() {
		return err
	}
	return s.start(ctx)
}

func (s *Server) start(ctx context.Context) error { return s.launch(ctx, s.Host.Units().Start) }

// launch runs a job that starts the server, and returns when it is up.
func (s *Server) launch(ctx context.Context, job func(ctx context.Context, unit string) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var wait func(context.Context) error
	if s.WatchStart != nil {
		wait = s.WatchStart()
	}
	if err := job(ctx, s.Unit); err != nil || wait == nil {
		return s.explain(ctx, err)
	}
	return initd(wait(ctx))
}

// Stop stops the server; one that does not run is left alone.
func (s *Server) Stop(ctx context.Context) error {
	st, err := s.State(ctx)
	if err != nil || !st.Running() && st.Active != "activating" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return initd(s.Host.Units().Stop(ctx, s.Unit))
}

// Restart restarts the server, or starts it. A configuration that does not pass the test leaves the old process alone.
func (s *Server) Restart(ctx context.Context) error {
	if _, err := s.State(ctx); err != nil {
		return err
	}
	if err := s.Test(ctx); err != nil {
		return err
	}
	return s.launch(ctx, s.Host.Units().Restart)
}

// Reload makes the running server take its configuration, and returns when it did; a server that does not run is started.
func (s *Server) Reload(ctx context.Context) error {
	st, err := s.State(ctx)
	if err != nil {
		return err
	}
	if !st.Running() {
		return s.start(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, ReloadTimeout)
	defer cancel()
	wait := s.Watch(st.MainPID)
	if err := s.Host.Units().Reload(ctx, s.Unit); err != nil {
		return s.explain(ctx, err)
	}
	return initd(wait(ctx))
}

// explain adds what the server's own test says to a job that failed: systemd knows only that it did.
func (s *Server) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if test := s.Test(ctx); test != nil {
		return test
	}
	return initd(err)
}

// Recover makes the running server fit the configuration again after a change was taken back: a reload, or a start when
// the server died of the change.
func (s *Server) Recover(ctx context.Context, wasRunning bool) error {
	st, err := s.State(ctx)
	if err != nil {
		return err
	}
	if !st.Running() && !wasRunning {
		return nil
	}
	if st.Running() {
		if err := s.Reload(ctx); err == nil {
			return nil
		}
	}
	return s.start(ctx)
}

func initd(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		return e
	}
	return &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "InitdError", Text: err.Error(), Err: err}
}

// outputLimit bounds how much of a tester's output goes into an error, in bytes.
const outputLimit = 4 << 10

// Output is what a tester printed, for an error message: what it complained about, at most 4 KiB.
func Output(out host.Output) string {
	text := strings.TrimSpace(strings.TrimSpace(string(out.Stderr)) + "\n" + strings.TrimSpace(string(out.Stdout)))
	if len(text) > outputLimit {
		text = text[:outputLimit] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
