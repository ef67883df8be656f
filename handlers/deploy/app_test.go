package deploy

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

func TestCreateApp(t *testing.T) {
	h := newHost(t)
	s := newService(h)
	paths := must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), shop))

	t.Run("the paths are those of the convention", func(t *testing.T) {
		want := agentapi.AppPaths{Home: "/srv/data/apps/shop", DocumentRoot: "/srv/data/apps/shop/current/htdocs",
			EnvInclude: "/var/lib/reeve-agent/deploy/env/shop.conf", LogDir: "/srv/data/apps/shop/logs", User: "app-shop", SFTP: true}
		if paths != want {
			t.Errorf("got %+v, want %+v", paths, want)
		}
		if !strings.Contains(h.Text(paths.DocumentRoot+"/index.php"), "Your PHP instance is running") {
			t.Error("the placeholder page is missing")
		}
	})
	t.Run("the accounts are added and the others kept byte for byte", func(t *testing.T) {
		for file, want := range map[string]string{
			"/etc/passwd": passwdText + "app-shop:x:997:997:reeve app shop:/srv/data/apps/shop:/usr/sbin/nologin\n" +
				"2316:x:997:997:reeve app shop:/:/usr/sbin/nologin\n",
			"/etc/group":   groupText + "app-shop:x:997:\n",
			"/etc/shadow":  shadowText + "app-shop:!:::::::\n2316:" + string(shop.Login.PasswordHash) + ":20000:0:99999:7:::\n",
			"/etc/gshadow": gshadowText + "app-shop:!::\n",
		} {
			if got := h.Text(file); got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
			}
		}
		if st := must[fs.FileInfo](t)(h.Stat("/etc/shadow")); st.Mode() != 0o640 {
			t.Errorf("got mode %v of /etc/shadow, want it kept at 0640", st.Mode())
		}
	})
	t.Run("secrets lie in files of root only", func(t *testing.T) {
		for _, file := range []string{paths.EnvInclude, "/var/lib/reeve-agent/deploy/apps/shop.json"} {
			if st := must[fs.FileInfo](t)(h.Stat(file)); st.Mode().Perm() != 0o600 {
				t.Errorf("got mode %v of %s, want 0600", st.Mode(), file)
			}
		}
	})
	t.Run("no file is writable by everybody, and only shared by the web server", func(t *testing.T) {
		for line := range strings.Lines(h.Tree(paths.Home)) {
			mode, name, _ := strings.Cut(strings.TrimSpace(line), " ")
			if strings.HasPrefix(mode, "L") {
				continue
			}
			if groupWrites := mode[len(mode)-5] == 'w'; mode[len(mode)-2] == 'w' || groupWrites != strings.HasSuffix(name, "/shared") {
				t.Errorf("%s has mode %s", name, mode)
			}
		}
	})
	t.Run("owners are root for the walls and the app for its files", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("needs root to give files away")
		}
		for file, want := range map[string]string{
			"": "0:0", "/releases": "0:0", "/logs": "0:997", "/shared": "997:33", "/releases/0": "997:33", "/releases/0/htdocs/index.php": "997:33",
		} {
			uid, gid, err := h.Owner(paths.Home + file)
			if got := fmt.Sprintf("%d:%d", uid, gid); err != nil || got != want {
				t.Errorf("%s: got %s, %v, want %s", file, got, err, want)
			}
		}
	})
	t.Run("the sshd configuration is tested, then used", func(t *testing.T) {
		golden(t, "sshd", h.Text("/etc/ssh/sshd_config.d/reeve-shop.conf"))
		if got, want := fmt.Sprint(h.Calls()), "[run /usr/sbin/sshd -t state ssh.service reload ssh.service]"; got != want {
			t.Errorf("got calls %s, want %s", got, want)
		}
	})
	t.Run("the same call again changes nothing", func(t *testing.T) {
		before := h.Tree("/")
		h.ClearCalls()
		again := must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), shop))
		if got := h.Tree("/"); got != before || again != paths {
			t.Errorf("got\n%s\nwant\n%s", got, before)
		}
		if calls := h.Calls(); len(calls) != 0 {
			t.Errorf("got calls %v, want none", calls)
		}
	})
	t.Run("another environment, password and login replace the old", func(t *testing.T) {
		p := shop
		p.Env = map[string]agentapi.Secret{"ONLY": "this"}
		p.Login = &agentapi.AppLogin{User: "2377", PasswordHash: "$y$j9T$saltsalt$hash.hash/hash"}
		must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), p))
		if got := h.Text(paths.EnvInclude); !strings.Contains(got, "SetEnv ONLY \"this\"\n") || strings.Contains(got, "MYSQL") {
			t.Errorf("got environment %s", got)
		}
		if passwd := h.Text("/etc/passwd"); strings.Contains(passwd, "2316") || !strings.Contains(passwd, "2377:x:997:997:") {
			t.Errorf("got %s", passwd)
		}
		if got := h.Text("/etc/ssh/sshd_config.d/reeve-shop.conf"); !strings.Contains(got, "Match User 2377\n") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("another platform or base is a conflict", func(t *testing.T) {
		for _, p := range []agentapi.CreateAppParams{{App: "shop", Platform: "static"}, {App: "shop", Platform: "php", Base: "/srv/other"}} {
			_, err := s.CreateApp(t.Context(), p)
			wantKind(t, err, agentapi.KindConflict)
		}
	})
	t.Run("deleting leaves nothing, and can be repeated", func(t *testing.T) {
		for range 2 {
			must[handlers.Null](t)(s.DeleteApp(t.Context(), agentapi.AppParams{App: "shop"}))
		}
		if got, want := everything(h), everything(newHost(t)); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if h.Exists(paths.Home) {
			t.Error("the app's directory is still there")
		}
	})
}

