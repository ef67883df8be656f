package web

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

func TestCheckHostname(t *testing.T) {
	for _, name := range []string{"a", "a.test", "A-1.b_c.test", "*.a.test", "_", "_dmarc.a", strings.Repeat("a", 63) + ".b", strings.Repeat("a.", 126) + "b", "192.0.2.1"} {
		if err := CheckHostname(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "a.", ".a", "a..b", "-a", "a-", "*", "*a", "a.*.b", "../x", "a/b", "a;b", "a b", "a\nb", "a{", "$a", `a"`, "a\x00", "ä.test", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "b"} {
		if err := CheckHostname(name); err == nil || !strings.HasPrefix(err.Error(), "ValueError: ") {
			t.Errorf("%q: got %v, want a ValueError", name, err)
		}
	}
}

func FuzzCheckHostname(f *testing.F) {
	for _, seed := range []string{"a.test", "../x", "a;b", "*.a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckHostname(name) == nil && (len(name) > 253 || strings.ContainsAny(name, "/\\;{}$#\"' \t\r\n\x00") || strings.Contains(name, "..")) {
			t.Errorf("%q is accepted", name)
		}
		if addr, err := Address(name); err == nil && strings.ContainsAny(addr, "/\\;{}$#\"' \t\r\n\x00") {
			t.Errorf("%q becomes %q", name, addr)
		}
	})
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::1": "[::1]", "[2001:DB8::1]": "[2001:db8::1]", "a.test": "a.test", "fe80::1%eth0": "", "*.a": "", "1.2.3.4 backup": "", "": ""} {
		if got, err := Address(in); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestCheckIDs(t *testing.T) {
	for _, id := range []string{"", "77", "a_b-C"} {
		if err := CheckCertificateID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"../x", "a b", "a.b", strings.Repeat("a", 65)} {
		if CheckCertificateID(id) == nil || CheckRoleID(id) == nil {
			t.Errorf("%q is accepted", id)
		}
	}
}

type nullParams struct {
	Flag *agentapi.Bool `json:"flag,omitempty"`
	Text *agentapi.Text `json:"text,omitempty"`
	Name string         `json:"name" rpc:"required"`
}

func TestFuncTellsNullFromAbsent(t *testing.T) {
	show := func(_ context.Context, p nullParams) (string, error) {
		text := "absent"
		if p.Text != nil {
			text = string(*p.Text)
		}
		return fmt.Sprint(p.Flag.Or(true), " ", text), nil
	}
	for params, want := range map[string]string{
		`{"name": "x"}`: "true absent",
		`{"name": "x", "flag": null, "text": null}`:   "false ",
		`{"name": "x", "flag": "0", "text": 7}`:       "false 7",
		`{"name": "x", "flag": "yes", "text": "abc"}`: "true abc",
	} {
		if got, err := Func("show", show).Call(t.Context(), json.RawMessage(params)); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", params, got, err, want)
		}
	}
	unknown := json.RawMessage(`{"name": "x", "other": 1}`)
	if _, err := Func("show", show).Call(t.Context(), unknown); err == nil || !strings.Contains(err.Error(), "TypeError: show() got an unexpected keyword argument 'other'") {
		t.Errorf("got %v", err)
	}
	if _, err := LenientFunc("show", show).Call(t.Context(), unknown); err != nil {
		t.Errorf("an unknown member of a lenient method: %v", err)
	}
	for _, params := range []string{`[]`, `null`, `{}`, `"x"`} {
		if _, err := LenientFunc("show", show).Call(t.Context(), json.RawMessage(params)); err == nil || !strings.HasPrefix(err.Error(), "TypeError: ") {
			t.Errorf("%s: got %v, want a TypeError", params, err)
		}
	}
}

func TestPrivateDirOfAnOlderAgent(t *testing.T) {
	h := hosttest.New(t)
	if got := PrivateDir(h.Host); got != "/etc/reeve/private.d" {
		t.Errorf("got %s", got)
	}
	h.WriteText("/etc/scalr/private.d/vhosts/x", "")
	if got := PrivateDir(h.Host); got != "/etc/scalr/private.d" {
		t.Errorf("got %s", got)
	}
}

func TestProcessesAreSeen(t *testing.T) {
	h := host.New(host.Options{})
	if _, ok := Children(h, os.Getpid()); !ok {
		t.Skip("this kernel does not list children")
	}
	cmd := exec.Command("/bin/sh", "-c", "/bin/cat; exit 0") // a parent with one thread, as the web servers are
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := Poll(ctx, func() (bool, error) { now, _ := Children(h, pid); return len(now) == 1, nil }); err != nil {
		t.Errorf("the child is not seen: %v", err)
	}
	in.Close()
	// It has ended, but nobody has waited for it: that is not alive.
	if err := Poll(ctx, func() (bool, error) { return !Alive(h, pid), nil }); err != nil {
		t.Errorf("an ended process stays alive: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if Alive(h, 1<<30) {
		t.Error("a process that never was is alive")
	}
}

func TestTail(t *testing.T) {
	h := hosttest.New(t)
	h.WriteText("/log", "old\n")
	tail := TailFrom(h.Host, "/log")
	if got := tail.Text(); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
	h.WriteText("/log", "old\nnew\n")
	if got := tail.Text(); got != "new\n" {
		t.Errorf("got %q, want new", got)
	}
	h.WriteText("/log", "x\n") // rotated
	if got := tail.Text(); got != "x\n" {
		t.Errorf("after rotation: got %q, want x", got)
	}
	if got := TailFrom(h.Host, "").Text(); got != "" {
		t.Errorf("no log: got %q", got)
	}
}
