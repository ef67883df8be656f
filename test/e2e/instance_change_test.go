//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sftp runs commands over SFTP as paas.info says.
func (s *site) sftp(id int64, password, commands string) (string, error) {
	s.t.Helper()
	var info struct {
		Server string `json:"ftp_server"`
		User   int    `json:"user"`
	}
	s.mustGandi(&info, "paas.info", id)
	cmd := exec.Command("sshpass", "-e", "sftp", "-q", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oPubkeyAuthentication=no",
		"-oNumberOfPasswordPrompts=1", fmt.Sprintf("%d@%s", info.User, info.Server))
	cmd.Env = append(os.Environ(), "SSHPASS="+password)
	cmd.Stdin = strings.NewReader(commands)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ssh runs a command in the instance's console.
func (s *site) console(id int64, password, command string) (string, error) {
	s.t.Helper()
	var info struct {
		Console string `json:"console"`
	}
	s.mustGandi(&info, "paas.info", id)
	cmd := exec.Command("sshpass", "-e", "ssh", "-q", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oPubkeyAuthentication=no",
		"-oNumberOfPasswordPrompts=1", info.Console, command)
	cmd.Env = append(os.Environ(), "SSHPASS="+password)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// changes are what an instance goes through while it runs. Its page lists hello-from-outside; its password is
// correct-horse-42 before and after.
func (s *site) changes(t *testing.T, id int64, router node) {
	update := func(t *testing.T, spec map[string]any, want ...string) {
		t.Helper()
		var ops []gandiOperation
		s.mustGandi(&ops, "paas.update", id, spec)
		var types []string
		for _, op := range ops {
			types = append(types, op.Type)
		}
		if strings.Join(types, " ") != strings.Join(want, " ") {
			t.Errorf("got the operations %v, want %v", types, want)
		}
		s.done(ops...)
	}
	served := func(t *testing.T, host string) {
		t.Helper()
		s.await(time.Minute, "the page with its row under "+host, func() (bool, string) {
			code, body := s.fetch(router.Address, host, "/")
			return code == 200 && strings.Contains(body, "hello-from-outside"), body
		})
	}
	t.Run("79 and 81 a vhost more, and one less", func(t *testing.T) {
		var op gandiOperation
		s.mustGandi(&op, "paas.vhost.create", map[string]any{"paas_id": id, "vhost": "more.test"})
		s.done(op)
		served(t, "more.test")
		s.mustGandi(&op, "paas.vhost.delete", "more.test")
		s.done(op)
		if code, _ := s.fetch(router.Address, "more.test", "/"); code == 200 {
			t.Error("the deleted vhost still answers 200")
		}
		var f *fault
		if err := s.gandi(nil, "paas.vhost.info", "more.test"); !errors.As(err, &f) || f.Code != 537642 {
			t.Errorf("got %v, want fault 537642", err)
		}
	})
	t.Run("54 and 55 size and disk, with every byte where it was", func(t *testing.T) {
		sum := func() string {
			out, err := s.sftp(id, "correct-horse-42", "get shared/random "+filepath.Join(s.dir, "random.back")+"\n")
			if err != nil {
				t.Fatalf("sftp get: %v %s", err, out)
			}
			line, err := exec.Command("sha256sum", filepath.Join(s.dir, "random.back")).Output()
			if err != nil {
				t.Fatal(err)
			}
			return string(line)
		}
		random := filepath.Join(s.dir, "random")
		if out, err := exec.Command("dd", "if=/dev/urandom", "of="+random, "bs=1M", "count=20", "status=none").CombinedOutput(); err != nil {
			t.Fatalf("dd: %v %s", err, out)
		}
		if out, err := s.sftp(id, "correct-horse-42", "put "+random+" shared/random\n"); err != nil {
			t.Fatalf("sftp put: %v %s", err, out)
		}
		before := sum()
		update(t, map[string]any{"size": "l", "quantity": 5}, "paas_vm_update", "paas_disk_update")
		var info map[string]any
		s.mustGandi(&info, "paas.info", id)
		if info["size"] != "l" || info["datadisk_total_size"] != 15.0 || info["catalog_name"] != "phpmysql_l" || info["state"] != "running" {
			t.Errorf("got %v of %v, %v", info["size"], info["datadisk_total_size"], info["state"])
		}
		if after := sum(); after != before {
			t.Errorf("got the checksum %s, want %s", after, before)
		}
		served(t, "shop.test")
		out, err := s.command("node", "call", s.nodeWith("app").Name, "system.statvfs", `{"mpoints": ["/srv/data"]}`).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "/srv/data") {
			t.Errorf("statvfs: %v %s", err, out)
		}
		update(t, map[string]any{"size": "s"}, "paas_vm_update")
		var f *fault
		if err := s.gandi(nil, "paas.update", id, map[string]any{"quantity": 4}); !errors.As(err, &f) || f.Code != 530495 {
			t.Errorf("a smaller disk: got %v, want fault 530495", err)
		}
	})
	t.Run("56 the old password fails and the new one works", func(t *testing.T) {
		update(t, map[string]any{"password": "battery-staple-7"}, "paas_vm_update")
		if out, err := s.sftp(id, "correct-horse-42", "ls\n"); err == nil {
			t.Errorf("the old password still lets in: %s", out)
		}
		if out, err := s.sftp(id, "battery-staple-7", "ls current/htdocs\n"); err != nil || !strings.Contains(out, "index.php") {
			t.Errorf("the new password: got %q, %v", out, err)
		}
		served(t, "shop.test")
	})
	t.Run("53 a console while it is open", func(t *testing.T) {
		if out, err := s.console(id, "battery-staple-7", "pwd"); err == nil && strings.Contains(out, "/srv/apps") {
			t.Errorf("got a shell before it was opened: %s", out)
		}
		update(t, map[string]any{"console": 1}, "paas_vm_update")
		if out, err := s.console(id, "battery-staple-7", "pwd; id -un; mariadb -uroot -pbattery-staple-7 -N -e 'select 6*7'"); err != nil || !strings.Contains(out, "/srv/apps/a1") || !strings.Contains(out, "app-a1") || !strings.Contains(out, "42") {
			t.Errorf("got %q, %v, want the app's directory, user and database", out, err)
		}
		update(t, map[string]any{"console": 0, "password": "correct-horse-42"}, "paas_vm_update")
		if out, err := s.console(id, "correct-horse-42", "pwd"); err == nil && strings.Contains(out, "/srv/apps") {
			t.Errorf("got a shell after it was closed: %s", out)
		}
	})
	t.Run("a snapshot brings the old rows and files back", func(t *testing.T) {
		operation := func(method string, arg any, want string) gandiOperation {
			t.Helper()
			var op gandiOperation
			s.mustGandi(&op, method, arg)
			if op.Type != want {
				t.Errorf("%s: got the operation %s, want %s", method, op.Type, want)
			}
			s.done(op)
			return op
		}
		add := func(row string) {
			t.Helper()
			if code, body := s.fetch(router.Address, "shop.test", "/?add="+row); code != 200 || !strings.Contains(body, row) {
				t.Fatalf("got %d %q, want the row %s written", code, body, row)
			}
		}
		add("kept-row")
		operation("paas.snapshot.create", id, "paas_snapshot_create")
		var snapshots []struct {
			ID    int64  `json:"id"`
			State string `json:"state"`
			Size  int    `json:"size"`
		}
		s.mustGandi(&snapshots, "paas.snapshot.list", map[string]any{"paas_id": id})
		if len(snapshots) != 1 || snapshots[0].State != "created" || snapshots[0].Size != 15 {
			t.Fatalf("got %+v, want one that is created, of 15 GB", snapshots)
		}
		add("lost-row")
		if out, err := s.sftp(id, "correct-horse-42", "rm shared/random\n"); err != nil {
			t.Fatalf("sftp rm: %v %s", err, out)
		}
		operation("paas.snapshot.restore", snapshots[0].ID, "paas_restore")
		s.await(time.Minute, "the old rows, and them alone", func() (bool, string) {
			code, body := s.fetch(router.Address, "shop.test", "/")
			return code == 200 && strings.Contains(body, "kept-row") && strings.Contains(body, "hello-from-outside") && !strings.Contains(body, "lost-row"), body
		})
		if out, err := s.sftp(id, "correct-horse-42", "ls shared\n"); err != nil || !strings.Contains(out, "random") {
			t.Errorf("the removed file: got %q, %v", out, err)
		}
		add("row-after")
		for kind, want := range map[string]int{"volumes": 1, "snapshots": 1} {
			if got := s.stateEntries(kind); len(got) != want {
				t.Errorf("got the %s %v, want %d", kind, got, want)
			}
		}
	})
	t.Run("62 a restart brings the page back", func(t *testing.T) {
		var ops []gandiOperation
		s.mustGandi(&ops, "paas.restart", id)
		if len(ops) != 1 || ops[0].Type != "paas_vm_restart" {
			t.Errorf("got %+v", ops)
		}
		s.done(ops...)
		served(t, "shop.test")
	})
}
