package system_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/system"
)

// messages keeps what was sent.
type messages struct {
	mu   sync.Mutex
	sent []agentapi.ExecScriptResult
	wake chan struct{}
}

func (m *messages) Send(_ context.Context, queue, name string, body any) error {
	if queue != "log" || name != "ExecScriptResult" {
		return errors.New("unexpected message " + queue + "/" + name)
	}
	m.mu.Lock()
	m.sent = append(m.sent, body.(agentapi.ExecScriptResult))
	m.mu.Unlock()
	m.wake <- struct{}{}
	return nil
}

// scripting is a service whose files lie in a temporary directory and whose commands are real.
type scripting struct {
	*env
	root     string
	messages *messages
	registry *operation.Registry
	service  *system.Service
}

func startScripting(t *testing.T, change ...func(*system.Options)) *scripting {
	s := &scripting{root: t.TempDir(), messages: &messages{wake: make(chan struct{}, 100)}}
	o := options(t, host.New(host.Options{Root: s.root}))
	o.Messages = s.messages
	for _, c := range change {
		c(&o)
	}
	s.registry, s.service = o.Operations, system.New(o)
	s.env = &env{t: t, methods: s.service.Methods()}
	return s
}

func (s *scripting) log(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.root, "var/log/scalarizr/scripting", name))
	if err != nil {
		s.t.Error(err)
	}
	return string(data)
}

func (s *scripting) noScriptLeft() {
	s.t.Helper()
	if left, _ := filepath.Glob(filepath.Join(s.root, "usr/local/bin/*")); len(left) != 0 {
		s.t.Errorf("got scripts left over: %q", left)
	}
}

// Conformance 58: execute_scripts answers null, keeps the logs and sends the result.
func TestConformance58_ExecuteScripts(t *testing.T) {
	s := startScripting(t)
	s.want("execute_scripts", `{"scripts": [{"name": "greet/all", "body": "#!/bin/sh\necho \"hi $WHO\"\necho oops >&2\nexit 3\n",
		"timeout": "10", "asynchronous": "0", "execution_id": "e-1"}],
		"global_variables": [{"name": "WHO", "value": "there", "private": 1}], "event_name": "HostUp", "role_name": "web"}`, `null`)
	if out, err := s.log("greet_all.HostUp.e-1-out.log"), s.log("greet_all.HostUp.e-1-err.log"); out != "hi there\n" || err != "oops\n" {
		t.Errorf("got logs %q and %q", out, err)
	}
	s.want("get_script_logs", `{"exec_script_id": "e-1", "maxsize": 5242880}`, `{"stdout": "aGkgdGhlcmUK\n", "stderr": "b29wcwo=\n"}`)
	s.noScriptLeft()
	if len(s.messages.sent) != 1 {
		t.Fatalf("got %d messages, want 1", len(s.messages.sent))
	}
	m := s.messages.sent[0]
	if m.Stdout != "aGkgdGhlcmUK\n" || m.Stderr != "b29wcwo=\n" || m.ExecutionID != "e-1" || m.ScriptName != "greet/all" || m.ReturnCode != 3 ||
		m.EventName != "HostUp" || m.RunAs != "root" || m.TimeElapsed <= 0 || !strings.HasPrefix(m.ScriptPath, "/usr/local/bin/scalr-scripting.") {
		t.Errorf("got %+v", m)
	}
}

func TestExecuteScriptsKeepsTheOrder(t *testing.T) {
	s := startScripting(t)
	file := filepath.Join(s.root, "order")
	body := func(word string) string { return `"body": "#!/bin/sh\necho ` + word + ` >>` + file + `\n"` }
	s.want("execute_scripts", `{"scripts": [
		{"name": "a", `+body("one")+`, "timeout": 10},
		{"name": "b", `+body("two")+`, "timeout": 10},
		{"name": "no interpreter line", "body": "echo three", "timeout": 10},
		{"name": "c", `+body("four")+`, "timeout": 10}]}`, `null`)
	data, err := os.ReadFile(file)
	if err != nil || string(data) != "one\ntwo\n" {
		t.Errorf("got %q, %v, want the scripts before the one that cannot start", data, err)
	}
	if len(s.messages.sent) != 3 || s.messages.sent[2].ReturnCode != 127 {
		t.Errorf("got %+v", s.messages.sent)
	}
	s.noScriptLeft()
	logs, _ := filepath.Glob(filepath.Join(s.root, "var/log/scalarizr/scripting/a..unknown_role.*-out.log"))
	if len(logs) != 1 {
		t.Errorf("got logs %q, want one named after the role", logs)
	}
}

