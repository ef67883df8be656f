//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Load is loadRate requests per second by loadWorkers, each with one connection that it keeps.
const (
	loadRate    = 200
	loadWorkers = 16
	loadLimit   = 15 * time.Minute // it ends then, whoever forgot to stop it
)

// load asks for a page until it is stopped.
type load struct {
	stop  func() // returns when every answer is there
	began time.Time

	mu     sync.Mutex // protects the fields below
	asked  int
	last   time.Time
	slow   time.Duration // the longest that an answer took
	failed []failure
}

// failure is a request that was not answered with 200.
type failure struct {
	began, ended time.Time
	why          string
}

func (f failure) String() string {
	const clock = "15:04:05.000"
	return f.began.UTC().Format(clock) + " to " + f.ended.UTC().Format(clock) + " " + f.why
}

func (s *tsuruSite) load(app string) *load { return s.site.load(s.router, app+".apps.test") }

func (s *site) load(address, host string) *load {
	ctx, cancel := context.WithTimeout(s.t.Context(), loadLimit)
	l := &load{began: time.Now()}
	var wg sync.WaitGroup
	l.stop = func() { cancel(); wg.Wait() }
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: loadWorkers}}
	for i := range loadWorkers {
		wg.Go(func() {
			next := l.began.Add(time.Duration(i) * time.Second / loadRate)
			for timer := time.NewTimer(0); ; next = next.Add(loadWorkers * time.Second / loadRate) {
				timer.Reset(time.Until(next)) // one that is late asks at once
				select {
				case <-ctx.Done():
					return
				case <-timer.C:
				}
				began := time.Now()
				why := ask(context.WithoutCancel(ctx), client, address, host)
				l.note(began, why)
			}
		})
	}
	return l
}

// ask says what is wrong with the answer, "" when nothing is.
func ask(ctx context.Context, client *http.Client, router, host string) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+router+"/", nil)
	if err != nil {
		return err.Error()
	}
	r.Host = host
	answer, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err.Error()
	}
	if answer.StatusCode != http.StatusOK {
		return answer.Status
	}
	return ""
}

func (l *load) note(began time.Time, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	l.last = time.Now()
	l.slow = max(l.slow, l.last.Sub(began))
	if why != "" {
		l.failed = append(l.failed, failure{began, l.last, why})
	}
}

// since are the failures since the last look.
func (l *load) since() []failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	failed := l.failed
	l.failed = nil
	return failed
}

func (l *load) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d requests were asked, %.0f per second; the slowest was answered in %s", l.asked, float64(l.asked)/l.last.Sub(l.began).Seconds(), l.slow)
}

// lose ends a machine the hard way: everything in it is killed at once, and the process that would boot it again is stopped
// until giveBack is called.
func (s *tsuruSite) lose(name string) (giveBack func()) {
	s.t.Helper()
	out, err := exec.Command("pgrep", "--full", "--oldest", "hostname="+name).Output()
	if err != nil {
		s.t.Fatalf("no process of %s is found: %v", name, err)
	}
	nspawn := "/proc/" + strings.TrimSpace(string(out))
	status, err := os.ReadFile(nspawn + "/status")
	if err != nil {
		s.t.Fatal(err)
	}
	_, parent, _ := strings.Cut(string(status), "PPid:")
	supervisor, err := strconv.Atoi(strings.Fields(parent)[0])
	if err != nil || supervisor <= 1 {
		s.t.Fatalf("the supervisor of %s: got %d %v", name, supervisor, err)
	}
	cgroup, err := os.ReadFile(nspawn + "/cgroup")
	if err != nil {
		s.t.Fatal(err)
	}
	_, group, _ := strings.Cut(string(cgroup), "\n0::")
	group = strings.TrimSuffix(strings.TrimSpace(group), "supervisor")
	if len(group) < len("/x/y/") {
		s.t.Fatalf("the control group of %s: got %q", name, cgroup)
	}
	s.signal(supervisor, syscall.SIGSTOP)
	giveBack = sync.OnceFunc(func() { s.signal(supervisor, syscall.SIGCONT) })
	s.t.Cleanup(giveBack)
	s.await(10*time.Second, "the end of all processes of "+name, func() (bool, string) {
		left := s.processesIn(group)
		for _, pid := range left {
			s.signal(pid, syscall.SIGKILL)
		}
		return len(left) == 0, fmt.Sprint(left)
	})
	return giveBack
}

// signal is sent to a process that may have ended.
func (s *tsuruSite) signal(pid int, sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
		s.t.Fatal(err)
	}
}

// processesOf are the processes of a unit, as this machine numbers them.
func (s *tsuruSite) processesOf(unit string) []int {
	s.t.Helper()
	return s.processesIn("_" + unit + ".slice/")
}

// processesIn are the living processes whose control group's path contains a text.
func (s *tsuruSite) processesIn(text string) (pids []int) {
	s.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(data), text) {
			continue // it ended, or is another's
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
		if err != nil || strings.Contains(string(status), "\nState:\tZ") {
			continue // nobody has looked yet how it ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			s.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// routerErrors is the end of the error log of the router's nginx, which says why a request was not passed on.
func (s *tsuruSite) routerErrors() string {
	s.t.Helper()
	for _, pid := range s.processesIn(s.bridge() + "-") {
		root := fmt.Sprintf("/proc/%d/root", pid)
		if _, err := os.Stat(root + "/run/nginx.pid"); err != nil {
			continue
		}
		data, err := os.ReadFile(root + "/var/log/nginx/error.log")
		if err != nil {
			return err.Error()
		}
		return tail(string(data), 4000)
	}
	return "no nginx is found"
}
