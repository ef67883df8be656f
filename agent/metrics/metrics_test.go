package metrics_test

import (
	"context"
	"errors"
	"flag"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/metrics"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

type unitStates map[string]host.UnitState

func (u unitStates) States(context.Context, ...string) (map[string]host.UnitState, error) {
	return u, nil
}

type failing struct{}

func (failing) Name() string { return "failing" }
func (failing) Collect(context.Context, chan<- prometheus.Metric) error {
	return errors.New("no such subsystem")
}

func fixture(t testing.TB) *hosttest.Host {
	t.Helper()
	h := hosttest.New(t)
	if err := os.CopyFS(h.Root, os.DirFS("testdata/host")); err != nil {
		t.Fatal(err)
	}
	h.WriteText("/srv/with blank/file", "")
	return h
}

func all(t testing.TB, h *host.Host) []metrics.Collector {
	t.Helper()
	registry, err := operation.Open(operation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range []error{nil, errors.New("broken")} {
		registry.Start(t.Context(), operation.Task{Name: "a", Run: func(context.Context, *operation.Op) (any, error) { return nil, result }})
	}
	units := metrics.Unit{Units: []string{"apache2.service", "nginx.service", "mariadb.service"}, Source: unitStates{
		"apache2.service": {Load: "loaded", Active: "active"},
		"nginx.service":   {Load: "loaded", Active: "failed"},
		"mariadb.service": {Load: "not-found", Active: "inactive"},
	}}
	return []metrics.Collector{
		metrics.CPU{Host: h}, metrics.Memory{Host: h}, metrics.Load{Host: h}, metrics.Disk{Host: h}, metrics.Filesystem{Host: h}, metrics.Volume{Host: h},
		metrics.Network{Host: h}, metrics.NewSelf("1.2.3"), units, metrics.Operation{Registry: registry},
		metrics.PostgreSQL{Stats: func(context.Context) (metrics.PostgreSQLStats, bool, error) {
			return metrics.PostgreSQLStats{Up: true, Standby: true, Lag: 1.5, Connections: 3, MaxConnections: 100, Commits: 70, Rollbacks: 2,
				DatabaseBytes: map[string]float64{"shop": 7 << 20, "app": 8 << 20}}, true, nil
		}},
		metrics.MySQL{Stats: func(context.Context) (metrics.MySQLStats, bool, error) {
			return metrics.MySQLStats{Up: true, Connections: 4, MaxConnections: 151, Queries: 1000, SlowQueries: 1}, true, nil
		}},
		metrics.Nginx{Stats: func(context.Context) (metrics.NginxStats, bool, error) {
			return metrics.NginxStats{Accepted: 31, Handled: 30, Requests: 77, Active: 6, Reading: 1, Writing: 2, Waiting: 3}, true, nil
		}},
		metrics.Apache{Stats: func(context.Context) (metrics.ApacheStats, bool, error) {
			return metrics.ApacheStats{Requests: 1200, SentBytes: 5 << 20, BusyWorkers: 3, IdleWorkers: 47}, true, nil
		}},
		metrics.Message{Waiting: func() int { return 2 }},
		metrics.MongoDB{Up: func(context.Context) (bool, bool) { return false, true }},
		metrics.AppUnit{Source: appUnits{
			{App: "shop", Unit: "0123456789ab", State: agentapi.UnitStarted, Restarts: 2, MemoryBytes: 1000},
			{App: "shop", Unit: "ba9876543210", State: agentapi.UnitError, Restarts: 5, MemoryBytes: 200},
			{App: "blog", Unit: "aaaaaaaaaaaa", State: agentapi.UnitStopped},
		}},
	}
}

type appUnits []agentapi.Unit

func (u appUnits) ListUnits(context.Context, agentapi.ListUnitsParams) ([]agentapi.Unit, error) {
	return u, nil
}

func scrape(t testing.TB, s *metrics.Set) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("got status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// changing are the values that differ from run to run; their names, labels and help stay in the golden file.
var changing = regexp.MustCompile(`(?m)^(reeve_(?:scrape_collector_duration|agent|filesystem|volume_size|volume_used|volume_available)_[^ {]+(?:{[^}]*})?) .*$`)

func TestTheWholeOutput(t *testing.T) {
	text := scrape(t, metrics.New(nil, append(all(t, fixture(t).Host), failing{})...))
	got := changing.ReplaceAllString(text, "$1 <n>")
	got = regexp.MustCompile(`go_version="[^"]*"`).ReplaceAllString(got, `go_version="<go>"`)
	const golden = "testdata/metrics.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the output changed (-want +got); run with -update and review the diff:\n%s", diff)
	}
}

func TestPromtoolFindsNothing(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is missing; Debian's package prometheus has it")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, metrics.New(nil, all(t, fixture(t).Host)...)))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func TestACollectorThatFailsSpoilsNoOther(t *testing.T) {
	h := hosttest.New(t) // has no /proc at all
	h.WriteText("/proc/loadavg", "1 2 3 1/1 1\n")
	h.WriteText("/proc/uptime", "5.5 1\n")
	text := scrape(t, metrics.New(nil, all(t, h.Host)...))
	for _, want := range []string{
		`reeve_scrape_collector_success{collector="cpu"} 0`, `reeve_scrape_collector_success{collector="disk"} 0`,
		`reeve_scrape_collector_success{collector="filesystem"} 0`, `reeve_scrape_collector_success{collector="load"} 1`,
		`reeve_load_average{minutes="15"} 3`, `reeve_host_uptime_seconds 5.5`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
}

func TestMalformedFilesAreErrorsNotPanics(t *testing.T) {
	for _, content := range []string{"", "\n", "x", "cpu", "cpu0", ":", "a:", "1 2 3 4 5 6 7 8 9 10 11 12 13 14", strings.Repeat("9 ", 50), "\\", "a \\0 b c", "a b\\9 c d"} {
		h := hosttest.New(t)
		for _, file := range []string{"stat", "meminfo", "loadavg", "uptime", "diskstats", "mounts", "net/dev"} {
			h.WriteText("/proc/"+file, content)
		}
		scrape(t, metrics.New(nil, all(t, h.Host)...))
	}
}

func TestAFileLargerThanTheBufferIsReadInFull(t *testing.T) {
	h := hosttest.New(t)
	var b strings.Builder
	for range 700 {
		b.WriteString("loop: this line only fills the file up\n")
	}
	h.WriteText("/proc/net/dev", b.String()+"eth9: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n")
	text := scrape(t, metrics.New(nil, metrics.Network{Host: h.Host}))
	if !strings.Contains(text, `reeve_network_receive_bytes_total{interface="eth9"} 1`+"\n") {
		t.Errorf("eth9 is missing in\n%s", text)
	}
}

func TestThisHost(t *testing.T) {
	text := scrape(t, metrics.New(nil, all(t, host.New(host.Options{}))...))
	if strings.Contains(text, "reeve_scrape_collector_success{collector=\"cpu\"} 0") || !strings.Contains(text, `reeve_cpu_time_seconds_total{cpu="0",mode="idle"}`) {
		t.Errorf("the CPU collector failed here:\n%s", text)
	}
}

func TestDatabasesThatAreDownOrMissing(t *testing.T) {
	down := scrape(t, metrics.New(nil,
		metrics.PostgreSQL{Stats: func(context.Context) (metrics.PostgreSQLStats, bool, error) {
			return metrics.PostgreSQLStats{}, true, nil
		}},
		metrics.MySQL{Stats: func(context.Context) (metrics.MySQLStats, bool, error) { return metrics.MySQLStats{}, true, nil }}))
	for _, want := range []string{"reeve_postgresql_up 0\n", "reeve_mysql_up 0\n", `reeve_scrape_collector_success{collector="postgresql"} 1`} {
		if !strings.Contains(down, want) {
			t.Errorf("a server that is down: no %q in\n%s", want, down)
		}
	}
	missing := scrape(t, metrics.New(nil,
		metrics.PostgreSQL{Stats: func(context.Context) (metrics.PostgreSQLStats, bool, error) {
			return metrics.PostgreSQLStats{}, false, nil
		}},
		metrics.MongoDB{Up: func(context.Context) (bool, bool) { return false, false }}))
	for _, not := range []string{"reeve_postgresql_", "reeve_mongodb_"} {
		if strings.Contains(missing, not) || strings.Contains(down, "reeve_mysql_connections") {
			t.Errorf("a server that is not there shows %s:\n%s", not, missing)
		}
	}
}
