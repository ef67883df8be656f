package deploy

import (
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
)

const aKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0m0b4m0b4m0b4m0b4m0b4m0b4m0b4m0b4m0b4m0b4m alice@laptop"

var handed = agentapi.CreateAppParams{App: "n7", Platform: "php", Base: "/srv/apps", Login: &agentapi.AppLogin{User: "alice", Keys: []string{aKey}, Shell: true}}

func TestAShellLogin(t *testing.T) {
	h := newHost(t)
	h.WriteText("/bin/bash", "")
	killed := ""
	h.Runner.Handle("pkill", func(c host.Cmd) (host.Output, error) {
		killed = strings.Join(c.Args, " ")
		return host.Output{Code: 1}, nil // nothing ran
	})
	s := newService(h)
	must[agentapi.AppPaths](t)(s.CreateApp(t.Context(), handed))
	if passwd := h.Text("/etc/passwd"); !strings.Contains(passwd, "\nalice:x:") || !strings.Contains(passwd, ":/srv/apps/n7:/bin/bash\n") {
		t.Errorf("got %s, want a login with a shell", passwd)
	}
	if shadow := h.Text("/etc/shadow"); !strings.Contains(shadow, "\nalice:*:") {
		t.Errorf("got %s, want no password for alice", shadow)
	}
	conf := h.Text("/etc/ssh/sshd_config.d/reeve-n7.conf")
	if !strings.Contains(conf, "Match User alice\n") || !strings.Contains(conf, "AuthorizedKeysFile /etc/ssh/reeve-keys/n7\n") ||
		!strings.Contains(conf, "PasswordAuthentication no\n") || strings.Contains(conf, "Chroot") {
		t.Errorf("got %s", conf)
	}
	if got := h.Text("/etc/ssh/reeve-keys/n7"); got != aKey+"\n" {
		t.Errorf("got keys %q", got)
	}
	must[handlers.Null](t)(s.DeleteApp(t.Context(), agentapi.AppParams{App: "n7"}))
	if killed == "" || !strings.HasPrefix(killed, "-KILL -U ") {
		t.Errorf("got pkill %q, want the login's processes ended", killed)
	}
	if strings.Contains(h.Text("/etc/passwd"), "alice") || h.Exists("/etc/ssh/reeve-keys/n7") || h.Exists("/etc/ssh/sshd_config.d/reeve-n7.conf") {
		t.Error("the login has left something behind")
	}
}

func TestAShellLoginThatCannotBeEndedStays(t *testing.T) {
	start := func(tb testing.TB) *hosttest.Host {
		h := newHost(tb)
		h.Runner.Handle("pkill", func(host.Cmd) (host.Output, error) { return host.Output{}, nil })
		must[agentapi.AppPaths](tb)(newService(h).CreateApp(tb.Context(), handed))
		return h
	}
	before := accountLines(start(t))
	hosttest.BreakEachCall(t, start, func(h *hosttest.Host) error {
		_, err := newService(h).DeleteApp(t.Context(), agentapi.AppParams{App: "n7"})
		return err
	}, func(t *testing.T, h *hosttest.Host, err error) {
		if got := accountLines(h); got != before {
			t.Errorf("after %v: got\n%s\nwant\n%s", err, got, before)
		}
	})
}

func TestKeysThatAreRefused(t *testing.T) {
	for name, key := range map[string]string{
		"options":        `command="sh" ` + aKey,
		"a line break":   aKey + "\nssh-rsa AAAA",
		"a private key":  "-----BEGIN OPENSSH PRIVATE KEY-----",
		"no key":         "",
		"a short key":    "ssh-ed25519 AAAA",
		"an old kind":    strings.Replace(aKey, "ssh-ed25519", "ssh-dss", 1),
		"a very big key": "ssh-rsa " + strings.Repeat("A", 20000),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			p := handed
			p.Login = &agentapi.AppLogin{User: "alice", Shell: true, Keys: []string{key}}
			_, err := newService(h).CreateApp(t.Context(), p)
			wantKind(t, err, agentapi.KindInvalid)
		})
	}
}
