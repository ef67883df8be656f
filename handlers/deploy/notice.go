package deploy

import (
	"errors"
	"io/fs"
	"path"

	"github.com/reeve-paas/reeve/handlers/host"
)

// notice is a change of one file that somebody has to be told about.
type notice struct {
	name string // who has to be told
	file string
	text []byte // nil: the file goes
	perm fs.FileMode
	tell func() error // makes the change known
	undo func() error // makes it known that the old file is back; only after tell was called
}

// changeAndTell changes a file and tells, and does neither when the file is right already. A note in the state directory
// says from before the change until after the telling that somebody does not know yet: after a kill in between the file is
// right, and still has to be told about.
func (s *Service) changeAndTell(c *host.Change, n notice) error {
	note := path.Join(s.dir, "untold", n.name)
	old, err := s.host.ReadFile(n.file)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	right := missing && n.text == nil || !missing && n.text != nil && string(old) == string(n.text)
	if right && !s.host.Exists(note) {
		return nil
	}
	told := false
	c.OnRollback(func() error { // runs when the old file is back
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
	if n.text == nil {
		err = c.Remove(n.file)
	} else {
		_, err = c.WriteFile(n.file, n.text, n.perm)
	}
	if err != nil {
		return err
	}
	told = true
	if err := n.tell(); err != nil {
		return err
	}
	return c.Remove(note)
}
