package deploy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// This file is pure: text of passwd(5) and its relatives in, text out. Every line that is not ours is kept byte for byte.

// System accounts get ids from the top of this range downwards, as useradd --system gives them.
const (
	firstSystemID = 100
	lastSystemID  = 999
	maxUnixName   = 32 // bytes in a user name that every tool accepts
)

// accounts is the text of the four account files. A file the host lacks is nil, and stays so.
type accounts struct{ passwd, group, shadow, gshadow []byte }

// unixUser is the name of an app's user: "app-<app>", cut and made unique by a hash when that is too long.
func unixUser(app string) string {
	name := "app-" + app
	if len(name) <= maxUnixName {
		return name
	}
	sum := sha256.Sum256([]byte(app))
	return name[:maxUnixName-9] + "-" + hex.EncodeToString(sum[:4])
}

// entry is the fields of the line that a name begins, nil when there is none.
func entry(file []byte, name string) []string {
	for line := range bytes.Lines(file) {
		if fields := strings.Split(strings.TrimSuffix(string(line), "\n"), ":"); fields[0] == name && len(fields) > 1 {
			return fields
		}
	}
	return nil
}

// setEntry replaces the line of the entry's name, or appends it. A file that the host lacks is left alone.
func setEntry(file []byte, fields ...string) []byte {
	if file == nil {
		return nil
	}
	line := strings.Join(fields, ":") + "\n"
	var out []byte
	done := false
	for old := range bytes.Lines(file) {
		switch {
		case !bytes.HasPrefix(old, []byte(fields[0]+":")):
			out = append(out, old...)
		case !done:
			out = append(out, line...)
			done = true
		}
	}
	if done {
		return out
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, line...)
}

// removeEntry drops the line of a name.
func removeEntry(file []byte, name string) []byte {
	if file == nil {
		return nil
	}
	out := []byte{}
	for line := range bytes.Lines(file) {
		if !bytes.HasPrefix(line, []byte(name+":")) {
			out = append(out, line...)
		}
	}
	return out
}

// idOf reads the numeric field at an index of an entry.
func idOf(fields []string, index int) (int, bool) {
	if len(fields) <= index {
		return 0, false
	}
	id, err := strconv.Atoi(fields[index])
	return id, err == nil && id >= 0
}

// usedIDs are the ids of all users and groups.
func usedIDs(passwd, group []byte) map[int]bool {
	used := map[int]bool{}
	for _, file := range [][]byte{passwd, group} {
		for line := range bytes.Lines(file) {
			if id, ok := idOf(strings.Split(string(bytes.TrimSpace(line)), ":"), 2); ok {
				used[id] = true
			}
		}
	}
	return used
}

// numbered says whether a name is the number of an account.
func (a accounts) numbered(name string) bool {
	id, err := strconv.Atoi(name)
	return err == nil && usedIDs(a.passwd, a.group)[id]
}

// freeID is an id that neither a user nor a group has.
func freeID(passwd, group []byte) (int, error) {
	used := usedIDs(passwd, group)
	for id := lastSystemID; id >= firstSystemID; id-- {
		if !used[id] {
			return id, nil
		}
	}
	return 0, fmt.Errorf("all system user ids from %d to %d are taken", firstSystemID, lastSystemID)
}

const noLoginShell = "/usr/sbin/nologin"

// ownerMark is the comment field of an account that belongs to an app: it tells ours from the host's.
func ownerMark(app string) string { return "reeve app " + app }

// ours says whether an account may be changed for an app: it is not there, or it is marked as the app's.
func (a accounts) ours(name, app string) bool {
	fields := entry(a.passwd, name)
	return fields == nil || len(fields) > 4 && fields[4] == ownerMark(app)
}

// ids are the numeric ids of an account.
func (a accounts) ids(name string) (uid, gid int, ok bool) {
	fields := entry(a.passwd, name)
	uid, ok1 := idOf(fields, 2)
	gid, ok2 := idOf(fields, 3)
	return uid, gid, ok1 && ok2
}

// withAppUser adds an app's own user and group, which can never log in.
func (a accounts) withAppUser(app, home string) (accounts, error) {
	name := unixUser(app)
	uid, gid, ok := a.ids(name)
	if !ok {
		id, err := freeID(a.passwd, a.group)
		if err != nil {
			return a, err
		}
		uid, gid = id, id
		if left, ok := idOf(entry(a.group, name), 2); ok { // a killed agent got as far as the group
			gid = left
		}
	}
	a.group = setEntry(a.group, name, "x", strconv.Itoa(gid), "")
	a.gshadow = setEntry(a.gshadow, name, "!", "", "")
	a.passwd = setEntry(a.passwd, name, "x", strconv.Itoa(uid), strconv.Itoa(gid), ownerMark(app), home, noLoginShell)
	if entry(a.shadow, name) == nil {
		a.shadow = setEntry(a.shadow, name, "!", "", "", "", "", "", "", "")
	}
	return a, nil
}

// place is the name, home and shell of a login.
type place struct{ name, home, shell string }

// withLogin adds a second name for the app's user. Without a hash no password fits. Useradd would refuse the names people
// were given: they are numbers.
func (a accounts) withLogin(app string, at place, hash string, today int) accounts {
	uid, gid, _ := a.ids(unixUser(app))
	a.passwd = setEntry(a.passwd, at.name, "x", strconv.Itoa(uid), strconv.Itoa(gid), ownerMark(app), at.home, at.shell)
	if hash == "" {
		hash = "*"
	}
	if old := entry(a.shadow, at.name); len(old) < 2 || old[1] != hash {
		a.shadow = setEntry(a.shadow, at.name, hash, strconv.Itoa(today), "0", "99999", "7", "", "", "")
	}
	return a
}

// hasShell says whether a login of the app may run commands.
func (a accounts) hasShell(app string) bool {
	return slices.ContainsFunc(a.logins(app), func(name string) bool {
		fields := entry(a.passwd, name)
		return len(fields) > 6 && fields[6] != noLoginShell
	})
}

// without removes accounts that belong to an app, and keeps those of the same name that do not.
func (a accounts) without(app string, names ...string) accounts {
	for _, name := range names {
		if name == "" || !a.ours(name, app) {
			continue
		}
		a.passwd, a.shadow = removeEntry(a.passwd, name), removeEntry(a.shadow, name)
		if name == unixUser(app) {
			a.group, a.gshadow = removeEntry(a.group, name), removeEntry(a.gshadow, name)
		}
	}
	return a
}

// logins are the names, other than its own user's, that belong to an app.
func (a accounts) logins(app string) []string {
	var names []string
	for line := range bytes.Lines(a.passwd) {
		fields := strings.Split(string(bytes.TrimSpace(line)), ":")
		if len(fields) > 4 && fields[4] == ownerMark(app) && fields[0] != unixUser(app) {
			names = append(names, fields[0])
		}
	}
	slices.Sort(names)
	return names
}

// restore puts the entries of names back to what they were in before; every other line stays as it is now.
func (a accounts) restore(before accounts, names ...string) accounts {
	for _, name := range names {
		a.passwd = restoreEntry(a.passwd, before.passwd, name)
		a.shadow = restoreEntry(a.shadow, before.shadow, name)
		a.group = restoreEntry(a.group, before.group, name)
		a.gshadow = restoreEntry(a.gshadow, before.gshadow, name)
	}
	return a
}

func restoreEntry(now, before []byte, name string) []byte {
	if fields := entry(before, name); fields != nil {
		return setEntry(now, fields...)
	}
	return removeEntry(now, name)
}
