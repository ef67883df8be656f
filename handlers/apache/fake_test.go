package apache

import (
	"context"
	"fmt"
	"os"
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
	if err := fakeService(h).Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
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
	t.Run("includes the virtual hosts once, after everybody else's", func(t *testing.T) {
		h := fakeHost(t)
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
		if err := fakeService(h).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h.Exists("/etc/apache2/sites-enabled/zz-reeve.conf") {
			t.Error("the virtual hosts are included twice")
		}
		if err := fakeCreate(h, fakeTemplate); err != nil {
			t.Fatal(err)
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
		err := fakeService(h).Start(t.Context())
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
		st, err := h.Stage("/etc/reeve/private.d/.vhosts-staging")
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
