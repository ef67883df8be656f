package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/handlers/deploy/platform"
	"github.com/reeve-paas/reeve/test/ports"
)

const (
	pushClients = 16
	pushSpan    = time.Second
	pushRounds  = 15 // of one span each, in turn: what else the machine does then meets both
	handHost    = "hand.test"
)

// measurePush compares git push of a static app, up to the first answer with the new page, with the same by hand: unpack the
// source on the node, start the same web server with the same configuration under systemd, tell nginx and reload it. Then it
// compares requests per second through the router with those through a server block by hand on the same nginx, in front of
// the same unit.
func measurePush(ctx context.Context) (rows []row, err error) {
	s, err := newPushSite(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var ours, floor []float64
	for i := range rounds {
		text := fmt.Sprintf("page %d\n", i)
		took, err := s.push(text)
		if err != nil {
			return nil, fmt.Errorf("push: %w\n%s", err, s.coordinator.log)
		}
		byHand, err := s.byHand(i, text)
		if err != nil {
			return nil, fmt.Errorf("by hand: %w", err)
		}
		if i > 0 { // the first push makes the app on its node
			ours, floor = append(ours, took.Seconds()), append(floor, byHand.Seconds())
		}
	}
	if err := s.proxyTo(s.unit); err != nil {
		return nil, err
	}
	var through, plain []float64
	for range pushRounds {
		for host, rates := range map[string]*[]float64{s.host: &through, handHost: &plain} {
			rate, err := perSecondOfMany(ctx, pushClients, pushSpan, request{method: http.MethodGet, url: "http://" + s.router + "/", host: host})
			if err != nil {
				return nil, err
			}
			*rates = append(*rates, rate)
		}
	}
	show := func(s float64) string { return fmt.Sprintf("%.2f s", s) }
	return []row{
		atMost("`git push` of a static app to the first answer with the new page, against unpack + unit start + nginx reload by hand", median(ours), median(floor), show, 2),
		times("requests to a unit through the router, against a server block by hand on the same nginx", "/s", median(through), median(plain), 0.9),
	}, nil
}

// pushSite is a coordinator with a router, a pool and one app that is pushed to.
type pushSite struct {
	ctx          context.Context
	dir, config  string
	url, token   string
	coordinator  *process
	router, host string // address of the router, and the app's name on it
	node         string // address of the app's node
	unit         string // address and port of the app's unit
	machines     map[string]string
	git          []string // environment
}

func newPushSite(ctx context.Context) (s *pushSite, err error) {
	dir, err := os.MkdirTemp("/var/tmp", "rvl-")
	if err != nil {
		return nil, err
	}
	s = &pushSite{ctx: ctx, dir: dir, config: filepath.Join(dir, "coordinator.yaml"), host: "site.apps.test", machines: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	var taken [3]int
	for i := range taken {
		if taken[i], err = ports.Next(); err != nil {
			return s, err
		}
	}
	text := fmt.Sprintf("data_dir: %s/data\nlisten: :%d\nlisten_plain: 127.0.0.1:%d\nlisten_git: 127.0.0.1:%d\nlog_level: warn\npool_nodes: 1\n"+
		"clouds: {nspawn: {engine: nspawn, bridge: rvl2, subnet: 10.91.2.0/24}}\n", dir, taken[0], taken[1], taken[2])
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		return s, err
	}
	s.url = fmt.Sprintf("http://127.0.0.1:%d", taken[1])
	if s.coordinator, err = start(ctx, s.url+"/healthz", "bin/reeve-coordinator", "serve", "--config", s.config); err != nil {
		return s, err
	}
	if s.router, err = awaitRouter(ctx, s.config); err != nil {
		return s, err
	}
	if err := s.account(taken[2]); err != nil {
		return s, err
	}
	if _, err := s.push("first\n"); err != nil {
		return s, fmt.Errorf("first push: %w\n%s", err, s.coordinator.log)
	}
	out, err := exec.CommandContext(ctx, "bin/reeve-coordinator", "node", "list", "--json", "--config", s.config).Output()
	if err != nil {
		return s, err
	}
	var nodes []struct{ Name, Address string }
	if err := json.Unmarshal(out, &nodes); err != nil {
		return s, err
	}
	for _, n := range nodes {
		s.machines[n.Address] = n.Name
	}
	return s, nil
}

func (s *pushSite) close() error {
	if s.coordinator != nil {
		s.coordinator.stop()
		_ = exec.CommandContext(context.WithoutCancel(s.ctx), "bin/reeve-coordinator", "teardown", "--config", s.config).Run()
	}
	return os.RemoveAll(s.dir)
}

// call makes a call of the tsuru API.
func (s *pushSite) call(method, path, body string, result any) error {
	r, err := http.NewRequestWithContext(s.ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if s.token != "" {
		r.Header.Set("Authorization", "bearer "+s.token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s %s", method, path, answer.Status, data)
	}
	if err != nil || result == nil {
		return err
	}
	return json.Unmarshal(data, result)
}

// account makes a user with a team, a key and an app, and a repository to push from.
func (s *pushSite) account(gitPort int) error {
	key, work := filepath.Join(s.dir, "key"), filepath.Join(s.dir, "work")
	if out, err := exec.CommandContext(s.ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		return fmt.Errorf("ssh-keygen: %w\n%s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		return err
	}
	var login struct{ Token string }
	if err := errors.Join(s.call("POST", "/users", `{"email":"load@example.org","password":"secret-1"}`, nil),
		s.call("POST", "/users/load@example.org/tokens", `{"password":"secret-1"}`, &login)); err != nil {
		return err
	}
	s.token = login.Token
	s.git = append(os.Environ(), fmt.Sprintf("GIT_SSH_COMMAND=ssh -F /dev/null -p %d -o IdentitiesOnly=yes -o UserKnownHostsFile=%s/known -o StrictHostKeyChecking=accept-new -i %s", gitPort, s.dir, key),
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org", "GIT_CONFIG_GLOBAL=/dev/null", "SSH_AUTH_SOCK=")
	return errors.Join(
		s.call("POST", "/teams", `{"name":"load"}`, nil),
		s.call("POST", "/users/keys", fmt.Sprintf(`{"key":%q}`, strings.TrimSpace(string(public))), nil),
		s.call("POST", "/apps", `{"name":"site","platform":"static"}`, nil),
		os.Mkdir(work, 0o700),
		s.run("git", "init", "-q", "-b", "master"), s.run("git", "remote", "add", "tsuru", "git@127.0.0.1:site.git"))
}

// run runs a command in the repository.
func (s *pushSite) run(argv ...string) error {
	cmd := exec.CommandContext(s.ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = filepath.Join(s.dir, "work"), s.git
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%q: %w\n%s", argv, err, out)
	}
	return nil
}

// push commits a page and pushes it, and returns how long it took from the push until the router answers with it.
func (s *pushSite) push(text string) (time.Duration, error) {
	if err := errors.Join(os.WriteFile(filepath.Join(s.dir, "work", "index.html"), []byte(text), 0o600),
		s.run("git", "add", "-A"), s.run("git", "commit", "-qm", "page")); err != nil {
		return 0, err
	}
	begun := time.Now()
	pushed := make(chan error, 1)
	go func() { pushed <- s.run("git", "push", "-q", "tsuru", "master") }()
	var failed error
	err := until(s.ctx, func() bool {
		select {
		case failed = <-pushed:
			pushed <- failed
		default:
		}
		return failed != nil || page(s.ctx, s.router, s.host) == text
	})
	took := time.Since(begun)
	if err := errors.Join(err, <-pushed); err != nil {
		return 0, err
	}
	var app struct {
		Units []struct{ Address struct{ Host string } }
	}
	if err := s.call("GET", "/1.0/apps/site", "", &app); err != nil || len(app.Units) != 1 {
		return 0, fmt.Errorf("the app has %d units: %w", len(app.Units), err)
	}
	s.unit = app.Units[0].Address.Host
	s.node, _, _ = strings.Cut(s.unit, ":")
	return took, nil
}

func page(ctx context.Context, router, host string) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+router+"/", nil)
	if err != nil {
		return ""
	}
	r.Host = host
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	data, _ := io.ReadAll(answer.Body)
	return string(data)
}

// enter runs a command inside the machine with an address.
func (s *pushSite) enter(address string, stdin []byte, argv ...string) error {
	out, err := exec.CommandContext(s.ctx, "pgrep", "--full", "--oldest", "hostname="+s.machines[address]).Output()
	if err != nil {
		return fmt.Errorf("find the machine at %s: %w", address, err)
	}
	inside, err := exec.CommandContext(s.ctx, "pgrep", "--parent", strings.TrimSpace(string(out))).Output()
	if err != nil {
		return fmt.Errorf("find the first process at %s: %w", address, err)
	}
	cmd := exec.CommandContext(s.ctx, "nsenter", append([]string{"--target", strings.Fields(string(inside))[0], "--mount", "--uts", "--ipc", "--net", "--pid", "--"}, argv...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w\n%s", argv, err, out)
	}
	return nil
}

// byHand serves a page the way a person would who knows what to type, and returns how long it took.
func (s *pushSite) byHand(i int, text string) (time.Duration, error) {
	static, _ := platform.Get("static")
	files, err := static.BuildFiles()
	if err != nil {
		return 0, err
	}
	n := slices.IndexFunc(files, func(f platform.File) bool { return f.Name == "apache.conf" })
	source, err := tarball(map[string][]byte{"index.html": []byte(text), "apache.conf": files[n].Text})
	if err != nil {
		return 0, err
	}
	dir, unit, port := fmt.Sprintf("/srv/hand%d", i), fmt.Sprintf("hand%d", i), fmt.Sprint(18080+i)
	begun := time.Now()
	if err := s.enter(s.node, nil, "mkdir", "-p", dir); err != nil {
		return 0, err
	}
	if err := s.enter(s.node, source, "tar", "-xzf", "-", "-C", dir); err != nil {
		return 0, err
	}
	if err := s.enter(s.node, nil, "systemd-run", "--quiet", "--unit="+unit, "--property=Type=exec", "--property=User=www-data", "--property=PrivateTmp=yes",
		"--setenv=PORT="+port, "--setenv=DOCUMENT_ROOT="+dir, "/usr/sbin/apache2", "-D", "FOREGROUND", "-f", dir+"/apache.conf"); err != nil {
		return 0, err
	}
	at := s.node + ":" + port
	if err := until(s.ctx, func() bool { return page(s.ctx, at, handHost) == text }); err != nil {
		return 0, fmt.Errorf("the unit does not answer: %w", err)
	}
	if err := s.proxyTo(at); err != nil {
		return 0, err
	}
	if err := until(s.ctx, func() bool { return page(s.ctx, s.router, handHost) == text }); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	if i == 0 {
		return took, nil
	}
	return took, s.enter(s.node, nil, "systemctl", "stop", fmt.Sprintf("hand%d", i-1))
}

// proxyTo writes a server block by hand, tests it and reloads nginx.
func (s *pushSite) proxyTo(address string) error {
	conf := "server {\n listen 80;\n server_name " + handHost + ";\n location / {\n  proxy_pass http://" + address + ";\n  proxy_set_header Host $host;\n" +
		"  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n }\n}\n"
	for _, argv := range [][]string{{"tee", "/etc/nginx/conf.d/hand.conf"}, {"nginx", "-q", "-t"}, {"systemctl", "reload", "nginx"}} {
		if err := s.enter(s.router, []byte(conf), argv...); err != nil {
			return err
		}
	}
	return nil
}

func tarball(files map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	for name, text := range files {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return nil, err
		}
		if _, err := t.Write(text); err != nil {
			return nil, err
		}
	}
	err := errors.Join(t.Close(), z.Close())
	return b.Bytes(), err
}
