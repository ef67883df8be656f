package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// load loads settings as a command with these flags would.
func load(t *testing.T, file string, env map[string]string, args ...string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "coordinator.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	root := rootCommand(io.Discard, io.Discard)
	if err := root.PersistentFlags().Parse(args); err != nil {
		t.Fatal(err)
	}
	return loadConfig(path, true, root.PersistentFlags(), func(key string) (string, bool) { v, ok := env[key]; return v, ok })
}

func TestLaterSourcesWin(t *testing.T) {
	const file = "data_dir: /file\nlisten: :1\nlog_level: warn\nhosted_zones: [file]\nmax_apps: 1\nallow_plain: true\n"
	env := map[string]string{"REEVE_LISTEN": ":2", "REEVE_LOG_LEVEL": "error", "REEVE_HOSTED_ZONES": "env,env2", "REEVE_MAX_APPS": "2"}
	c, err := load(t, file, env, "--log-level", "debug", "--max-apps=0", "--listen-plain=", "--allow-plain=false")
	if err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]bool{
		"the file wins over the default":     c.DataDir == "/file",
		"the environment wins over the file": c.Listen == ":2" && slices.Equal(c.HostedZones, []string{"env", "env2"}),
		"a flag wins over both":              c.LogLevel == "debug",
		"a flag that says zero wins, too":    c.MaxApps == 0 && c.ListenPlain == "" && !c.AllowPlain,
		"what nobody says is the default":    c.DefaultCloud == "nspawn" && len(c.Clouds) == 3,
	} {
		if !ok {
			t.Errorf("%s: got %+v", what, c)
		}
	}
	c, err = load(t, file, map[string]string{"REEVE_LISTEN": ""})
	if err != nil || c.Listen != "" {
		t.Errorf("got listen %q, %v, want an empty variable to turn it off", c.Listen, err)
	}
	c, err = load(t, "", nil, "--hosted-zones", "a", "--hosted-zones", "b,c")
	if err != nil || !slices.Equal(c.HostedZones, []string{"a", "b", "c"}) {
		t.Errorf("got the zones %q, %v, want those of every flag", c.HostedZones, err)
	}
}

func TestAnEmptyFileAndNoFileChangeNothing(t *testing.T) {
	want := DefaultConfig()
	for _, file := range []string{"", "# nothing\n"} {
		c, err := load(t, file, nil)
		if err != nil || c.Listen != want.Listen || len(c.Clouds) != len(want.Clouds) {
			t.Errorf("%q: got %+v, %v, want the defaults", file, c, err)
		}
	}
	root := rootCommand(io.Discard, io.Discard)
	missing := filepath.Join(t.TempDir(), "none.yaml")
	environ := func(string) (string, bool) { return "", false }
	if _, err := loadConfig(missing, false, root.PersistentFlags(), environ); err != nil {
		t.Errorf("got %v for a default file that is not there, want none", err)
	}
	if _, err := loadConfig(missing, true, root.PersistentFlags(), environ); err == nil {
		t.Error("got no error for a named file that is not there")
	}
}

func TestCloudsOfAFileReplaceTheDefaultOnes(t *testing.T) {
	c, err := load(t, "clouds: {mine: {engine: fake}}\ndefault_cloud: mine\n", nil)
	if _, ok := c.Clouds["nspawn"]; err != nil || ok || len(c.Clouds) != 1 {
		t.Errorf("got %+v, %v, want one cloud", c.Clouds, err)
	}
}

func TestThePackagedConfigurationShowsTheDefaults(t *testing.T) {
	data, err := os.ReadFile("../packaging/coordinator/coordinator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if setting, ok := strings.CutPrefix(line, "#"); ok && (setting[0] != ' ' || strings.HasPrefix(setting, "  ")) {
			line = setting // what is no prose
		}
		lines = append(lines, line)
	}
	c, err := load(t, strings.Join(lines, ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%+v", c), fmt.Sprintf("%+v", DefaultConfig()); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestLocations(t *testing.T) {
	c, err := load(t, "clouds: {nspawn: {engine: nspawn, location: {name: Bissen, country: Luxembourg, iso: LU, code: LU-BI1}}}\n", nil)
	if got := c.Clouds["nspawn"].Location.core(); err != nil || got.Code != "LU-BI1" || got.ISO != "LU" || got.Country != "Luxembourg" || got.Name != "Bissen" {
		t.Errorf("got %+v, %v", got, err)
	}
	for file, want := range map[string]string{
		"clouds: {nspawn: {engine: nspawn, location: {code: lu-bi1}}}": `clouds.nspawn.location.code: "lu-bi1" is not like LU-BI1, in capitals`,
		"clouds: {nspawn: {engine: nspawn, location: {iso: lux}}}":     `clouds.nspawn.location.iso: "lux" is not two capital letters`,
	} {
		if _, err := load(t, file, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", file, err, want)
		}
	}
}

func TestScalingMetrics(t *testing.T) {
	c, err := load(t, "scaling_metrics:\n- {name: load, path: /proc/loadavg}\n- {name: queue, path: /usr/local/bin/queue, execute: true, role: db}\n", nil)
	if got := c.metrics(); err != nil || len(got) != 2 || !got[0].Read || got[0].ID != 1 || got[1].Read || got[1].ID != 2 || got[1].Role != "db" {
		t.Errorf("got %+v, %v", got, err)
	}
	for file, want := range map[string]string{
		"scaling_metrics: [{path: /x}]":                     "scaling_metrics[0]: a name and an absolute path are needed",
		"scaling_metrics: [{name: x, path: y}]":             "scaling_metrics[0]: a name and an absolute path are needed",
		"scaling_metrics: [{name: x, path: /y, role: web}]": `scaling_metrics[0].role: "web" is none of`,
	} {
		if _, err := load(t, file, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", file, err, want)
		}
	}
}
