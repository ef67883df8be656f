package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func noEnv(string) string { return "" }

func TestTheDefaultsAreValid(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("got %v, want none", err)
	}
}

// yamlKeys lists the keys of a struct, those of nested ones with their parents'.
func yamlKeys(t reflect.Type, prefix string) []string {
	var keys []string
	for f := range t.Fields() {
		key := prefix + f.Tag.Get("yaml")
		if f.Type.Kind() == reflect.Struct {
			keys = append(keys, yamlKeys(f.Type, key+"_")...)
			continue
		}
		keys = append(keys, key)
	}
	return keys
}

func TestEveryKeyCanBeSetByTheEnvironment(t *testing.T) {
	for _, key := range yamlKeys(reflect.TypeFor[Config](), "") {
		name := "REEVE_AGENT_" + strings.ToUpper(key)
		asked := false
		c := DefaultConfig()
		err := c.fromEnvironment(func(n string) string {
			if n != name {
				return ""
			}
			asked = true
			if key == "max_clock_skew" {
				return "7s"
			}
			return "7"
		})
		if err != nil || !asked {
			t.Errorf("%s: got asked %v, %v, want the variable looked at", name, asked, err)
		}
		if reflect.DeepEqual(c, DefaultConfig()) {
			t.Errorf("%s: got the default, want the variable's value", name)
		}
	}
}

func TestAFileChangesOnlyWhatItNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	text := "max_clock_skew: 0s\nlisten: [\"127.0.0.1:1\", \"[::1]:2\"]\nallow_from: [192.0.2.7, \"2001:db8::/32\"]\ntls: {cert_file: c}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := loadConfig(path, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.MaxClockSkew = 0
	want.Listen = []string{"127.0.0.1:1", "[::1]:2"}
	want.AllowFrom = []string{"192.0.2.7", "2001:db8::/32"}
	want.TLS.CertFile = "c"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if networks, err := got.allowFrom(); err != nil || len(networks) != 2 || networks[0].String() != "192.0.2.7/32" {
		t.Errorf("got networks %v, %v, want both", networks, err)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n"} {
		c := DefaultConfig()
		if err := c.decode(path, []byte(empty)); err != nil || !reflect.DeepEqual(c, DefaultConfig()) {
			t.Errorf("%q: got %+v, %v, want the defaults", empty, c, err)
		}
	}
	c := DefaultConfig()
	if err := c.decode(path, []byte("log_level: info\n---\nlog_level: debug\n")); err == nil {
		t.Error("two documents: got no error")
	}
}

func TestTheEnvironmentNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte("max_clock_skew: 9s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig("", func(name string) string {
		if name == "REEVE_AGENT_CONFIG" {
			return path
		}
		return ""
	})
	if err != nil || c.MaxClockSkew != 9*time.Second {
		t.Errorf("got %v, %v, want the file's value", c.MaxClockSkew, err)
	}
}
