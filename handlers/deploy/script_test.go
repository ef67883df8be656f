package deploy

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

func TestScripts(t *testing.T) {
	h := newUnitHost(t, 0, ok)
	s := unitService1(h)
	st := newStore(t)
	p := agentapi.StartScriptParams{App: "shop", Release: 3, Script: "run.sh", Arguments: []string{"a b", "$HOME"},
		Env: map[string]agentapi.Secret{"MY_ROLE": "seen-nowhere"}, Files: map[string]string{"/var/cache/cpsagent/agents.json": "[]"}}
	must[handlers.Null](t)(s.FetchRelease(t.Context(), agentapi.FetchReleaseParams{App: "shop", Release: 3,
		Source: st.put(archive(t, file{name: "run.sh", body: "echo"}, file{name: "init.sh", body: "echo"}, file{name: "dir.sh/x"}))}))
	const unit = "reeve-script-shop-run.service"
	starts := 0
	h.Runner.Handle("systemd-run", func(c host.Cmd) (host.Output, error) {
		starts++
		line := strings.Join(c.Args, " ")
		if strings.Contains(line, "seen-nowhere") || !strings.Contains(line, "--remain-after-exit") || !strings.Contains(line, "User=app-shop") {
			t.Errorf("got %s", line)
		}
		for _, arg := range c.Args {
			if file, ok := strings.CutPrefix(arg, "--property=EnvironmentFile="); ok {
				if st, err := os.Stat(h.Path(file)); err != nil || st.Mode().Perm() != 0o600 || !strings.Contains(h.Text(file), "MY_ROLE=\"seen-nowhere\"") {
					t.Errorf("got %v, %v", st, err)
				}
			}
			if bind, ok := strings.CutPrefix(arg, "--property=BindReadOnlyPaths=/var/lib"); ok && !strings.HasSuffix(bind, ":/var/cache/cpsagent/agents.json") {
				t.Errorf("got %s", arg)
			}
		}
		for _, arg := range c.Args {
			if name, ok := strings.CutPrefix(arg, "--unit="); ok {
				h.Host.Units.Set(name, host.UnitState{Load: "loaded", Active: "active", Sub: "running"})
			}
		}
		return host.Output{}, nil
	})
	state := func() string {
		return fmt.Sprint(must[[]agentapi.AppScript](t)(s.ListScripts(t.Context(), agentapi.AppParams{App: "shop"})))
	}
	t.Run("it starts, runs once at a time, and ends with a code", func(t *testing.T) {
		if got := state(); got != "[]" {
			t.Errorf("got %s", got)
		}
		must[handlers.Null](t)(s.StartScript(t.Context(), p))
		if got := state(); got != "[{run.sh running 0}]" {
			t.Errorf("got %s", got)
		}
		if _, err := s.StartScript(t.Context(), p); !isKind(err, agentapi.KindConflict) {
			t.Errorf("got %v, want a conflict", err)
		}
		h.Host.Units.SetDetail(unit, host.UnitDetail{UnitState: host.UnitState{Load: "loaded", Active: "failed", Sub: "failed"}, ExitStatus: 3})
		if got := state(); got != "[{run.sh ended 3}]" {
			t.Errorf("got %s", got)
		}
		must[handlers.Null](t)(s.StartScript(t.Context(), p))
		must[handlers.Null](t)(s.StopScript(t.Context(), agentapi.ScriptParams{App: "shop", Script: "run.sh"}))
		if got := state(); got != "[{run.sh lost 0}]" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("once means once, also for an agent that was killed", func(t *testing.T) {
		init := p
		init.Script, init.Once = "init.sh", "release-3"
		starts = 0
		for range 2 {
			must[handlers.Null](t)(s.StartScript(t.Context(), init))
		}
		note := s.scriptsDir("shop") + "/init.sh"
		h.WriteText(note, scriptToBegin+"release-3") // killed when it had started the unit
		must[handlers.Null](t)(s.StartScript(t.Context(), init))
		if starts != 1 {
			t.Errorf("started %d times, want 1", starts)
		}
		h.Host.Units.Set("reeve-script-shop-init.service", host.UnitState{Load: "not-found", Active: "inactive"})
		must[handlers.Null](t)(s.StartScript(t.Context(), init)) // killed before
		if starts != 2 {
			t.Errorf("started %d times, want 2", starts)
		}
		must[handlers.Null](t)(s.StopScript(t.Context(), agentapi.ScriptParams{App: "shop", Script: "init.sh"}))
		init.Once = "release-4"
		must[handlers.Null](t)(s.StartScript(t.Context(), init))
		if starts != 3 {
			t.Errorf("started %d times, want 3", starts)
		}
	})
	t.Run("what cannot be run is refused", func(t *testing.T) {
		for name, c := range map[string]struct {
			change func(*agentapi.StartScriptParams)
			kind   agentapi.Kind
		}{
			"a path":           {func(p *agentapi.StartScriptParams) { p.Script = "../run.sh" }, agentapi.KindInvalid},
			"no script":        {func(p *agentapi.StartScriptParams) { p.Script = "run" }, agentapi.KindInvalid},
			"a directory":      {func(p *agentapi.StartScriptParams) { p.Script = "dir.sh" }, agentapi.KindInvalid},
			"not in it":        {func(p *agentapi.StartScriptParams) { p.Script = "other.sh" }, agentapi.KindNotFound},
			"no such release":  {func(p *agentapi.StartScriptParams) { p.Release = 8 }, agentapi.KindNotFound},
			"no such app":      {func(p *agentapi.StartScriptParams) { p.App = "other" }, agentapi.KindNotFound},
			"a file elsewhere": {func(p *agentapi.StartScriptParams) { p.Files = map[string]string{"/etc/passwd": ""} }, agentapi.KindInvalid},
			"a file above":     {func(p *agentapi.StartScriptParams) { p.Files = map[string]string{"/var/cache/../x": ""} }, agentapi.KindInvalid},
			"an argument":      {func(p *agentapi.StartScriptParams) { p.Arguments = []string{"a\x00"} }, agentapi.KindInvalid},
			"an environment":   {func(p *agentapi.StartScriptParams) { p.Env = map[string]agentapi.Secret{"A B": ""} }, agentapi.KindInvalid},
		} {
			q := p
			c.change(&q)
			if _, err := s.StartScript(t.Context(), q); !isKind(err, c.kind) {
				t.Errorf("%s: got %v, want %s", name, err, c.kind)
			}
		}
	})
	t.Run("their output is read from the journal", func(t *testing.T) {
		h.Runner.Handle("journalctl", func(c host.Cmd) (host.Output, error) {
			if line := strings.Join(c.Args, " "); !strings.Contains(line, "_SYSTEMD_UNIT=reeve-script-shop-init.service _SYSTEMD_UNIT=reeve-script-shop-run.service") {
				t.Errorf("got %s", line)
			}
			return host.Output{Stdout: []byte(`{"__REALTIME_TIMESTAMP":"1000000","MESSAGE":"hello","_SYSTEMD_UNIT":"reeve-script-shop-run.service"}` + "\n")}, nil
		})
		if got := must[agentapi.ScriptLog](t)(s.ScriptLog(t.Context(), agentapi.AppParams{App: "shop"})); fmt.Sprint(got.Lines) != "[1970-01-01T00:00:01Z run.sh: hello]" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("they go with the app", func(t *testing.T) {
		must[handlers.Null](t)(s.DeleteApp(t.Context(), agentapi.AppParams{App: "shop"}))
		if h.Exists(s.scriptsDir("shop")) || h.Host.Units.Running("reeve-script-shop-init.service") {
			t.Error("something is left")
		}
	})
}
