package deploy

import (
	"errors"
	"io/fs"
	"path"

	"github.com/reeve-paas/reeve/handlers/host"
)

// notice is a change of files that somebody has to be told about.
type notice struct {
	name  string // who has to be told
	files []wantedFile
	tell  func() error // makes the change known
	undo  func() error // makes it known that the old files are back; only after tell was called
}

// wantedFile is a file as it is to be.
type wantedFile struct {
	path string
	text []byte // nil: it is not to be there
	perm fs.FileMode
}

// right says whether the file is so already.
func (w wantedFile) right(h *host.Host) (bool, error) {
	old, err := h.ReadFile(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return w.text == nil, nil
	}
	return w.text != nil && string(old) == string(w.text), err
}

func (w wantedFile) put(c *host.Change) error {
	if w.text == nil {
		return c.Remove(w.path)
	}
	if err := c.MkdirAll(path.Dir(w.path), 0o755); err != nil {
		return err
	}
	_, err := c.WriteFile(w.path, w.text, w.perm)
	return err
}

// changeAndTell changes files and tells, and does neither when they are right already. A note in the state directory says
// from before the change until after the telling that somebody does not know yet: after a kill in between the files are
// right, and still have to be told about.
func (s *Service) changeAndTell(c *host.Change, n notice) error {
	note := path.Join(s.dir, "untold", n.name)
	known := !s.host.Exists(note)
	for _, f := range n.files {
		right, err := f.right(s.host)
		if err != nil {
			return err
		}
		known = known && right
	}
	if known {
		return nil
	}
	told := false
	c.OnRollback(func() error { // runs when the old files are back
		if !told {
			return nil
		}
		return n.undo()
	})
	if err := c.MkdirAll(path.Dir(note), 0o700); err != nil {
		return err
	}
	if _, err := c.WriteFile(note, []byte("\n"), 0o600); err != nil {
		return err
	}
	for _, f := range n.files {
		if err := f.put(c); err != nil {
			return err
		}
	}
	told = true
	if err := n.tell(); err != nil {
		return err
	}
	return c.Remove(note)
}
