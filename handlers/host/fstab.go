package host

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// FstabFile is where fstab(5) lies.
const FstabFile = "/etc/fstab"

// FstabLine is one mount of fstab(5).
type FstabLine struct {
	Source, MPoint, FSType string
	Options                []string
	Pass                   string // "2": checked after the root filesystem; "0": never
}

// Options that mark the lines that an agent wrote.
const (
	DeployMark  = "x-reeve.volume" // by namespace deploy: volumes, and directories bound from them
	StorageMark = "comment=scalr"  // by namespace storage, as the old agent did
)

// Volume says that an agent wrote the line for a volume.
func (l FstabLine) Volume() bool {
	return (l.Has(DeployMark) || l.Has(StorageMark)) && !l.Has("bind")
}

// String is the line as the file has it, without its end.
func (l FstabLine) String() string {
	return strings.Join([]string{escapeMount(l.Source), escapeMount(l.MPoint), l.FSType, strings.Join(l.Options, ","), "0", l.Pass}, " ")
}

// Has says whether an option is among the line's.
func (l FstabLine) Has(option string) bool { return slices.Contains(l.Options, option) }

// Option is the value of an option written as "name=value", "" when there is none. name includes the "=".
func (l FstabLine) Option(name string) string {
	for _, o := range l.Options {
		if value, ok := strings.CutPrefix(o, name); ok {
			return value
		}
	}
	return ""
}

// parseFstabLine reads one line; ok is false for comments, blank lines and what fstab(5) would not understand.
func parseFstabLine(line string) (l FstabLine, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || strings.HasPrefix(fields[0], "#") {
		return FstabLine{}, false
	}
	l = FstabLine{unescapeMount(fields[0]), unescapeMount(fields[1]), fields[2], strings.Split(fields[3], ","), "0"}
	if len(fields) > 5 {
		l.Pass = fields[5]
	}
	return l, true
}

// ParseFstab reads the mounts of a text of fstab.
func ParseFstab(text []byte) []FstabLine {
	var lines []FstabLine
	for raw := range bytes.Lines(text) {
		if l, ok := parseFstabLine(string(raw)); ok {
			lines = append(lines, l)
		}
	}
	return lines
}

// SetFstab adds a line to a text of fstab, in place of those that old finds. Everything else is kept byte for byte.
func SetFstab(text []byte, want FstabLine, old func(FstabLine) bool) []byte {
	var out []byte
	done := false
	for raw := range bytes.Lines(text) {
		l, ok := parseFstabLine(string(raw))
		switch {
		case !ok || !old(l):
			out = append(out, raw...)
		case !done:
			out = append(out, want.String()+"\n"...)
			done = true
		}
	}
	if done {
		return out
	}
	return append(endLine(out), want.String()+"\n"...)
}

// RemoveFstab drops the lines that which finds from a text of fstab.
func RemoveFstab(text []byte, which func(FstabLine) bool) []byte {
	out := []byte{}
	for raw := range bytes.Lines(text) {
		if l, ok := parseFstabLine(string(raw)); ok && which(l) {
			continue
		}
		out = append(out, raw...)
	}
	return out
}

func endLine(text []byte) []byte {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		return append(text, '\n')
	}
	return text
}

// ReadFstab is the text of fstab; nil when there is none.
func (h *Host) ReadFstab() ([]byte, error) {
	text, err := h.ReadFile(FstabFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// EditFstab replaces fstab by what edit makes of it. Editing is one at a time on this Host, whichever handler does it.
// before and after are what RestoreFstab takes; they are given when edit was called, also with an error.
func (h *Host) EditFstab(edit func(text []byte) []byte) (before, after []byte, err error) {
	h.fstabMu.Lock()
	defer h.fstabMu.Unlock()
	before, err = h.ReadFstab()
	if err != nil {
		return nil, nil, err
	}
	after = edit(slices.Clone(before))
	return before, after, h.writeFstab(before, after)
}

func (h *Host) writeFstab(before, after []byte) error {
	switch {
	case bytes.Equal(before, after):
		return nil
	case before == nil:
		return h.WriteFile(FstabFile, after, 0o644)
	}
	return h.UpdateFile(FstabFile, after)
}

// RestoreFstab takes an edit back: byte for byte when nobody edited the file since, line by line otherwise.
func (h *Host) RestoreFstab(before, after []byte) error {
	h.fstabMu.Lock()
	defer h.fstabMu.Unlock()
	now, err := h.ReadFstab()
	if err != nil {
		return err
	}
	old := revertLines(now, before, after)
	if len(old) == 0 && before == nil {
		return h.Remove(FstabFile)
	}
	return h.writeFstab(now, old)
}

// revertLines is now without the lines that came from before to after, and with those that went.
func revertLines(now, before, after []byte) []byte {
	if bytes.Equal(now, after) {
		return before
	}
	balance := map[string]int{} // how many of a line after has more than before
	for raw := range bytes.Lines(after) {
		balance[strings.TrimSpace(string(raw))]++
	}
	for raw := range bytes.Lines(before) {
		balance[strings.TrimSpace(string(raw))]--
	}
	out := []byte{}
	for raw := range bytes.Lines(now) {
		line := strings.TrimSpace(string(raw))
		if balance[line] > 0 && line != "" {
			balance[line]--
			continue
		}
		if balance[line] < 0 && line != "" { // somebody put it back already
			balance[line]++
		}
		out = append(out, raw...)
	}
	for raw := range bytes.Lines(before) {
		if line := strings.TrimSpace(string(raw)); balance[line] < 0 && line != "" {
			balance[line]++
			out = append(endLine(out), line+"\n"...)
		}
	}
	return out
}

// EditFstab is Host.EditFstab, taken back by RestoreFstab.
func (c *Change) EditFstab(edit func(text []byte) []byte) error {
	var before, after []byte
	c.OnRollback(func() error {
		if bytes.Equal(before, after) {
			return nil
		}
		return c.h.RestoreFstab(before, after)
	})
	var err error
	before, after, err = c.h.EditFstab(edit)
	return err
}
