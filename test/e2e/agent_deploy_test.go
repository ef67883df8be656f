//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/test/hosts"
)

const (
	dataMount  = "/srv/data"
	sftpUser   = "2316"
	sftpSecret = "correct horse; 'battery'"
	dataSecret = "p\"w'd;$(x) seen-nowhere"
)

// sftp runs a batch of commands as a login of a host and returns what was printed.
func sftp(t *testing.T, addr netip.Addr, user, password, batch string) (string, error) {
	t.Helper()
	// A batch file instead of -b: that one refuses passwords.
	cmd := exec.CommandContext(t.Context(), "sshpass", "-e", "sftp", "-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1", "-o", "ConnectTimeout=10", user+"@"+addr.String())
	cmd.Env, cmd.Stdin = append(os.Environ(), "SSHPASS="+password, "LC_ALL=C"), strings.NewReader(batch)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// cryptHash is a password's hash in the form of crypt(3).
func cryptHash(t *testing.T, password string) agentapi.Secret {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", "passwd", "-6", "-stdin")
	cmd.Stdin = strings.NewReader(password + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return agentapi.Secret(bytes.TrimSpace(out))
}

// TestAppOnAVolume is what the coordinator asks of a host for one instance, step by step, and back.
func TestAppOnAVolume(t *testing.T) {
	t.Parallel()
	h := hosts.Boot(t, hosts.Options{Name: "app", Agent: true, Size: "m"})
	c := connect(t, h, h.Key())
	deploy, mysql, apache := c.Deploy(), c.MySQL(), c.Apache()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	accounts := func() string {
		return h.Exec(t, "sh", "-c", "cat /etc/passwd /etc/group; cut -d: -f1 /etc/shadow /etc/gshadow; ls /etc/ssh/sshd_config.d; cat /etc/fstab; find /etc/systemd/system -name '*reeve*'")
	}
	before := accounts()

	var clouds core.VolumeCloud = h.Cloud
	volume, err := clouds.CreateVolume(ctx, "data-of-app", 1<<30)
	must(err)
	device, err := clouds.AttachVolume(ctx, volume.ID, h.ID)
	must(err)
	mount := agentapi.MountVolumeParams{Device: device, MPoint: dataMount, Binds: []agentapi.BindMount{{Source: "mysql", Target: "/var/lib/mysql", Unit: "mariadb.service"}}}
	for range 2 {
		got, err := deploy.MountVolume(ctx, mount)
		must(err)
		if got.MPoint != dataMount || got.FSType != "ext4" || got.SizeBytes < 900<<20 || got.FreeBytes == 0 {
			t.Errorf("got %+v", got)
		}
	}
	for _, service := range []string{"mysql", "apache"} {
		must(deploy.EnableService(ctx, agentapi.EnableServiceParams{Service: service}))
	}
	must(mysql.Start(ctx))
	for range 2 {
		must(mysql.CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "guests"}))
		must(mysql.CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "guest", Password: dataSecret, Database: "guests"}))
	}
	app := agentapi.CreateAppParams{App: "a1", Platform: "php", Base: dataMount + "/apps", Login: &agentapi.AppLogin{User: sftpUser, PasswordHash: cryptHash(t, sftpSecret)},
		Env: map[string]agentapi.Secret{"MYSQL_HOST": "localhost", "MYSQL_USER": "guest", "MYSQL_PASSWORD": dataSecret, "MYSQL_DATABASE": "guests"}}
	paths, err := deploy.CreateApp(ctx, app)
	must(err)
	again, err := deploy.CreateApp(ctx, app)
	must(err)
	if again != paths || !paths.SFTP {
		t.Errorf("got %+v, then %+v", paths, again)
	}
	_, err = apache.CreateVHost(ctx, agentapi.CreateVHostParams{Hostname: "guests.test", Port: "80", Template: fmt.Sprintf(
		"<VirtualHost *:80>\nServerName guests.test\nDocumentRoot \"%s\"\nInclude \"%s\"\n<Directory \"%s\">\nRequire all granted\nOptions SymLinksIfOwnerMatch\n</Directory>\n</VirtualHost>\n",
		paths.DocumentRoot, paths.EnvInclude, paths.DocumentRoot)})
	must(err)
	must(apache.Start(ctx))
	web := netip.AddrPortFrom(h.Addr, 80)
	wantPage(t, web, "guests.test", "")
	packed, err := base64.StdEncoding.DecodeString(archive(t, filepath.Join(top, "handlers", "deploy", "testdata", "guestbook")))
	must(err)
	must(deploy.PutRelease(ctx, agentapi.PutReleaseParams{App: "a1", Release: 1, Archive: packed}))
	if code, body := page(ctx, web, "guests.test", "/?add=written-before"); code != 200 || !strings.Contains(body, "written-before") {
		t.Fatalf("got %d %q, want the line", code, body)
	}

	login := func(t *testing.T) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "note")
		if err := os.WriteFile(file, []byte("from outside"), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := sftp(t, h.Addr, sftpUser, sftpSecret, "cd current/htdocs\nput "+file+" note.txt\nls -l /\n")
		if err != nil || !strings.Contains(out, "releases") {
			t.Fatalf("sftp: %v\n%s", err, out)
		}
		if code, body := page(t.Context(), web, "guests.test", "/note.txt"); code != 200 || body != "from outside" {
			t.Errorf("the uploaded file: got %d %q", code, body)
		}
	}
	t.Run("the owner logs in over SFTP, into the app only", func(t *testing.T) {
		login(t)
		if out, _ := sftp(t, h.Addr, sftpUser, sftpSecret, "get /etc/passwd "+t.TempDir()+"/x\n"); !strings.Contains(out, "not found") {
			t.Errorf("got %q, want /etc/passwd out of reach", out)
		}
		if out, err := sftp(t, h.Addr, sftpUser, "wrong", "ls\n"); err == nil {
			t.Errorf("a wrong password lets in: %s", out)
		}
		shell := exec.CommandContext(t.Context(), "sshpass", "-e", "ssh", "-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", sftpUser+"@"+h.Addr.String(), "id")
		shell.Env = append(os.Environ(), "SSHPASS="+sftpSecret)
		if out, err := shell.CombinedOutput(); err == nil || strings.Contains(string(out), "uid=") {
			t.Errorf("the login has a shell: %v %s", err, out)
		}
	})
	t.Run("secrets lie in no world-readable file and no log", func(t *testing.T) {
		holders := func(tests ...string) string {
			find := append([]string{"find", "/etc", dataMount, "/var/lib/reeve-agent", "/var/log", "/run/reeve-agent", "/tmp", "-type", "f"}, tests...)
			out, _ := h.Try(t, append(find, "-exec", "grep", "-lF", "seen-nowhere", "{}", "+")...)
			return out
		}
		if got := holders(); got == "" {
			t.Error("no file holds the password, so the search is wrong")
		}
		if got := holders("-perm", "-o=r"); got != "" {
			t.Errorf("the password is readable for everybody in %s", got)
		}
		if journal := h.Exec(t, "journalctl", "-u", agentUnit, "-o", "cat"); strings.Contains(journal, "seen-nowhere") || strings.Contains(journal, "$6$") {
			t.Error("a secret is in the agent's log")
		}
	})
	t.Run("data, services and page come back after a reboot", func(t *testing.T) {
		h.Reboot(t)
		awaitPort(t, netip.AddrPortFrom(h.Addr, 8010))
		hosts.Eventually(t, "the page is back with its line", func() bool {
			code, body := page(ctx, web, "guests.test", "/")
			return code == 200 && strings.Contains(body, "written-before")
		})
		for name, status := range map[string]func(context.Context) (int, error){"mysql": mysql.Status, "apache": apache.Status} {
			if got, err := status(ctx); err != nil || got != 0 {
				t.Errorf("%s: got status %d, %v, want 0", name, got, err)
			}
		}
		wantText(t, h, "", "systemctl", "list-units", "--failed", "--plain", "--no-legend")
		if out := h.Exec(t, "findmnt", "-no", "SOURCE", "--target", "/var/lib/mysql"); !strings.Contains(out, "mysql") {
			t.Errorf("the database lies on %s, want the volume", out)
		}
		login(t)
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Run("a volume in use is not taken away", func(t *testing.T) {
		if err := clouds.DetachVolume(ctx, volume.ID); core.KindOf(err) != core.Busy {
			t.Errorf("got %v, want busy", err)
		}
	})
	t.Run("deleting the app leaves nothing of it", func(t *testing.T) {
		must(apache.DeleteVHosts(ctx, agentapi.DeleteVHostsParams{VHosts: []agentapi.VHostRef{{Hostname: "guests.test", Port: "80"}}}))
		for range 2 {
			must(deploy.DeleteApp(ctx, agentapi.AppParams{App: "a1"}))
			must(mysql.DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "guest"}))
			must(mysql.DropDatabase(ctx, "guests"))
		}
		if apps, err := deploy.ListApps(ctx); err != nil || len(apps) != 0 {
			t.Errorf("got %v, %v, want none", apps, err)
		}
		if out, err := sftp(t, h.Addr, sftpUser, sftpSecret, "ls\n"); err == nil {
			t.Errorf("the login still works: %s", out)
		}
		if names, err := mysql.ListDatabases(ctx); err != nil || slices.Contains(names, "guests") {
			t.Errorf("got databases %q, %v", names, err)
		}
		if left := h.Exec(t, "find", dataMount+"/apps", "-mindepth", "1"); left != "" {
			t.Errorf("files are left: %s", left)
		}
	})
	t.Run("unmounting leaves the host as it was", func(t *testing.T) {
		for range 2 {
			must(deploy.UnmountVolume(ctx, agentapi.UnmountVolumeParams{MPoint: dataMount}))
		}
		must(clouds.DetachVolume(ctx, volume.ID))
		must(clouds.DestroyVolume(ctx, volume.ID))
		if after := accounts(); after != before {
			t.Errorf("accounts, fstab or units changed:\n%s", difference(before, after))
		}
		if out, err := h.Try(t, "findmnt", "-rno", "TARGET", "/var/lib/mysql"); err == nil {
			t.Errorf("still mounted: %s", out)
		}
	})
}
