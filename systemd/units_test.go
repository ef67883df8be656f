package systemd

import (
	"bytes"
	"encoding/json"
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

// What remains open is written down with its reason, all of it and nothing else.
func TestEveryExposureOfTheAgentHasAReason(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is missing; Debian's package systemd has it")
	}
	version, err := exec.Command(analyze, "--version").Output()
	if err != nil || !bytes.HasPrefix(version, []byte("systemd 252 ")) {
		t.Skipf("the table is of systemd 252, and here is %.40s", version)
	}
	text, err := os.ReadFile("units/reeve-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "reeve-agent.service")
	if err := os.WriteFile(unit, bytes.ReplaceAll(text, []byte("/usr/bin/reeve-agent serve"), []byte("/bin/true")), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--json=short", unit).Output()
	var said []struct {
		Set      bool
		Name     string
		Exposure string
	}
	if jerr := json.Unmarshal(out, &said); jerr != nil {
		t.Fatalf("systemd-analyze security: %v, %v\n%s", err, jerr, out)
	}
	open := map[string]string{}
	for _, s := range said {
		if !s.Set && s.Exposure != "" {
			open[s.Name] = s.Exposure
		}
	}
	if len(open) < 10 {
		t.Fatalf("got %d exposures of %d checks; is this the unit?", len(open), len(said))
	}
	table, err := os.ReadFile("units/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		cells := strings.Split(strings.ReplaceAll(strings.TrimSpace(line), `\|`, "\x00"), "|")
		if len(cells) != 5 || !strings.HasPrefix(line, "| `") {
			continue
		}
		name := strings.ReplaceAll(strings.Trim(cells[1], " `"), "\x00", "|")
		switch weight, remains := open[name]; {
		case !remains:
			t.Errorf("%s is in the table and does not remain", name)
		case weight != strings.TrimSpace(cells[2]):
			t.Errorf("%s weighs %s, the table says %s", name, weight, cells[2])
		case strings.TrimSpace(cells[3]) == "":
			t.Errorf("%s has no reason", name)
		}
		delete(open, name)
	}
	for name, weight := range open {
		t.Errorf("%s (%s) has no row", name, weight)
	}
}
