package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
)

var (
	unitID      = regexp.MustCompile(`^[a-f0-9]{12,40}$`)
	processName = regexp.MustCompile(`^[A-Za-z0-9_]{1,32}$`)
)

const (
	minPort      = 1024
	maxProcesses = 20
	stopTimeout  = 10 * time.Second
	webProcess   = "web"
)

// unitRecord is what the agent remembers of a unit, from before anything else of it exists until nothing does.
type unitRecord struct {
	agentapi.StartUnitParams                    // without the environment, which is in a file of its own
	State                    agentapi.UnitState `json:"state"` // starting until it served, then started; stopped
	At                       time.Time          `json:"at"`    // of the state, UTC
}

func (s *Service) unitsDir() string { return path.Join(s.dir, "units") }

func (s *Service) unitFile(app, unit string) string {
	return path.Join(s.unitsDir(), app+"."+unit+".json")
}

func (s *Service) unitEnvFile(app, unit string) string {
	return path.Join(s.unitsDir(), app+"."+unit+".env")
}

// units reads the records of an app's units, or of all, by app and unit.
func (s *Service) units(app string) ([]unitRecord, error) {
	entries, err := s.host.ReadDir(s.unitsDir())
	if err != nil {
		return nil, err
	}
	var list []unitRecord
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") || app != "" && !strings.HasPrefix(e.Name(), app+".") {
			continue
		}
		r, err := s.readUnit(path.Join(s.unitsDir(), e.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist): // stopped a moment ago
		case err != nil:
			return nil, err
		default:
			list = append(list, *r)
		}
	}
	return list, nil
}

func (s *Service) readUnit(file string) (*unitRecord, error) {
	data, err := s.host.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &unitRecord{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return r, nil
}

func (s *Service) saveUnit(r unitRecord) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := s.host.MkdirAll(s.unitsDir(), 0o700); err != nil {
		return err
	}
	return s.host.WriteFile(s.unitFile(r.App, r.Unit), append(data, '\n'), 0o600)
}

func (s *Service) setState(r *unitRecord, state agentapi.UnitState) error {
	r.State, r.At = state, s.now().UTC().Truncate(time.Microsecond)
	return s.saveUnit(*r)
}

func checkUnit(p agentapi.StartUnitParams) error {
	var errs []error
	if !unitID.MatchString(p.Unit) {
		errs = append(errs, invalid("a unit is 12 to 40 of a-f and 0-9, not %.80q", p.Unit))
	}
	if p.Port < minPort || p.Port > 65535 {
		errs = append(errs, invalid("a unit's port is %d to 65535, not %d", minPort, p.Port))
	}
	if len(p.Processes) < 1 || len(p.Processes) > maxProcesses {
		errs = append(errs, invalid("a unit has 1 to %d processes, not %d", maxProcesses, len(p.Processes)))
	}
	if p.MemoryMB < 0 || p.SwapMB < 0 || p.CPUPercent < 0 {
		errs = append(errs, invalid("a limit is not below 0"))
	}
	if t := time.Duration(p.TimeoutSeconds) * time.Second; t < 0 || t > maxStartTimeout {
		errs = append(errs, invalid("timeout_seconds is 1 to %d, not %d", int(maxStartTimeout.Seconds()), p.TimeoutSeconds))
	}
	seen := map[string]bool{}
	for _, process := range p.Processes {
		if !processName.MatchString(process.Name) || seen[process.Name] {
			errs = append(errs, invalid("a process has a name of its own of 1 to 32 letters, digits and _, not %.80q", process.Name))
		}
		seen[process.Name] = true
		if _, err := execLine(process.Command); err != nil {
			errs = append(errs, err)
		}
	}
	for _, hook := range slices.Concat(p.RestartBefore, p.RestartAfter) {
		errs = append(errs, checkHook(hook))
	}
	_, err := newChecker(loopback, p.Port, p.HealthCheck, time.Second)
	return errors.Join(append(errs, err, checkUnitEnv(p.Env))...)
}

