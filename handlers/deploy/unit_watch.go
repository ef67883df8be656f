package deploy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// unitLocks let one call at a time work on a unit. Stopping one interrupts its start.
type unitLocks struct {
	mu   sync.Mutex // protects the fields below
	held map[string]*unitLock
}

type unitLock struct {
	users  int
	turn   chan struct{}           // holds one token while nobody has the lock
	cancel context.CancelCauseFunc // of the start under way, nil when there is none; protected by unitLocks.mu
}

// errStopped is why a start ends whose unit is stopped.
var errStopped = agentapi.Errorf(agentapi.KindConflict, "UnitError", "the unit was stopped while it was being started")

func (l *unitLocks) get(key string) *unitLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[string]*unitLock{}
	}
	k := l.held[key]
	if k == nil {
		k = &unitLock{turn: make(chan struct{}, 1)}
		k.turn <- struct{}{}
		l.held[key] = k
	}
	k.users++
	return k
}

func (l *unitLocks) leave(key string, k *unitLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.held, key)
	}
}

// take waits for the lock of a key until ctx ends.
func (l *unitLocks) take(ctx context.Context, key string, interrupt bool) (*unitLock, func(), error) {
	k := l.get(key)
	if interrupt {
		l.mu.Lock()
		if k.cancel != nil {
			k.cancel(errStopped)
		}
		l.mu.Unlock()
	}
	select {
	case <-k.turn:
	case <-ctx.Done():
		l.leave(key, k)
		return nil, nil, context.Cause(ctx)
	}
	return k, func() {
		k.turn <- struct{}{}
		l.leave(key, k)
	}, nil
}

func (s *Service) lockStart(ctx context.Context, app, unit string) (context.Context, func(), error) {
	k, unlock, err := s.locks.take(ctx, app+"."+unit, false)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	set := func(c context.CancelCauseFunc) {
		s.locks.mu.Lock()
		defer s.locks.mu.Unlock()
		k.cancel = c
	}
	set(cancel)
	return ctx, func() {
		set(nil)
		cancel(nil)
		unlock()
	}, nil
}

func (s *Service) lockStop(ctx context.Context, app, unit string) (func(), error) {
	_, unlock, err := s.locks.take(ctx, app+"."+unit, true)
	return unlock, err
}

// Pauses between two attempts of the agent to start what systemd gave up, and how long something has to run to count as
// well again.
const (
	watchEvery  = 5 * time.Second
	firstPause  = 10 * time.Second
	longestWait = 5 * time.Minute
	wellAfter   = 2 * time.Minute
)

// failing is a process that systemd gave up.
type failing struct {
	pause    time.Duration // before the next attempt
	next     time.Time
	restarts int // by us
}

// watch is what the agent knows of failing processes, by service.
type watch struct {
	mu     sync.Mutex // protects the field below
	failed map[string]*failing
}

// Run starts processes of units again that systemd gave up, with growing pauses, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.watchUnits(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("watch units", "err", err)
			}
		}
	}
}

// watchUnits looks once.
func (s *Service) watchUnits(ctx context.Context) error {
	records, err := s.units("")
	if err != nil {
		return err
	}
	var errs []error
	known := map[string]bool{}
	for _, r := range records {
		for _, process := range r.Processes {
			service := unitService(r.App, r.Unit, process.Name)
			known[service] = true
			if r.State == agentapi.UnitStarted {
				errs = append(errs, s.watchProcess(ctx, r, service))
			}
		}
	}
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	for service := range s.watch.failed {
		if !known[service] {
			delete(s.watch.failed, service)
		}
	}
	return errors.Join(errs...)
}

func (s *Service) watchProcess(ctx context.Context, r unitRecord, service string) error {
	d, err := s.host.UnitControl().Detail(ctx, service)
	if err != nil {
		return err
	}
	now := s.now()
	if d.Active != "failed" && d.Active != "inactive" {
		s.watch.mu.Lock()
		if f := s.watch.failed[service]; f != nil && d.Running() && now.Sub(d.Since) >= wellAfter {
			f.pause = firstPause
		}
		s.watch.mu.Unlock()
		return nil
	}
	if !s.watch.due(service, now) {
		return nil
	}
	unlock := s.lockIdle(r.App, r.Unit)
	if unlock == nil {
		return nil
	}
	defer unlock()
	if again, err := s.readUnit(s.unitFile(r.App, r.Unit)); err != nil || again.State != agentapi.UnitStarted {
		return nil // stopped in the meantime
	}
	s.log.Info("start a process again that systemd gave up", "app", r.App, "unit", r.Unit, "service", service, "result", d.Result)
	if err := s.host.UnitControl().ResetFailed(ctx, service); err != nil {
		return err
	}
	if err := s.host.Units().Start(ctx, service); err != nil {
		return fmt.Errorf("start %s again: %w", service, err)
	}
	return nil
}

// due says whether it is time to start a service again, and when it is, when the next time will be.
func (w *watch) due(service string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.failed[service]
	if f == nil {
		f = &failing{pause: firstPause, next: now.Add(firstPause)}
		w.failed[service] = f
		return false
	}
	if f.next.IsZero() { // it failed again after an attempt
		f.next = now.Add(f.pause)
		return false
	}
	if now.Before(f.next) {
		return false
	}
	f.pause, f.next = min(2*f.pause, longestWait), time.Time{}
	f.restarts++
	return true
}

// lockIdle takes a unit's lock when nobody has it, and is nil otherwise.
func (s *Service) lockIdle(app, unit string) (unlock func()) {
	key := app + "." + unit
	k := s.locks.get(key)
	select {
	case <-k.turn:
		return func() {
			k.turn <- struct{}{}
			s.locks.leave(key, k)
		}
	default:
		s.locks.leave(key, k)
		return nil
	}
}

// restarted is how often the agent started processes of a unit again.
func (s *Service) restarted(r unitRecord) int {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	n := 0
	for _, process := range r.Processes {
		if f := s.watch.failed[unitService(r.App, r.Unit, process.Name)]; f != nil {
			n += f.restarts
		}
	}
	return n
}

// startUnits starts, when the agent starts, the units that are to run and do not: those whose release was on a volume that
// only the agent mounts.
func (s *Service) startUnits(ctx context.Context) error {
	records, err := s.units("")
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range records {
		a, err := s.load(r.App)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if r.State != agentapi.UnitStarted || !s.host.Exists(a.release(r.Release)) {
			continue
		}
		for _, process := range r.Processes {
			service := unitService(r.App, r.Unit, process.Name)
			d, err := s.host.UnitControl().Detail(ctx, service)
			if err == nil && d.Active == "inactive" {
				err = s.host.Units().Start(ctx, service)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
