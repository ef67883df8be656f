package apache

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

const (
	killRounds  = 30
	killedVar   = "REEVE_APACHE_KILLED" // set in the child: what it works on, as JSON
	killedSites = 4

	killedDefault = "default-ssl" // the packaged TLS site, whose versions are the certificates it has
)

var killedPairs = []string{"77", "78"}

// killedJob is what the child that gets killed works on.
type killedJob struct {
	Dir     string
	Port    int
	Seed    uint64
	Daemons map[string]webtest.Daemon
}

// TestMain runs the child of TestRealApacheSurvivesAKilledAgent instead of the tests when it is asked to.
func TestMain(m *testing.M) {
	if job := os.Getenv(killedVar); job != "" {
		if err := changeUntilKilled(job); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// changeUntilKilled starts the service as an agent would and then changes virtual hosts without end. It says what it is
// about to do, and what was confirmed.
func changeUntilKilled(encoded string) error {
	var job killedJob
	if err := json.Unmarshal([]byte(encoded), &job); err != nil {
		return err
	}
	a := &realApache{dir: job.Dir, port: job.Port, units: &webtest.Units{Daemons: job.Daemons}}
	s := a.newService()
	ctx := context.Background()
	if err := s.Start(ctx); err != nil {
		return err
	}
	fmt.Println("started")
	random := rand.New(rand.NewPCG(job.Seed, 1))
	for n := 0; ; n++ {
		if id := killedPairs[random.IntN(len(killedPairs))]; random.IntN(4) == 0 {
			fmt.Println("begin", killedDefault, id)
			if _, err := s.SetDefaultSSLCertificate(ctx, agentapi.DefaultCertificateParams{ID: new(agentapi.Text(id))}); err != nil {
				return err
			}
			fmt.Println("done", killedDefault, id)
			continue
		}
		name := fmt.Sprintf("s%d.test", random.IntN(killedSites))
		version := fmt.Sprintf("v%d-%d", job.Seed, n)
		if random.IntN(3) == 0 {
			version = "gone"
		}
		fmt.Println("begin", name, version)
		var err error
		if version == "gone" {
			_, err = s.DeleteVHosts(ctx, agentapi.DeleteVHostsParams{VHosts: []agentapi.VHostRef{{Hostname: name, Port: text(job.Port)}}})
		} else {
			template := strings.Replace(a.template(name, job.Port), "ServerName", "ServerAlias "+version+"\n   ServerName", 1)
			_, err = s.CreateVHost(ctx, agentapi.CreateVHostParams{Hostname: name, Port: text(job.Port), Template: template})
		}
		if err != nil {
			return err
		}
		fmt.Println("done", name, version)
	}
}

func TestRealApacheSurvivesAKilledAgent(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	a := newRealApache(t)
	a.defaultSite()
	for _, id := range killedPairs {
		a.pair("private.d/keys/https_" + id)
	}
	a.start()
	if _, err := a.SetDefaultSSLCertificate(t.Context(), agentapi.DefaultCertificateParams{ID: new(agentapi.Text(killedPairs[0]))}); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(2, 7))
	confirmed := map[string]string{killedDefault: killedPairs[0]}
	changes := 0
	start := time.Now()
	a.create("calibration.test", a.port)
	window := 3 * time.Since(start)
	for round := range killRounds {
		unsure, unsureVersion := a.killOne(uint64(round), time.Duration(random.Int64N(int64(window))), confirmed, &changes)
		a.testPasses() // before any agent is back to repair anything
		for name, want := range confirmed {
			if got := a.version(name); got != want && (name != unsure || got != unsureVersion) {
				t.Errorf("round %d: %s is %q, confirmed was %q, under way was %s %q", round, name, got, want, unsure, unsureVersion)
			}
		}
		// The next agent takes back what was not confirmed, or keeps it when only the answer was lost.
		if err := a.newService().Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if unsure != "" {
			if got := a.version(unsure); got != confirmed[unsure] && got != unsureVersion {
				t.Errorf("round %d: after the repair %s is %q, want %q or %q", round, unsure, got, confirmed[unsure], unsureVersion)
			}
			confirmed[unsure] = a.version(unsure)
		}
		if t.Failed() {
			return
		}
	}
	if changes < killRounds/5 {
		t.Errorf("only %d changes were confirmed in %d rounds: the kills come too early to mean anything", changes, killRounds)
	}
	if _, err := os.Stat(a.stagingDir()); !os.IsNotExist(err) {
		t.Errorf("the staging directory is left over: %v", err)
	}
	for name := range confirmed {
		if a.version(name) == "gone" || name == killedDefault {
			continue
		}
		if got := a.body(name); !strings.Contains(got, "It works") {
			t.Errorf("%s: got %q", name, got)
		}
	}
	t.Logf("%d changes confirmed", changes)
}

// killOne starts a child, waits until it serves, kills it after some time and returns the change that was under way. What
// the child confirmed is entered in confirmed.
func (a *realApache) killOne(seed uint64, after time.Duration, confirmed map[string]string, changes *int) (name, version string) {
	a.t.Helper()
	job, err := json.Marshal(killedJob{Dir: a.dir, Port: a.port, Seed: seed, Daemons: a.units.Daemons})
	if err != nil {
		a.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedVar+"="+string(job))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	kill := func() { _ = cmd.Process.Kill() }
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "started":
			defer time.AfterFunc(after, kill).Stop()
		case "begin":
			name, version = words[1], words[2]
			if _, known := confirmed[name]; !known {
				confirmed[name] = "gone"
			}
		case "done":
			confirmed[words[1]] = words[2]
			name, version = "", ""
			*changes++
		default:
			a.t.Error(lines.Text())
		}
	}
	_ = cmd.Wait() // killed, or ended with an error that was printed
	return name, version
}

// version is what the file of a virtual host holds, "gone" without one.
func (a *realApache) version(name string) string {
	a.t.Helper()
	if name == killedDefault {
		for _, id := range killedPairs {
			if cert, key := a.defaultFiles(); strings.HasSuffix(cert, "https_"+id+".crt") && strings.HasSuffix(key, "https_"+id+".key") {
				return id
			}
		}
		return "mixed"
	}
	data, err := os.ReadFile(filepath.Join(a.vhostDir(), name+"-"+strconv.Itoa(a.port)+vhostSuffix))
	if os.IsNotExist(err) {
		return "gone"
	}
	if err != nil {
		a.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "ServerAlias ")
	version, _, _ := strings.Cut(rest, "\n")
	return version
}
