package mysql

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

func TestPresets(t *testing.T) {
	s, c := newConfined(t)
	ctx := t.Context()
	get := func() map[string]agentapi.Text { return must[agentapi.Preset](t)(s.Preset(ctx))["my.cnf"] }
	set := func(values map[string]agentapi.Text) error {
		return s.SetPreset(ctx, agentapi.Preset{"my.cnf": values})
	}
	variable := func(name string) (value string) {
		t.Helper()
		err := s.read(ctx, func(c *conn) error {
			return c.rows(func(col []string) { value = col[0] }, 1, "SELECT @@"+name)
		})
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	state := func() string {
		text := c.state(t, s)
		got := get()
		for _, name := range slices.Sorted(maps.Keys(got)) {
			value := got[name]
			if strings.Contains(name, "max") || strings.Contains(name, "init") || strings.Contains(name, "time") {
				text += "\n" + name + "=" + string(value)
			}
		}
		return text + variable("max_connections")
	}
	c.write("conf.d/60-operator.cnf", "[mysqld]\nmax-connections = 60 # enough\nwait_timeout = 100\n")
	if err := s.restart(ctx); err != nil {
		t.Fatal(err)
	}
	t.Run("what is in force is told, from all files", func(t *testing.T) {
		got := get()
		if got["mysqld/max-connections"] != "60" || got["mysqld/bind-address"] != "127.0.0.1" || got["mysqld/user"] != "root" {
			t.Errorf("got %v", got)
		}
	})
	wanted := map[string]agentapi.Text{"mysqld/max_connections": "61", "mysqld/init_connect": `SET @a = '#'`, "mysqld/wait-timeout": agentapi.UnsetOption}
	t.Run("each step that fails is undone", func(t *testing.T) {
		before := state()
		for n := 1; n <= 2; n++ { // the test, the restart
			c.calls, c.failAt = nil, n
			if err := set(wanted); err == nil {
				t.Errorf("step %d failed and nobody noticed: %v", n, c.calls)
			}
			c.failAt = 0
			if after := state(); after != before {
				t.Errorf("step %d failed:\ngot  %s\nwant %s", n, after, before)
			}
		}
	})
	t.Run("options change where they are, or in a file of ours", func(t *testing.T) {
		if err := set(wanted); err != nil {
			t.Fatal(err)
		}
		if variable("max_connections") != "61" || variable("init_connect") != `SET @a = '#'` || variable("wait_timeout") != "28800" {
			t.Errorf("got %s, %s, %s", variable("max_connections"), variable("init_connect"), variable("wait_timeout"))
		}
		if got := get(); got["mysqld/max-connections"] != "61" || got["mysqld/init_connect"] != `SET @a = '#'` || got["mysqld/wait_timeout"] != "" {
			t.Errorf("got %v", got)
		}
		c.calls = nil
		if err := set(map[string]agentapi.Text{"mysqld/max_connections": "61"}); err != nil || len(c.calls) != 0 {
			t.Errorf("the same again: %v %v", err, c.calls)
		}
	})
	for name, test := range map[string]struct {
		values map[string]agentapi.Text
		want   string
	}{
		"an option that does not exist": {map[string]agentapi.Text{"mysqld/no_such_option": "1"}, "PresetError: Service mysql was unable to pass configtest: "},
		"more than a value":             {map[string]agentapi.Text{"mysqld/max_connections": "1\nuser=root"}, "ValueError: "},
		"no section":                    {map[string]agentapi.Text{"max_connections": "1"}, "ValueError: "},
	} {
		t.Run(name+" is refused, and the server runs as before", func(t *testing.T) {
			before := state()
			err := set(test.values)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if after := state(); after != before {
				t.Errorf("got  %s\nwant %s", after, before)
			}
		})
	}
}
