//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sources are real small apps, one of each platform there is. What they answer begins with "hello from <platform>".
var sources = map[string]map[string]string{
	"static": {"index.html": "hello from static\n"},
	"php":    {"index.php": "<?php echo 'hello from php';\n"},
	"python": {"Procfile": "web: python3 app.py\n", "app.py": `import os, subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        text, code = "hello from python " + os.environ.get("GREETING", "") + "\n", 200
        if self.path.startswith("/sql?"):
            run = subprocess.run(["psql", "-Atq", os.environ["DATABASE_URL"], "-c", "CREATE TABLE IF NOT EXISTS t (x text); INSERT INTO t VALUES ('row'); SELECT count(*) FROM t"],
                capture_output=True, text=True)
            text, code = (run.stdout, 200) if run.returncode == 0 else (run.stderr, 500)
        self.send_response(code)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *args):
        print("asked for", self.path, flush=True)

class Server(ThreadingHTTPServer):
    request_queue_size = 128 # the default of 5 is too short for a burst

Server(("0.0.0.0", int(os.environ["PORT"])), App).serve_forever()
`},
	"nodejs": {"Procfile": "web: node app.js\n", "app.js": "require('http').createServer((q, r) => r.end('hello from nodejs\\n')).listen(process.env.PORT, '0.0.0.0');\n"},
	"ruby": {"Procfile": "web: ruby app.rb\n", "app.rb": `require 'socket'
server = TCPServer.new('0.0.0.0', ENV['PORT'].to_i)
loop do
  Thread.new(server.accept) do |c|
    while (line = c.gets) && line != "\r\n"; end
    c.write "HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\nhello from ruby\n"
    c.close
  end
end
`},
	"generic": {"Procfile": "web: python3 -m http.server $PORT\n", "index.html": "hello from generic\n"},
	"go": {"go.mod": "module hello\n\ngo 1.19\n", "main.go": `package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello from go") })
	panic(http.ListenAndServe("0.0.0.0:"+os.Getenv("PORT"), nil))
}
`},
}

// tsuruSite is a site as a team uses it: stock curl-like calls, git and ssh.
type tsuruSite struct {
	*site
	token   string
	gitPort int
	key     string
	work    string
	router  string
}

func (s *tsuruSite) do(method, path, body string, want int) string {
	s.t.Helper()
	code, text, err := s.try(method, path, body)
	if err != nil || code != want {
		s.t.Fatalf("%s %s: got %d %q %v, want %d", method, path, code, tail(text, 2000), err, want)
	}
	return text
}

func (s *tsuruSite) try(method, path, body string) (code int, text string, err error) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.token != "" {
		r.Header.Set("Authorization", "bearer "+s.token)
	}
	if method == "POST" && (strings.HasSuffix(path, "/quota") || strings.HasSuffix(path, "/rollback")) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(data), err
}

