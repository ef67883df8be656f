package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/deploy/platform"
	"github.com/reeve-paas/reeve/handlers/host"
)

const defaultBase = "/srv/data/apps"

// CreateApp makes an app's user, directories, environment and first page, or brings what is there to what p says.
func (s *Service) CreateApp(ctx context.Context, p agentapi.CreateAppParams) (_ agentapi.AppPaths, err error) {
	if p.Base == "" {
		p.Base = defaultBase
	}
	if err := checkApp(p); err != nil {
		return agentapi.AppPaths{}, err
	}
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	a := app{App: p.App, Platform: p.Platform, Base: p.Base, Env: p.Env}
	old, err := s.load(p.App)
	if err != nil && !isKind(err, agentapi.KindNotFound) {
		return agentapi.AppPaths{}, err
	}
	if err == nil && (old.Platform != a.Platform || old.Base != a.Base) {
		return agentapi.AppPaths{}, conflict("app %q exists for platform %s below %s; delete_app removes it", a.App, old.Platform, old.Base)
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	if err := s.saveApp(c, a); err != nil { // first, so that delete_app finds whatever a killed agent left
		return agentapi.AppPaths{}, err
	}
	owner, err := s.ensureAccounts(ctx, c, a, p.Login)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	if err := s.layOut(c, a, owner); err != nil {
		return agentapi.AppPaths{}, err
	}
	if err := s.ensureFirstRelease(c, a, owner); err != nil {
		return agentapi.AppPaths{}, err
	}
	if err := s.writeEnv(c, a); err != nil {
		return agentapi.AppPaths{}, err
	}
	if err := s.ensureSFTP(ctx, c, a, p.Login); err != nil {
		return agentapi.AppPaths{}, err
	}
	paths, err := s.paths(a)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	c.Commit()
	s.log.Info("app is in place", "app", a.App, "platform", a.Platform, "release", paths.Release)
	return paths, nil
}

func checkApp(p agentapi.CreateAppParams) error {
	if !appName.MatchString(p.App) {
		return invalid("an app name is 1 to 40 of a-z, 0-9 and -, not %.80q", p.App)
	}
	if _, known := platform.Get(p.Platform); !known {
		return &agentapi.Error{Kind: agentapi.KindUnsupported, Class: "ValueError",
			Text: "this host runs no platform " + p.Platform + "; it runs " + strings.Join(platform.Names(), ", ")}
	}
	return errors.Join(checkPath("base", p.Base), checkEnv(p.Env), checkLogin(p.Login, false))
}

func (s *Service) saveApp(c *host.Change, a app) error {
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	if err := c.MkdirAll(s.appsDir(), 0o700); err != nil {
		return err
	}
	_, err = c.WriteFile(s.file(a.App), append(data, '\n'), 0o600)
	return err
}

func (s *Service) writeEnv(c *host.Change, a app) error {
	if err := c.MkdirAll(path.Dir(s.envInclude(a.App)), 0o700); err != nil {
		return err
	}
	_, err := c.WriteFile(s.envInclude(a.App), renderEnv(a.App, a.Env), 0o600)
	return err
}

// owner is who owns an app's files, and the group that serves them.
type owner struct{ uid, gid, web int }

// Modes of an app's directories. The home, the directory of releases and the logs belong to root: sshd accepts only such
// a home as the wall around a login, and root must not be led astray by links when it writes a log or a release there.
// Files are for the app and the web server's group only; set-group-id makes what the app adds later readable to that too.
const (
	dirMode    = fs.ModeSetgid | 0o750
	fileMode   = 0o640
	execMode   = 0o750
	sharedMode = fs.ModeSetgid | 0o770 // the one place that the web server may write to
)

// layOut makes the app's directories and gives them their owners, also when the volume comes from a host on which the
// app's user had another number.
func (s *Service) layOut(c *host.Change, a app, o owner) error {
	for dir := range ancestors(a.home()) {
		if s.host.Exists(dir) {
			continue
		}
		if err := errors.Join(c.MkdirAll(dir, 0o755), s.host.Chmod(dir, 0o755)); err != nil { // whatever our umask is
			return err
		}
	}
	for _, d := range []struct {
		path     string
		uid, gid int
		mode     fs.FileMode
	}{
		{a.home(), 0, 0, 0o755},
		{a.releases(), 0, 0, 0o755},
		{a.shared(), o.uid, o.web, sharedMode},
		{a.logs(), 0, o.gid, 0o750},
	} {
		if err := c.MkdirAll(d.path, 0o755); err != nil {
			return err
		}
		if err := s.own(d.path, d.uid, d.gid, d.mode); err != nil {
			return err
		}
	}
	releases, err := s.stored(a)
	if err != nil {
		return err
	}
	for _, n := range releases {
		uid, gid, err := s.host.Owner(a.release(n))
		if err == nil && (uid != o.uid || gid != o.web) {
			err = s.ownTree(a.release(n), o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ancestors are the directories on the way to an absolute path, from the top, without "/" and including the path itself.
func ancestors(p string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := 1; i <= len(p); i++ {
			if (i == len(p) || p[i] == '/') && !yield(p[:i]) {
				return
			}
		}
	}
}

// own sets owner, then mode: a change of owner clears the set-group-id bit.
func (s *Service) own(p string, uid, gid int, mode fs.FileMode) error {
	return errors.Join(s.host.Chown(p, uid, gid), s.host.Chmod(p, mode))
}

// ensureFirstRelease puts the placeholder page there when nothing was deployed yet.
func (s *Service) ensureFirstRelease(c *host.Change, a app, o owner) (err error) {
	if s.host.Exists(a.current()) {
		return nil
	}
	tmp := a.unfinished(0)
	defer func() { err = errors.Join(err, s.host.RemoveAll(tmp)) }()
	if err := errors.Join(s.host.RemoveAll(tmp), s.host.MkdirAll(path.Join(tmp, "htdocs"), 0o700)); err != nil {
		return err
	}
	kind, _ := platform.Get(a.Platform)
	files, err := kind.PlaceholderFiles()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := s.host.WriteFile(path.Join(tmp, "htdocs", f.Name), f.Text, 0o600); err != nil {
			return err
		}
	}
	if err := s.ownTree(tmp, o); err != nil {
		return err
	}
	if !s.host.Exists(a.release(0)) {
		c.OnRollback(func() error { return s.host.RemoveAll(a.release(0)) })
		if err := s.host.Rename(tmp, a.release(0)); err != nil {
			return err
		}
	}
	c.OnRollback(func() error { return s.host.Remove(a.current()) })
	return s.host.ReplaceLink(a.current(), releaseLink(0))
}

// DeleteApp removes everything CreateApp and PutRelease made. What can be taken back is done first; once the files start
// to go, a repetition finishes.
func (s *Service) DeleteApp(ctx context.Context, p agentapi.AppParams) (_ handlers.Null, err error) {
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	a, err := s.load(p.App)
	if isKind(err, agentapi.KindNotFound) {
		return handlers.Null{}, nil
	}
	if err != nil {
		return handlers.Null{}, err
	}
	if err := errors.Join(s.clearUnits(ctx, a.App), s.clearScripts(ctx, a.App)); err != nil {
		return handlers.Null{}, err
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	if err := s.ensureSFTP(ctx, c, a, nil); err != nil {
		return handlers.Null{}, err
	}
	before, err := s.readAccounts()
	if err != nil {
		return handlers.Null{}, err
	}
	if err := s.removeAccounts(ctx, c, a); err != nil {
		return handlers.Null{}, err
	}
	if err := s.endSessions(ctx, before, a); err != nil {
		return handlers.Null{}, err
	}
	c.Commit()
	if err := s.host.RemoveAll(a.home()); err != nil {
		return handlers.Null{}, err
	}
	if err := s.host.Remove(s.envInclude(a.App)); err != nil {
		return handlers.Null{}, err
	}
	s.log.Info("app is gone", "app", a.App)
	return handlers.Null{}, s.host.Remove(s.file(a.App)) // last: until then a repetition knows what to remove
}

func isKind(err error, kind agentapi.Kind) bool {
	e, ok := errors.AsType[*agentapi.Error](err)
	return ok && e.Kind == kind
}
