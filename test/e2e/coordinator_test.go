//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/test/hosts"
	"github.com/reeve-paas/reeve/test/ports"
)

// top is the root of the tree.
var top = func() string {
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		panic(err)
	}
	return dir
}()

// programsDir is where programs are, once they are built.
var programsDir string

// programs are built once: the coordinator with the failpoint tag, so that tests can kill it at step boundaries.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "reeve-e2e-")
	if err != nil {
		return "", err
	}
	programsDir = dir
	cmd := exec.Command("go", "build", "-tags", "failpoint", "-o", dir+"/", "./coordinator")
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the coordinator: %w\n%s", err, out)
	}
	return filepath.Join(dir, "coordinator"), nil
})

func TestMain(m *testing.M) {
	code := hosts.Main(m) // tests start the processes that look after hosts from their own binary
	if programsDir != "" {
		os.RemoveAll(programsDir)
	}
	os.Exit(code)
}

// site is one coordinator with a data directory and a network of its own.
type site struct {
	t       *testing.T
	program string
	dir     string
	config  string
	url     string
	admin   struct {
		Email    string `json:"email"`
		Password string `json:"password"`
		APIKey   string `json:"api_key"`
		Token    string `json:"token"`
	}
	env     []string // of the coordinator, beside ours
	process *exec.Cmd
	exited  chan struct{}
	log     *os.File
}

// newSite is a site whose default cloud is a network of this machine, with more settings.
func newSite(t *testing.T, network int, more ...string) *site {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("root is needed to boot machines")
	}
	return newSiteWith(t, fmt.Sprintf(`agent_package: %s/dist/reeve-agent.deb
clouds:
  nspawn: {engine: nspawn, bridge: rve%d, subnet: 10.90.%d.0/24}
  fake_driver: {engine: fake}
default_cloud: nspawn
%s`, top, network, network, strings.Join(more, "")))
}

