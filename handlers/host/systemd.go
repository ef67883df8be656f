package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/systemd"
)

// SystemdUnits is Units on this host's systemd. Its errors are *agentapi.Error of class InitdError; the text of a job that
// failed ends with the last lines the unit wrote to the journal meanwhile.
type SystemdUnits struct {
	manager *systemd.Manager
	journal Runner
}

var _ UnitControl = (*SystemdUnits)(nil)

// SystemUnits connects to systemd when it is first used. Close ends the connection.
func SystemUnits() *SystemdUnits {
	return &SystemdUnits{manager: systemd.New(), journal: execRunner{}}
}

// Close ends the connection to systemd.
func (u *SystemdUnits) Close() error { return u.manager.Close() }

// Start implements Units.
func (u *SystemdUnits) Start(ctx context.Context, unit string) error {
	return u.explain(ctx, unit, time.Now(), u.manager.Start(ctx, unit))
}

// Stop implements Units.
func (u *SystemdUnits) Stop(ctx context.Context, unit string) error {
	return u.explain(ctx, unit, time.Now(), u.manager.Stop(ctx, unit))
}

// Restart implements Units.
func (u *SystemdUnits) Restart(ctx context.Context, unit string) error {
	return u.explain(ctx, unit, time.Now(), u.manager.Restart(ctx, unit))
}

// Reload implements Units.
func (u *SystemdUnits) Reload(ctx context.Context, unit string) error {
	return u.explain(ctx, unit, time.Now(), u.manager.Reload(ctx, unit))
}

// Enable implements Units.
func (u *SystemdUnits) Enable(ctx context.Context, unit string) error {
	return u.explain(ctx, unit, time.Now(), u.manager.Enable(ctx, unit))
}

// Disable implements Units.
func (u *SystemdUnits) Disable(ctx context.Context, unit string) error {
	return u.explain(ctx, unit, time.Now(), u.manager.Disable(ctx, unit))
}

// State implements Units.
func (u *SystemdUnits) State(ctx context.Context, unit string) (UnitState, error) {
	s, err := u.manager.State(ctx, unit)
	if err != nil {
		return UnitState{}, u.explain(ctx, unit, time.Now(), err)
	}
	return UnitState{Load: s.Load, Active: s.Active, Sub: s.Sub, MainPID: s.MainPID}, nil
}

// States are the states of several units in one request, for metrics. MainPID is not filled in.
func (u *SystemdUnits) States(ctx context.Context, units ...string) (map[string]UnitState, error) {
	list, err := u.manager.States(ctx, units...)
	if err != nil {
		return nil, err
	}
	states := make(map[string]UnitState, len(list))
	for _, s := range list {
		states[s.Unit] = UnitState{Load: s.Load, Active: s.Active, Sub: s.Sub}
	}
	return states, nil
}

// DaemonReload implements Units.
func (u *SystemdUnits) DaemonReload(ctx context.Context) error {
	return u.explain(ctx, "", time.Now(), u.manager.DaemonReload(ctx))
}

// Kill implements UnitControl.
func (u *SystemdUnits) Kill(ctx context.Context, unit string, signal syscall.Signal) error {
	return u.explain(ctx, unit, time.Now(), u.manager.Kill(ctx, unit, signal))
}

// ResetFailed implements UnitControl.
func (u *SystemdUnits) ResetFailed(ctx context.Context, unit string) error {
	return u.explain(ctx, unit, time.Now(), u.manager.ResetFailed(ctx, unit))
}

// Detail implements UnitControl.
func (u *SystemdUnits) Detail(ctx context.Context, unit string) (UnitDetail, error) {
	d, err := u.manager.Detail(ctx, unit)
	if err != nil {
		return UnitDetail{}, u.explain(ctx, unit, time.Now(), err)
	}
	return UnitDetail{
		UnitState: UnitState{Load: d.Load, Active: d.Active, Sub: d.Sub, MainPID: d.MainPID},
		Since:     d.Since, Restarts: d.Restarts, Result: d.Result, ExitStatus: d.ExitStatus, MemoryBytes: d.MemoryBytes,
	}, nil
}

func (u *SystemdUnits) explain(ctx context.Context, unit string, since time.Time, err error) error {
	if err == nil {
		return nil
	}
	e := &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "InitdError", Text: err.Error(), Err: err}
	if _, ok := errors.AsType[*systemd.NotFoundError](err); ok {
		e.Kind = agentapi.KindNotFound
	}
	if _, ok := errors.AsType[*systemd.JobError](err); ok {
		e.Kind = agentapi.KindInternal
		if lines := u.lastLines(ctx, unit, since); lines != "" {
			e.Text += ": " + lines
		}
	}
	return e
}

const (
	journalRead     = 30 // records, of which systemd's own are left out
	journalLines    = 5
	journalLineSize = 300
)

// lastLines is what a unit logged since a moment, at most journalLines lines joined by " | ". Without a journal it is
// empty: the job's result is said either way.
func (u *SystemdUnits) lastLines(ctx context.Context, unit string, since time.Time) string {
	out, err := run(ctx, u.journal, Cmd{Path: "journalctl", Timeout: 5 * time.Second, Args: []string{
		"--output=json", "--quiet", "--no-pager", "--unit=" + unit, fmt.Sprintf("--since=@%d", since.Unix()), fmt.Sprintf("--lines=%d", journalRead),
	}})
	if err != nil {
		return ""
	}
	var lines []string
	for record := range strings.Lines(string(out.Stdout)) {
		if line := journalMessage([]byte(record)); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-journalLines):], " | ")
}

// journalMessage is the message of one record of the unit's own processes, "" for systemd's: it only repeats the result.
// The journal shows one that is not plain text as an array of bytes.
func journalMessage(record []byte) string {
	var r struct {
		Message json.RawMessage `json:"MESSAGE"`
		PID     string          `json:"_PID"`
	}
	if json.Unmarshal(record, &r) != nil || r.PID == "1" {
		return ""
	}
	var text string
	var codes []int
	if json.Unmarshal(r.Message, &text) != nil {
		if json.Unmarshal(r.Message, &codes) != nil {
			return ""
		}
		raw := make([]byte, len(codes))
		for i, c := range codes {
			raw[i] = byte(c)
		}
		text = string(raw)
	}
	text = strings.ToValidUTF8(strings.TrimSpace(text), "?")
	if len(text) > journalLineSize {
		text = strings.ToValidUTF8(text[:journalLineSize], "") + "…"
	}
	return text
}

// OwnUnit is the service that this process runs in, "" when it was not started as one.
func (h *Host) OwnUnit() string {
	data, err := h.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		_, group, ok := strings.Cut(strings.TrimSpace(line), ":")
		if controllers, dir, _ := strings.Cut(group, ":"); ok && (controllers == "" || controllers == "name=systemd") {
			if name := path.Base(dir); strings.HasSuffix(name, ".service") {
				return name
			}
		}
	}
	return ""
}
