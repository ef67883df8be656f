package deploy

import (
	"errors"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

const publicKeyLine = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrK3n7Yk3bJ0mQ4m1kGqfV1fR7c4b2Yh0q0r7Jt5x0a ann@example"

func TestSetLogin(t *testing.T) {
	const sshdFile = "/etc/ssh/sshd_config.d/reeve-shop.conf"
	h := newHost(t)
	s := newService(h)
	must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), shop))
	env := h.Text(s.envInclude("shop"))
	set := func(p agentapi.SetLoginParams) {
		t.Helper()
		p.App = "shop"
		must[handlers.Null](t)(s.SetLogin(t.Context(), p))
	}
	t.Run("another password", func(t *testing.T) {
		set(agentapi.SetLoginParams{Login: &agentapi.AppLogin{User: "2316", PasswordHash: "$y$j9T$saltsalt$other.hash"}})
		if got := h.Text("/etc/shadow"); !strings.Contains(got, "2316:$y$j9T$saltsalt$other.hash:") {
			t.Errorf("got %s", got)
		}
		if h.Text(s.envInclude("shop")) != env {
			t.Error("the environment changed")
		}
	})
	t.Run("a console and keys beside the password that is there", func(t *testing.T) {
		set(agentapi.SetLoginParams{KeepPassword: true, Login: &agentapi.AppLogin{User: "2316", Shell: true, Keys: []string{publicKeyLine}}})
		if got := h.Text("/etc/passwd"); !strings.Contains(got, "2316:x:997:997:reeve app shop:/srv/data/apps/shop:/bin/sh\n") {
			t.Errorf("got %s", got)
		}
		if got := h.Text("/etc/shadow"); !strings.Contains(got, "2316:$y$j9T$saltsalt$other.hash:") {
			t.Errorf("the password is gone: %s", got)
		}
		golden(t, "sshd-console", h.Text(sshdFile))
		if got := h.Text("/etc/ssh/reeve-keys/shop"); got != publicKeyLine+"\n" {
			t.Errorf("got keys %q", got)
		}
	})
	t.Run("keys alone", func(t *testing.T) {
		set(agentapi.SetLoginParams{Login: &agentapi.AppLogin{User: "2316", Keys: []string{publicKeyLine}}})
		if got := h.Text("/etc/shadow"); !strings.Contains(got, "2316:*:") {
			t.Errorf("a password still fits: %s", got)
		}
		if got := h.Text(sshdFile); !strings.Contains(got, "PasswordAuthentication no\n") || !strings.Contains(got, "ChrootDirectory") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("nobody", func(t *testing.T) {
		set(agentapi.SetLoginParams{})
		if h.Exists(sshdFile) || h.Exists("/etc/ssh/reeve-keys/shop") || strings.Contains(h.Text("/etc/passwd"), "2316") {
			t.Error("the login is still there")
		}
	})
	t.Run("what is refused", func(t *testing.T) {
		for name, p := range map[string]agentapi.SetLoginParams{
			"no password and no key": {App: "shop", Login: &agentapi.AppLogin{User: "2316"}},
			"two keys in a line":     {App: "shop", Login: &agentapi.AppLogin{User: "2316", Keys: []string{publicKeyLine + "\n" + publicKeyLine}}},
			"a command":              {App: "shop", Login: &agentapi.AppLogin{User: "2316", Keys: []string{`command="id" ` + publicKeyLine}}},
		} {
			t.Run(name, func(t *testing.T) {
				_, err := s.SetLogin(t.Context(), p)
				wantKind(t, err, agentapi.KindInvalid)
			})
		}
		_, err := s.SetLogin(t.Context(), agentapi.SetLoginParams{App: "none"})
		wantKind(t, err, agentapi.KindNotFound)
	})
}

func TestSetLoginBreaks(t *testing.T) {
	start := func(tb testing.TB) *hosttest.Host {
		h := newHost(tb)
		must[agentapi.AppPaths](tb)(newService(h).CreateApp(tb.Context(), shop))
		return h
	}
	change := func(h *hosttest.Host) error {
		_, err := newService(h).SetLogin(t.Context(), agentapi.SetLoginParams{App: "shop", Login: &agentapi.AppLogin{User: "2316",
			PasswordHash: "$y$j9T$saltsalt$other.hash", Shell: true, Keys: []string{publicKeyLine}}})
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

func TestGrowVolume(t *testing.T) {
	for fstype, command := range map[string]string{"ext4": "resize2fs", "xfs": "xfs_growfs"} {
		h := newVolumeHost(t, "TYPE="+fstype+"\nUSAGE=filesystem")
		s := newService(h)
		must[agentapi.VolumeMount](t)(s.MountVolume(t.Context(), dataVolume))
		h.Runner.Print(command, "")
		v := must[agentapi.VolumeMount](t)(s.GrowVolume(t.Context(), agentapi.GrowVolumeParams{MPoint: "/srv/data"}))
		if v.FSType != fstype || v.Device != device || commands(h, command) != 1 {
			t.Errorf("%s: got %+v after %v", fstype, v, h.Calls())
		}
	}
	t.Run("a host that lets no mounted ext4 grow", func(t *testing.T) {
		start := func(tb testing.TB) *hosttest.Host {
			h := newVolumeHost(tb, formatted)
			s := newService(h)
			must[agentapi.VolumeMount](tb)(s.MountVolume(tb.Context(), dataVolume))
			c := h.Begin()
			p := agentapi.StartUnitParams{App: "shop", Unit: unitA, Processes: []agentapi.Process{{Name: "web", Command: "./web"}}}
			if err := errors.Join(s.saveApp(c, app{App: "shop", Platform: "python", Base: "/srv/data/apps"}), s.saveUnit(unitRecord{StartUnitParams: p, State: agentapi.UnitStarted})); err != nil {
				tb.Fatal(err)
			}
			c.Commit()
			h.Units.SetRunning(unitService("shop", unitA, "web"))
			h.Runner.Handle("resize2fs", func(c host.Cmd) (host.Output, error) {
				if strings.Contains(h.Text(host.MountsFile), " /srv/data ") {
					return host.Output{Code: 1, Stderr: []byte("resize2fs: Permission denied to resize filesystem\n")}, nil
				}
				return host.Output{}, nil
			})
			h.Runner.Handle("e2fsck", func(host.Cmd) (host.Output, error) {
				for _, unit := range []string{"mariadb.service", unitService("shop", unitA, "web")} {
					if state, err := h.Units.State(tb.Context(), unit); err != nil || state.Running() {
						return host.Output{Code: 8, Stderr: []byte("in use by " + unit)}, err
					}
				}
				return host.Output{}, nil
			})
			h.ClearCalls()
			return h
		}
		grow := func(h *hosttest.Host) error {
			_, err := newService(h).GrowVolume(t.Context(), agentapi.GrowVolumeParams{MPoint: "/srv/data"})
			return err
		}
		up := func(t *testing.T, h *hosttest.Host, err error) {
			t.Helper()
			mounts := h.Text(host.MountsFile)
			if state, _ := h.Units.State(t.Context(), "mariadb.service"); !strings.Contains(mounts, " /srv/data rw ") || !strings.Contains(mounts, " /var/lib/mysql rw ") || !state.Running() {
				t.Errorf("after %v: the database does not run on its volume:\n%s", err, mounts)
			}
			if state, _ := h.Units.State(t.Context(), unitService("shop", unitA, "web")); !state.Running() {
				t.Errorf("after %v: the unit of an app on the volume does not run", err)
			}
		}
		h := start(t)
		if err := grow(h); err != nil || commands(h, "resize2fs") != 2 || commands(h, "e2fsck") != 1 {
			t.Errorf("got %v after %v", err, h.Calls())
		}
		up(t, h, nil)
		hosttest.BreakEachCall(t, start, grow, up)
	})
	h := newVolumeHost(t, "TYPE=vfat\nUSAGE=filesystem")
	s := newService(h)
	_, err := s.GrowVolume(t.Context(), agentapi.GrowVolumeParams{MPoint: "/srv/data"})
	wantKind(t, err, agentapi.KindNotFound)
	must[agentapi.VolumeMount](t)(s.MountVolume(t.Context(), dataVolume))
	_, err = s.GrowVolume(t.Context(), agentapi.GrowVolumeParams{MPoint: "/srv/data"})
	wantKind(t, err, agentapi.KindUnsupported)
	_, err = s.GrowVolume(t.Context(), agentapi.GrowVolumeParams{MPoint: "/etc"})
	wantKind(t, err, agentapi.KindInvalid)
}
