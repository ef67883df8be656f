package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/systemd"
)

// unitTable is systemd with these units; true is active.
type unitTable struct {
	active map[string]bool
	boot   map[string]bool
	fails  string // verb and unit that fails
	calls  []string
}

func (u *unitTable) States(_ context.Context, names ...string) (list []systemd.State, err error) {
	for _, n := range names {
		s := systemd.State{Unit: n, Load: "not-found", Active: "inactive"}
		if active, known := u.active[n]; known {
			s.Load = "loaded"
			if active {
				s.Active = "active"
			}
		}
		list = append(list, s)
	}
	return list, nil
}

func (u *unitTable) do(verb, unit string, change func()) error {
	u.calls = append(u.calls, verb+" "+unit)
	if u.fails == verb+" "+unit {
		return errors.New("no")
	}
	change()
	return nil
}

func (u *unitTable) Start(_ context.Context, n string) error {
	return u.do("start", n, func() { u.active[n] = true })
}
func (u *unitTable) Stop(_ context.Context, n string) error {
	return u.do("stop", n, func() { u.active[n] = false })
}
func (u *unitTable) Reload(_ context.Context, n string) error { return u.do("reload", n, func() {}) }
func (u *unitTable) Enable(_ context.Context, n string) error {
	return u.do("enable", n, func() { u.boot[n] = true })
}
func (u *unitTable) Disable(_ context.Context, n string) error {
	return u.do("disable", n, func() { u.boot[n] = false })
}

// newRestoration is a host where this agent took Scalarizr's place.
func newRestoration(t *testing.T) (restoration, *unitTable, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	u := &unitTable{active: map[string]bool{agentUnit: true, "scalarizr.service": false, "apache2.service": true}, boot: map[string]bool{agentUnit: true}}
	r := restoration{units: u, layout: host.Debian, root: t.TempDir(), ports: []string{"127.0.0.1:0"}, out: &out}
	for file, text := range map[string]string{
		"/etc/scalr/private.d/keys/default":         "key\n",
		"/etc/apache2/sites-enabled/zz-reeve.conf":  "IncludeOptional /etc/scalr/private.d/vhosts/*.vhost.conf\n",
		"/etc/apache2/apache2.conf":                 "# main\nIncludeOptional /etc/scalr/private.d/vhosts/*.vhost.conf\n",
		"/etc/scalr/private.d/vhosts/a.vhost.conf":  "site\n",
		"/etc/scalr/private.d/nginx-backends.json":  "{}\n",
		"/var/lib/reeve-agent/operations/some.json": "{}\n",
	} {
		file = r.path(file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return r, u, &out
}

// tree lists the files of a restoration's host with their modes and contents.
func tree(t *testing.T, root string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		st, serr := d.Info()
		list = append(list, fmt.Sprint(path, " ", st.Mode(), " ", string(data)))
		return errors.Join(err, serr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestRestoreScalarizr(t *testing.T) {
	r, u, out := newRestoration(t)
	before := tree(t, r.root)
	r.dry = true
	if err := r.run(t.Context()); err != nil || len(u.calls) > 0 || !slices.Equal(tree(t, r.root), before) || !strings.Contains(out.String(), "would start scalarizr.service") {
		t.Errorf("a dry run: got %v, calls %q\n%s", err, u.calls, out)
	}
	r.dry = false
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u.active[agentUnit] || u.boot[agentUnit] || !u.active["scalarizr.service"] || !u.boot["scalarizr.service"] {
		t.Errorf("got %+v", u)
	}
	want := slices.DeleteFunc(before, func(line string) bool { return strings.Contains(line, "zz-reeve.conf") })
	if got := tree(t, r.root); !slices.Equal(got, want) || !slices.Contains(u.calls, "reload apache2.service") {
		t.Errorf("got files %q, calls %q, want %q", got, u.calls, want)
	}
	if slices.Index(u.calls, "stop "+agentUnit) > slices.Index(u.calls, "start scalarizr.service") {
		t.Errorf("got %q: both ran at the same time", u.calls)
	}
	t.Run("again", func(t *testing.T) {
		if err := r.run(t.Context()); err != nil || u.active[agentUnit] || !u.active["scalarizr.service"] {
			t.Errorf("got %v, %+v", err, u)
		}
	})
}

func TestRestoreScalarizrThatCannotBe(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(t *testing.T, r *restoration, u *unitTable)
		want    string
	}{
		"Scalarizr does not start": {func(_ *testing.T, _ *restoration, u *unitTable) { u.fails = "start scalarizr.service" }, "start scalarizr.service: no"},
		"its key is gone": {func(t *testing.T, r *restoration, _ *unitTable) {
			if err := os.Remove(r.path("/etc/scalr/private.d/keys/default")); err != nil {
				t.Fatal(err)
			}
		}, "the key of Scalarizr is gone"},
		"somebody else has the port": {func(t *testing.T, r *restoration, _ *unitTable) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			r.ports = []string{l.Addr().String()}
		}, "address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			r, u, _ := newRestoration(t)
			test.prepare(t, &r, u)
			err := r.run(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) || !u.active[agentUnit] || !u.boot[agentUnit] || u.active["scalarizr.service"] {
				t.Errorf("got %v, %+v, want %s and the agent running", err, u, test.want)
			}
		})
	}
}

func TestRestoreWithoutScalarizr(t *testing.T) {
	r, u, out := newRestoration(t)
	delete(u.active, "scalarizr.service")
	if err := os.WriteFile(r.path("/etc/apache2/apache2.conf"), []byte("# IncludeOptional /etc/scalr/private.d/vhosts/*\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := r.run(t.Context())
	if err != nil || u.active[agentUnit] || !strings.Contains(out.String(), "this host has no agent now") || !strings.Contains(out.String(), "kept: ") {
		t.Errorf("got %v\n%s", err, out)
	}
	if _, err := os.Stat(r.path("/etc/apache2/sites-enabled/zz-reeve.conf")); err != nil {
		t.Errorf("sites are not served any more: %v", err)
	}
}
