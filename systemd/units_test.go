package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestShippedUnits(t *testing.T) {
	for _, file := range []string{"units/reeve-agent.service", "units/reeve-coordinator.service"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Type=notify\n", "Restart=always\n", "WatchdogSec=", "LimitCORE=0\n", "StateDirectoryMode=0700\n", "# Not applied, and why:\n"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %q", file, want)
			}
		}
	}
}

func TestSystemdAcceptsTheShippedUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is missing; Debian's package systemd has it")
	}
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, name := range []string{"reeve-agent", "reeve-coordinator", "reeve-limits"} {
		text, err := os.ReadFile("units/" + name + ".service")
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("/usr/bin/"+name+" serve"), []byte("/bin/true")) // it is not installed here
		path := filepath.Join(dir, name+".service")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	if out, err := exec.Command(analyze, args...).CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
