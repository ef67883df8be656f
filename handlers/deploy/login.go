package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

const (
	passwdFile   = "/etc/passwd"
	groupFile    = "/etc/group"
	shadowFile   = "/etc/shadow"
	gshadowFile  = "/etc/gshadow"
	accountsLock = "/etc/.pwd.lock" // the lock of lckpwdf(3), which useradd and passwd take too

	sshdPath      = "/usr/sbin/sshd"
	sshdConfigDir = "/etc/ssh/sshd_config.d"
	sshKeysDir    = "/etc/ssh/reeve-keys" // one file per app that lets keys in
	sshdRunDir    = "/run/sshd"           // sshd -t wants it, and the unit makes it only when it starts

	accountsLockTimeout = 15 * time.Second // as long as lckpwdf waits
)

var (
	loginName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,31}$`)
	cryptHash = regexp.MustCompile(`^\$[0-9a-z]{1,8}\$[A-Za-z0-9./$=,+-]{8,480}$`)
	publicKey = regexp.MustCompile(`^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com) ` +
		`[A-Za-z0-9+/]{40,}={0,3}( [ -~]{0,200})?$`)
)

func checkLogin(l *agentapi.AppLogin, keep bool) error {
	switch {
	case l == nil:
		return nil
	case !loginName.MatchString(l.User):
		return invalid("a login is 1 to 32 of a-z, 0-9, _ and -, not %.80q", l.User)
	case isSystemNumber(l.User):
		return invalid("login %s reads like the number of a system account; numbers begin at %d", l.User, lastSystemID+1)
	case l.PasswordHash != "" && !cryptHash.MatchString(string(l.PasswordHash)):
		return invalid("the password hash is not in the form of crypt(3)")
	case l.PasswordHash == "" && !l.Shell && len(l.Keys) == 0 && !keep:
		return invalid("a login needs a password hash or a key")
	}
	for _, k := range l.Keys {
		if len(k) > 16<<10 || !publicKey.MatchString(k) {
			return invalid("a key of login %s is not a public key without options", l.User)
		}
	}
	return nil
}

// isSystemNumber says whether chown(1) and its like, which look for a name before they take a number as one, could mean a
// system account by this text.
func isSystemNumber(name string) bool {
	id, err := strconv.Atoi(name)
	return err == nil && id <= lastSystemID
}

// editAccounts changes the account files under the lock that other tools take. A change is taken back entry by entry, so
// that what others did to the files in between stays.
//
// The files are replaced one by one, users last: a killed agent may leave a group or a password without its user, which
// nobody can use and a repetition completes.
func (s *Service) editAccounts(ctx context.Context, c *host.Change, touched func(accounts) []string, edit func(accounts) (accounts, error)) error {
	before, err := s.lockedEdit(ctx, edit)
	if err != nil {
		return err
	}
	names := touched(before)
	c.OnRollback(func() error {
		_, err := s.lockedEdit(context.WithoutCancel(ctx), func(now accounts) (accounts, error) { return now.restore(before, names...), nil })
		return err
	})
	return nil
}

func (s *Service) lockedEdit(ctx context.Context, edit func(accounts) (accounts, error)) (before accounts, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, accountsLockTimeout, errors.New("another program keeps the account files locked"))
	defer cancel()
	unlock, err := s.host.Lock(ctx, accountsLock)
	if err != nil {
		return accounts{}, &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "LinuxError", Text: "the account files are locked", Err: err}
	}
	defer unlock()
	if before, err = s.readAccounts(); err != nil {
		return accounts{}, err
	}
	after, err := edit(before)
	if err != nil {
		return accounts{}, err
	}
	if err := s.writeAccounts(before, after); err != nil {
		return accounts{}, errors.Join(err, s.writeAccounts(after, before))
	}
	return before, nil
}

func (s *Service) readAccounts() (accounts, error) {
	var errs []error
	read := func(path string) []byte {
		data, err := s.host.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && path != passwdFile {
			return nil
		}
		errs = append(errs, err)
		if data == nil {
			data = []byte{}
		}
		return data
	}
	a := accounts{passwd: read(passwdFile), group: read(groupFile), shadow: read(shadowFile), gshadow: read(gshadowFile)}
	return a, errors.Join(errs...)
}

func (s *Service) writeAccounts(before, after accounts) error {
	for _, f := range []struct {
		path     string
		old, new []byte
	}{
		{groupFile, before.group, after.group}, {gshadowFile, before.gshadow, after.gshadow},
		{shadowFile, before.shadow, after.shadow}, {passwdFile, before.passwd, after.passwd},
	} {
		if string(f.old) == string(f.new) {
			continue
		}
		if err := s.host.UpdateFile(f.path, f.new); err != nil {
			return err
		}
	}
	return nil
}

// ensureAccounts gives the app its user, and the login when there is to be one; a former login goes.
func (s *Service) ensureAccounts(ctx context.Context, c *host.Change, a app, login *agentapi.AppLogin) (owner, error) {
	web, err := s.host.LookupUser(s.host.Layout().ApacheUser)
	if err != nil {
		return owner{}, &agentapi.Error{Kind: agentapi.KindUnsupported, Class: "LinuxError", Err: err,
			Text: fmt.Sprintf("there is no user %s, whose group serves apps; install Apache", s.host.Layout().ApacheUser)}
	}
	touched := func(before accounts) []string {
		names := append(before.logins(a.App), unixUser(a.App))
		if login != nil {
			names = append(names, login.User)
		}
		return names
	}
	o := owner{web: int(web.GID)}
	err = s.editAccounts(ctx, c, touched, func(now accounts) (accounts, error) {
		for _, name := range touched(now) {
			if !now.ours(name, a.App) {
				return now, conflict("user %q exists on this host and does not belong to app %q", name, a.App)
			}
		}
		if login != nil && now.numbered(login.User) {
			return now, conflict("login %s is the number of another account on this host", login.User)
		}
		for _, name := range now.logins(a.App) {
			if login == nil || name != login.User {
				now = now.without(a.App, name)
			}
		}
		now, err := now.withAppUser(a.App, a.home())
		if err != nil {
			return now, err
		}
		if login != nil {
			now = now.withLogin(a.App, s.place(a, login), string(login.PasswordHash), int(s.now().Unix()/(24*3600)))
		}
		o.uid, o.gid, _ = now.ids(unixUser(a.App))
		return now, nil
	})
	return o, err
}

// place is where a login finds itself. One over SFTP is confined to the app's directory by then.
func (s *Service) place(a app, l *agentapi.AppLogin) place {
	p := place{name: l.User, home: "/", shell: noLoginShell}
	if l.Shell {
		p.home, p.shell = a.home(), "/bin/sh"
		if s.host.Exists("/bin/bash") {
			p.shell = "/bin/bash"
		}
	}
	return p
}

// SetLogin replaces an app's login. Sessions that are open go on.
func (s *Service) SetLogin(ctx context.Context, p agentapi.SetLoginParams) (_ handlers.Null, err error) {
	if err := checkLogin(p.Login, bool(p.KeepPassword)); err != nil {
		return handlers.Null{}, err
	}
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	a, err := s.load(p.App)
	if err != nil {
		return handlers.Null{}, err
	}
	login := p.Login
	if login != nil && bool(p.KeepPassword) {
		now, err := s.readAccounts()
		if err != nil {
			return handlers.Null{}, err
		}
		kept := *login
		if old := entry(now.shadow, login.User); len(old) > 1 && now.ours(login.User, a.App) && cryptHash.MatchString(old[1]) {
			kept.PasswordHash = agentapi.Secret(old[1])
		}
		login = &kept
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	if _, err := s.ensureAccounts(ctx, c, a, login); err != nil {
		return handlers.Null{}, err
	}
	if err := s.ensureSFTP(ctx, c, a, login); err != nil {
		return handlers.Null{}, err
	}
	c.Commit()
	s.log.Info("login is set", "app", a.App)
	return handlers.Null{}, nil
}

// endSessions ends what runs as the app's user when somebody had a shell of it: a login that is gone must not go on.
func (s *Service) endSessions(ctx context.Context, before accounts, a app) error {
	uid, _, ok := before.ids(unixUser(a.App))
	if !ok || !before.hasShell(a.App) {
		return nil
	}
	_, err := s.host.Run(ctx, host.Cmd{Path: "pkill", Args: []string{"-KILL", "-U", strconv.Itoa(uid)}})
	if failed, ok := errors.AsType[*host.CommandError](err); err == nil || ok && failed.Err == nil && failed.Output.Code == 1 && len(failed.Output.Stderr) == 0 {
		return nil // 1: nothing runs
	}
	return host.LinuxError(err)
}

func (s *Service) removeAccounts(ctx context.Context, c *host.Change, a app) error {
	touched := func(before accounts) []string { return append(before.logins(a.App), unixUser(a.App)) }
	return s.editAccounts(ctx, c, touched, func(now accounts) (accounts, error) { return now.without(a.App, touched(now)...), nil })
}

// ensureSFTP lets the login in over SFTP, into the app's directory and no further; nil lets nobody in. The host's SSH
// server is asked whether it accepts the change before it is told to use it. Without an SSH server the configuration
// waits for one.
func (s *Service) ensureSFTP(ctx context.Context, c *host.Change, a app, login *agentapi.AppLogin) error {
	file := sshdConfigDir + "/reeve-" + a.App + ".conf"
	var text, keys []byte
	if login != nil {
		text = renderSSH(a, login)
		if len(login.Keys) > 0 {
			keys = []byte(strings.Join(login.Keys, "\n") + "\n")
		}
	}
	return s.changeAndTell(c, notice{
		name: "sshd", files: []wantedFile{{keysFile(a), keys, 0o644}, {file, text, 0o600}}, // sshd reads keys as the user
		tell: func() error { return s.testAndReloadSSH(ctx, c) },
		undo: func() error { return s.reloadIfRunning(context.WithoutCancel(ctx), s.host.Layout().SSHUnit) },
	})
}

func keysFile(a app) string { return sshKeysDir + "/" + a.App }

// renderSSH is sshd configuration for one login. A Match block ends with the included file.
func renderSSH(a app, l *agentapi.AppLogin) []byte {
	password, keys := "no", "none"
	if l.PasswordHash != "" {
		password = "yes"
	}
	if len(l.Keys) > 0 {
		keys = keysFile(a)
	}
	kind := "SFTP"
	if l.Shell {
		kind = "A shell"
	}
	text := "# " + kind + " for app " + a.App + ". Written by reeve-agent; changes are lost.\n" +
		"Match User " + l.User + "\n"
	if !l.Shell {
		text += "    ChrootDirectory " + a.home() + "\n" +
			"    ForceCommand internal-sftp\n"
	}
	text += "    PasswordAuthentication " + password + "\n" +
		"    AuthorizedKeysFile " + keys + "\n"
	if !l.Shell {
		text += "    DisableForwarding yes\n" +
			"    PermitTTY no\n" +
			"    PermitTunnel no\n"
	}
	return []byte(text + "    PermitUserRC no\n")
}

func (s *Service) testAndReloadSSH(ctx context.Context, c *host.Change) error {
	if !s.host.Exists(sshdPath) {
		return nil
	}
	if err := c.MkdirAll(sshdRunDir, 0o755); err != nil {
		return err
	}
	if _, err := s.host.Run(ctx, host.Cmd{Path: sshdPath, Args: []string{"-t"}}); err != nil {
		return &agentapi.Error{Kind: agentapi.KindConfigTest, Class: "LinuxError", Err: err, Text: "sshd refuses its configuration: " + err.Error()}
	}
	return s.reloadIfRunning(ctx, s.host.Layout().SSHUnit) // socket-activated: the next connection reads it anyway
}

func (s *Service) reloadIfRunning(ctx context.Context, unit string) error {
	state, err := s.host.Units().State(ctx, unit)
	if err != nil || !state.Running() {
		return err
	}
	return s.host.Units().Reload(ctx, unit)
}
