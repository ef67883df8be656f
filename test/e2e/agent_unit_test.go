//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/test/hosts"
)

// blobs is what a coordinator keeps for its hosts: files by path, behind a token.
type blobs struct {
	addr  string
	token agentapi.Secret

	mu    sync.Mutex
	files map[string][]byte
}

// serveBlobs keeps blobs on this machine, where the hosts of a cloud reach them.
func serveBlobs(t *testing.T, c *hosts.Cloud) *blobs {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(c.Subnet.Addr().Next(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	b := &blobs{addr: l.Addr().String(), token: "blob-token-seen-nowhere", files: map[string][]byte{}}
	server := &http.Server{Handler: b}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return b
}

func (b *blobs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+string(b.token) {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Method == http.MethodPut {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b.files[r.URL.Path] = data
		return
	}
	data, ok := b.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Write(data)
}

// at is where a blob is written.
func (b *blobs) at(name string) agentapi.Blob {
	return agentapi.Blob{URL: "http://" + b.addr + "/" + name, Token: b.token}
}

// put keeps a file and says where it is.
func (b *blobs) put(name string, data []byte) agentapi.Blob {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files["/"+name] = data
	sum := sha256.Sum256(data)
	blob := b.at(name)
	blob.SHA256 = hex.EncodeToString(sum[:])
	return blob
}

// packed is a tar.gz of files by name.
func packed(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	for _, name := range slices.Sorted(maps.Keys(files)) { // the same archive every time
		text := files[name]
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

const unitOne, unitTwo = "0123456789ab", "abcdef012345"

// phpServer is a small app whose requests show and do what the tests want to see.
const phpServer = `<?php
switch ($_SERVER["REQUEST_URI"]) {
case "/env": echo getenv("SECRET"), "|", getenv("PORT"), "|", getenv("TSURU_APPDIR"), "|", getcwd(), "|", get_current_user(), "|", posix_getuid(); break;
case "/log": file_put_contents("php://stderr", "logged \xc3\xa4 line\n"); echo "ok"; break;
case "/eat": ini_set("memory_limit", -1); $x = str_repeat("x", 300 << 20); echo strlen($x); break;
case "/files": foreach (["/home/application/current/x", "/home/application/shared/x", "/tmp/x", "/etc/x", "/srv/data/apps/x"] as $f) echo @file_put_contents($f, "x") ? "y" : "n"; break;
case "/others": echo implode(",", array_diff(scandir("/srv/data/apps"), [".", ".."])), "|", @file_get_contents("/var/lib/reeve-agent/deploy/apps/a1.json") === false ? "hidden" : "seen"; break;
default: echo "release ", trim(file_get_contents("VERSION"));
}
`

// TestUnitsOfAnApp runs releases as units on a real host: side by side, limited, restarted, logged, and away again.
func TestUnitsOfAnApp(t *testing.T) {
	t.Parallel()
	h := hosts.Boot(t, hosts.Options{Name: "units", Agent: true, Size: "m"})
	c := connect(t, h, h.Key())
	deploy := c.Deploy()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	before := appTraces(t, h)
	store := serveBlobs(t, h.Cloud)
	_, err := deploy.CreateApp(ctx, agentapi.CreateAppParams{App: "a1", Platform: "php", Env: map[string]agentapi.Secret{"SECRET": "p\"w'd;$(x) `y` \\ seen-nowhere"}})
	must(err)
	for n := 1; n <= 2; n++ {
		for range 2 {
			must(deploy.FetchRelease(ctx, agentapi.FetchReleaseParams{App: "a1", Release: n, Source: store.put(fmt.Sprint("r", n), packed(t, map[string]string{
				"index.php": phpServer, "VERSION": fmt.Sprintln(n)}))}))
		}
	}
	start := agentapi.StartUnitParams{App: "a1", Unit: unitOne, Release: 1, Port: 20001, MemoryMB: 128, CPUPercent: 50,
		Processes:     []agentapi.Process{{Name: "web", Command: `php -S 0.0.0.0:$PORT "index.php"`}, {Name: "worker", Command: "while sleep 1; do echo working; done"}},
		RestartBefore: []string{`echo before $PORT > /home/application/shared/before`},
		HealthCheck:   &agentapi.HealthCheck{Path: "/", Match: "^release 1$"}}
	var u agentapi.Unit
	for range 2 {
		u, err = deploy.StartUnit(ctx, start)
		must(err)
		if u.State != agentapi.UnitStarted || u.Port != 20001 || u.Release != 1 || u.Restarts != 0 {
			t.Errorf("got %+v", u)
		}
	}
	web := netip.AddrPortFrom(h.Addr, 20001)
	get := func(path string) string {
		_, body := page(ctx, web, "a1.test", path)
		return body
	}
	t.Run("it runs as the app's user, with its environment and its own port", func(t *testing.T) {
		uid := h.Exec(t, "id", "-u", "app-a1")
		if got, want := get("/env"), "p\"w'd;$(x) `y` \\ seen-nowhere|20001|/home/application/current|/home/application/current|app-a1|"+uid; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("it writes to shared and /tmp only, and sees no other app", func(t *testing.T) {
		if got := get("/files"); got != "nyynn" {
			t.Errorf("got %q", got)
		}
		if got := get("/others"); got != "|hidden" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("secrets are in no process list and no readable file", func(t *testing.T) {
		if out, err := h.Try(t, "sh", "-c", "ps axww | grep '[s]een-nowhere'; grep -rl '[s]een-nowhere' /etc /run /srv 2>/dev/null; find /var/lib/reeve-agent /etc/systemd -perm /o+r -type f -exec grep -l '[s]een-nowhere' {} +"); strings.Contains(out, "seen-nowhere") || out != "" {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("a log goes on after a cursor", func(t *testing.T) {
		log, err := deploy.UnitLog(ctx, agentapi.UnitLogParams{App: "a1", Lines: 1})
		must(err)
		hosts.Eventually(t, "there are newer lines", func() bool {
			next, err := deploy.UnitLog(ctx, agentapi.UnitLogParams{App: "a1", Cursor: log.Cursor, Lines: 1})
			must(err)
			return len(next.Lines) == 1 && next.Lines[0].At.After(log.Lines[0].At) && next.Cursor != log.Cursor
		})
	})
	t.Run("its log is found by unit and process", func(t *testing.T) {
		if got := get("/log"); got != "ok" {
			t.Fatalf("got %q", got)
		}
		hosts.Eventually(t, "the log holds both processes' lines", func() bool {
			log, err := deploy.UnitLog(ctx, agentapi.UnitLogParams{App: "a1", Unit: unitOne, Lines: 1000})
			must(err)
			seen := map[string]bool{}
			for _, l := range log.Lines {
				if l.Unit == unitOne && strings.Contains(l.Message, "logged ä line") || l.Message == "working" {
					seen[l.Process] = true
				}
			}
			return seen["web"] && seen["worker"]
		})
	})
	state := func() agentapi.Unit {
		t.Helper()
		units, err := deploy.ListUnits(ctx, agentapi.ListUnitsParams{App: "a1"})
		must(err)
		if len(units) != 1 {
			t.Fatalf("got %+v, want one unit", units)
		}
		return units[0]
	}
	t.Run("a release that fails its check is gone, its last lines are told, and the other serves", func(t *testing.T) {
		broken := start
		broken.Unit, broken.Port, broken.Release = unitTwo, 20002, 2
		_, err := deploy.StartUnit(ctx, broken)
		if err == nil || !strings.Contains(err.Error(), "does not match") || !strings.Contains(err.Error(), "Development Server (http://0.0.0.0:20002) started") {
			t.Errorf("got %v", err)
		}
		broken.Processes = []agentapi.Process{{Name: "web", Command: "sh -c 'echo nothing here >&2; exit 3'"}}
		_, err = deploy.StartUnit(ctx, broken)
		if err == nil || !strings.Contains(err.Error(), "process web ended (exit code 3)") || !strings.Contains(err.Error(), "nothing here") {
			t.Errorf("got %v", err)
		}
		if got := state(); got.Unit != unitOne || got.State != agentapi.UnitStarted {
			t.Errorf("got %+v", got)
		}
		if left := h.Exec(t, "sh", "-c", "ls /etc/systemd/system | grep "+unitTwo+"; ls /var/lib/reeve-agent/deploy/units | grep "+unitTwo+"; true"); left != "" {
			t.Errorf("left behind: %s", left)
		}
	})
	t.Run("releases run side by side", func(t *testing.T) {
		second := start
		second.Unit, second.Port, second.Release, second.HealthCheck = unitTwo, 20002, 2, nil
		_, err := deploy.StartUnit(ctx, second)
		must(err)
		_, other := page(ctx, netip.AddrPortFrom(h.Addr, 20002), "a1.test", "/")
		if got := get("/"); got != "release 1" || other != "release 2" {
			t.Errorf("got %q and %q", got, other)
		}
		must(deploy.StopUnit(ctx, agentapi.StopUnitParams{App: "a1", Unit: unitTwo}))
	})
	t.Run("a process that is killed comes back", func(t *testing.T) {
		h.Exec(t, "systemctl", "kill", "--signal=KILL", "reeve-a1-"+unitOne+"-web.service")
		hosts.Eventually(t, "it serves again", func() bool { return get("/") == "release 1" })
		if got := state(); got.State != agentapi.UnitStarted || got.Restarts != 1 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("memory is counted, and who takes more than the limit is ended and comes back", func(t *testing.T) {
		if got := state(); got.MemoryBytes < 1<<20 || got.MemoryBytes > 128<<20 {
			t.Errorf("got %d bytes in use", got.MemoryBytes)
		}
		restarts := state().Restarts
		if got := get("/eat"); strings.Contains(got, "314572800") {
			t.Errorf("300 MiB were taken of 128: %.100s", got)
		}
		hosts.Eventually(t, "it was ended and serves again", func() bool { return state().Restarts > restarts && get("/") == "release 1" })
	})
	t.Run("a command runs beside it and its lines are told", func(t *testing.T) {
		var lines []string
		result, err := deploy.RunCommand(ctx, agentapi.RunCommandParams{App: "a1", Release: 1, Command: `id -un; echo "$SECRET" | wc -c; cat VERSION; echo $$ $HOME | grep -c '[0-9] /home/application'; exit 7`}, func(l string) { lines = append(lines, l) })
		must(err)
		if got, want := strings.Join(lines, "|"), "app-a1|30|1|1"; got != want || result.ExitCode != 7 {
			t.Errorf("got %q and %d, want %q and 7", got, result.ExitCode, want)
		}
	})
	t.Run("what its caller gives up ends", func(t *testing.T) {
		short, cancel := context.WithCancel(ctx)
		_, err := deploy.RunCommand(short, agentapi.RunCommandParams{App: "a1", Release: 1, Command: "echo go; sleep 1000"}, func(string) { cancel() })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		hosts.Eventually(t, "no process of it is left", func() bool {
			out, _ := h.Try(t, "sh", "-c", "pgrep -fa 'sleep [1]000'; systemctl list-units --no-legend 'reeve-run-*.service'; ls /var/lib/reeve-agent/deploy/run")
			return out == ""
		})
	})
	t.Run("a command ends with the agent, however that ends", func(t *testing.T) {
		gone := make(chan error, 1)
		running := make(chan struct{}, 1)
		go func() {
			_, err := deploy.RunCommand(ctx, agentapi.RunCommandParams{App: "a1", Release: 1, Command: "echo go; sleep 2000"}, func(string) { running <- struct{}{} })
			gone <- err
		}()
		<-running
		h.Exec(t, "systemctl", "kill", "--signal=KILL", "reeve-agent.service")
		if err := <-gone; err == nil {
			t.Error("got no error")
		}
		hosts.Eventually(t, "the agent is back and nothing of the command is left", func() bool {
			out, err := h.Try(t, "sh", "-c", "systemctl is-active reeve-agent; pgrep -fa 'sleep [2]000'; ls /var/lib/reeve-agent/deploy/run")
			return err == nil && out == "active"
		})
		awaitPort(t, netip.AddrPortFrom(h.Addr, 8010))
		if got := get("/"); got != "release 1" {
			t.Errorf("the unit did not outlive the agent: got %q", got)
		}
	})
	t.Run("it is there after a reboot; one that is kept stopped is not", func(t *testing.T) {
		h.Reboot(t)
		awaitPort(t, netip.AddrPortFrom(h.Addr, 8010))
		hosts.Eventually(t, "it serves again", func() bool { return get("/") == "release 1" })
		must(deploy.StopUnit(ctx, agentapi.StopUnitParams{App: "a1", Unit: unitOne, Keep: true}))
		h.Reboot(t)
		awaitPort(t, netip.AddrPortFrom(h.Addr, 8010))
		if got := state(); got.State != agentapi.UnitStopped || get("/") == "release 1" {
			t.Errorf("got %+v", got)
		}
		_, err := deploy.StartUnit(ctx, start)
		must(err)
	})
	for range 2 {
		must(deploy.StopUnit(ctx, agentapi.StopUnitParams{App: "a1", Unit: unitOne}))
	}
	must(deploy.DeleteApp(ctx, agentapi.AppParams{App: "a1"}))
	if after := appTraces(t, h); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}

// appTraces is what apps may leave on a host.
func appTraces(t *testing.T, h *hosts.Host) string {
	t.Helper()
	return h.Exec(t, "sh", "-c", "cat /etc/passwd; find /etc/systemd/system /srv /var/lib/reeve-agent/deploy -type f -o -type l | sort; systemctl list-units --all --no-legend 'reeve-*' | grep -v -e reeve-agent -e reeve-limits; ls -A /home; find /tmp /var/tmp -name '*reeve-*'; ps axo user,args | grep '^app-'; true")
}
