//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/test/hosts"
)

// smallApps is a real small app per platform. Each answers "hello from <platform>: <SECRET>" at / and knows how to write a
// line to its log.
var smallApps = []struct {
	platform string
	files    map[string]string
}{
	{"static", map[string]string{"htdocs/index.html": "hello from static: no secret\n", ".git/config": "nobody's", "Procfile.md": ""}},
	{"php", map[string]string{
		"index.php": `<?php error_log("php was asked"); echo "hello from php: ", getenv("SECRET"), $_SERVER["SECRET"] === getenv("SECRET") ? "" : "?";`,
		".htaccess": "RewriteEngine On\nRewriteRule ^pretty$ index.php\n", "tsuru.yaml": "healthcheck: {path: /pretty, match: '^hello'}\n"}},
	{"python", map[string]string{"requirements.txt": "# only what the distribution has\npymysql\npsycopg2\n", "app.py": `
import os, sys, http.server, pymysql, psycopg2
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("python was asked")
        self.send_response(200); self.end_headers()
        self.wfile.write(("hello from python: " + os.environ["SECRET"] + ("" if sys.prefix == "/home/application/current/.venv" else sys.prefix)).encode())
    def log_message(self, *args): pass
http.server.HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
`}},
	{"nodejs", map[string]string{"package.json": `{"name": "x", "scripts": {"start": "node server.js --port $PORT"}}`, "server.js": `
require("pg"); require("mysql");
require("http").createServer((req, res) => { console.log("nodejs was asked"); res.end("hello from nodejs: " + process.env.SECRET) }).listen(process.argv[3], "0.0.0.0")
`}},
	{"ruby", map[string]string{"Gemfile": "source 'https://rubygems.org'\n", "config.ru": `
require "pg"; require "mysql2"
$stdout.sync = true
run lambda { |env| puts "ruby was asked"; [200, {"content-type" => "text/plain"}, ["hello from ruby: " + ENV["SECRET"]]] }
`}},
	{"go", map[string]string{"go.mod": "module example.org/x\n\ngo 1.19\n", "main.go": `package main

import ("fmt"; "net/http"; "os")

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Println("go was asked"); fmt.Fprint(w, "hello from go: ", os.Getenv("SECRET")) })
	panic(http.ListenAndServe("0.0.0.0:"+os.Getenv("PORT"), nil))
}
`}},
	{"generic", map[string]string{"Procfile": "web: php -S 0.0.0.0:$PORT x.php\nworker: while :; do sleep 1; done\n", "x.php": `<?php error_log("generic was asked"); echo "hello from generic: ", getenv("SECRET");`}},
}

