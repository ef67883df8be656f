package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Staged is a change of several files that survives the death of the agent at any instruction. New content is written to
// a staging directory first, where a service's own test can read it; Apply then moves it into place file by file, in the
// order the steps were added, so the caller orders them such that every state in between is valid too.
//
// A journal in the staging directory, with a hard link to each old file, exists from before the first move until Commit.
// After a kill RecoverStaged finds it and puts the old files back: a change that was not committed did not happen.
//
//	s, err := h.Stage(dir, readers)
//	defer s.Rollback()
//	staged, err := s.Write(target, text, 0o644)
//	… test staged …
//	if err := s.Apply(); err != nil { return err }
//	… reload and look …
//	return s.Commit()
//
// Who reads while files move sees a state in between as well, or some files as they were before and others as they are
// after. A step that takes away what such a reader may still look for waits for it: removals do, when the step is done and
// when the step that made the file is undone, and so do the steps that the caller names with Quiet.
//
// The staging directory must lie on the filesystem of every target, and only one change may use it at a time.
type Staged struct {
	h       *Host
	dir     string
	readers Readers
	steps   []stagedStep
	applied bool
	done    bool
}

// stagedStep moves New to Target, or removes Target when New is empty. Old is the hard link to what Target was.
type stagedStep struct {
	Target string `json:"target"`
	New    string `json:"new,omitempty"`
	Old    string `json:"old,omitempty"`
	// Quiet and QuietUndo say that readers are waited for before the step is done, and before it is undone.
	Quiet     bool `json:"quiet,omitempty"`
	QuietUndo bool `json:"quiet_undo,omitempty"`
}

const stagedJournal = "journal.json"

// MaxStagedName is how long the base name of a target may be, in bytes: a staged file has the number of its step, up to
// five digits, and a dash before it, and Linux allows 255 in all.
const MaxStagedName = 255 - 6

// Stage starts a staged change in dir, which it empties, of files that readers read. It refuses when dir holds a change that
// RecoverStaged must undo.
func (h *Host) Stage(dir string, readers Readers) (*Staged, error) {
	if h.Interrupted(dir) {
		return nil, fmt.Errorf("%s holds an interrupted change", dir)
	}
	if err := os.RemoveAll(h.Path(dir)); err != nil {
		return nil, err
	}
	if err := h.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Staged{h: h, dir: dir, readers: readers}, nil
}

// Interrupted says that dir holds a change that RecoverStaged would undo.
func (h *Host) Interrupted(dir string) bool { return h.Exists(filepath.Join(dir, stagedJournal)) }

// RecoverStaged undoes the change that a killed agent left in dir, and empties dir. It says whether there was one.
func (h *Host) RecoverStaged(dir string, readers Readers) (undone bool, err error) {
	data, err := h.ReadFile(filepath.Join(dir, stagedJournal))
	if errors.Is(err, fs.ErrNotExist) {
		return false, os.RemoveAll(h.Path(dir))
	}
	if err != nil {
		return false, err
	}
	s := &Staged{h: h, dir: dir, readers: readers, applied: true}
	if err := json.Unmarshal(data, &s.steps); err != nil {
		return false, fmt.Errorf("read %s: %w", filepath.Join(dir, stagedJournal), err)
	}
	return true, s.Rollback()
}

// Scratch writes a file that only the test needs, and returns its path.
func (s *Staged) Scratch(name string, data []byte) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(s.h.Path(path), data, 0o600)
}

// Write stages new content of target and returns the path of the staged file. A target that exists keeps its mode and
// owner; perm is for a new one.
func (s *Staged) Write(target string, data []byte, perm fs.FileMode) (string, error) {
	st, err := s.regular(target)
	if err != nil {
		return "", err
	}
	if st != nil {
		perm = st.Mode().Perm()
	}
	path := filepath.Join(s.dir, strconv.Itoa(len(s.steps))+"-"+filepath.Base(target))
	if err := writeSynced(s.h.Path(path), data, perm, st); err != nil {
		return "", err
	}
	s.steps = append(s.steps, stagedStep{Target: target, New: path})
	return path, nil
}

// Remove stages the removal of target. One that is not there is no step.
func (s *Staged) Remove(target string) error {
	st, err := s.regular(target)
	if st != nil {
		s.steps = append(s.steps, stagedStep{Target: target, Quiet: true})
	}
	return err
}

// Quiet has the last step wait for readers: apply before it is done, undo before it is undone.
func (s *Staged) Quiet(apply, undo bool) {
	last := &s.steps[len(s.steps)-1]
	last.Quiet, last.QuietUndo = apply, undo
}

