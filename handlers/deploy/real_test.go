//go:build e2e

package deploy

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

// These tests use the real /etc, /srv and commands, in a mount namespace of their own where /etc is a copy and /srv is
// empty: the machine they run on stays as it is. Units are the one thing that is not real.

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// realService works on the real files with the real commands.
func realService(t *testing.T) (*Service, *hosttest.Units) {
	units := hosttest.New(t).Units
	return New(Options{Host: host.New(host.Options{Units: units}), StateDir: t.TempDir()}), units
}

// loopDevice is a blank block device.
func loopDevice(t *testing.T, size int64) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "volume.img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, size); err != nil {
		t.Fatal(err)
	}
	dev := command(t, "losetup", "--find", "--show", img)
	t.Cleanup(func() { command(t, "losetup", "--detach", dev) })
	return dev
}

// backingFile is the file behind a loop device.
func backingFile(dev string) string {
	name, _ := os.ReadFile("/sys/block/" + filepath.Base(dev) + "/loop/backing_file")
	return strings.TrimSpace(string(name))
}

func TestRealVolume(t *testing.T) {
	if !hosttest.Isolate(t) {
		return
	}
	for _, fstype := range []string{"ext4", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			s, units := realService(t)
			dev := loopDevice(t, 512<<20)
			target := filepath.Join("/srv", "old-"+fstype)
			if err := os.MkdirAll(target+"/sub", 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(target+"/sub/file", make([]byte, 100<<20), 0o640); err != nil { // a database's empty log
				t.Fatal(err)
			}
			if err := os.Chown(target+"/sub/file", 12, 34); err != nil {
				t.Fatal(err)
			}
			if err := unix.Setxattr(target+"/sub", "trusted.reeve", []byte("kept"), 0); err != nil {
				t.Fatal(err)
			}
			units.SetRunning("mariadb.service")
			p := agentapi.MountVolumeParams{Device: dev, MPoint: "/srv/data-" + fstype, FSType: fstype,
				Binds: []agentapi.BindMount{{Source: "db", Target: target, Unit: "mariadb.service"}}}
			begin := time.Now()
			v := must[agentapi.VolumeMount](t)(s.MountVolume(t.Context(), p))
			t.Logf("mount_volume of a blank device with a copy of 100 MiB of zeros: %s", time.Since(begin))
			if v.FSType != fstype || v.SizeBytes < 400<<20 || v.FreeBytes < v.SizeBytes-100<<20 {
				t.Errorf("got %+v, want a %s of about 512 MiB with the zeros as a hole", v, fstype)
			}
			st, err := os.Stat(target + "/sub/file")
			if err != nil {
				t.Fatal(err)
			}
			if sys := st.Sys().(*syscall.Stat_t); st.Mode() != 0o640 || sys.Uid != 12 || sys.Gid != 34 || st.Size() != 100<<20 {
				t.Errorf("got %v %d:%d of %d bytes", st.Mode(), sys.Uid, sys.Gid, st.Size())
			}
			attribute := make([]byte, 10)
			if n, err := unix.Getxattr(target+"/sub", "trusted.reeve", attribute); err != nil || string(attribute[:n]) != "kept" {
				t.Errorf("got attribute %q, %v, want kept", attribute, err)
			}
			if err := os.WriteFile(target+"/new", []byte("on the volume"), 0o600); err != nil {
				t.Fatal(err)
			}
			command(t, "findmnt", "--verify", "--tab-file", "/etc/fstab")
			must[agentapi.VolumeMount](t)(s.MountVolume(t.Context(), p)) // again, mounted
			if err := os.Truncate(backingFile(dev), 768<<20); err != nil {
				t.Fatal(err)
			}
			command(t, "losetup", "--set-capacity", dev)
			for range 2 {
				if grown := must[agentapi.VolumeMount](t)(s.GrowVolume(t.Context(), agentapi.GrowVolumeParams{MPoint: p.MPoint})); grown.SizeBytes < 650<<20 {
					t.Errorf("got %+v after the device grew to 768 MiB", grown)
				}
			}
			if data, err := os.ReadFile(target + "/new"); err != nil || string(data) != "on the volume" {
				t.Errorf("after growing: got %q, %v", data, err)
			}
			for range 2 {
				must[handlers.Null](t)(s.UnmountVolume(t.Context(), agentapi.UnmountVolumeParams{MPoint: p.MPoint}))
			}
			if _, err := os.Stat(target + "/new"); err == nil {
				t.Error("the volume's file is visible without the volume")
			}
			begin = time.Now()
			must[agentapi.VolumeMount](t)(s.MountVolume(t.Context(), p)) // again, with its data
			t.Logf("mount_volume of a volume with data: %s", time.Since(begin))
			if got, err := os.ReadFile(target + "/new"); string(got) != "on the volume" {
				t.Errorf("got %q, %v", got, err)
			}
			busy, err := os.Open(target + "/new")
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.UnmountVolume(t.Context(), agentapi.UnmountVolumeParams{MPoint: p.MPoint})
			wantKind(t, err, agentapi.KindConflict)
			busy.Close()
			must[handlers.Null](t)(s.UnmountVolume(t.Context(), agentapi.UnmountVolumeParams{MPoint: p.MPoint}))
		})
	}
	t.Run("a device with a partition table, a volume group or swap is never formatted", func(t *testing.T) {
		s, _ := realService(t)
		for _, make := range [][]string{{"sfdisk"}, {"mkswap"}, {"pvcreate", "-q"}} {
			dev := loopDevice(t, 64<<20)
			if _, err := exec.LookPath(make[0]); err != nil {
				continue
			}
			cmd := exec.Command(make[0], append(make[1:], dev)...)
			cmd.Stdin = strings.NewReader("label: gpt\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Logf("%v: %v %s", make, err, out)
				continue
			}
			_, err := s.MountVolume(t.Context(), agentapi.MountVolumeParams{Device: dev, MPoint: "/srv/never"})
			wantKind(t, err, agentapi.KindConflict)
			t.Log(err)
		}
	})
}

func TestRealLogin(t *testing.T) {
	if !hosttest.Isolate(t) {
		return
	}
	for _, tool := range []string{"sftp", "sshpass", "mkpasswd", sshdPath} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs openssh-server, sshpass and whois (mkpasswd): ", err)
		}
	}
	s, _ := realService(t)
	hash := func(password string) agentapi.Secret {
		return agentapi.Secret(command(t, "mkpasswd", "-m", "yescrypt", password))
	}
	p := agentapi.CreateAppParams{App: "shop", Platform: "php", Base: "/srv/apps", Login: &agentapi.AppLogin{User: "2316", PasswordHash: hash("aaaaaaaaaa")}}
	sound := accountChecks()
	begin := time.Now()
	paths := must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), p))
	t.Logf("create_app: %s", time.Since(begin))
	if got := accountChecks(); got != sound {
		t.Errorf("got %s, want as before: %s", got, sound)
	}
	if got := command(t, "id", "-u", "app-shop"); got != command(t, "stat", "-c", "%u", paths.DocumentRoot) {
		t.Errorf("got user id %s, want the owner of the document root", got)
	}

	addr := freeAddress(t)
	_, port, _ := strings.Cut(addr, ":")
	key := filepath.Join(t.TempDir(), "key")
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	run(t, exec.Command(sshdPath, "-D", "-e", "-o", "ListenAddress="+addr, "-o", "HostKey="+key, "-o", "PidFile=none"))
	sftp := func(user, password, batch string) (string, error) {
		cmd := exec.Command("sshpass", "-e", "sftp", "-q", "-oBatchMode=no", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null",
			"-oPubkeyAuthentication=no", "-oNumberOfPasswordPrompts=1", "-P", port, "-b", "-", user+"@127.0.0.1")
		cmd.Env = append(os.Environ(), "SSHPASS="+password)
		cmd.Stdin = strings.NewReader(batch)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	eventually(t, "log in", func() error {
		out, err := sftp("2316", "aaaaaaaaaa", "pwd\n")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	upload := filepath.Join(t.TempDir(), "page.txt")
	if err := os.WriteFile(upload, []byte("uploaded"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("the owner writes into the release and into shared", func(t *testing.T) {
		out, err := sftp("2316", "aaaaaaaaaa", "cd current/htdocs\nput "+upload+" page.txt\ncd /shared\nput "+upload+" note.txt\n")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, file := range []string{paths.DocumentRoot + "/page.txt", paths.Home + "/shared/note.txt"} {
			cmd := exec.Command("cat", file)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 33, Gid: 33}}
			if got, err := cmd.CombinedOutput(); err != nil || string(got) != "uploaded" {
				t.Errorf("%s as the web server: got %q, %v", file, got, err)
			}
		}
	})
	t.Run("nothing above the app's directory is seen, and its walls stand", func(t *testing.T) {
		for _, batch := range []string{"get /etc/passwd /dev/null\n", "put " + upload + " /evil\n", "rename current other\n", "put " + upload + " releases/evil\n", "put " + upload + " logs/evil\n"} {
			if out, err := sftp("2316", "aaaaaaaaaa", batch); err == nil {
				t.Errorf("%s was allowed: %s", batch, out)
			}
		}
	})
	t.Run("there is no shell and no forwarding", func(t *testing.T) {
		cmd := exec.Command("sshpass", "-e", "ssh", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-p", port, "2316@127.0.0.1", "id")
		cmd.Env = append(os.Environ(), "SSHPASS=aaaaaaaaaa")
		cmd.Stdin = bytes.NewReader(nil)
		if out, _ := cmd.CombinedOutput(); bytes.Contains(out, []byte("uid=")) {
			t.Errorf("got %s", out)
		}
	})
	t.Run("a new password replaces the old one", func(t *testing.T) {
		p.Login.PasswordHash = hash("bb bb'bb$bb")
		must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), p))
		if out, err := sftp("2316", "bb bb'bb$bb", "pwd\n"); err != nil {
			t.Errorf("new password: %v: %s", err, out)
		}
		if _, err := sftp("2316", "aaaaaaaaaa", "pwd\n"); err == nil {
			t.Error("the old password still works")
		}
	})
	t.Run("after delete_app nobody gets in and the account files are sound", func(t *testing.T) {
		must[handlers.Null](t)(s.DeleteApp(t.Context(), agentapi.AppParams{App: "shop"}))
		if _, err := sftp("2316", "bb bb'bb$bb", "pwd\n"); err == nil {
			t.Error("the login still works")
		}
		if got := accountChecks(); got != sound {
			t.Errorf("got %s, want as before: %s", got, sound)
		}
	})
}