func TestExecuteScriptsThatCannotStart(t *testing.T) {
	for name, item := range map[string]string{
		"an interpreter that is missing": `"body": "#!/no/such/interpreter\n"`,
		"a path that is missing":         `"path": "/no/such/script"`,
		"neither body nor path":          `"path": ""`,
		"chef":                           `"chef": {"cookbook_url": "x"}`,
		"an unknown user":                `"body": "#!/bin/sh\n", "run_as": "nobody-like-this"`,
	} {
		t.Run(name, func(t *testing.T) {
			s := startScripting(t)
			if err := os.MkdirAll(filepath.Join(s.root, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			os.WriteFile(filepath.Join(s.root, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\n"), 0o644)
			s.want("execute_scripts", `{"scripts": [{"name": "x", "timeout": 5, "execution_id": "1", `+item+`},
				{"name": "y", "timeout": 5, "execution_id": "2", "body": "#!/bin/sh\n"}]}`, `null`)
			if len(s.messages.sent) != 1 || s.messages.sent[0].ReturnCode != 127 {
				t.Errorf("got %+v, want only the script that could not start", s.messages.sent)
			}
			if s.log("x..1-err.log") == "" {
				t.Error("the reason is not in the script's log")
			}
			s.noScriptLeft()
		})
	}
}

func TestExecuteScriptsTimeout(t *testing.T) {
	s := startScripting(t)
	started := time.Now()
	s.want("execute_scripts", `{"scripts": [
		{"name": "slow", "body": "#!/bin/sh\necho begun\nsleep 1000 &\nwait\n", "timeout": "0.3", "execution_id": "slow"},
		{"name": "next", "body": "#!/bin/sh\n", "timeout": 5, "execution_id": "next"}]}`, `null`)
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if len(s.messages.sent) != 2 || s.messages.sent[0].ReturnCode != 130 || s.messages.sent[1].ReturnCode != 0 {
		t.Errorf("got %+v, want 130, then the next script", s.messages.sent)
	}
	if got := s.log("slow..slow-out.log"); got != "begun\n" {
		t.Errorf("got log %q", got)
	}
}

func TestExecuteScriptsAsynchronousItem(t *testing.T) {
	s := startScripting(t)
	gate := filepath.Join(s.root, "gate")
	s.want("execute_scripts", `{"scripts": [
		{"name": "waits", "body": "#!/bin/sh\nuntil [ -e `+gate+` ]; do sleep 0.01; done\necho open\n", "timeout": 20, "asynchronous": "1", "execution_id": "w"},
		{"name": "opens", "body": "#!/bin/sh\n: >`+gate+`\n", "timeout": 20, "execution_id": "o"}]}`, `null`)
	for range 2 {
		<-s.messages.wake
	}
	if got := s.log("waits..w-out.log"); got != "open\n" {
		t.Errorf("got %q", got)
	}
}

func TestStoppingEndsAsynchronousScripts(t *testing.T) {
	s := startScripting(t)
	s.want("execute_scripts", `{"scripts": [{"name": "endless", "body": "#!/bin/sh\nexec sleep 1000\n", "timeout": 2000, "asynchronous": 1, "execution_id": "x"}]}`, `null`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.service.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if len(s.messages.sent) != 1 || s.messages.sent[0].ReturnCode != 130 && s.messages.sent[0].ReturnCode != 127 {
		t.Errorf("got %+v, want the script ended", s.messages.sent)
	}
}

func TestExecuteScriptsAsync(t *testing.T) {
	s := startScripting(t)
	var id string
	s.into("execute_scripts", `{"scripts": [{"name": "a", "body": "#!/bin/sh\n", "timeout": 5}], "async": "1"}`, &id)
	<-s.messages.wake
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.registry.Run(ctx)
	record, err := s.registry.Result(id)
	if err != nil || record.Name != "system.execute_scripts" || record.Status != agentapi.OperationCompleted || len(record.Logs) == 0 {
		t.Errorf("got %+v, %v", record, err)
	}
}

func TestExecuteScriptsFromFilesAndURLs(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/script" {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte("#!/bin/sh\necho fetched\n"))
	}))
	defer server.Close()
	s := startScripting(t)
	file := filepath.Join(s.root, "opt/own")
	os.MkdirAll(filepath.Dir(file), 0o755)
	os.WriteFile(file, []byte("#!/bin/sh\necho own\n"), 0o755)
	s.want("execute_scripts", `{"scripts": [
		{"name": "file", "path": "/opt/own", "timeout": 5, "execution_id": "1"},
		{"name": "url", "path": "`+server.URL+`/script", "timeout": 5, "execution_id": "2"},
		{"name": "gone", "path": "`+server.URL+`/gone", "timeout": 5, "execution_id": "3"}]}`, `null`)
	if a, b, c := s.log("file..1-out.log"), s.log("url..2-out.log"), s.log("gone..3-err.log"); a != "own\n" || b != "fetched\n" || !strings.Contains(c, "404") {
		t.Errorf("got %q, %q, %q", a, b, c)
	}
	s.noScriptLeft()
}

func TestExecuteScriptsAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	s := startScripting(t)
	for dir := s.root; dir != os.TempDir() && len(dir) > 4; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755) // the user must be able to reach the script
	}
	os.MkdirAll(filepath.Join(s.root, "etc"), 0o755)
	os.WriteFile(filepath.Join(s.root, "etc/passwd"), []byte("web:x:65534:65533::/var/www:/bin/sh\n"), 0o644)
	s.want("execute_scripts", `{"scripts": [{"name": "who", "body": "#!/bin/sh\nid -u; id -g; echo $HOME\n", "timeout": 5, "execution_id": "1", "run_as": "web"}]}`, `null`)
	if got := s.log("who..1-out.log"); got != "65534\n65533\n/var/www\n" {
		t.Errorf("got %q and %q", got, s.log("who..1-err.log"))
	}
	s.noScriptLeft()
}