// errStartTimeout is why a start ends that took too long.
var errStartTimeout = errors.New("timed out")

// StartUnit runs a release as a unit and returns when it serves.
func (s *Service) StartUnit(ctx context.Context, p agentapi.StartUnitParams) (agentapi.Unit, error) {
	if err := checkUnit(p); err != nil {
		return agentapi.Unit{}, err
	}
	ctx, unlock, err := s.lockStart(ctx, p.App, p.Unit)
	if err != nil {
		return agentapi.Unit{}, err
	}
	defer unlock()
	timeout := time.Duration(p.TimeoutSeconds) * time.Second
	if timeout == 0 {
		timeout = startTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errStartTimeout)
	defer cancel()
	a, r, fresh, err := s.claimUnit(ctx, p)
	if err != nil {
		return agentapi.Unit{}, err
	}
	began := s.now()
	if err := s.startUnit(ctx, a, r, p); err != nil {
		err = s.explainStart(ctx, err, r, began)
		if !fresh && r.State == agentapi.UnitStarted { // it served before this call
			return agentapi.Unit{}, err
		}
		return agentapi.Unit{}, errors.Join(err, s.clearUnit(context.WithoutCancel(ctx), *r, time.Second))
	}
	s.log.Info("unit serves", "app", p.App, "unit", p.Unit, "release", p.Release, "port", p.Port)
	return s.unitNow(ctx, *r)
}

// explainStart adds what the unit printed to why it did not start.
func (s *Service) explainStart(ctx context.Context, err error, r *unitRecord, since time.Time) error {
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errStartTimeout) {
		return context.Cause(ctx)
	}
	e, ok := errors.AsType[*agentapi.Error](err)
	if !ok || e.Class != "UnitError" && e.Class != "InitdError" {
		return err
	}
	text := e.Text
	if lines := s.lastLines(ctx, r.App, r.Unit, since.Add(-time.Second)); lines != "" {
		text += "; it printed last:\n" + lines
	}
	return &agentapi.Error{Kind: agentapi.KindInvalid, Class: "UnitError", Text: text, Err: err}
}

// claimUnit makes the record of a unit, or finds the one that is there. fresh says that nothing of it may serve yet.
func (s *Service) claimUnit(ctx context.Context, p agentapi.StartUnitParams) (a app, r *unitRecord, fresh bool, err error) {
	s.appsMu.Lock() // no release is dropped, and no port given away, in between
	defer s.appsMu.Unlock()
	if a, err = s.load(p.App); err != nil {
		return a, nil, false, err
	}
	if err := s.wantRelease(a, p.Release); err != nil {
		return a, nil, false, err
	}
	all, err := s.units("")
	if err != nil {
		return a, nil, false, err
	}
	record := p
	record.Env, record.TimeoutSeconds = nil, 0
	for _, other := range all {
		switch {
		case other.App == p.App && other.Unit == p.Unit:
			same := reflect.DeepEqual(normal(other.StartUnitParams), normal(record)) && s.sameEnv(a, p)
			if !same && other.State != agentapi.UnitStopped {
				return a, nil, false, conflict("unit %s of app %q exists with other parameters; stop_unit removes it", p.Unit, p.App)
			}
			r = &other
		case other.Port == p.Port:
			return a, nil, false, conflict("port %d belongs to unit %s of app %q", p.Port, other.Unit, other.App)
		}
	}
	if r == nil || r.State == agentapi.UnitStopped {
		if listens(ctx, loopback, p.Port) {
			return a, nil, false, conflict("something else listens on port %d", p.Port)
		}
		r = &unitRecord{StartUnitParams: record}
		return a, r, true, s.setState(r, agentapi.UnitStarting)
	}
	return a, r, r.State == agentapi.UnitStarting, nil
}

// normal makes parameters that mean the same equal.
func normal(p agentapi.StartUnitParams) agentapi.StartUnitParams {
	if len(p.RestartBefore) == 0 {
		p.RestartBefore = nil
	}
	if len(p.RestartAfter) == 0 {
		p.RestartAfter = nil
	}
	return p
}

