package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

var (
	scriptName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}\.sh$`)
	scriptFile = regexp.MustCompile(`^/var/cache(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}){1,4}$`)
)

const (
	maxArguments  = 8 << 10 // bytes, all together
	maxScriptFile = 256 << 10
	scriptLines   = 1000
)

// scriptsDir has a directory per app, with a note for each of its scripts that was started. What a script is shown lies
// beside its note.
func (s *Service) scriptsDir(app string) string { return path.Join(s.dir, "scripts", app) }

func scriptUnit(app, script string) string {
	return "reeve-script-" + app + "-" + strings.TrimSuffix(script, ".sh") + ".service"
}

func checkScript(p agentapi.StartScriptParams) error {
	if !scriptName.MatchString(p.Script) {
		return invalid("a script is called like run.sh, not %.80q", p.Script)
	}
	total := 0
	for _, a := range p.Arguments {
		total += len(a)
		if err := checkHook("x" + a); err != nil {
			return err
		}
	}
	for name, text := range p.Files {
		if !scriptFile.MatchString(name) || len(text) > maxScriptFile {
			return invalid("a file for a script lies below /var/cache and has at most %d bytes", maxScriptFile)
		}
	}
	if total > maxArguments {
		return invalid("the arguments are longer than %d bytes", maxArguments)
	}
	return checkUnitEnv(p.Env)
}

// StartScript runs a script of a release, unless it runs.
func (s *Service) StartScript(ctx context.Context, p agentapi.StartScriptParams) (handlers.Null, error) {
	if err := checkScript(p); err != nil {
		return handlers.Null{}, err
	}
	_, unlock, err := s.locks.take(ctx, p.App+"/"+p.Script, false)
	if err != nil {
		return handlers.Null{}, err
	}
	defer unlock()
	a, err := s.load(p.App)
	if err != nil {
		return handlers.Null{}, err
	}
	if err := s.wantRelease(a, p.Release); err != nil {
		return handlers.Null{}, err
	}
	root, err := s.host.OpenRoot(a.release(p.Release))
	if err != nil {
		return handlers.Null{}, err
	}
	st, err := root.Stat(p.Script)
	root.Close()
	if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && !st.Mode().IsRegular() {
		return handlers.Null{}, invalid("%s of release %d is no file", p.Script, p.Release)
	}
	if err != nil {
		return handlers.Null{}, notFound("release %d has no %s", p.Release, p.Script)
	}
	note := path.Join(s.scriptsDir(a.App), p.Script)
	last, err := s.host.ReadFile(note)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return handlers.Null{}, err
	}
	unit := scriptUnit(a.App, p.Script)
	detail, err := s.host.UnitControl().Detail(ctx, unit)
	if err != nil {
		return handlers.Null{}, err
	}
	state := scriptState(detail)
	switch {
	case p.Once != "" && (string(last) == scriptBegun+p.Once || string(last) == scriptToBegin+p.Once && state != agentapi.AppScriptLost):
		return handlers.Null{}, nil
	case state == agentapi.AppScriptRunning:
		return handlers.Null{}, conflict("%s of app %q runs", p.Script, a.App)
	}
	if err := s.endScript(ctx, unit); err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, s.runScript(ctx, a, p, unit, note)
}

// What a note says before its Once: a start that was cut short is told from the unit, which was ended before.
const (
	scriptToBegin = "starting "
	scriptBegun   = "started "
)

// runScript starts the unit of a script.
func (s *Service) runScript(ctx context.Context, a app, p agentapi.StartScriptParams, unit, note string) (err error) {
	shown := note + ".d"
	if err := errors.Join(s.host.RemoveAll(shown), s.host.MkdirAll(shown, 0o700)); err != nil {
		return err
	}
	var binds []string
	for i, name := range slices.Sorted(maps.Keys(p.Files)) {
		from := path.Join(shown, strconv.Itoa(i))
		if err := s.host.WriteFile(from, []byte(p.Files[name]), 0o644); err != nil {
			return err
		}
		binds = append(binds, "BindReadOnlyPaths="+from+":"+name)
	}
	envFile := path.Join(shown, "env")
	if err := s.host.WriteFile(envFile, renderEnvFile(processEnv(a, p.Env, 0)), 0o600); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.host.Remove(envFile)) }() // systemd has read it
	args := []string{"--quiet", "--service-type=exec", "--remain-after-exit", "--unit=" + unit, "--slice=reeve.slice",
		"--description=" + p.Script + " of app " + a.App}
	properties := append(sandbox(a, a.release(p.Release), false, binds...), "EnvironmentFile="+envFile, "TimeoutStopSec=10",
		"SyslogIdentifier="+a.App+"."+p.Script)
	for _, p := range append(properties, limitLines(0, 0, 0)...) {
		args = append(args, "--property="+p)
	}
	args = append(args, "--", "/bin/bash", p.Script)
	for _, arg := range p.Arguments {
		args = append(args, strings.ReplaceAll(arg, "$", "$$"))
	}
	if err := s.host.WriteFile(note, []byte(scriptToBegin+p.Once), 0o600); err != nil {
		return err
	}
	if _, err := s.host.Run(ctx, host.Cmd{Path: "systemd-run", Args: args, Timeout: time.Minute}); err != nil {
		return err
	}
	s.log.Info("script is started", "app", a.App, "script", p.Script, "release", p.Release)
	return s.host.WriteFile(note, []byte(scriptBegun+p.Once), 0o600)
}

// endScript ends a script's unit and forgets how it ended.
func (s *Service) endScript(ctx context.Context, unit string) error {
	d, err := s.host.UnitControl().Detail(ctx, unit)
	if err != nil || scriptState(d) == agentapi.AppScriptLost {
		return err
	}
	err = s.host.Units().Stop(ctx, unit)
	if rerr := s.host.UnitControl().ResetFailed(ctx, unit); rerr != nil && !isKind(rerr, agentapi.KindNotFound) {
		err = errors.Join(err, rerr)
	}
	if err != nil && !isKind(err, agentapi.KindNotFound) { // systemd forgets it as soon as it has ended
		return err
	}
	return nil
}

// StopScript ends a script.
func (s *Service) StopScript(ctx context.Context, p agentapi.ScriptParams) (handlers.Null, error) {
	if !scriptName.MatchString(p.Script) {
		return handlers.Null{}, invalid("a script is called like run.sh, not %.80q", p.Script)
	}
	a, err := s.load(p.App)
	if err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, s.endScript(ctx, scriptUnit(a.App, p.Script))
}

// scripts names those of an app that were started at some time.
func (s *Service) scripts(app string) ([]string, error) {
	entries, err := s.host.ReadDir(s.scriptsDir(app))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if scriptName.MatchString(e.Name()) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func scriptState(d host.UnitDetail) agentapi.AppScriptState {
	switch {
	case d.Load == "not-found":
		return agentapi.AppScriptLost
	case d.Sub == "exited" || d.Active == "failed":
		return agentapi.AppScriptEnded
	case d.Active == "inactive":
		return agentapi.AppScriptLost
	}
	return agentapi.AppScriptRunning
}

// ListScripts lists the scripts of an app that were started at some time.
func (s *Service) ListScripts(ctx context.Context, p agentapi.AppParams) ([]agentapi.AppScript, error) {
	a, err := s.load(p.App)
	if err != nil {
		return nil, err
	}
	names, err := s.scripts(a.App)
	all := []agentapi.AppScript{}
	for _, name := range names {
		d, err := s.host.UnitControl().Detail(ctx, scriptUnit(a.App, name))
		if err != nil {
			return nil, err
		}
		one := agentapi.AppScript{Script: name, State: scriptState(d)}
		if one.State == agentapi.AppScriptEnded {
			one.ExitCode = d.ExitStatus
		}
		all = append(all, one)
	}
	return all, err
}

// ScriptLog is what an app's scripts printed last.
func (s *Service) ScriptLog(ctx context.Context, p agentapi.AppParams) (agentapi.ScriptLog, error) {
	out := agentapi.ScriptLog{Lines: []string{}}
	a, err := s.load(p.App)
	if err != nil {
		return out, err
	}
	names, err := s.scripts(a.App)
	if err != nil || len(names) == 0 {
		return out, err
	}
	args := []string{"--output-fields=MESSAGE,_PID,_SYSTEMD_UNIT", "--lines=" + strconv.Itoa(scriptLines)}
	units := map[string]string{}
	for _, name := range names {
		unit := scriptUnit(a.App, name)
		units[unit] = name
		args = append(args, "_SYSTEMD_UNIT="+unit)
	}
	records, err := s.journalctl(ctx, args...)
	for _, r := range records {
		us, terr := strconv.ParseInt(r.Time, 10, 64)
		if terr == nil {
			out.Lines = append(out.Lines, fmt.Sprintf("%s %s: %s", time.UnixMicro(us).UTC().Format(time.RFC3339), units[r.Service], r.text()))
		}
	}
	return out, err
}

// clearScripts ends all scripts of an app and forgets them.
func (s *Service) clearScripts(ctx context.Context, app string) error {
	names, err := s.scripts(app)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.endScript(ctx, scriptUnit(app, name)); err != nil {
			return err
		}
	}
	return s.host.RemoveAll(s.scriptsDir(app))
}