func TestExecuteScriptsRefusesBadRequestsBeforeItRuns(t *testing.T) {
	s := startScripting(t)
	for params, want := range map[string]string{
		`{"scripts": [{"body": "#!/bin/sh", "timeout": 1}]}`:                                         "KeyError: 'name'",
		`{"scripts": [{"name": "a", "body": "#!/bin/sh"}]}`:                                          "KeyError: 'timeout'",
		`{"scripts": [{"name": "a", "timeout": "soon"}]}`:                                            `ValueError: script "a": timeout is "soon", want seconds above 0`,
		`{"scripts": [{"name": "a", "timeout": 0}]}`:                                                 `ValueError: script "a": timeout is "0", want seconds above 0`,
		`{"scripts": [{"name": "a", "timeout": 1, "execution_id": "../x"}]}`:                         `ValueError: script "a": execution_id may hold letters, digits, dot, dash and underscore`,
		`{"scripts": [], "global_variables": [{"name": "A=B", "value": "x"}]}`:                       `ValueError: global variable "A=B" cannot be put into the environment`,
		`{"scripts": [{"name": "a", "timeout": 1, "asynchronous": "maybe", "body": "#!/bin/sh\n"}]}`: `ValueError: not a boolean: maybe`,
	} {
		s.wantError("execute_scripts", params, want)
	}
	if n := s.registry.Counts(); len(n) != 0 {
		t.Errorf("got operations %v, want none", n)
	}
}

func TestGlobalVariablesAreNotPrinted(t *testing.T) {
	var p agentapi.ExecuteScriptsParams
	if err := json.Unmarshal([]byte(`{"global_variables": [{"name": "A", "value": 5, "private": 1}, {"name": "B", "value": null}]}`), &p); err != nil {
		t.Fatal(err)
	}
	if v := p.GlobalVariables; len(v) != 2 || string(v[0].Value) != "5" || !v[0].Private || v[1].Value != "" || v[0].Value.String() != "[redacted]" {
		t.Errorf("got %v", v)
	}
}

// Conformance 55: a log that is missing is said in the text.
func TestConformance55_Logs(t *testing.T) {
	e := start(t)
	for method, file := range map[string]string{
		"get_log": "/var/log/scalarizr.log", "get_debug_log": "/var/log/scalarizr_debug.log", "get_update_log": "/var/log/scalarizr_update.log",
	} {
		var got string
		e.into(method, `{}`, &got)
		if text, want := unbase64(t, got), "Log file "+file+" is not readable"; text != want {
			t.Errorf("%s: got %q, want %q", method, text, want)
		}
		e.WriteText(file, method+"\n")
		e.into(method, `{}`, &got)
		if text := unbase64(t, got); text != method+"\n" {
			t.Errorf("%s: got %q", method, text)
		}
	}
	e.WriteText("/var/log/scalarizr.log", "begin"+strings.Repeat("x", 5242880-3)+"end")
	var got string
	e.into("get_log", `{}`, &got)
	if text := unbase64(t, got); len(text) != 5242880 || !strings.HasSuffix(text, "xend") || strings.HasPrefix(text, "begin") {
		t.Errorf("a long log: got %d bytes, want the last 5242880", len(text))
	}
}

