package nginx

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/handlers/web"
)

func TestParseStatus(t *testing.T) {
	for text, want := range map[string]Stats{
		"Active connections: 6 \nserver accepts handled requests\n 31 30 77 \nReading: 1 Writing: 2 Waiting: 3 \n": {Accepted: 31, Handled: 30, Requests: 77, Active: 6, Reading: 1, Writing: 2, Waiting: 3},
		"<html>It works</html>":   {},
		"Active connections: 6\n": {},
		"":                        {},
	} {
		got, ok := parseStatus(text)
		if ok != (want != Stats{}) || ok && got != want {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, ok, want)
		}
	}
}

func TestRealNginxCountsRequests(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).counting().start()
	if _, ok, err := n.Stats(t.Context()); ok || err != nil {
		t.Errorf("before any change: got %v, %v, want none", ok, err)
	}
	n.make(n.params("p.test", n.Backend("B1")))
	before, ok, err := n.Stats(t.Context())
	if !ok || err != nil {
		t.Fatalf("got %v, %v", ok, err)
	}
	for range 5 {
		n.Wants("http://p.test/", "B1")
	}
	after, _, err := n.Stats(t.Context())
	if after.Requests < before.Requests+6 || after.Accepted < after.Handled || after.Writing < 1 || err != nil {
		t.Errorf("got %+v after 5 requests and one of ours, %+v before: %v", after, before, err)
	}
	t.Run("it stays when all proxies go", func(t *testing.T) {
		n.OK("recreate_proxying", `{"proxy_list": []}`)
		if _, ok, err := n.Stats(t.Context()); !ok || err != nil {
			t.Errorf("got %v, %v", ok, err)
		}
		if err := n.test(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("nobody else reads it", func(t *testing.T) {
		code, body, err := web.GetLocal(t.Context(), fmt.Sprintf("127.0.0.1:%d", n.Port), statusTarget, 1<<10)
		if err != nil || strings.Contains(string(body), "Active connections") {
			t.Errorf("the public port: got %d %q, %v", code, body, err)
		}
		_, port, _ := net.SplitHostPort(n.status)
		for _, addr := range addressesOfThisHost(t) {
			if conn, err := net.Dial("tcp", net.JoinHostPort(addr, port)); err == nil {
				conn.Close()
				t.Errorf("it listens at %s", addr)
			}
		}
		if strings.Contains(n.Read("proxies.include"), "stub_status") {
			t.Error("it is among the proxies")
		}
	})
	t.Run("an operator who takes it out has it out", func(t *testing.T) {
		n.Write("nginx.conf", strings.Replace(n.Read("nginx.conf"), "\tinclude "+n.statusPath()+";\n", "", 1))
		n.make(n.params("q.test", n.Backend("B2")))
		if strings.Contains(n.Read("nginx.conf"), "reeve-status") {
			t.Error("it came back")
		}
	})
}

func addressesOfThisHost(t *testing.T) (list []string) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if network, ok := a.(*net.IPNet); ok && !network.IP.IsLoopback() && network.IP.To4() != nil {
			list = append(list, network.IP.String())
		}
	}
	return list
}

// A host whose proxies are older than the status server gets it with the next change; one where it cannot be has none.
func TestRealNginxWithoutAStatusServer(t *testing.T) {
	t.Parallel()
	t.Run("it comes later", func(t *testing.T) {
		n := newRealNginx(t).counting().start()
		status := n.status
		n.statusAddr = ""
		n.make(n.params("p.test", n.Backend("B1")))
		n.statusAddr = status
		n.make(n.params("q.test", n.Backend("B2")))
		if _, ok, err := n.Stats(t.Context()); !ok || err != nil {
			t.Errorf("got %v, %v", ok, err)
		}
		n.Wants("http://p.test/", "B1")
		n.Wants("http://q.test/", "B2")
		if got := strings.Count(n.Read("nginx.conf"), "include "); got != 3 {
			t.Errorf("got %d includes:\n%s", got, n.Read("nginx.conf"))
		}
	})
	t.Run("its port is another program's", func(t *testing.T) {
		n := newRealNginx(t).counting().start()
		l, err := net.Listen("tcp", n.status)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		n.make(n.params("p.test", n.Backend("B1")))
		n.Wants("http://p.test/", "B1")
		if _, ok, err := n.Stats(t.Context()); ok || err != nil || strings.Contains(n.Read("nginx.conf"), "reeve-status") {
			t.Errorf("got %v, %v and\n%s", ok, err, n.Read("nginx.conf"))
		}
	})
	t.Run("this nginx does not take it", func(t *testing.T) {
		n := newRealNginx(t).counting().start()
		n.statusAddr = "127.0.0.1:0" // it can be listened at, and no nginx takes it: so is a build without the module
		n.make(n.params("p.test", n.Backend("B1")))
		n.Wants("http://p.test/", "B1")
		if _, err := os.Stat(filepath.Join(n.Dir, "reeve-status.include")); !os.IsNotExist(err) {
			t.Errorf("got %v", err)
		}
	})
}