func TestCreateAppRefuses(t *testing.T) {
	with := func(change func(*agentapi.CreateAppParams)) agentapi.CreateAppParams {
		p := agentapi.CreateAppParams{App: "a", Platform: "php"}
		change(&p)
		return p
	}
	env := func(name, value string) agentapi.CreateAppParams {
		return with(func(p *agentapi.CreateAppParams) {
			p.Env = map[string]agentapi.Secret{name: agentapi.Secret(value)}
		})
	}
	login := func(user, hash string) agentapi.CreateAppParams {
		return with(func(p *agentapi.CreateAppParams) {
			p.Login = &agentapi.AppLogin{User: user, PasswordHash: agentapi.Secret(hash)}
		})
	}
	const hash = "$6$saltsalt$abcdefghijklmnop"
	for name, c := range map[string]struct {
		p    agentapi.CreateAppParams
		kind agentapi.Kind
	}{
		"an empty app name":           {agentapi.CreateAppParams{Platform: "php"}, agentapi.KindInvalid},
		"a path as an app name":       {agentapi.CreateAppParams{App: "../etc", Platform: "php"}, agentapi.KindInvalid},
		"a long app name":             {agentapi.CreateAppParams{App: strings.Repeat("a", 41), Platform: "php"}, agentapi.KindInvalid},
		"an unknown platform":         {agentapi.CreateAppParams{App: "a", Platform: "cobol"}, agentapi.KindUnsupported},
		"a relative base":             {with(func(p *agentapi.CreateAppParams) { p.Base = "srv" }), agentapi.KindInvalid},
		"a base with dots":            {with(func(p *agentapi.CreateAppParams) { p.Base = "/srv/../etc" }), agentapi.KindInvalid},
		"a base with a space":         {with(func(p *agentapi.CreateAppParams) { p.Base = "/srv/a b" }), agentapi.KindInvalid},
		"an environment name":         {env("a b", ""), agentapi.KindInvalid},
		"a line break in a value":     {env("A", "x\nLoadModule y"), agentapi.KindInvalid},
		"a NUL in a value":            {env("A", "x\x00"), agentapi.KindInvalid},
		"a login of somebody else":    {login("root", hash), agentapi.KindConflict},
		"a number of the system":      {login("33", hash), agentapi.KindInvalid},
		"a number of somebody":        {login("1234", hash), agentapi.KindConflict},
		"a login with a colon":        {login("a:b", hash), agentapi.KindInvalid},
		"a hash with a line break":    {login("2323", hash+"\nroot2::0:0"), agentapi.KindInvalid},
		"a hash with a colon":         {login("2323", hash+":0"), agentapi.KindInvalid},
		"a password that is not hash": {login("2323", "secret"), agentapi.KindInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			before := everything(h)
			_, err := newService(h).CreateApp(t.Context(), c.p)
			wantKind(t, err, c.kind)
			if got := everything(h); got != before {
				t.Errorf("got\n%s\nwant\n%s", got, before)
			}
		})
	}
}

func TestCreateAppBreaks(t *testing.T) {
	before := everything(newHost(t))
	hosttest.BreakEachCall(t, newHost, func(h *hosttest.Host) error {
		_, err := newService(h).CreateApp(t.Context(), shop)
		return err
	}, func(t *testing.T, h *hosttest.Host, err error) {
		if got := everything(h); got != before {
			t.Errorf("after %v: got\n%s\nwant\n%s", err, got, before)
		}
	})
}