func TestTheAgentsLogIsInTheJournal(t *testing.T) {
	e := start(t)
	e.Runner.Print("journalctl", "2026-03-01T10:00:00+0000 vm reeve-agent[7]: agent is ready\n")
	logs := map[string]string{"get_log": "/var/log/scalarizr.log", "get_debug_log": "/var/log/scalarizr_debug.log"}
	for method := range logs {
		e.ClearCalls()
		var got string
		e.into(method, `{}`, &got)
		if text, want := unbase64(t, got), "2026-03-01T10:00:00+0000 vm reeve-agent[7]: agent is ready\n"; text != want {
			t.Errorf("%s: got %q, want %q", method, text, want)
		}
		if got, want := e.Calls(), []string{"run journalctl -u reeve-agent.service -o short-iso --no-pager -n 20000"}; !slices.Equal(got, want) {
			t.Errorf("%s: got calls %q, want %q", method, got, want)
		}
	}
	var got string
	e.into("get_update_log", `{}`, &got)
	if text, want := unbase64(t, got), "Log file /var/log/scalarizr_update.log is not readable"; text != want {
		t.Errorf("get_update_log: got %q, want %q", text, want)
	}
	t.Run("of which the end is answered", func(t *testing.T) {
		e.Runner.Print("journalctl", "begin"+strings.Repeat("x", 5242880-3)+"end")
		e.into("get_log", `{}`, &got)
		if text := unbase64(t, got); len(text) != 5242880 || !strings.HasSuffix(text, "xend") || strings.HasPrefix(text, "begin") {
			t.Errorf("got %d bytes, want the last 5242880", len(text))
		}
	})
	t.Run("unless it cannot be read", func(t *testing.T) {
		for method, file := range logs {
			e.ClearCalls()
			e.FailCommand(1)
			e.into(method, `{}`, &got)
			if text, want := unbase64(t, got), "Log file "+file+" is not readable"; text != want {
				t.Errorf("%s: got %q, want %q", method, text, want)
			}
		}
	})
	t.Run("unless there is a file", func(t *testing.T) {
		for method, file := range logs {
			e.ClearCalls()
			e.WriteText(file, "of an older agent\n")
			e.into(method, `{}`, &got)
			if text := unbase64(t, got); text != "of an older agent\n" || len(e.Calls()) != 0 {
				t.Errorf("%s: got %q with calls %q", method, text, e.Calls())
			}
		}
	})
}

const rotated = `Log file already rotatated and no more exists on server. You can increase "Rotate scripting logs" setting under "Advanced" tab in Farm Designer`

// Conformance 56: get_script_logs.
func TestConformance56_ScriptLogs(t *testing.T) {
	const dir = "/var/log/scalarizr/scripting/"
	e := start(t)
	logs := func(id string) (string, string) {
		t.Helper()
		var got struct{ Stdout, Stderr string }
		e.into("get_script_logs", `{"exec_script_id": `+id+`}`, &got)
		return unbase64(t, got.Stdout), unbase64(t, got.Stderr)
	}
	e.WriteText("/etc/x-out.log", "secret")
	e.WriteText(dir+"a.HostUp.123-out.log", "out")
	e.WriteText(dir+"a.HostUp.123-err.log", "")
	e.WriteText(dir+"0.HostUp.x123-out.log", "another script")
	e.WriteText(dir+"long.HostUp.77-out.log", strings.Repeat("x", 19999)+"é"+strings.Repeat("y", 5000))
	os.Symlink(e.Path("/etc/x-out.log"), e.Path(dir+"link.e.99-out.log"))
	for id, want := range map[string]string{
		`"123"`: "out", `123`: "out", `"nope"`: rotated, `"../../etc/x"`: rotated, `"*"`: rotated, `""`: rotated, `"99"`: rotated,
		`"77"`: strings.Repeat("x", 19999) + "... Truncated. See the full log in " + dir + "long.HostUp.77-out.log",
	} {
		if out, _ := logs(id); out != want {
			t.Errorf("%s: got %.60q (%d bytes), want %.60q (%d bytes)", id, out, len(out), want, len(want))
		}
	}
	if _, stderr := logs(`"123"`); stderr != "" {
		t.Errorf("stderr: got %q, want an empty text", stderr)
	}
	if _, stderr := logs(`"nope"`); stderr != rotated {
		t.Errorf("stderr: got %q", stderr)
	}
	e.wantError("get_script_logs", `{}`, "TypeError: get_script_logs() takes at least 2 arguments (1 given)")
}

func TestOldScriptLogsAreDeleted(t *testing.T) {
	s := startScripting(t, func(o *system.Options) { o.KeepScripts = time.Hour })
	dir := filepath.Join(s.root, "var/log/scalarizr/scripting")
	os.MkdirAll(dir, 0o700)
	for name, age := range map[string]time.Duration{"old-out.log": 2 * time.Hour, "new-out.log": time.Minute, "other": 2 * time.Hour} {
		os.WriteFile(filepath.Join(dir, name), nil, 0o600)
		when := time.Now().Add(-age)
		os.Chtimes(filepath.Join(dir, name), when, when)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.service.Run(ctx); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"new-out.log", "other"}; !slices.Equal(left, want) {
		t.Errorf("got %q, want %q", left, want)
	}
}
