package core_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// memFiles are core.Files in memory.
type memFiles struct {
	mu       sync.Mutex // protects the fields below
	files    map[string][]byte
	accepted map[string]string
}

func newFiles() *memFiles {
	return &memFiles{files: map[string][]byte{}, accepted: map[string]string{}}
}

func (f *memFiles) Put(_ context.Context, r io.Reader) (string, int64, error) {
	data, err := io.ReadAll(r)
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = data
	return name, int64(len(data)), err
}

func (f *memFiles) Open(sum string) (io.ReadSeekCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.files[sum]
	if !ok {
		return nil, core.Errorf(core.NotFound, core.ObjRelease, "no such file")
	}
	return whole{bytes.NewReader(data)}, nil
}

type whole struct{ *bytes.Reader }

func (whole) Close() error { return nil }

func (f *memFiles) Lend(_ core.Node, sum string) (agentapi.Blob, error) {
	_, err := f.Open(sum)
	return agentapi.Blob{URL: "mem:" + sum, SHA256: sum}, err
}

func (f *memFiles) Accept(_ core.Node, name string) (agentapi.Blob, error) {
	return agentapi.Blob{URL: "mem:" + name}, nil
}

func (f *memFiles) Accepted(name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum, ok := f.accepted[name]
	if !ok {
		return "", core.Errorf(core.NotFound, core.ObjRelease, "nothing was written")
	}
	return sum, nil
}

func (f *memFiles) Delete(sum string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, sum)
	return nil
}

func (f *memFiles) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.files)
}

// build turns a source into what a host would: the source with "built " before it.
func (f *memFiles) build(source, target agentapi.Blob) (string, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data := append([]byte("built "), f.files[source.SHA256]...)
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	f.files[name] = data
	f.accepted[target.URL[len("mem:"):]] = name
	return name, int64(len(data))
}

func (a agentOf) BuildRelease(ctx context.Context, p agentapi.BuildReleaseParams, line func(string)) (b agentapi.ReleaseBuild, err error) {
	err = a.do(ctx, "BuildRelease", func(h *host) error {
		if _, ok := h.apps[p.App]; !ok {
			return core.Errorf(core.NotFound, core.ObjApp, "no such app")
		}
		b.SHA256, b.SizeBytes = a.w.files.build(p.Source, p.Target)
		b.Manifest.Processes = []agentapi.Process{{Name: "web", Command: "./web"}}
		return nil
	})
	line("building on " + a.n.Name)
	return b, err
}

func (a agentOf) FetchRelease(ctx context.Context, p agentapi.FetchReleaseParams) error {
	return a.do(ctx, "FetchRelease", func(h *host) error {
		if _, ok := h.apps[p.App]; !ok {
			return core.Errorf(core.NotFound, core.ObjApp, "no such app")
		}
		h.releases[fmt.Sprintf("%s/%d", p.App, p.Release)] = true
		return nil
	})
}

func (a agentOf) SwitchRelease(ctx context.Context, p agentapi.SwitchReleaseParams) error {
	return a.do(ctx, "SwitchRelease", func(h *host) error {
		if p.Release > 0 && !h.releases[fmt.Sprintf("%s/%d", p.App, p.Release)] {
			return core.Errorf(core.NotFound, core.ObjRelease, "no such release")
		}
		h.current[p.App] = p.Release
		return nil
	})
}

func (a agentOf) StartUnit(ctx context.Context, p agentapi.StartUnitParams) (u agentapi.Unit, err error) {
	err = a.do(ctx, "StartUnit", func(h *host) error {
		if !h.releases[fmt.Sprintf("%s/%d", p.App, p.Release)] {
			return core.Errorf(core.NotFound, core.ObjRelease, "no such release")
		}
		for _, other := range h.units {
			if other.Port == p.Port && other.Unit != p.Unit {
				return core.Errorf(core.Busy, core.ObjUnit, "the port is in use")
			}
		}
		u = agentapi.Unit{App: p.App, Unit: p.Unit, Release: p.Release, Port: p.Port, State: agentapi.UnitStarted}
		h.units[p.Unit] = u
		return nil
	})
	return u, err
}

func (a agentOf) StopUnit(ctx context.Context, p agentapi.StopUnitParams) error {
	return a.do(ctx, "StopUnit", func(h *host) error {
		if u, ok := h.units[p.Unit]; ok && bool(p.Keep) {
			u.State = agentapi.UnitStopped
			h.units[p.Unit] = u
			return nil
		}
		delete(h.units, p.Unit)
		return nil
	})
}

func (a agentOf) ListUnits(ctx context.Context, _ agentapi.ListUnitsParams) (units []agentapi.Unit, err error) {
	err = a.do(ctx, "ListUnits", func(h *host) error {
		units = slices.SortedFunc(maps.Values(h.units), func(a, b agentapi.Unit) int { return cmp.Compare(a.Unit, b.Unit) })
		return nil
	})
	return units, err
}

func (a agentOf) ListApps(ctx context.Context) (apps []agentapi.AppInfo, err error) {
	err = a.do(ctx, "ListApps", func(h *host) error {
		for _, name := range slices.Sorted(maps.Keys(h.apps)) {
			apps = append(apps, agentapi.AppInfo{App: name})
		}
		return nil
	})
	return apps, err
}

func (a agentOf) UnitLog(ctx context.Context, p agentapi.UnitLogParams) (l agentapi.UnitLog, err error) {
	err = a.do(ctx, "UnitLog", func(h *host) error {
		for id, u := range h.units {
			if u.App == p.App && p.Cursor == "" && (p.Unit == "" || p.Unit == id) {
				l.Lines = append(l.Lines, agentapi.UnitLogLine{Unit: id, Process: "web", Message: "hello from " + id})
			}
		}
		l.Cursor = "end"
		return nil
	})
	return l, err
}

func (a agentOf) RunCommand(ctx context.Context, p agentapi.RunCommandParams, line func(string)) (r agentapi.CommandResult, err error) {
	err = a.do(ctx, "RunCommand", func(*host) error { return nil })
	line("ran " + p.Command)
	return r, err
}
