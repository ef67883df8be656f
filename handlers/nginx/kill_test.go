package nginx

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/nginx/nginxtest"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

const (
	killRounds    = 30
	killedVar     = "REEVE_NGINX_KILLED" // set in the child: what it works on, as JSON
	killedProxies = 4
)

// killedJob is what the child that gets killed works on.
type killedJob struct {
	Dir     string
	Port    int
	Seed    uint64
	Backend agentapi.Destination
	Daemons map[string]webtest.Daemon
	TLSPort int
	Pairs   []testPair // certificates that proxies take turns with; none: no TLS
	Status  string     // address of the status server
	Set     bool       // change all proxies at once, and the servers of a role
}

// TestMain runs the child of TestRealNginxSurvivesAKilledAgent instead of the tests when it is asked to.
func TestMain(m *testing.M) {
	if job := os.Getenv(killedVar); job != "" {
		if err := changeUntilKilled(job); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// changeUntilKilled starts the service as an agent would and then changes proxies without end. It says what it is about to
// do, and what was confirmed. Every version of a proxy has upstreams of its own names, so no order of files is trivial.
func changeUntilKilled(encoded string) error {
	var job killedJob
	if err := json.Unmarshal([]byte(encoded), &job); err != nil {
		return err
	}
	s := serviceIn(job.Dir, &webtest.Units{Daemons: job.Daemons}, nil, nginxtest.NewCoordinator(), job.Status)
	ctx := context.Background()
	if err := s.Start(ctx); err != nil {
		return err
	}
	fmt.Println("started")
	random := rand.New(rand.NewPCG(job.Seed, 1))
	if job.Set {
		return changeSetUntilKilled(ctx, s, job, random)
	}
	for n := 0; ; n++ {
		name := fmt.Sprintf("s%d.test", random.IntN(killedProxies))
		version := fmt.Sprintf("v%d-%d", job.Seed, n)
		if random.IntN(3) == 0 {
			version = "gone"
		}
		fmt.Println("begin", name, version)
		var err error
		if version == "gone" {
			_, err = s.RemoveProxy(ctx, agentapi.RemoveProxyParams{Hostname: name})
		} else {
			versioned := job.Backend
			versioned.Location = "/" + version
			p := agentapi.ProxyParams{Hostname: name, Port: new(text(job.Port)), Backends: []agentapi.Destination{job.Backend, versioned}}
			if len(job.Pairs) > 0 {
				pair := job.Pairs[random.IntN(len(job.Pairs))]
				p.SSL, p.SSLPort, p.SSLCertificateID, p.SSLCertificate = new(agentapi.Bool(true)), new(text(job.TLSPort)), new(agentapi.Text(pair.ID)), &pair.Pair
			}
			_, err = s.MakeProxy(ctx, p)
		}
		if err != nil {
			return err
		}
		fmt.Println("done", name, version)
	}
}

func TestRealNginxSurvivesAKilledAgent(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	n := newRealNginx(t).counting().start()
	b1 := n.Backend("B1")
	start := time.Now()
	n.make(n.params("calibration.test", b1))
	window := 3 * time.Since(start)
	tlsPort, pairs := webtest.FreePort(t), []testPair{newPairOf(t), newPairOf(t), newPairOf(t)}
	random := rand.New(rand.NewPCG(3, 9))
	confirmed := map[string]string{}
	changes := 0
	for round := range killRounds {
		job := killedJob{Dir: n.Dir, Status: n.status, Port: n.Port, Seed: uint64(round), Backend: b1, Daemons: n.units.Daemons, TLSPort: tlsPort, Pairs: pairs}
		unsure, unsureVersion := n.killOne(job, time.Duration(random.Int64N(int64(window))), confirmed, &changes)
		if err := n.test(t.Context()); err != nil { // before any agent is back to repair anything
			t.Fatalf("round %d: %v", round, err)
		}
		for name, want := range confirmed {
			if got := n.version(name); got != want && (name != unsure || got != unsureVersion) {
				t.Errorf("round %d: %s is %q, confirmed was %q, under way was %s %q", round, name, got, want, unsure, unsureVersion)
			}
		}
		// The next agent takes back what was not confirmed, or keeps it when only the answer was lost.
		if err := n.newService().Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if unsure != "" {
			if got := n.version(unsure); got != confirmed[unsure] && got != unsureVersion {
				t.Errorf("round %d: after the repair %s is %q, want %q or %q", round, unsure, got, confirmed[unsure], unsureVersion)
			}
			confirmed[unsure] = n.version(unsure)
		}
		if t.Failed() {
			return
		}
	}
	if changes < killRounds/5 {
		t.Errorf("only %d changes were confirmed in %d rounds: the kills come too early to mean anything", changes, killRounds)
	}
	for _, left := range []string{n.stagingDir(), n.stagedConf()} {
		if _, err := os.Stat(left); !os.IsNotExist(err) {
			t.Errorf("%s is left over: %v", left, err)
		}
	}
	for name, version := range confirmed {
		if version != "gone" {
			n.Wants("http://"+name+"/"+version, "B1 /"+version)
			if r := webtest.Get(t, tlsPort, "https://"+name+"/"+version); r.Status != 200 || !strings.HasPrefix(r.Body, "B1 /"+version) {
				t.Errorf("%s over TLS: got %+v", name, r)
			}
		}
	}
	t.Logf("%d changes confirmed", changes)
}

// killOne starts a child, waits until it serves, kills it after some time and returns the change that was under way. What
// the child confirmed is entered in confirmed.
func (n *realNginx) killOne(job killedJob, after time.Duration, confirmed map[string]string, changes *int) (name, version string) {
	n.T.Helper()
	encoded, err := json.Marshal(job)
	if err != nil {
		n.T.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedVar+"="+string(encoded))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.T.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.T.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "started":
			defer time.AfterFunc(after, func() { _ = cmd.Process.Kill() }).Stop()
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
			n.T.Error(lines.Text())
		}
	}
	_ = cmd.Wait() // killed, or ended with an error that was printed
	return name, version
}

var versionLocation = regexp.MustCompile(`location /(v[0-9-]+) `)

// version is what the server block of a proxy holds, "gone" without one.
func (n *realNginx) version(name string) string {
	n.T.Helper()
	for _, server := range strings.SplitAfter(n.Read("proxies.include"), "\n}\n") {
		if !strings.Contains(server, "server_name   "+name+";") {
			continue
		}
		if m := versionLocation.FindStringSubmatch(server); m != nil {
			return m[1]
		}
	}
	return "gone"
}
