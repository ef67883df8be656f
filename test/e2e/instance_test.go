//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestInstanceThroughGandi(t *testing.T) {
	s := newSite(t, 1)
	s.start(0)
	router := s.nodeWith("router")
	var ops []gandiOperation
	s.mustGandi(&ops, "paas.create", instanceSpec("Mon PaaS", "shop.test"))
	if len(ops) != 3 || ops[0].Type != "paas_vm_create" || ops[1].Type != "paas_disk_create" || ops[2].Type != "rproxy_create" {
		t.Fatalf("got operations %+v, want the three of the document in their order", ops)
	}
	s.done(ops...)
	id := ops[0].PaasID

	t.Run("the page answers through the router under the vhost's name", func(t *testing.T) {
		if code, body := s.fetch(router.Address, "shop.test", "/"); code != 200 {
			t.Errorf("got %d %s, want 200", code, body)
		}
		if code, _ := s.fetch(router.Address, "other.test", "/"); code == 200 {
			t.Error("a name that nobody asked for answers 200")
		}
	})
	t.Run("a row written through PHP into MySQL is read back", func(t *testing.T) {
		app := s.nodeWith("app")
		s.call(app.Name, "deploy.put_release", map[string]any{"app": "a1", "release": 1,
			"archive": archive(t, filepath.Join(top, "handlers", "deploy", "testdata", "guestbook"))})
		code, body := s.fetch(router.Address, "shop.test", "/?add=hello-from-outside")
		if code != 200 || !strings.Contains(body, "hello-from-outside") {
			t.Fatalf("got %d %q, want the row that was written", code, body)
		}
		if code, body = s.fetch(router.Address, "shop.test", "/"); code != 200 || !strings.Contains(body, "hello-from-outside") {
			t.Errorf("got %d %q, want the row in a later request too", code, body)
		}
	})
	t.Run("the data outlives a reboot of the node", func(t *testing.T) {
		app := s.nodeWith("app")
		before := s.processIn(app, "reeve-agent")
		s.call(app.Name, "system.reboot", map[string]any{})
		s.await(time.Minute, "the page to come back with its row", func() (bool, string) {
			if _, err := os.Stat(before); err == nil {
				return false, "the node is not down yet"
			}
			code, body := s.fetch(router.Address, "shop.test", "/")
			return code == 200 && strings.Contains(body, "hello-from-outside"), body
		})
	})
	t.Run("paas.info tells the truth in every field", func(t *testing.T) {
		var info map[string]any
		s.mustGandi(&info, "paas.info", id)
		app := s.nodeWith("app")
		for key, want := range map[string]any{"name": "Mon PaaS", "size": "s", "type": "phpmysql", "state": "running", "catalog_name": "phpmysql_s",
			"ftp_server": app.Address, "datadisk_total_size": 10.0, "data_disk_additional_size": 0.0, "autorenew": nil, "need_upgrade": false} {
			if got, there := info[key]; !there || got != want {
				t.Errorf("%s: got %v, want %v", key, got, want)
			}
		}
		for _, key := range []string{"snapshot_profile", "date_end_commitment"} {
			if got, there := info[key]; !there || got != nil {
				t.Errorf("%s: got %v (there: %t), want null", key, got, there)
			}
		}
		user, _ := info["user"].(float64)
		if want := fmt.Sprintf("%d@%s", int(user), app.Address); user < 1 || info["console"] != want {
			t.Errorf("console: got %v, want %s", info["console"], want)
		}
		if info["git_server"] != "127.0.0.1" {
			t.Errorf("git_server: got %v, want the host that was asked", info["git_server"])
		}
		s.assertPeriod(info)
		owner, _ := info["owner"].(map[string]any)
		if owner["handle"] != "RV1-REEVE" || owner["id"] != 1.0 { // the administrator is the first account
			t.Errorf("owner: got %v, want RV1-REEVE with id 1", owner)
		}
		if vhosts, _ := info["vhosts"].([]any); len(vhosts) != 1 {
			t.Errorf("vhosts: got %v, want one", info["vhosts"])
		} else if v, _ := vhosts[0].(map[string]any); v["name"] != "shop.test" || v["state"] != "running" {
			t.Errorf("vhosts: got %v, want shop.test running", v)
		}
		var datacenters []map[string]any
		s.mustGandi(&datacenters, "datacenter.list")
		datacenter, _ := info["datacenter"].(map[string]any)
		if len(datacenters) != 1 || datacenter["id"] != 1.0 {
			t.Fatalf("datacenter: got %v, want number 1, the only one of %v", datacenter, datacenters)
		}
		for key, want := range datacenters[0] {
			if got, there := datacenter[key]; there && got != want {
				t.Errorf("datacenter %s: got %v, want %v", key, got, want)
			}
		}
		servers, _ := info["servers"].([]any)
		if len(servers) != 1 {
			t.Fatalf("got servers %v, want one", servers)
		}
		graphs, _ := servers[0].(map[string]any)["graph_urls"].(map[string]any)
		for _, metric := range []string{"vcpu", "vdi", "vif"} {
			urls, _ := graphs[metric].([]any)
			if len(urls) == 0 {
				t.Errorf("no graph of %s", metric)
			}
		}
	})
	t.Run("files are reached over SFTP as paas.info says, with the chosen password", func(t *testing.T) {
		var info struct {
			Server string `json:"ftp_server"`
			User   int    `json:"user"`
		}
		s.mustGandi(&info, "paas.info", id)
		cmd := exec.Command("sshpass", "-e", "sftp", "-q", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oPubkeyAuthentication=no",
			fmt.Sprintf("%d@%s", info.User, info.Server))
		cmd.Env = append(os.Environ(), "SSHPASS=correct-horse-42")
		cmd.Stdin = strings.NewReader("ls current/htdocs\n")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "index.php") {
			t.Errorf("got %q, %v, want the list of the site's files", out, err)
		}
	})
	s.certificates(t, id, router, "shop.test")
	s.changes(t, id, router)
	t.Run("the links of graph_urls open to pictures", func(t *testing.T) {
		var info struct {
			Servers []struct {
				Graphs map[string][]string `json:"graph_urls"`
			} `json:"servers"`
		}
		s.mustGandi(&info, "paas.info", id)
		for metric, urls := range info.Servers[0].Graphs {
			answer, err := http.Get(urls[0])
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if kind := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "image/") {
				t.Errorf("%s: got %s %s, want a picture", metric, answer.Status, kind)
			}
		}
	})
	t.Run("the chosen password opens neither log nor operation", func(t *testing.T) {
		var list []map[string]any
		s.mustGandi(&list, "operation.list")
		for _, op := range list {
			for key, value := range op {
				if text, ok := value.(string); ok && strings.Contains(text, "correct-horse-42") {
					t.Errorf("the password stands in %s of an operation", key)
				}
			}
		}
		if s.logContains("correct-horse-42") {
			t.Error("the password stands in the log")
		}
	})
	t.Run("deleting it leaves nothing of it", func(t *testing.T) {
		var op gandiOperation
		s.mustGandi(&op, "paas.delete", id)
		s.done(op)
		s.assertDeleted(router.Address, "shop.test", id)
		if left := s.keyFiles(router); len(left) != 0 {
			t.Errorf("certificates are left on the router: %v", left)
		}
	})
}