// git runs stock git with stock ssh in the directory of one app.
func (s *tsuruSite) git(app string, args ...string) (string, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = filepath.Join(s.work, app)
	cmd.Env = append(os.Environ(), fmt.Sprintf("GIT_SSH_COMMAND=ssh -F /dev/null -p %d -o IdentitiesOnly=yes -o UserKnownHostsFile=%s/known -o StrictHostKeyChecking=accept-new -i %s", s.gitPort, s.work, s.key),
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org", "GIT_CONFIG_GLOBAL=/dev/null", "SSH_AUTH_SOCK=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// commit writes files and commits them; a repository is made at the first time.
func (s *tsuruSite) commit(app string, files map[string]string) {
	s.t.Helper()
	dir := filepath.Join(s.work, app)
	steps := [][]string{{"add", "-A"}, {"commit", "-qm", "more"}}
	if _, err := os.Stat(dir); err != nil {
		steps = append([][]string{{"init", "-q", "-b", "master"}, {"remote", "add", "tsuru", "git@127.0.0.1:" + app + ".git"}}, steps...)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, args := range steps {
		if out, err := s.git(app, args...); err != nil {
			s.t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
}

func (s *tsuruSite) push(app string) string {
	s.t.Helper()
	out, err := s.git(app, "push", "tsuru", "master")
	if err != nil || !strings.Contains(out, "remote: OK") {
		s.t.Fatalf("push %s: %v\n%s", app, err, out)
	}
	return out
}

type tsuruUnit struct{ Name, IP, Status string }

func (s *tsuruSite) units(app string) []tsuruUnit {
	s.t.Helper()
	var got struct{ Units []tsuruUnit }
	if err := json.Unmarshal([]byte(s.do("GET", "/apps/"+app, "", 200)), &got); err != nil {
		s.t.Fatal(err)
	}
	return got.Units
}

func (s *tsuruSite) serves(app, want string) {
	s.t.Helper()
	if code, body := s.fetch(s.router, app+".apps.test", "/"); code != 200 || !strings.HasPrefix(body, want) {
		s.t.Errorf("%s: got %d %q through the router, want %q", app, code, body, want)
	}
}

// isUp waits for an instance of a service.
func (s *tsuruSite) isUp(instance string) {
	s.t.Helper()
	s.await(3*time.Minute, "the instance "+instance, func() (bool, string) {
		state := s.do("GET", "/services/instances/"+instance+"/status", "", 200)
		return state == fmt.Sprintf("Service instance %q is up", instance), state
	})
}

// TestTsuru is a team's life with the platform, on booted hosts: a router and two nodes that apps share.
func TestTsuru(t *testing.T) {
	gitPort, tlsPort := freePort(t), freePort(t)
	t.Setenv("REEVE_LISTEN", fmt.Sprintf(":%d", tlsPort)) // hosts fetch releases from there
	t.Setenv("REEVE_LISTEN_GIT", fmt.Sprintf("127.0.0.1:%d", gitPort))
	s := &tsuruSite{site: newSite(t, 45), gitPort: gitPort, work: t.TempDir()}
	s.start(0)
	s.router = s.nodeWith("router").Address

	s.do("POST", "/users", `{"email":"ann@example.org","password":"secret-1"}`, 200)
	var login struct{ Token string }
	if err := json.Unmarshal([]byte(s.do("POST", "/users/ann@example.org/tokens", `{"password":"secret-1"}`, 200)), &login); err != nil {
		t.Fatal(err)
	}
	s.token = login.Token
	s.do("POST", "/teams", `{"name":"reds"}`, 200)
	s.key = filepath.Join(s.work, "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	public, err := os.ReadFile(s.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	s.do("POST", "/users/keys", fmt.Sprintf(`{"key":%q}`, strings.TrimSpace(string(public))), 200)

	var platforms []struct{ Name string }
	if err := json.Unmarshal([]byte(s.do("GET", "/platforms", "", 200)), &platforms); err != nil {
		t.Fatal(err)
	}
	platforms = slices.DeleteFunc(platforms, func(p struct{ Name string }) bool { return p.Name == "java" }) // of another image: java_test.go
	if len(platforms) != len(sources) || slices.ContainsFunc(platforms, func(p struct{ Name string }) bool { return sources[p.Name] == nil }) {
		t.Errorf("got the platforms %v, and sources of %v", platforms, slices.Sorted(maps.Keys(sources)))
	}
	for platform, files := range sources {
		t.Run("a push of "+platform+" serves", func(t *testing.T) {
			app := "my-" + platform
			s.do("POST", "/apps", fmt.Sprintf(`{"name":%q,"platform":%q}`, app, platform), 200)
			s.commit(app, files)
			s.push(app)
			s.serves(app, "hello from "+platform)
		})
		if t.Failed() {
			return
		}
	}
	load := s.load("my-python")
	t.Cleanup(load.stop)
	lossless := func(what string, do func(t *testing.T)) {
		t.Run(what, do)
		if failed := load.since(); len(failed) > 0 {
			t.Errorf("%s: %d requests failed, the first ones: %q\nthe router's nginx says:\n%s", what, len(failed), failed[:min(len(failed), 5)], s.routerErrors())
		}
	}
	lossless("PostgreSQL is bound, and keeps a row", func(t *testing.T) {
		s.do("POST", "/services/instances", `{"name":"rows","service_name":"postgresql"}`, 200)
		s.isUp("rows")
		s.do("PUT", "/services/instances/rows/my-python", "", 200)
		for want := 1; want <= 2; want++ {
			if code, body := s.fetch(s.router, "my-python.apps.test", "/sql?"); code != 200 || strings.TrimSpace(body) != fmt.Sprint(want) {
				t.Errorf("got %d %q, want %d rows", code, body, want)
			}
		}
	})
	lossless("MongoDB", func(t *testing.T) { s.mongo(t, "my-nodejs") })
	lossless("four units on both nodes", func(t *testing.T) {
		s.do("PUT", "/apps/my-python/units", "3", 200)
		hosts := map[string]bool{}
		for _, u := range s.units("my-python") {
			hosts[u.IP] = true
		}
		if units := s.units("my-python"); len(units) != 4 || len(hosts) != 2 {
			t.Errorf("got the units %v", units)
		}
	})
	lossless("a change of the environment", func(t *testing.T) {
		s.do("POST", "/apps/my-python/env", `{"GREETING":"again"}`, 200)
		s.serves("my-python", "hello from python again")
	})
	for why, c := range map[string]struct {
		files map[string]string
		said  string
	}{
		"does not start":        {map[string]string{"Procfile": "web: python3 -c \"print('no such luck'); raise SystemExit(3)\"\n"}, "no such luck"},
		"has a hook that fails": {map[string]string{"tsuru.yaml": "hooks:\n  build:\n    - echo too bad; exit 7\n"}, "too bad"},
		"fails its check":       {map[string]string{"tsuru.yaml": "healthcheck:\n  path: /\n  status: 418\n"}, "not 418"},
	} {
		lossless("a release that "+why+" is refused", func(t *testing.T) {
			before := s.units("my-python")
			s.commit("my-python", c.files)
			out, err := s.git("my-python", "push", "tsuru", "master")
			if err == nil || !strings.Contains(out, c.said) {
				t.Errorf("got %v, %s, want a failure with %q", err, out, c.said)
			}
			if after := s.units("my-python"); !slices.Equal(names(before), names(after)) {
				t.Errorf("got the units %v, want %v", after, before)
			}
			s.commit("my-python", map[string]string{"Procfile": sources["python"]["Procfile"], "tsuru.yaml": "{}\n"})
		})
	}
	lossless("a release, and back", func(t *testing.T) {
		s.commit("my-python", map[string]string{"app.py": strings.Replace(sources["python"]["app.py"], "hello from", "hola from", 1)})
		s.push("my-python")
		s.serves("my-python", "hola from python")
		if out := s.do("POST", "/apps/my-python/deploy/rollback", "image=v1", 200); !strings.HasSuffix(out, "\nOK\n") {
			t.Errorf("got %q", out)
		}
		s.serves("my-python", "hello from python")
	})
	lossless("a swap, and back", func(t *testing.T) {
		s.do("PUT", "/swap?app1=my-python&app2=my-nodejs&force=true", "", 200)
		s.serves("my-nodejs", "hello from python")
		s.serves("my-python", "hello from nodejs")
		s.do("PUT", "/swap?app1=my-python&app2=my-nodejs&force=true", "", 200)
	})
	lossless("the log and a command", func(t *testing.T) {
		if out := s.do("GET", "/apps/my-python/log?lines=50&source=app", "", 200); !strings.Contains(out, "asked for /") {
			t.Errorf("got the log %s", tail(out, 500))
		}
		if out := s.do("POST", "/apps/my-python/run?once=true", "echo $TSURU_APPNAME; id -un", 200); !strings.HasPrefix(out, "my-python\n") || !strings.HasSuffix(out, "\nOK!\n") || strings.Contains(out, "root") {
			t.Errorf("got %q", out)
		}
	})
	lossless("a killed unit comes back", func(t *testing.T) {
		victim := s.units("my-python")[0]
		killed := s.processesOf(victim.Name)
		if len(killed) == 0 {
			t.Fatalf("no process of unit %s is found", victim.Name)
		}
		for _, pid := range killed {
			s.signal(pid, syscall.SIGKILL)
		}
		s.await(time.Minute, "new processes of the unit, and four units that serve", func() (bool, string) {
			units, now := s.units("my-python"), s.processesOf(victim.Name)
			back := len(now) > 0 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(killed, pid) })
			return back && len(units) == 4 && serving(units) == 4, fmt.Sprint(now, units)
		})
		s.serves("my-python", "hello from python")
	})
	t.Run("a lost host's units move, and only requests in flight fail", func(t *testing.T) {
		victim := s.without("postgresql")
		on := func(units []tsuruUnit) int {
			return len(slices.DeleteFunc(slices.Clone(units), func(u tsuruUnit) bool { return u.IP != victim.Address }))
		}
		if units := s.units("my-python"); on(units) == 0 {
			t.Fatalf("%s has no units: %v", victim.Name, units)
		}
		giveBack := s.lose(victim.Name)
		lost := time.Now()
		s.await(2*time.Minute, "four units that serve on living hosts", func() (bool, string) {
			units := s.units("my-python")
			return len(units) == 4 && serving(units) == 4 && on(units) == 0, fmt.Sprint(units)
		})
		s.serves("my-python", "hello from python")
		giveBack()
		s.await(time.Minute, "the host to be back, without units", func() (bool, string) {
			out, err := s.command("node", "call", victim.Name, "deploy.list_units", `{}`).CombinedOutput()
			return err == nil && strings.TrimSpace(string(out)) == "[]", tail(string(out), 300)
		})
		load.stop() // waits for answers
		inFlight := 0
		for _, f := range load.since() {
			if inFlight++; f.began.After(lost) {
				t.Errorf("a request that was not in flight failed, %s after the host was lost: %s", f.began.Sub(lost), f)
			}
		}
		t.Logf("%d requests were in flight and failed", inFlight)
		if inFlight > loadWorkers {
			t.Errorf("%d requests failed, more than can be in flight", inFlight)
		}
		if t.Failed() {
			t.Logf("the router's nginx says:\n%s", s.routerErrors())
		}
	})
	t.Log(load)
	t.Run("everything is removed", func(t *testing.T) {
		s.do("DELETE", "/services/instances/rows/my-python", "", 200)
		s.do("DELETE", "/services/instances/rows", "", 200)
		for platform := range sources {
			s.do("DELETE", "/apps/my-"+platform, "", 200)
		}
		s.await(3*time.Minute, "the apps' end", func() (bool, string) {
			list := s.do("GET", "/apps", "", 200)
			return strings.TrimSpace(list) == "[]", tail(list, 300)
		})
		for _, n := range s.nodes() {
			if n.State != "running" || !slices.Contains(n.Roles, "pool") {
				continue
			}
			for _, method := range []string{"deploy.list_units", "deploy.list_apps"} {
				if out, err := s.command("node", "call", n.Name, method).Output(); err != nil || strings.TrimSpace(string(out)) != "[]" {
					t.Errorf("%s on %s: got %s %v", method, n.Name, bytes.TrimSpace(out), err)
				}
			}
		}
	})
}

func serving(units []tsuruUnit) (n int) {
	for _, u := range units {
		if u.Status == "started" {
			n++
		}
	}
	return n
}

func names(units []tsuruUnit) (all []string) {
	for _, u := range units {
		all = append(all, u.Name)
	}
	slices.Sort(all)
	return all
}
