package metrics_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/metrics"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/test/ports"
)

func BenchmarkScrape(b *testing.B) {
	handler := metrics.New(nil, all(b, host.New(host.Options{}))...).Handler()
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	}
}

// serveEnv makes the test binary serve metrics instead of running tests, so that its cost can be read from outside.
const serveEnv = "REEVE_METRICS_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(serveEnv) == "" {
		os.Exit(m.Run())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	h := host.New(host.Options{})
	set := metrics.New(nil, metrics.CPU{Host: h}, metrics.Memory{Host: h}, metrics.Load{Host: h}, metrics.Disk{Host: h},
		metrics.Filesystem{Host: h}, metrics.Network{Host: h}, metrics.NewSelf("bench"))
	fmt.Println(listener.Addr())
	panic(http.Serve(listener, set.Handler()))
}

// BenchmarkAgainstNodeExporter scrapes our collectors and Debian's prometheus-node-exporter in turn, each in a process of
// its own, and reports the CPU time per series of both and their resident memory. The bar is a ratio of at most 1.
func BenchmarkAgainstNodeExporter(b *testing.B) {
	exporter, err := exec.LookPath("prometheus-node-exporter")
	if err != nil {
		b.Skip("prometheus-node-exporter is missing; Debian's package of that name has it")
	}
	ours := exec.Command(os.Args[0])
	ours.Env = append(os.Environ(), serveEnv+"=1")
	out, err := ours.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	begin(b, ours)
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	port := strconv.Itoa(ports.Free(b))
	theirs := exec.Command(exporter, "--web.listen-address=127.0.0.1:"+port)
	begin(b, theirs)
	urls := []string{"http://" + strings.TrimSpace(addr) + "/metrics", "http://127.0.0.1:" + port + "/metrics"}
	pids := []int{ours.Process.Pid, theirs.Process.Pid}
	series := make([]int, 2)
	for i, url := range urls {
		for series[i] == 0 { // until it listens
			series[i] = fetch(url)
		}
	}
	before := []float64{cpuSeconds(b, pids[0]), cpuSeconds(b, pids[1])}
	scrapes := 0
	for b.Loop() {
		for _, url := range urls {
			fetch(url)
		}
		scrapes++
	}
	var perSeries [2]float64
	for i, name := range []string{"ours", "theirs"} {
		perSeries[i] = (cpuSeconds(b, pids[i]) - before[i]) / float64(scrapes) / float64(series[i]) * 1e6
		b.ReportMetric(perSeries[i], name+"-µs/series")
		b.ReportMetric(float64(series[i]), name+"-series")
		b.ReportMetric(residentMiB(b, pids[i]), name+"-MiB")
	}
	b.ReportMetric(perSeries[0]/perSeries[1], "ratio")
}

func begin(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// fetch is the number of series at a URL, 0 when nobody answers. It does not ask for compression, as curl does not.
func fetch(url string) int {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return 0
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0
	}
	n := 0
	for line := range strings.Lines(string(body)) {
		if line[0] != '#' {
			n++
		}
	}
	return n
}

func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	utime, _ := strconv.ParseFloat(f[11], 64)
	stime, _ := strconv.ParseFloat(f[12], 64)
	return (utime + stime) / 100
}

func residentMiB(b *testing.B, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, _ := strconv.ParseFloat(strings.Fields(string(data))[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20)
}
