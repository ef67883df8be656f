package deploy

import (
	"bytes"
	"strings"
)

// This file is pure: text of fstab(5) and mountinfo in, values or text out.

// Options of the lines we write. Names that begin with "x-" mean something to systemd or to us, and nothing to mount(8):
// the file is the record of which lines are ours and which unit lives on a bound directory.
const (
	volumeOptions = "defaults,nofail,x-systemd.device-timeout=5s"
	bindOption    = "bind"
	unitOption    = "x-reeve.unit="
	volumeOption  = "x-systemd.requires-mounts-for="
	volumeMark    = "x-reeve.volume"
)

// fstabLine is one mount of fstab.
type fstabLine struct {
	Source, MPoint, FSType string
	Options                []string
	Pass                   string // "2": checked after the root filesystem; "0": never
}

func (l fstabLine) String() string {
	return strings.Join([]string{l.Source, l.MPoint, l.FSType, strings.Join(l.Options, ","), "0", l.Pass}, " ")
}

// ours says whether we wrote the line.
func (l fstabLine) ours() bool {
	for _, o := range l.Options {
		if o == volumeMark {
			return true
		}
	}
	return false
}

func (l fstabLine) bind() bool { return len(l.Options) > 0 && l.Options[0] == bindOption }

// unit is the service whose files lie in the bound directory, or "".
func (l fstabLine) unit() string {
	for _, o := range l.Options {
		if unit, ok := strings.CutPrefix(o, unitOption); ok {
			return unit
		}
	}
	return ""
}

// volume is the mount point of the volume that a bound directory lies on.
func (l fstabLine) volume() string {
	for _, o := range l.Options {
		if mpoint, ok := strings.CutPrefix(o, volumeOption); ok {
			return mpoint
		}
	}
	return ""
}

func volumeLine(device, mpoint, fstype string) fstabLine {
	pass := "0" // XFS repairs itself when it is mounted
	if fstype == "ext4" {
		pass = "2"
	}
	return fstabLine{device, mpoint, fstype, append(strings.Split(volumeOptions, ","), volumeMark), pass}
}

func bindLine(source, target, mpoint, unit string) fstabLine {
	options := []string{bindOption, "nofail", volumeOption + mpoint, volumeMark}
	if unit != "" {
		options = append(options, unitOption+unit)
	}
	return fstabLine{source, target, "none", options, "0"}
}

// parseFstabLine reads one line; ok is false for comments, blank lines and what fstab(5) would not understand.
func parseFstabLine(line string) (l fstabLine, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || strings.HasPrefix(fields[0], "#") {
		return fstabLine{}, false
	}
	l = fstabLine{unescape(fields[0]), unescape(fields[1]), fields[2], strings.Split(fields[3], ","), "0"}
	if len(fields) > 5 {
		l.Pass = fields[5]
	}
	return l, true
}

func parseFstab(text []byte) []fstabLine {
	var lines []fstabLine
	for raw := range bytes.Lines(text) {
		if l, ok := parseFstabLine(string(raw)); ok {
			lines = append(lines, l)
		}
	}
	return lines
}

// setFstab adds a line, or replaces the lines of ours with its mount point. Everything else is kept byte for byte.
func setFstab(text []byte, want fstabLine) []byte {
	var out []byte
	done := false
	for raw := range bytes.Lines(text) {
		l, ok := parseFstabLine(string(raw))
		switch {
		case !ok || !l.ours() || l.MPoint != want.MPoint:
			out = append(out, raw...)
		case !done:
			out = append(out, want.String()+"\n"...)
			done = true
		}
	}
	if done {
		return out
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, want.String()+"\n"...)
}

// removeFstab drops the lines of ours with a mount point.
func removeFstab(text []byte, mpoint string) []byte {
	out := []byte{}
	for raw := range bytes.Lines(text) {
		if l, ok := parseFstabLine(string(raw)); ok && l.ours() && l.MPoint == mpoint {
			continue
		}
		out = append(out, raw...)
	}
	return out
}

// mount is one line of /proc/self/mountinfo.
type mount struct {
	Number string // major:minor
	Root   string // directory of the filesystem that is mounted
	MPoint string
	FSType string
	Source string
}

// parseMounts reads proc_pid_mountinfo(5).
func parseMounts(text []byte) []mount {
	var mounts []mount
	for line := range strings.Lines(string(text)) {
		before, after, found := strings.Cut(line, " - ")
		front, back := strings.Fields(before), strings.Fields(after)
		if !found || len(front) < 6 || len(back) < 2 {
			continue
		}
		mounts = append(mounts, mount{front[2], unescape(front[3]), unescape(front[4]), back[0], unescape(back[1])})
	}
	return mounts
}

// mountedAt is what is visible at a mount point: the last one mounted there.
func mountedAt(mounts []mount, mpoint string) (mount, bool) {
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].MPoint == mpoint {
			return mounts[i], true
		}
	}
	return mount{}, false
}

// unescape reads the octal escapes of both files ("\040" is a space).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1]) && isOctal(s[i+2]) && isOctal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }
