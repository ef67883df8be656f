package apache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

const fakeMain = `ServerName localhost
ErrorLog ${APACHE_LOG_DIR}/error.log
Include mods-enabled/*.load
Include ports.conf
IncludeOptional sites-enabled/*.conf
`

const fakeTemplate = "<VirtualHost *:80>\n   ServerName a.test\n   DocumentRoot /srv/a\n   CustomLog /var/log/a/access.log combined\n</VirtualHost>\n"

// fakeHost is a Debian host with a running Apache whose test always passes.
func fakeHost(tb testing.TB) *hosttest.Host {
	h := hosttest.New(tb)
	h.WriteText("/etc/apache2/apache2.conf", fakeMain)
	h.WriteText("/etc/apache2/ports.conf", "Listen 80\n<IfModule ssl_module>\nListen 443\n</IfModule>\n")
	h.WriteText("/etc/apache2/mods-enabled/mpm.load", "LoadModule mpm_prefork_module m.so\n")
	h.WriteText("/etc/apache2/sites-enabled/000-default.conf", "<VirtualHost *:80>\n</VirtualHost>\n")
	h.WriteText("/etc/passwd", fmt.Sprintf("root:x:0:0::/root:/bin/sh\nwww-data:x:%d:%d::/var/www:/bin/false\n", os.Getuid(), os.Getgid()))
	h.Runner.Succeed("apache2ctl")
	h.Units.SetRunning("apache2.service")
	return h
}

func fakeService(h *hosttest.Host) *Service { return New(Options{Host: h.Host, Settle: 1}) }

func fakeCreate(h *hosttest.Host, template string) error {
	_, err := fakeService(h).CreateVHost(context.Background(), agentapi.CreateVHostParams{Hostname: "a.test", Port: "80", Template: template})
	return err
}

func TestEveryStepOfACreateIsTakenBack(t *testing.T) {
	before := fakeHost(t).Tree("/")
	hosttest.BreakEachCall(t, fakeHost,
		func(h *hosttest.Host) error { return fakeCreate(h, fakeTemplate) },
		func(t *testing.T, h *hosttest.Host, err error) {
			if got := h.Tree("/"); got != before {
				t.Errorf("got\n%s\nwant\n%s", got, before)
			}
			if !h.Units.Running("apache2.service") {
				t.Error("Apache does not run")
			}
			if !strings.Contains(err.Error(), "InitdError: ") && !strings.Contains(err.Error(), hosttest.ErrInjected.Error()) {
				t.Errorf("got error %v", err)
			}
		})
}

func TestEveryStepOfADeleteIsTakenBack(t *testing.T) {
	start := func(tb testing.TB) *hosttest.Host {
		h := fakeHost(tb)
		if err := fakeCreate(h, fakeTemplate); err != nil {
			tb.Fatal(err)
		}
		return h
	}
	before := start(t).Tree("/")
	hosttest.BreakEachCall(t, start,
		func(h *hosttest.Host) error {
			_, err := fakeService(h).DeleteVHosts(t.Context(), agentapi.DeleteVHostsParams{VHosts: []agentapi.VHostRef{{Hostname: "a.test", Port: "80"}}})
			return err
		},
		func(t *testing.T, h *hosttest.Host, _ error) {
			if got := h.Tree("/"); got != before {
				t.Errorf("got\n%s\nwant\n%s", got, before)
			}
		})
}

func TestEveryStepOfSetDefaultSSLCertificateIsTakenBack(t *testing.T) {
	cert, key, _ := webtest.Certificate(t, "a.test", false)
	start := func(tb testing.TB) *hosttest.Host {
		h := fakeHost(tb)
		h.WriteText("/etc/apache2/sites-available/default-ssl.conf", "<VirtualHost *:443>\nSSLEngine on\nSSLCertificateFile x\nSSLCertificateKeyFile y\n</VirtualHost>\n")
		h.WriteText("/etc/reeve/private.d/keys/https_77.crt", string(cert))
		h.WriteText("/etc/reeve/private.d/keys/https_77.key", string(key))
		return h
	}
	before := start(t).Tree("/")
	hosttest.BreakEachCall(t, start,
		func(h *hosttest.Host) error {
			_, err := fakeService(h).SetDefaultSSLCertificate(t.Context(), agentapi.DefaultCertificateParams{ID: new(agentapi.Text("77"))})
			return err
		},
		func(t *testing.T, h *hosttest.Host, _ error) {
			if got := h.Tree("/"); got != before {
				t.Errorf("got\n%s\nwant\n%s", got, before)
			}
		})
}

func TestEnableModSSL(t *testing.T) {
	for name, breakIt := range map[string]func(*hosttest.Host){
		"":                    func(*hosttest.Host) {},
		"the config test":     func(h *hosttest.Host) { h.FailCommand(2) },
		"a2enmod, the module": func(h *hosttest.Host) { h.FailCommand(1) },
	} {
		t.Run("broken "+name, func(t *testing.T) {
			h := fakeHost(t)
			h.Runner.Handle("a2enmod", func(host.Cmd) (host.Output, error) {
				h.WriteText("/etc/apache2/mods-enabled/ssl.load", "LoadModule ssl_module m.so\n")
				return host.Output{}, nil
			})
			h.Runner.Handle("a2dismod", func(host.Cmd) (host.Output, error) {
				err := os.Remove(h.Path("/etc/apache2/mods-enabled/ssl.load"))
				if os.IsNotExist(err) {
					err = nil
				}
				return host.Output{}, err
			})
			h.ClearCalls()
			breakIt(h)
			_, err := fakeService(h).EnableModSSL(t.Context(), handlers.NoParams{})
			if (err != nil) != (name != "") || h.Exists("/etc/apache2/mods-enabled/ssl.load") != (name == "") {
				t.Errorf("got %v, module enabled: %v", err, h.Exists("/etc/apache2/mods-enabled/ssl.load"))
			}
			if name != "" {
				return
			}
			h.ClearCalls()
			if _, err := fakeService(h).EnableModSSL(t.Context(), handlers.NoParams{}); err != nil || len(h.Calls()) != 0 {
				t.Errorf("a second call: got %v and calls %q, want none", err, h.Calls())
			}
		})
	}
	t.Run("a host where it is a package that is not installed", func(t *testing.T) {
		h := hosttest.NewWithLayout(t, &host.RedHat)
		h.WriteText("/etc/httpd/conf/httpd.conf", "Listen 80\n")
		if _, err := fakeService(h).EnableModSSL(t.Context(), handlers.NoParams{}); err == nil || !strings.Contains(err.Error(), "install the package mod_ssl") {
			t.Errorf("got %v", err)
		}
	})
}

func TestModSSLIsEnabledOnceAndDisabledWhenTheChangeFails(t *testing.T) {
	tlsTemplate := "<VirtualHost *:443>\nServerName a.test\nSSLEngine on\nSSLCertificateFile x\nSSLCertificateKeyFile y\n</VirtualHost>\n"
	for _, fails := range []bool{false, true} {
		h := fakeHost(t)
		cert, key, _ := webtest.Certificate(t, "a.test", false)
		h.WriteText("/etc/reeve/private.d/keys/https.crt", string(cert))
		h.WriteText("/etc/reeve/private.d/keys/https.key", string(key))
		h.Runner.Handle("a2enmod", func(host.Cmd) (host.Output, error) {
			h.WriteText("/etc/apache2/mods-enabled/ssl.load", "LoadModule ssl_module m.so\n")
			return host.Output{}, nil
		})
		h.Runner.Handle("a2dismod", func(host.Cmd) (host.Output, error) {
			return host.Output{}, os.Remove(h.Path("/etc/apache2/mods-enabled/ssl.load"))
		})
		h.ClearCalls()
		if fails {
			h.FailUnit("reload", 1)
		}
		_, err := fakeService(h).CreateVHost(t.Context(), agentapi.CreateVHostParams{Hostname: "a.test", Port: "443", Template: tlsTemplate, SSL: true})
		if (err != nil) != fails {
			t.Fatalf("got %v", err)
		}
		calls := h.Calls()
		if got := slices.Contains(calls, "run a2dismod --quiet --force ssl"); got != fails {
			t.Errorf("a reload that fails=%v: got calls %q", fails, calls)
		}
		if got := h.Exists("/etc/apache2/mods-enabled/ssl.load"); got == fails {
			t.Errorf("a reload that fails=%v leaves ssl.load: %v", fails, got)
		}
	}
}

func TestStart(t *testing.T) {
	t.Run("leaves a host without Apache alone", func(t *testing.T) {
		h := hosttest.New(t)
		if err := fakeService(h).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.Tree("/"); strings.Count(got, "\n") != 1 {
			t.Errorf("got %s", got)
		}
		if err := fakeCreate(h, fakeTemplate); err == nil || !strings.Contains(err.Error(), "Apache is not installed") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("leaves a host alone that no agent has seen", func(t *testing.T) {
		h := fakeHost(t)
		before := h.Tree("/")
		if err := fakeService(h).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.Tree("/"); got != before {
			t.Errorf("got\n%s\nwant\n%s", got, before)
		}
		if got := h.Calls(); len(got) != 0 {
			t.Errorf("it did %q", got)
		}
	})
	t.Run("leaves the include of the virtual hosts, after everybody else's, to the first change", func(t *testing.T) {
		h := fakeHost(t)
		if err := fakeCreate(h, fakeTemplate); err != nil {
			t.Fatal(err)
		}
		want := "# Written by reeve-agent, which puts it back: the virtual hosts it manages.\n<IfDefine !REEVE_STAGED>\n" +
			"   IncludeOptional /etc/reeve/private.d/vhosts/*.vhost.conf\n</IfDefine>\n"
		if got := h.Text("/etc/apache2/sites-enabled/zz-reeve.conf"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		h.ClearCalls()
		if err := fakeService(h).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := h.Calls(); len(got) != 0 {
			t.Errorf("a second start did %q", got)
		}
	})
	t.Run("takes over the directory of an older agent", func(t *testing.T) {
		h := hosttest.New(t)
		h.WriteText("/etc/apache2/apache2.conf", fakeMain+"IncludeOptional /etc/scalr/private.d/vhosts/*.vhost.conf\n")
		h.WriteText("/etc/scalr/private.d/vhosts/old-80.vhost.conf", "<VirtualHost *:80>\n</VirtualHost>\n")
		h.WriteText("/etc/passwd", fmt.Sprintf("www-data:x:%d:%d::/:/\n", os.Getuid(), os.Getgid()))
		h.Units.SetRunning("apache2.service")
		var staged string
		h.Runner.Handle("apache2ctl", func(c host.Cmd) (host.Output, error) {
			data, err := os.ReadFile(c.Args[slices.Index(c.Args, "-f")+1])
			staged = string(data)
			return host.Output{}, err
		})
		if err := fakeCreate(h, fakeTemplate); err != nil {
			t.Fatal(err)
		}
		if h.Exists("/etc/apache2/sites-enabled/zz-reeve.conf") {
			t.Error("the virtual hosts are included twice")
		}
		if !h.Exists("/etc/scalr/private.d/vhosts/a.test-80.vhost.conf") {
			t.Error("the vhost is not where the older agent kept them")
		}
		want := fakeMain + "Include /etc/scalr/private.d/.vhosts-staging/0-a.test-80.vhost.conf\nInclude /etc/scalr/private.d/vhosts/old-80.vhost.conf\n"
		if staged != want {
			t.Errorf("the test read\n%s\nwant\n%s", staged, want)
		}
	})
	t.Run("says what to do when Apache would not read the virtual hosts", func(t *testing.T) {
		h := hosttest.New(t)
		h.WriteText("/etc/apache2/apache2.conf", "ServerName x\n")
		_, err := fakeService(h).DeleteVHosts(t.Context(), agentapi.DeleteVHostsParams{})
		if err == nil || !strings.Contains(err.Error(), "add 'IncludeOptional /etc/reeve/private.d/vhosts/*.vhost.conf'") {
			t.Errorf("got %v", err)
		}
	})
}

func TestPortsOfOthersGetNoListen(t *testing.T) {
	h := fakeHost(t)
	h.WriteText("/etc/apache2/ports.conf", "Listen 80\nListen 127.0.0.1:8123\n<IfDefine NEVER>\nListen 8124\n</IfDefine>\n<IfModule mpm_prefork_module>\nListen [::]:8125 http\n</IfModule>\n")
	l, err := fakeService(h).load()
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[int]bool{80: true, 8123: true, 8124: false, 8125: true, 443: false} {
		if l.listens[port] != want {
			t.Errorf("port %d: got %v, want %v", port, l.listens[port], want)
		}
	}
	if want := "/var/log/apache2/error.log"; l.errorLog != want {
		t.Errorf("got error log %q, want %q", l.errorLog, want)
	}
}

func TestAStoppedApacheIsStarted(t *testing.T) {
	h := fakeHost(t)
	h.Units.Install("apache2.service")
	h.ClearCalls()
	if err := fakeCreate(h, fakeTemplate); err != nil {
		t.Fatal(err)
	}
	if got := h.Calls(); !slices.Contains(got, "start apache2.service") || slices.Contains(got, "reload apache2.service") {
		t.Errorf("got %q", got)
	}
}

func TestALinkInTheVHostDirectoryIsNotFollowed(t *testing.T) {
	h := fakeHost(t)
	h.WriteText("/etc/victim", "precious")
	if err := h.MkdirAll("/etc/reeve/private.d/vhosts", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/victim", h.Path("/etc/reeve/private.d/vhosts/a.test-80.vhost.conf")); err != nil {
		t.Fatal(err)
	}
	if err := fakeCreate(h, fakeTemplate); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("got %v", err)
	}
	if got := h.Text("/etc/victim"); got != "precious" {
		t.Errorf("got %q", got)
	}
}

func TestAKilledChangeIsTakenBackByTheNextCallToo(t *testing.T) {
	for _, wasRunning := range []bool{true, false} {
		h := fakeHost(t)
		if err := h.MkdirAll("/etc/reeve/private.d/vhosts", 0o755); err != nil {
			t.Fatal(err)
		}
		st, err := h.Stage("/etc/reeve/private.d/.vhosts-staging", host.Readers{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write("/etc/reeve/private.d/vhosts/half-80.vhost.conf", []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if wasRunning {
			if _, err := st.Scratch(wasRunningMark, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.Apply(); err != nil { // and here the agent dies, and Apache with it
			t.Fatal(err)
		}
		h.Units.Install("apache2.service")
		s := fakeService(h)
		_, err = s.DeleteVHosts(t.Context(), agentapi.DeleteVHostsParams{Reload: new(agentapi.Bool(false))})
		if err != nil {
			t.Fatal(err)
		}
		if h.Exists("/etc/reeve/private.d/vhosts/half-80.vhost.conf") {
			t.Error("the unconfirmed vhost is still there")
		}
		if got := h.Units.Running("apache2.service"); got != wasRunning {
			t.Errorf("Apache ran before: %v, runs after: %v", wasRunning, got)
		}
	}
}

// uncommitted makes the first reload of a change keep its journal from being removed.
type uncommitted struct {
	host.Units
	journal string
	reloads int
}

func (u *uncommitted) Reload(ctx context.Context, unit string) error {
	if u.reloads++; u.reloads == 1 {
		if err := errors.Join(os.Remove(u.journal), os.MkdirAll(filepath.Join(u.journal, "full"), 0o700)); err != nil {
			return err
		}
	}
	return u.Units.Reload(ctx, unit)
}

func TestAChangeThatCannotBeKeptIsNotServedEither(t *testing.T) {
	h := fakeHost(t)
	units := &uncommitted{Units: h.Units, journal: h.Path("/etc/reeve/private.d/.vhosts-staging/journal.json")}
	s := New(Options{Host: host.New(host.Options{Root: h.Root, Runner: h.Runner, Units: units, Layout: &host.Debian}), Settle: 1})
	_, err := s.CreateVHost(t.Context(), agentapi.CreateVHostParams{Hostname: "a.test", Port: "80", Template: fakeTemplate})
	if err == nil {
		t.Fatal("got no error of a change that was not kept")
	}
	for _, name := range []string{"/etc/reeve/private.d/vhosts/a.test-80.vhost.conf", "/etc/apache2/sites-enabled/zz-reeve.conf", "/srv/a"} {
		if h.Exists(name) {
			t.Errorf("%s is still there", name)
		}
	}
	if units.reloads != 2 {
		t.Errorf("got %d reloads, want one for the change and one after it was taken back", units.reloads)
	}
}

func TestANameThatDoesNotFitAFileIsRefusedBeforeAnything(t *testing.T) {
	name := func(n int) string { // n characters, in labels of at most 50
		s := strings.Repeat(strings.Repeat("a", 49)+".", n/50+1)[:n]
		return strings.TrimSuffix(s, ".")
	}
	const suffix = len("-80.vhost.conf")
	for _, n := range []int{host.MaxStagedName - suffix + 1, 243, 253} {
		h := fakeHost(t)
		before := h.Tree("/")
		s := fakeService(h)
		create := agentapi.CreateVHostParams{Hostname: name(n), Port: "80", Template: fakeTemplate}
		_, createErr := s.CreateVHost(t.Context(), create)
		_, setErr := s.Reconfigure(t.Context(), agentapi.ReconfigureVHostsParams{VHosts: []agentapi.VHost{{Hostname: create.Hostname, Port: "80", Template: fakeTemplate}}, Async: new(agentapi.Bool(false))})
		_, updateErr := s.UpdateVHost(t.Context(), agentapi.UpdateVHostParams{Signature: agentapi.VHostRef{Hostname: "a.test", Port: "80"}, Hostname: new(agentapi.Text(name(n)))})
		for call, err := range map[string]error{"create_vhost": createErr, "reconfigure": setErr, "update_vhost": updateErr} {
			e, ok := errors.AsType[*agentapi.Error](err)
			if !ok || e.Class != "ValueError" || strings.Contains(err.Error(), "/") {
				t.Errorf("%s with %d characters: got %v, want a ValueError without a path", call, n, err)
			}
		}
		if got := h.Tree("/"); got != before || len(h.Calls()) != 0 {
			t.Errorf("%d characters: got\n%s\nwant\n%s; calls %q", n, got, before, h.Calls())
		}
	}
	h := fakeHost(t)
	longest := agentapi.CreateVHostParams{Hostname: name(host.MaxStagedName - suffix), Port: "80", Template: fakeTemplate}
	if _, err := fakeService(h).CreateVHost(t.Context(), longest); err != nil {
		t.Errorf("the longest name that fits: got %v", err)
	}
	_, err := fakeService(h).DeleteVHosts(t.Context(), agentapi.DeleteVHostsParams{VHosts: []agentapi.VHostRef{{Hostname: name(243), Port: "80"}}})
	if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Class != "ValueError" {
		t.Errorf("delete_vhosts with 243 characters: got %v, want a ValueError", err)
	}
}

func TestDocumentRootsAndLogsStayOutOfClosedDirectories(t *testing.T) {
	h := fakeHost(t)
	before := h.Tree("/")
	s := New(Options{Host: h.Host, Settle: 1, Closed: []string{"/var/lib/reeve-agent/", "/opt/keys"}})
	create := func(root, log string) error {
		template := "<VirtualHost *:80>\nServerName a.test\nDocumentRoot " + root + "\nCustomLog " + log + " combined\n</VirtualHost>\n"
		_, err := s.CreateVHost(t.Context(), agentapi.CreateVHostParams{Hostname: "a.test", Port: "80", Template: template})
		return err
	}
	const root, log = "/srv/a", "/var/log/a/access.log"
	for _, closed := range []string{
		"/etc/apache2/deep/www", "/etc/x", "/root/a/b", "/run/a/b", "/var/lib/reeve-agent", "/var/lib/reeve-agent/operations/x", "/var/lib", "/opt/keys/x",
	} {
		for _, err := range []error{create(closed, log), create(root, closed)} {
			if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Class != "ValueError" {
				t.Errorf("%s: got %v, want a ValueError", closed, err)
			}
		}
	}
	if got := h.Tree("/"); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
	for _, open := range []string{"/usr/share/phpmyadmin", "/var/www", "/var/www/a/b", "/srv/a", "/etcetera/a", "/var/lib/reeve-agents"} {
		if err := create(open, log); err != nil {
			t.Errorf("%s: got %v", open, err)
		}
	}
}