// accountChecks is what the distribution's own checkers have to say about the account files.
func accountChecks() string {
	users, _ := exec.Command("pwck", "-r").CombinedOutput()
	groups, _ := exec.Command("grpck", "-r").CombinedOutput()
	return string(users) + string(groups)
}

func TestRealSite(t *testing.T) {
	if !hosttest.Isolate(t) {
		return
	}
	modules := "/usr/lib/apache2/modules/"
	if _, err := os.Stat(modules + "libphp8.2.so"); err != nil {
		t.Skip("needs libapache2-mod-php: ", err)
	}
	s, _ := realService(t)
	dir := t.TempDir()
	for p := dir; p != "/dev/shm" && p != "/tmp"; p = filepath.Dir(p) { // the web server reaches the database's socket
		if err := os.Chmod(p, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	socket := startDatabase(t, dir, "guests", "guest", "pass'word\"$1;")
	p := agentapi.CreateAppParams{App: "book", Platform: "php", Env: map[string]agentapi.Secret{
		"MYSQL_HOST": "localhost", "MYSQL_USER": "guest", "MYSQL_PASSWORD": "wrong", "MYSQL_DATABASE": "guests"}}
	paths := must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), p))
	addr := freeAddress(t)
	conf := "ServerRoot " + dir + "\nServerName localhost\nListen " + addr + "\nPidFile " + dir + "/pid\nErrorLog " + dir + "/error.log\nUser www-data\nGroup www-data\n"
	for _, m := range []string{"mpm_prefork", "authz_core", "env", "dir", "mime"} {
		conf += "LoadModule " + m + "_module " + modules + "mod_" + m + ".so\n"
	}
	conf += "LoadModule php_module " + modules + "libphp8.2.so\nTypesConfig /etc/mime.types\nDirectoryIndex index.php\nAddHandler application/x-httpd-php .php\n" +
		"php_admin_value mysqli.default_socket " + socket + "\n<VirtualHost *>\nDocumentRoot " + paths.DocumentRoot + "\nInclude " + paths.EnvInclude + "\n</VirtualHost>\n"
	if err := os.WriteFile(dir+"/httpd.conf", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command("apache2", "-f", dir+"/httpd.conf", "-DFOREGROUND"))
	page := func(query string) (int, string) {
		res := get(t, "http://"+addr+"/"+query, dir+"/error.log")
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	t.Run("the placeholder says that the database does not answer, without a secret", func(t *testing.T) {
		code, body := page("")
		if code != 200 || !strings.Contains(body, "does not answer yet") || strings.Contains(body, "wrong") {
			t.Errorf("got %d %s", code, body)
		}
	})
	t.Run("with the right password it says that the database answers", func(t *testing.T) {
		p.Env["MYSQL_PASSWORD"] = "pass'word\"$1;"
		must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), p))
		command(t, "apache2", "-f", dir+"/httpd.conf", "-k", "graceful")
		eventually(t, "new environment", func() error {
			if code, body := page(""); code != 200 || !strings.Contains(body, "database answers") {
				return fmt.Errorf("got %d %s", code, body)
			}
			return nil
		})
	})
	t.Run("the guest book takes its place, keeps lines and escapes them", func(t *testing.T) {
		source, err := os.ReadFile("testdata/guestbook/htdocs/index.php")
		if err != nil {
			t.Fatal(err)
		}
		data := archive(t, file{name: "htdocs/index.php", body: string(source)})
		begin := time.Now()
		must[agentapi.AppPaths](t)(s.PutRelease(t.Context(), agentapi.PutReleaseParams{App: "book", Release: 1, Archive: data}))
		t.Logf("put_release: %s", time.Since(begin))
		command(t, "apache2", "-f", dir+"/httpd.conf", "-k", "graceful")
		eventually(t, "new release", func() error {
			if code, body := page(""); code != 200 || body != "" {
				return fmt.Errorf("got %d %q", code, body)
			}
			return nil
		})
		page("?add=hello")
		if code, body := page("?add=%3Cb%3E+%27%22%0A%C3%A9"); code != 200 || body != "hello\n&lt;b&gt; '\" é\n" {
			t.Errorf("got %d %q", code, body)
		}
	})
}

// startDatabase runs a private MariaDB server with one database and one user, and returns its socket.
func startDatabase(t *testing.T, dir, database, user, password string) string {
	t.Helper()
	common := []string{"--no-defaults", "--user=root", "--datadir=" + dir + "/data", "--innodb-log-file-size=4M"}
	command(t, "mariadb-install-db", append(common, "--skip-test-db", "--auth-root-authentication-method=socket", "--auth-root-socket-user=root")...)
	socket := dir + "/mysqld.sock"
	run(t, exec.Command("mariadbd", append(common, "--skip-networking", "--socket="+socket)...))
	quoted := strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(password)
	sql := "CREATE DATABASE " + database + "; CREATE USER " + user + "@localhost IDENTIFIED BY '" + quoted + "'; GRANT ALL ON " + database + ".* TO " + user + "@localhost"
	eventually(t, "MariaDB", func() error {
		out, err := exec.Command("mariadb", "--no-defaults", "--socket="+socket, "--execute="+sql).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return socket
}
