package postgresql

import (
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

func TestPresets(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.write("conf.d/20-operator.conf", "# by hand\nwork_mem = 5MB # enough\nlog_line_prefix = 'it''s %m '\n")
	b.must(b.ctl(ctx, "restart"))
	get := func() map[string]agentapi.Text {
		return must[agentapi.Preset](t)(b.Preset(ctx))["postgresql.conf"]
	}
	set := func(values map[string]agentapi.Text) error {
		return b.SetPreset(ctx, agentapi.Preset{"postgresql.conf": values})
	}
	show := func(name string) string { return b.admin("postgres", "SHOW "+name) }
	t.Run("what is in force is told, from all files", func(t *testing.T) {
		got := get()
		if got["work_mem"] != "5MB" || got["log_line_prefix"] != "it's %m " || got["max_connections"] != "30" || got["include_dir"] != "" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("each step that fails is undone", func(t *testing.T) {
		b.breakEachCall(func() error {
			return set(map[string]agentapi.Text{"work_mem": "6MB", "max_connections": "31", "application_name": `a'b\c`, "log_line_prefix": agentapi.UnsetOption})
		})
		if show("work_mem") != "6MB" || show("max_connections") != "31" || get()["application_name"] != `a'b\c` || strings.Contains(show("log_line_prefix"), "it's") {
			t.Errorf("got %v", get())
		}
	})
	t.Run("the same again is no restart", func(t *testing.T) {
		started := b.admin("postgres", "SELECT pg_postmaster_start_time()")
		b.must(set(map[string]agentapi.Text{"work_mem": "6MB", "max_connections": "31"}))
		if b.admin("postgres", "SELECT pg_postmaster_start_time()") != started {
			t.Error("it was restarted")
		}
	})
	for name, test := range map[string]struct {
		values map[string]agentapi.Text
		want   string
	}{
		"a setting that does not exist": {map[string]agentapi.Text{"no_such_setting": "1"}, "PresetError: Service postgresql was unable to pass configtest: "},
		"a value out of range":          {map[string]agentapi.Text{"work_mem": "1"}, "PresetError: Service postgresql was unable to pass configtest: "},
		"a server that dies of it":      {map[string]agentapi.Text{"shared_preload_libraries": "no_such_library"}, "PresetError: Service postgresql was unable to start with the new preset: "},
		"more than a value":             {map[string]agentapi.Text{"work_mem": "1MB'\nport = 1"}, "ValueError: "},
		"more than a name":              {map[string]agentapi.Text{"work_mem = 1MB\nport": "1"}, "ValueError: "},
		"another file":                  {map[string]agentapi.Text{"include": "/etc/passwd"}, "ValueError: "},
	} {
		t.Run(name+" is refused, and the server runs as before", func(t *testing.T) {
			before := b.state()
			err := set(test.values)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if after := b.state(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
	t.Run("an agent that was killed on the way takes it back at its next start", func(t *testing.T) {
		before := b.state()
		all := must[[]settingLine](t)(b.settings(must[*server](t)(b.server()).PostgreSQLCluster))
		c := must[*server](t)(b.server()).PostgreSQLCluster
		st, err := b.host.Stage(stagingDir(c), host.Readers{})
		b.must(err)
		b.must(b.stagePreset(b.host.Begin(), st, c, all, map[string]agentapi.Text{"max_connections": "32"}))
		b.must(st.Apply())
		b.must(b.usePreset(ctx, c)) // and killed here
		b.must(b.newService().Start(ctx))
		if after := b.state(); after != before || show("max_connections") != "31" {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}