// TestPlatforms builds an app of every platform on one host and runs what was built on another.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	builder := hosts.Boot(t, hosts.Options{Name: "build", Agent: true, Size: "l"})
	runner := builder.Cloud.Boot(t, hosts.Options{Name: "run", Agent: true, Size: "m"})
	store := serveBlobs(t, builder.Cloud)
	building, running := connect(t, builder, builder.Key()).Deploy(), connect(t, runner, runner.Key()).Deploy()
	ctx := t.Context()
	before := appTraces(t, builder) + appTraces(t, runner)
	for i, small := range smallApps {
		t.Run(small.platform, func(t *testing.T) {
			app := "p-" + small.platform
			env := map[string]agentapi.Secret{"SECRET": "don't $tell \"it\""}
			for _, d := range []agentclient.Deploy{building, running} {
				if _, err := d.CreateApp(ctx, agentapi.CreateAppParams{App: app, Platform: small.platform, Env: env}); err != nil {
					t.Fatal(err)
				}
			}
			var printed []string
			built, err := building.BuildRelease(ctx, agentapi.BuildReleaseParams{App: app, Release: 1, Source: store.put(app+"-source", packed(t, small.files)), Target: store.at(app + "-1")},
				func(line string) { printed = append(printed, line) })
			if err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(printed, "\n"))
			}
			if len(printed) == 0 && small.platform != "generic" {
				t.Error("the build was silent")
			}
			blob := store.at(app + "-1")
			blob.SHA256 = built.SHA256
			if err := running.FetchRelease(ctx, agentapi.FetchReleaseParams{App: app, Release: 1, Source: blob}); err != nil {
				t.Fatal(err)
			}
			port := 20000 + i
			_, err = running.StartUnit(ctx, agentapi.StartUnitParams{App: app, Unit: unitOne, Release: 1, Port: port, MemoryMB: 200,
				Processes: built.Manifest.Processes, HealthCheck: built.Manifest.HealthCheck, TimeoutSeconds: 60})
			if err != nil {
				t.Fatal(err)
			}
			web := netip.AddrPortFrom(runner.Addr, uint16(port))
			want := "hello from " + small.platform + ": " + string(env["SECRET"])
			if small.platform == "static" {
				want = "hello from static: no secret\n"
				for _, hidden := range []string{"/.git/config", "/tsuru.yaml", "/../.reeve/apache.conf"} {
					if code, _ := page(ctx, web, "x.test", hidden); code == 200 {
						t.Errorf("%s is served", hidden)
					}
				}
			}
			if code, body := page(ctx, web, "x.test", "/"); code != 200 || body != want {
				t.Errorf("got %d %q, want %q", code, body, want)
			}
			if small.platform != "static" {
				hosts.Eventually(t, "the request is in the log", func() bool {
					log, err := running.UnitLog(ctx, agentapi.UnitLogParams{App: app})
					if err != nil {
						t.Fatal(err)
					}
					return strings.Contains(fmt.Sprint(log.Lines), small.platform+" was asked")
				})
			}
			runner.Exec(t, "systemctl", "kill", "--signal=KILL", "reeve-"+app+"-"+unitOne+"-web.service")
			hosts.Eventually(t, "a killed process is back", func() bool { code, _ := page(ctx, web, "x.test", "/"); return code == 200 })
			for range 2 {
				if err := running.StopUnit(ctx, agentapi.StopUnitParams{App: app, Unit: unitOne}); err != nil {
					t.Fatal(err)
				}
			}
			for _, d := range []agentclient.Deploy{building, running} {
				if err := d.DeleteApp(ctx, agentapi.AppParams{App: app}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	t.Run("a build that fails tells its lines and leaves nothing", func(t *testing.T) {
		_, err := building.CreateApp(ctx, agentapi.CreateAppParams{App: "bad", Platform: "go"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = building.BuildRelease(ctx, agentapi.BuildReleaseParams{App: "bad", Release: 1, Source: store.put("bad", packed(t, map[string]string{"main.go": "package main\n\nfunc main() { nope() }\n"})), Target: store.at("bad-1")}, func(string) {})
		if err == nil || !strings.Contains(err.Error(), "BuildError") || !strings.Contains(err.Error(), "undefined: nope") {
			t.Errorf("got %v", err)
		}
		short, cancel := context.WithCancel(ctx)
		_, err = building.BuildRelease(short, agentapi.BuildReleaseParams{App: "bad", Release: 2, Source: store.put("slow", packed(t, map[string]string{"main.go": "package main\n\nfunc main() {}\n", "tsuru.yaml": "hooks: {build: ['echo go; sleep 3000']}"})), Target: store.at("bad-2")},
			func(line string) {
				if line == "go" {
					cancel()
				}
			})
		if err == nil || short.Err() == nil {
			t.Errorf("got %v", err)
		}
		hosts.Eventually(t, "nothing of the build is left", func() bool {
			out, _ := builder.Try(t, "sh", "-c", "pgrep -fa 'sleep [3]000'; ls -A /srv/data/apps/bad/releases | grep build; ls /var/lib/reeve-agent/deploy/run")
			return out == ""
		})
		if err := building.DeleteApp(ctx, agentapi.AppParams{App: "bad"}); err != nil {
			t.Fatal(err)
		}
	})
	if after := appTraces(t, builder) + appTraces(t, runner); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}