// assertPeriod checks that an instance began a moment ago and ends a month after.
func (s *site) assertPeriod(info map[string]any) {
	s.t.Helper()
	var dates [2]time.Time
	for i, key := range []string{"date_start", "date_end"} {
		text, _ := info[key].(string)
		var err error
		if dates[i], err = time.Parse("20060102T15:04:05", text); err != nil {
			s.t.Fatalf("%s: %v", key, err)
		}
	}
	if age := time.Since(dates[0]); age < -2*time.Second || age > 5*time.Minute {
		s.t.Errorf("date_start: got %s, want a moment ago", dates[0])
	}
	if want := core.AddMonths(dates[0], 1); !dates[1].Equal(want) {
		s.t.Errorf("date_end: got %s, want %s", dates[1], want)
	}
}

func (s *site) assertDeleted(router, host string, id int64) {
	s.t.Helper()
	var list []map[string]any
	s.mustGandi(&list, "paas.list")
	if len(list) != 0 {
		s.t.Errorf("got %v, want an empty list", list)
	}
	var f *fault
	if err := s.gandi(nil, "paas.info", id); !errors.As(err, &f) || f.Code != 537542 {
		s.t.Errorf("got %v, want fault 537542", err)
	}
	for _, n := range s.nodes() {
		if strings.Join(n.Roles, ",") != "router" {
			s.t.Errorf("node %+v is left", n)
		}
	}
	for _, kind := range []string{"volumes", "snapshots"} {
		if left := s.stateEntries(kind); len(left) != 0 {
			s.t.Errorf("%s are left: %v", kind, left)
		}
	}
	if left := s.stateEntries("nodes"); len(left) != 1 {
		s.t.Errorf("got machines %v, want the router's alone", left)
	}
	left, err := nspawn.NodeLeftovers(filepath.Join(s.dir, "data", "clouds", "nspawn"), s.stateEntries("nodes")...)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, what := range left {
		s.t.Errorf("left of the deleted instance: %s", what)
	}
	if code, _ := s.fetch(router, host, "/"); code == 200 {
		s.t.Error("the router still serves the name")
	}
}