func TestUpdateAppBreaks(t *testing.T) {
	start := func(tb testing.TB) *hosttest.Host {
		h := newHost(tb)
		must[agentapi.AppPaths](tb)(newService(h).CreateApp(tb.Context(), shop))
		return h
	}
	change := func(h *hosttest.Host) error {
		p := shop
		p.Env = map[string]agentapi.Secret{"OTHER": "x"}
		p.Login = &agentapi.AppLogin{User: "4711", PasswordHash: "$y$j9T$saltsalt$hash.hash/hash"}
		_, err := newService(h).CreateApp(t.Context(), p)
		return err
	}
	before := accountLines(start(t))
	hosttest.BreakEachCall(t, start, change, func(t *testing.T, h *hosttest.Host, err error) {
		if got := accountLines(h); got != before {
			t.Errorf("after %v: got\n%s\nwant\n%s", err, got, before)
		}
	})
	killed(t, start, change)
}

// accountLines is everything, with the lines of the account files in order: an entry that was taken away and put back
// comes last.
func accountLines(h *hosttest.Host) string {
	for _, file := range []string{passwdFile, groupFile, shadowFile, gshadowFile} {
		lines := strings.SplitAfter(h.Text(file), "\n")
		slices.Sort(lines)
		h.WriteText(file, strings.Join(lines, ""))
	}
	return everything(h)
}

func TestDeleteAppBreaks(t *testing.T) {
	start := func(tb testing.TB) *hosttest.Host {
		h := newHost(tb)
		must[agentapi.AppPaths](tb)(newService(h).CreateApp(t.Context(), shop))
		return h
	}
	before := everything(start(t))
	hosttest.BreakEachCall(t, start, func(h *hosttest.Host) error {
		_, err := newService(h).DeleteApp(t.Context(), agentapi.AppParams{App: "shop"})
		return err
	}, func(t *testing.T, h *hosttest.Host, err error) {
		if got := everything(h); got != before {
			t.Errorf("after %v: got\n%s\nwant\n%s", err, got, before)
		}
	})
}

func TestCreateAppKilled(t *testing.T) {
	killed(t, newHost, func(h *hosttest.Host) error {
		_, err := newService(h).CreateApp(t.Context(), shop)
		return err
	})
}

func TestAppWithoutSSHServer(t *testing.T) {
	h := newHost(t)
	if err := h.Remove("/usr/sbin/sshd"); err != nil {
		t.Fatal(err)
	}
	paths := must[agentapi.AppPaths](t)(newService(h).CreateApp(t.Context(), shop))
	if paths.SFTP || len(h.Calls()) != 0 || !h.Exists("/etc/ssh/sshd_config.d/reeve-shop.conf") {
		t.Errorf("got %+v, calls %v, want the configuration to wait for a server", paths, h.Calls())
	}
}

func TestAdoptAppOfAnotherHost(t *testing.T) {
	first := newHost(t)
	must[agentapi.AppPaths](t)(newService(first).CreateApp(t.Context(), shop))
	must[agentapi.AppPaths](t)(newService(first).PutRelease(t.Context(), agentapi.PutReleaseParams{App: "shop", Release: 3,
		Archive: archive(t, file{name: "htdocs/index.php", body: "three"})}))
	second := newHost(t)
	second.WriteText("/etc/passwd", passwdText+"newer:x:997:997::/:/bin/false\n")
	if err := os.CopyFS(second.Path("/srv"), os.DirFS(first.Path("/srv"))); err != nil {
		t.Fatal(err)
	}
	paths := must[agentapi.AppPaths](t)(newService(second).CreateApp(t.Context(), shop))
	if paths.Release != 3 || second.Text(paths.DocumentRoot+"/index.php") != "three" {
		t.Errorf("got release %d, want the volume's 3", paths.Release)
	}
	if uid, gid, _ := second.Owner(paths.DocumentRoot + "/index.php"); os.Geteuid() == 0 && (uid != 996 || gid != 33) {
		t.Errorf("got owner %d:%d, want 996:33", uid, gid)
	}
}

func TestListApps(t *testing.T) {
	h := newHost(t)
	s := newService(h)
	if got := must[[]agentapi.AppInfo](t)(s.ListApps(t.Context(), handlers.NoParams{})); got == nil || len(got) != 0 {
		t.Errorf("got %v, want an empty list", got)
	}
	must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), shop))
	must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), agentapi.CreateAppParams{App: "blog", Platform: "static"}))
	must[agentapi.AppPaths](t)(s.PutRelease(t.Context(), agentapi.PutReleaseParams{App: "blog", Release: 2, Archive: archive(t, file{name: "index.html", body: "x"})}))
	got := fmt.Sprint(must[[]agentapi.AppInfo](t)(s.ListApps(t.Context(), handlers.NoParams{})))
	if want := "[{blog static 2 [0 2]} {shop php 0 [0]}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestUnixUser(t *testing.T) {
	a, b := unixUser(strings.Repeat("a", 39)+"b"), unixUser(strings.Repeat("a", 39)+"c")
	if len(a) > 32 || a == b || unixUser("shop") != "app-shop" {
		t.Errorf("got %q, %q and %q", a, b, unixUser("shop"))
	}
}