func (s *Service) sameEnv(a app, p agentapi.StartUnitParams) bool {
	have, err := s.host.ReadFile(s.unitEnvFile(p.App, p.Unit))
	return errors.Is(err, fs.ErrNotExist) || err == nil && string(have) == string(renderEnvFile(processEnv(a, p.Env, p.Port)))
}

func (s *Service) wantRelease(a app, n int) error {
	numbers, err := s.stored(a)
	if err == nil && !slices.Contains(numbers, n) {
		err = notFound("app %q has no release %d on this host; it has %v", a.App, n, numbers)
	}
	return err
}

// startUnit brings a unit that has a record to where it serves. It may be repeated from any state a killed agent left.
func (s *Service) startUnit(ctx context.Context, a app, r *unitRecord, p agentapi.StartUnitParams) error {
	hasWeb := slices.ContainsFunc(p.Processes, func(x agentapi.Process) bool { return x.Name == webProcess })
	k, err := newChecker(s.address(), p.Port, p.HealthCheck, s.pauses.answer)
	if err != nil {
		return err
	}
	if r.State == agentapi.UnitStarted {
		for _, process := range p.Processes { // one that systemd gave up, or that was stopped by hand
			if err := s.host.Units().Start(ctx, unitService(p.App, p.Unit, process.Name)); err != nil {
				return err
			}
		}
		if hasWeb {
			return s.awaitPort(ctx, p, k)
		}
		return nil
	}
	if err := s.writeUnit(ctx, a, p); err != nil {
		return err
	}
	if err := s.hooks(ctx, a, p, "restart.before", p.RestartBefore); err != nil {
		return err
	}
	for _, process := range p.Processes {
		if err := s.host.Units().Start(ctx, unitService(p.App, p.Unit, process.Name)); err != nil {
			return err
		}
	}
	if err := s.awaitHealthy(ctx, p, k, hasWeb); err != nil {
		return err
	}
	if err := s.hooks(ctx, a, p, "restart.after", p.RestartAfter); err != nil {
		return err
	}
	for _, process := range p.Processes {
		if err := s.host.Units().Enable(ctx, unitService(p.App, p.Unit, process.Name)); err != nil {
			return err
		}
	}
	return s.setState(r, agentapi.UnitStarted)
}

// awaitPort waits until a unit that served before serves again: its processes may have ended in the meantime.
func (s *Service) awaitPort(ctx context.Context, p agentapi.StartUnitParams, k checker) error {
	for pause := s.pauses.first; ; pause = min(2*pause, s.pauses.most) {
		err := k.try(ctx)
		if err == nil {
			return nil
		}
		if answer, wrong := errors.AsType[errAnswer](err); wrong {
			return unitError("the health check failed: %s", answer)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return s.tooLate(ctx, p, k, err)
		case <-timer.C:
		}
	}
}

