package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"regexp"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Options configure a Service.
type Options struct {
	Host       *host.Host
	Operations *operation.Registry // where builds and commands run
	StateDir   string              // the agent's state directory; "" means /var/lib/reeve-agent
}

// Service puts apps and volumes on this host. Its methods may be called from any goroutine.
type Service struct {
	host *host.Host
	log  *slog.Logger
	dir  string // our part of the state directory
	now  func() time.Time

	appsMu   sync.Mutex // one change to apps at a time
	volumeMu sync.Mutex // one change to volumes at a time

	ops     *operation.Registry
	pauses  pauses
	address func() string // under which units are asked whether they serve
	locks   unitLocks
	watch   watch
}

// New builds a Service.
func New(o Options) *Service {
	if o.StateDir == "" {
		o.StateDir = "/var/lib/reeve-agent"
	}
	return &Service{
		host: o.Host, log: o.Host.Log().With("handler", "deploy"), dir: path.Join(o.StateDir, "deploy"), now: time.Now,
		ops: o.Operations, pauses: defaultPauses, address: ownAddress, watch: watch{failed: map[string]*failing{}},
	}
}

// Namespaces implements handlers.Handler.
func (s *Service) Namespaces() []string { return []string{"deploy"} }

// Methods implements handlers.Handler.
func (s *Service) Methods() map[string]handlers.Method {
	return map[string]handlers.Method{
		"mount_volume":    handlers.Func("mount_volume", s.MountVolume),
		"grow_volume":     handlers.Func("grow_volume", s.GrowVolume),
		"unmount_volume":  handlers.Func("unmount_volume", s.UnmountVolume),
		"create_app":      handlers.Func("create_app", s.CreateApp),
		"app_paths":       handlers.Reader("app_paths", s.AppPaths),
		"set_login":       handlers.Func("set_login", s.SetLogin),
		"put_release":     handlers.Func("put_release", s.PutRelease),
		"switch_release":  handlers.Func("switch_release", s.SwitchRelease),
		"delete_app":      handlers.Func("delete_app", s.DeleteApp),
		"list_apps":       handlers.Reader("list_apps", s.ListApps),
		"enable_service":  handlers.Func("enable_service", s.EnableService),
		"disable_service": handlers.Func("disable_service", s.DisableService),
		"prepare_router":  handlers.Func("prepare_router", s.PrepareRouter),
		"leave":           handlers.Func("leave", s.Leave),
		"build_release":   handlers.Func("build_release", s.BuildRelease),
		"fetch_release":   handlers.Func("fetch_release", s.FetchRelease),
		"start_unit":      handlers.Func("start_unit", s.StartUnit),
		"stop_unit":       handlers.Func("stop_unit", s.StopUnit),
		"drain_router":    handlers.Reader("drain_router", s.DrainRouter),
		"list_units":      handlers.Reader("list_units", s.ListUnits),
		"unit_log":        handlers.Reader("unit_log", s.UnitLog),
		"run_command":     handlers.Func("run_command", s.RunCommand),
		"start_script":    handlers.Func("start_script", s.StartScript),
		"stop_script":     handlers.Func("stop_script", s.StopScript),
		"list_scripts":    handlers.Reader("list_scripts", s.ListScripts),
		"script_log":      handlers.Reader("script_log", s.ScriptLog),
	}
}

var (
	_ handlers.Handler = (*Service)(nil)
	_ handlers.Starter = (*Service)(nil)
)

func invalid(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "ValueError", format, args...)
}

func conflict(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindConflict, "ValueError", format, args...)
}

func notFound(format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindNotFound, "ValueError", format, args...)
}

// rollback ends a change that was not committed, and reports what could not be taken back next to why it failed.
func rollback(c *host.Change, err *error) { *err = errors.Join(*err, c.Rollback()) }

var (
	appName  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)
	safePath = regexp.MustCompile(`^(/[A-Za-z0-9._+@:-]+)+$`)
)

// checkPath wants an absolute path in its shortest form, of characters that need quoting nowhere.
func checkPath(what, p string) error {
	if !safePath.MatchString(p) || path.Clean(p) != p {
		return invalid("%s has to be an absolute path of letters, digits and . _ + @ : -, not %.200q", what, p)
	}
	return nil
}

// app is what the agent remembers of one app: enough to find and remove everything that belongs to it.
type app struct {
	App      string                     `json:"app"`
	Platform string                     `json:"platform"`
	Base     string                     `json:"base"`
	Env      map[string]agentapi.Secret `json:"env,omitempty"`
}

func (a app) home() string              { return path.Join(a.Base, a.App) }
func (a app) current() string           { return path.Join(a.home(), "current") }
func (a app) releases() string          { return path.Join(a.home(), "releases") }
func (a app) shared() string            { return path.Join(a.home(), "shared") }
func (a app) logs() string              { return path.Join(a.home(), "logs") }
func (s *Service) appsDir() string      { return path.Join(s.dir, "apps") }
func (s *Service) file(a string) string { return path.Join(s.appsDir(), a+".json") }

// envInclude is below a directory that only root enters; httpd reads it as root, before it gives up its rights.
func (s *Service) envInclude(a string) string { return path.Join(s.dir, "env", a+".conf") }

// load reads what is known of an app; a missing one is not_found.
func (s *Service) load(name string) (app, error) {
	if !appName.MatchString(name) {
		return app{}, invalid("an app name is 1 to 40 of a-z, 0-9 and -, not %.80q", name)
	}
	data, err := s.host.ReadFile(s.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return app{}, notFound("there is no app %q on this host; create_app makes it", name)
	}
	var a app
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	return a, err
}

func (s *Service) paths(a app) (agentapi.AppPaths, error) {
	n, err := s.currentRelease(a)
	return agentapi.AppPaths{
		Home: a.home(), DocumentRoot: path.Join(a.current(), "htdocs"), EnvInclude: s.envInclude(a.App), LogDir: a.logs(),
		User: unixUser(a.App), Release: n, SFTP: s.host.Exists(sshdPath),
	}, err
}

// AppPaths tells where an app lies.
func (s *Service) AppPaths(_ context.Context, p agentapi.AppParams) (agentapi.AppPaths, error) {
	a, err := s.load(p.App)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	return s.paths(a)
}

// ListApps lists the apps of this host by name.
func (s *Service) ListApps(_ context.Context, _ handlers.NoParams) ([]agentapi.AppInfo, error) {
	entries, err := s.host.ReadDir(s.appsDir())
	if err != nil {
		return nil, err
	}
	apps := []agentapi.AppInfo{}
	for _, e := range entries {
		name, isApp := cutSuffix(e.Name(), ".json")
		if !isApp {
			continue
		}
		a, err := s.load(name)
		if err != nil {
			return nil, err
		}
		info := agentapi.AppInfo{App: a.App, Platform: a.Platform}
		if info.Releases, err = s.stored(a); err != nil {
			return nil, err
		}
		if info.Release, err = s.currentRelease(a); err != nil && !errors.Is(err, fs.ErrNotExist) { // half created: 0
			return nil, err
		}
		apps = append(apps, info)
	}
	return apps, nil
}

func cutSuffix(name, suffix string) (string, bool) {
	base := name[:max(0, len(name)-len(suffix))]
	return base, base+suffix == name && appName.MatchString(base)
}