// Empty says that there is nothing to apply.
func (s *Staged) Empty() bool { return len(s.steps) == 0 }

// Apply does the steps in order. After an error Rollback takes back those that were done.
func (s *Staged) Apply() error {
	if err := s.journal(); err != nil {
		return err
	}
	if err := s.move(); err != nil {
		return err
	}
	dirs := map[string]bool{}
	for _, step := range s.steps {
		dirs[filepath.Dir(s.h.Path(step.Target))] = true
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *Staged) move() error {
	hush := hush{h: s.h, readers: s.readers}
	defer hush.end()
	for _, step := range s.steps {
		if step.Quiet {
			hush.begin()
		}
		if err := s.h.applyStep(step); err != nil {
			return err
		}
	}
	return nil
}

// journal keeps what every step replaces, and writes down how to get back.
func (s *Staged) journal() error {
	before := map[string]string{} // what lies at a target when a step's turn comes
	for i := range s.steps {
		step := &s.steps[i]
		now, seen := before[step.Target]
		before[step.Target] = step.New
		switch {
		case !seen:
			now = step.Target
		case now == "": // an earlier step removed it
			step.QuietUndo = true
			continue
		}
		old := filepath.Join(s.dir, "old-"+strconv.Itoa(i))
		switch err := os.Link(s.h.Path(now), s.h.Path(old)); {
		case err == nil:
			step.Old = old
		case errors.Is(err, fs.ErrNotExist):
			step.QuietUndo = true
		default:
			return err
		}
	}
	data, err := json.Marshal(s.steps)
	if err != nil {
		return err
	}
	s.applied = true // an undo from here on is harmless
	return s.h.WriteFile(filepath.Join(s.dir, stagedJournal), data, 0o600)
}

func (h *Host) applyStep(step stagedStep) error {
	if step.New == "" {
		return os.Remove(h.Path(step.Target))
	}
	return os.Rename(h.Path(step.New), h.Path(step.Target))
}

// Commit keeps the change. When it returns nil, no later RecoverStaged will undo it; after an error Rollback still can.
func (s *Staged) Commit() error {
	if s.done {
		return nil
	}
	if err := s.h.Remove(filepath.Join(s.dir, stagedJournal)); err != nil {
		return err
	}
	s.done = true
	if err := os.RemoveAll(s.h.Path(s.dir)); err != nil { // the change is kept; the next Stage empties the directory
		s.h.log.Warn("empty a staging directory", "err", err)
	}
	return nil
}

// Rollback puts back every file as it was, the last step first, and empties the staging directory. After Commit it does
// nothing. It may be repeated after an error or a kill.
func (s *Staged) Rollback() error {
	if s.done {
		return nil
	}
	if s.applied {
		if err := s.restore(); err != nil {
			return err
		}
		if err := s.h.Remove(filepath.Join(s.dir, stagedJournal)); err != nil {
			return err
		}
	}
	s.done = true
	return os.RemoveAll(s.h.Path(s.dir))
}

func (s *Staged) restore() error {
	errs := []error{s.moveBack()}
	for _, step := range s.steps {
		errs = append(errs, syncDir(filepath.Dir(s.h.Path(step.Target))))
	}
	return errors.Join(errs...)
}

func (s *Staged) moveBack() error {
	var errs []error
	hush := hush{h: s.h, readers: s.readers}
	defer hush.end()
	for i := len(s.steps) - 1; i >= 0; i-- {
		step := s.steps[i]
		target := s.h.Path(step.Target)
		if step.QuietUndo {
			hush.begin()
		}
		var err error
		if step.Old == "" {
			err = os.Remove(target)
		} else { // the link is gone when an earlier, interrupted undo already moved it back
			err = os.Rename(s.h.Path(step.Old), target)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// regular is what lies at target: nil when nothing does, an error when it is anything but a regular file.
func (s *Staged) regular(target string) (fs.FileInfo, error) {
	st, err := os.Lstat(s.h.Path(target))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, &fs.PathError{Op: "change", Path: target, Err: errors.New("not a regular file")}
	}
	return st, nil
}

// writeSynced writes a new file that is on disk on return, with the owner of like when that is not nil.
func writeSynced(path string, data []byte, perm fs.FileMode, like fs.FileInfo) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(perm); err != nil { // whatever the umask took away
		return err
	}
	if like != nil {
		if sys, ok := like.Sys().(*syscall.Stat_t); ok && (int(sys.Uid) != os.Getuid() || int(sys.Gid) != os.Getgid()) {
			if err := f.Chown(int(sys.Uid), int(sys.Gid)); err != nil {
				return err
			}
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}