// writeUnit puts the files of a unit in place. Systemd reads units it does not know yet when they are started; of those it
// knows it has to be told.
func (s *Service) writeUnit(ctx context.Context, a app, p agentapi.StartUnitParams) error {
	envFile := s.unitEnvFile(p.App, p.Unit)
	if err := s.host.WriteFile(envFile, renderEnvFile(processEnv(a, p.Env, p.Port)), 0o600); err != nil {
		return err
	}
	files := map[string][]byte{unitSlice(p.App, p.Unit): renderSlice(p)}
	for _, process := range p.Processes {
		text, err := renderService(a, p, process, envFile)
		if err != nil {
			return err
		}
		files[unitService(p.App, p.Unit, process.Name)] = text
	}
	if err := s.host.MkdirAll(unitDir, 0o755); err != nil {
		return err
	}
	changed := false
	for _, name := range slices.Sorted(maps.Keys(files)) {
		file := path.Join(unitDir, name)
		old, err := s.host.ReadFile(file)
		if err == nil && string(old) == string(files[name]) {
			continue
		}
		changed = changed || err == nil
		if err := s.host.WriteFile(file, files[name], 0o644); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	return s.host.Units().DaemonReload(ctx)
}

// hooks runs commands of a source around the start of a unit, one after the other.
func (s *Service) hooks(ctx context.Context, a app, p agentapi.StartUnitParams, what string, commands []string) error {
	for _, command := range commands {
		printed := &lastOutput{}
		code, err := s.runAs(ctx, task{
			app: a, dir: a.release(p.Release), env: processEnv(a, p.Env, p.Port), argv: shellOf(command),
			slice: unitSlice(p.App, p.Unit), timeout: startTimeout, line: printed.print,
		})
		if err != nil {
			return err
		}
		if code != 0 {
			return unitError("hook %s: %.200s: exit code %d\n%s", what, command, code, printed)
		}
	}
	return nil
}

// StopUnit ends a unit's processes and, unless it is to be kept, removes it. One that is just being started is given up.
func (s *Service) StopUnit(ctx context.Context, p agentapi.StopUnitParams) (handlers.Null, error) {
	timeout := time.Duration(p.TimeoutSeconds) * time.Second
	if timeout == 0 {
		timeout = stopTimeout
	}
	switch {
	case !unitID.MatchString(p.Unit):
		return handlers.Null{}, invalid("a unit is 12 to 40 of a-f and 0-9, not %.80q", p.Unit)
	case !appName.MatchString(p.App):
		return handlers.Null{}, invalid("an app name is 1 to 40 of a-z, 0-9 and -, not %.80q", p.App)
	case timeout < 0 || timeout > stopLimit*time.Second:
		return handlers.Null{}, invalid("timeout_seconds is 1 to %d, not %d", stopLimit, p.TimeoutSeconds)
	case p.DrainSeconds < 0 || time.Duration(p.DrainSeconds)*time.Second > maxDrain:
		return handlers.Null{}, invalid("drain_seconds is 0 to %d, not %d", int(maxDrain.Seconds()), p.DrainSeconds)
	}
	unlock, err := s.lockStop(ctx, p.App, p.Unit)
	if err != nil {
		return handlers.Null{}, err
	}
	defer unlock()
	r, err := s.readUnit(s.unitFile(p.App, p.Unit))
	if errors.Is(err, fs.ErrNotExist) {
		return handlers.Null{}, nil
	}
	if err != nil {
		return handlers.Null{}, err
	}
	if p.DrainSeconds > 0 && r.State != agentapi.UnitStopped {
		if err := s.drain(ctx, r.Port, time.Duration(p.DrainSeconds)*time.Second); err != nil {
			return handlers.Null{}, err
		}
	}
	if !p.Keep {
		return handlers.Null{}, s.clearUnit(ctx, *r, timeout)
	}
	if err := s.setState(r, agentapi.UnitStopped); err != nil { // first: the agent must not start it again
		return handlers.Null{}, err
	}
	return handlers.Null{}, s.haltUnit(ctx, *r, timeout)
}

// clearUnit ends a unit and removes everything that is there of it. It may be repeated.
func (s *Service) clearUnit(ctx context.Context, r unitRecord, timeout time.Duration) error {
	if err := s.haltUnit(ctx, r, timeout); err != nil {
		return err
	}
	var errs []error
	for _, process := range r.Processes {
		errs = append(errs, s.host.Remove(path.Join(unitDir, unitService(r.App, r.Unit, process.Name))))
	}
	errs = append(errs, s.host.Remove(path.Join(unitDir, unitSlice(r.App, r.Unit))), s.host.Remove(s.unitEnvFile(r.App, r.Unit)))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.log.Info("unit is gone", "app", r.App, "unit", r.Unit)
	return s.host.Remove(s.unitFile(r.App, r.Unit)) // last: until then a repetition knows what to remove
}

// haltUnit ends a unit's processes, which do not come back, at boot neither.
func (s *Service) haltUnit(ctx context.Context, r unitRecord, timeout time.Duration) error {
	units := s.host.UnitControl()
	slice := unitSlice(r.App, r.Unit)
	var services []string
	for _, process := range r.Processes {
		service := unitService(r.App, r.Unit, process.Name)
		if s.host.Exists(path.Join(unitDir, service)) {
			services = append(services, service)
		}
	}
	for _, service := range services {
		if err := units.Disable(ctx, service); err != nil {
			return err
		}
	}
	killed := time.AfterFunc(timeout, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		for _, service := range services {
			if err := units.Kill(ctx, service, syscall.SIGKILL); err != nil {
				s.log.Warn("kill a unit's process", "unit", service, "err", err)
			}
		}
	})
	defer killed.Stop()
	// What is in a slice is stopped with it, side by side; what is left then is waiting to be started again.
	for _, unit := range append([]string{slice}, services...) {
		d, err := units.Detail(ctx, unit)
		if err != nil {
			return err
		}
		if d.Active != "inactive" && d.Active != "failed" {
			if err := units.Stop(ctx, unit); err != nil && !isKind(err, agentapi.KindNotFound) {
				return err
			}
			if d, err = units.Detail(ctx, unit); err != nil {
				return err
			}
		}
		if d.Active == "failed" {
			if err := units.ResetFailed(ctx, unit); err != nil && !isKind(err, agentapi.KindNotFound) {
				return err
			}
		}
	}
	return nil
}

