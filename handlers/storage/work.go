package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// retryPause is the time between two tries to take back what an interrupted change left.
const retryPause = time.Minute

// work is one change of the host's storage that undoes itself. How to take a step back is written to a journal in the state
// directory before the step is done, as data: so what this process cannot take back any more, because it was killed, the
// next one can. An undo therefore has to cope with a step that was not done, or not completely.
type work struct {
	s   *Service
	id  string
	log *slog.Logger

	mu    sync.Mutex // protects the fields below: members of a volume are worked on at the same time
	boot  string     // names the boot that the steps belong to
	made  int        // objects in a cloud
	steps []step
}

// journal is the file of a work.
type journal struct {
	Boot  string `json:"boot"`
	Steps []step `json:"steps"`
}

// step is how to take one thing back: a verb of undo.go and its arguments.
type step struct {
	Verb string   `json:"verb"`
	Args []string `json:"args"`
}

func (s *Service) journalDir() string { return path.Join(s.dir, "journal") }

func (s *Service) begin(id string, log *slog.Logger) *work {
	return &work{s: s, id: id, log: log, boot: s.bootID()}
}

// bootID names this boot; "" where the kernel does not say.
func (s *Service) bootID() string {
	id, _ := s.host.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

func (w *work) path() string { return path.Join(w.s.journalDir(), w.id+".json") }

// will notes how to take the next step back. The caller does the step only when will returned nil.
func (w *work) will(verb string, args ...string) error {
	return w.note(verb, func() { w.steps = append(w.steps, step{verb, args}) })
}

// conclude keeps what was done so far, like commit, and notes how the next agent completes what is left to do.
func (w *work) conclude(verb string, args ...string) error {
	return w.note(verb, func() { w.steps = []step{{verb, args}} })
}

func (w *work) note(verb string, edit func()) error {
	w.s.boundary("before " + verb)
	defer w.s.boundary(verb)
	w.mu.Lock()
	defer w.mu.Unlock()
	edit()
	return w.saveLocked()
}

func (w *work) saveLocked() error {
	data, err := json.Marshal(journal{w.boot, w.steps})
	if err != nil {
		return err
	}
	if err := w.s.host.MkdirAll(w.s.journalDir(), 0o700); err != nil {
		return err
	}
	return w.s.host.WriteFile(w.path(), data, 0o600)
}

// commit keeps what was done so far: after it, nothing is taken back any more.
func (w *work) commit() error {
	w.s.boundary("before commit")
	defer w.s.boundary("commit")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.steps) == 0 {
		return nil
	}
	if err := w.s.host.Remove(w.path()); err != nil {
		return err
	}
	w.steps = nil
	return nil
}

// rollback takes everything back, the last step first, and adds what could not be taken back to the reason. It ends at a step
// that cannot be taken back, because the ones before it are what that one stands on; the journal keeps them for the next try.
func (w *work) rollback(ctx context.Context, reason error) error {
	return w.takeBack(ctx, reason, false)
}

// madeUnknown are the verbs of what was made in a cloud under a name that nobody was told: it can be taken back at any time.
var madeUnknown = []string{"cloud-delete", "cloud-drop-snapshot"}

// takeBack is rollback; the last try goes on after a step that cannot be taken back, and gives it up unless it keeps.
func (w *work) takeBack(ctx context.Context, reason error, lastTry bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.steps) == 0 {
		return reason
	}
	ctx = context.WithoutCancel(ctx) // an agent that is asked to stop does not leave half a volume
	rebooted := w.boot != w.s.bootID()
	var errs []error
	var kept []step
	left := w.steps
	for i, st := range slices.Backward(w.steps) {
		if rebooted && slices.Contains(ofThisBoot, st.Verb) {
			continue
		}
		if err := w.s.undo(ctx, st); err != nil {
			w.log.Warn("step could not be taken back", "step", st.Verb, "args", strings.Join(st.Args, " "), "err", err)
			errs = append(errs, fmt.Errorf("%s: %w", st.Verb, err))
			if !lastTry {
				break
			}
			if slices.Contains(madeUnknown, st.Verb) {
				kept = slices.Insert(kept, 0, st)
			}
		}
		left = w.steps[:i]
	}
	w.steps = left
	if lastTry {
		w.steps = kept
	}
	if len(errs) > 0 && !lastTry {
		return errors.Join(withText(reason, errs[0]), w.saveLocked())
	}
	if len(kept) > 0 {
		return errors.Join(reason, errors.Join(errs...), w.saveLocked())
	}
	return errors.Join(reason, errors.Join(errs...), w.s.host.Remove(w.path()))
}

// withText adds to an error's text what could not be taken back, and keeps its class and kind.
func withText(reason, more error) error {
	if reason == nil {
		return more
	}
	e, ok := errors.AsType[*agentapi.Error](reason)
	if !ok {
		return fmt.Errorf("%w; not taken back: %v", reason, more)
	}
	c := *e
	c.Text += "; not taken back: " + more.Error()
	return &c
}

// Start implements handlers.Starter: it takes back what a killed agent began and did not finish.
func (s *Service) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeBackLocked(ctx, false)
}

// Run takes back what could not be at the start, such as while the coordinator is off, and what an operation could not: nobody may
// ever ask for another change.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(s.retryPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.Start(ctx); err != nil {
			s.log.Warn("an interrupted change of storage is not taken back yet", "err", err)
		}
	}
}

// takeBackLocked takes back every change that is not finished. Before a new change it is the last time that this is tried:
// the host is about to become another one, on which an old undo might harm what is new. What was made in a cloud under a name that
// nobody was told is tried for ever.
func (s *Service) takeBackLocked(ctx context.Context, lastTry bool) error {
	entries, err := s.host.ReadDir(s.journalDir())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		id, isJournal := strings.CutSuffix(e.Name(), ".json")
		if !isJournal {
			continue
		}
		w := s.begin(id, s.log)
		data, err := s.host.ReadFile(w.path())
		var j journal
		if err == nil {
			err = json.Unmarshal(data, &j)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s: %w", w.path(), err))
			if lastTry {
				errs = append(errs, s.host.Remove(w.path()))
			}
			continue
		}
		w.boot, w.steps = j.Boot, j.Steps
		s.log.Warn("taking back a change of storage that was interrupted", "operation_id", id, "steps", len(w.steps))
		errs = append(errs, w.takeBack(ctx, nil, lastTry))
	}
	return errors.Join(errs...)
}

// clearJournalLocked is takeBackLocked before a new change: what still cannot be taken back is given up, and said.
func (s *Service) clearJournalLocked(ctx context.Context) {
	if err := s.takeBackLocked(ctx, true); err != nil {
		s.log.Error("an interrupted change of storage is not taken back; look at what it left", "err", err)
	}
	entries, err := s.host.ReadDir(s.journalDir())
	if err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".json") }) {
		err = s.host.RemoveAll(s.journalDir()) // what a kill left half-written goes too
	}
	if err != nil {
		s.log.Error("clear the journal of storage", "err", err)
	}
}