// newSiteWith is a site with these settings, on a port and in a directory of its own.
func newSiteWith(t *testing.T, settings string) *site {
	t.Helper()
	program, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "reeve-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	s := &site{t: t, program: program, dir: dir, config: filepath.Join(dir, "coordinator.yaml"), url: fmt.Sprintf("http://127.0.0.1:%d", port)}
	config := fmt.Sprintf(`data_dir: %s/data
listen: ""
listen_plain: 127.0.0.1:%d
%s`, dir, port, settings)
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.log, err = os.Create(filepath.Join(dir, "coordinator.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop()
		if out, err := s.command("teardown").CombinedOutput(); err != nil {
			t.Errorf("teardown: %v\n%s", err, out)
		}
		s.assertNothingLeft()
		if t.Failed() {
			data, _ := os.ReadFile(s.log.Name())
			t.Logf("coordinator's log:\n%s", tail(string(data), 8000))
		}
		s.log.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func freePort(t *testing.T) int { return ports.Free(t) }

func (s *site) command(args ...string) *exec.Cmd {
	return exec.Command(s.program, append(args, "--config", s.config, "--log-level", "error")...)
}

// start runs the coordinator until it answers. failpoint n > 0 kills it at its n-th step boundary.
func (s *site) start(failpoint int) {
	s.t.Helper()
	cmd := exec.Command(s.program, "serve", "--config", s.config)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.Env = append(append(os.Environ(), s.env...), "REEVE_FAILPOINT_LOG="+s.boundaryLog())
	if failpoint > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("REEVE_FAILPOINT=%d", failpoint))
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	s.process, s.exited = cmd, exited
	s.await(20*time.Second, "the coordinator to answer", func() (bool, string) {
		if s.dead() {
			return failpoint > 0, "it ended" // a failpoint may hit before anybody asked
		}
		answer, err := http.Get(s.url + "/healthz")
		if err != nil {
			return false, err.Error()
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK, answer.Status
	})
	if s.admin.APIKey == "" {
		data, err := os.ReadFile(filepath.Join(s.dir, "data", "admin.json"))
		if err == nil {
			err = json.Unmarshal(data, &s.admin)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) dead() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// stop ends the coordinator cleanly.
func (s *site) stop() {
	if s.process == nil {
		return
	}
	s.process.Process.Signal(os.Interrupt)
	<-s.exited
	s.process = nil
}

func (s *site) await(limit time.Duration, what string, done func() (bool, string)) {
	s.t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %s for %s: %s", limit, what, state)
		}
		<-tick.C
	}
}

type fault struct {
	Code   int    `json:"code"`
	String string `json:"string"`
}

func (f *fault) Error() string { return fmt.Sprintf("fault %d: %s", f.Code, f.String) }

// gandi calls a method with the administrator's key through Python's own client.
func (s *site) gandi(result any, method string, params ...any) error {
	s.t.Helper()
	args, err := json.Marshal(append([]any{s.admin.APIKey}, params...))
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := exec.Command("python3", "testdata/gandi.py", s.url+"/xmlrpc/", method, string(args)).Output()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
		Fault  *fault          `json:"fault"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return err
	}
	if answer.Fault != nil {
		return answer.Fault
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

func (s *site) mustGandi(result any, method string, params ...any) {
	s.t.Helper()
	if err := s.gandi(result, method, params...); err != nil {
		s.t.Fatalf("%s: %v", method, err)
	}
}

type gandiOperation struct {
	ID        int64  `json:"id"`
	Type      string `json:"type"`
	Step      string `json:"step"`
	PaasID    int64  `json:"paas_id"`
	LastError string `json:"last_error"`
}

func instanceSpec(name string, vhosts ...string) map[string]any {
	return map[string]any{"name": name, "size": "s", "type": "phpmysql", "datacenter_id": 1, "vhosts": vhosts, "quantity": 0,
		"duration": "1m", "password": "correct-horse-42"}
}

// done waits until every operation is DONE.
func (s *site) done(ops ...gandiOperation) {
	s.t.Helper()
	for _, op := range ops {
		s.await(2*time.Minute, op.Type+" to be DONE", func() (bool, string) {
			var now gandiOperation
			if err := s.gandi(&now, "operation.info", op.ID); err != nil {
				return false, err.Error()
			}
			if now.Step == "ERROR" || now.Step == "CANCEL" {
				s.t.Fatalf("%s ended %s: %s", now.Type, now.Step, now.LastError)
			}
			return now.Step == "DONE", now.Step
		})
	}
}

type node struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	State   string   `json:"state"`
	Address string   `json:"address"`
	Roles   []string `json:"roles"`
}

func (s *site) nodes() []node {
	s.t.Helper()
	out, err := s.command("node", "list", "--json").Output()
	if err != nil {
		s.t.Fatalf("node list: %v", err)
	}
	var nodes []node
	if err := json.Unmarshal(out, &nodes); err != nil {
		s.t.Fatal(err)
	}
	return nodes
}

func (s *site) nodeWith(role string) node {
	s.t.Helper()
	var found node
	s.await(time.Minute, "a running "+role+" node", func() (bool, string) {
		for _, n := range s.nodes() {
			if strings.Contains(strings.Join(n.Roles, ","), role) && n.State == "running" {
				found = n
				return true, ""
			}
		}
		return false, "none yet"
	})
	return found
}

// fetch gets a page through the router by its vhost's name.
func (s *site) fetch(router, host, path string) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+router+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Host = host
	answer, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// call calls a method of a node's agent through the coordinator's command line.
func (s *site) call(node, method string, params any) {
	s.t.Helper()
	data, err := json.Marshal(params)
	if err != nil {
		s.t.Fatal(err)
	}
	if out, err := s.command("node", "call", node, method, string(data)).CombinedOutput(); err != nil {
		s.t.Fatalf("node call %s: %v\n%s", method, err, out)
	}
}

// archive packs a directory as tar.gz in base64.
func archive(t *testing.T, dir string) string {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes())
}

// bridge is the name of the network of the site's cloud, "" when it has none.
func (s *site) bridge() string {
	data, err := os.ReadFile(s.config)
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(data), "bridge: ")
	name, _, _ := strings.Cut(rest, ",")
	return name
}

// assertNothingLeft looks for what a site leaves on this host: mounts, loop devices, cgroups, interfaces.
func (s *site) assertNothingLeft() {
	s.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, s.dir) {
			s.t.Errorf("a mount is left: %s", line)
		}
	}
	if out, err := exec.Command("losetup", "--list", "--noheadings", "--output", "BACK-FILE").Output(); err != nil || strings.Contains(string(out), s.dir) {
		s.t.Errorf("loop devices are left: %v %s", err, out)
	}
	bridge := s.bridge()
	if bridge == "" {
		return // a site without a network
	}
	if _, err := net.InterfaceByName(bridge); err == nil {
		s.t.Errorf("the bridge %s is left", bridge)
	}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == bridge {
			s.t.Errorf("a cgroup is left: %s", path)
		}
		return nil
	})
	if out, err := exec.Command("nft", "list", "tables").Output(); err == nil && strings.Contains(string(out), bridge) {
		s.t.Errorf("an nft table is left: %s", out)
	}
}