// ListUnits lists units by app and name.
func (s *Service) ListUnits(ctx context.Context, p agentapi.ListUnitsParams) ([]agentapi.Unit, error) {
	if p.App != "" && !appName.MatchString(p.App) {
		return nil, invalid("an app name is 1 to 40 of a-z, 0-9 and -, not %.80q", p.App)
	}
	records, err := s.units(p.App)
	if err != nil {
		return nil, err
	}
	list := []agentapi.Unit{}
	for _, r := range records {
		u, err := s.unitNow(ctx, r)
		if err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, nil
}

// unitNow is a unit as it is now.
func (s *Service) unitNow(ctx context.Context, r unitRecord) (agentapi.Unit, error) {
	u := agentapi.Unit{App: r.App, Unit: r.Unit, Release: r.Release, Port: r.Port, State: r.State, Since: r.At}
	if r.State == agentapi.UnitStopped {
		return u, nil
	}
	if d, err := s.host.UnitControl().Detail(ctx, unitSlice(r.App, r.Unit)); err == nil {
		u.MemoryBytes = d.MemoryBytes
	}
	up := true
	for _, process := range r.Processes {
		d, err := s.host.UnitControl().Detail(ctx, unitService(r.App, r.Unit, process.Name))
		if err != nil {
			return u, err
		}
		u.Restarts += d.Restarts
		up = up && (d.Running() || d.Active == "activating" && d.Sub != "auto-restart")
		if d.Since.After(u.Since) {
			u.Since = d.Since
		}
	}
	u.Restarts += s.restarted(r)
	switch {
	case r.State == agentapi.UnitStarting:
	case !up:
		u.State = agentapi.UnitError
	case !listens(ctx, s.address(), r.Port):
		u.State = agentapi.UnitUnreachable
	}
	return u, nil
}

// clearUnits removes every unit of an app.
func (s *Service) clearUnits(ctx context.Context, app string) error {
	records, err := s.units(app)
	if err != nil {
		return err
	}
	for _, r := range records {
		if _, err := s.StopUnit(ctx, agentapi.StopUnitParams{App: r.App, Unit: r.Unit, TimeoutSeconds: 5}); err != nil {
			return err
		}
	}
	return nil
}

// usedReleases are the releases of an app that its units run.
func (s *Service) usedReleases(app string) (map[int]bool, error) {
	records, err := s.units(app)
	used := map[int]bool{}
	for _, r := range records {
		used[r.Release] = true
	}
	return used, err
}
