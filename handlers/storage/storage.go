package storage

import (
	"context"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Operations runs long work; *operation.Registry is one.
type Operations interface {
	Start(ctx context.Context, t operation.Task) (any, error)
}

// Options configure a Service.
type Options struct {
	Host       *host.Host
	Operations Operations
	StateDir   string   // the agent's state directory; "" means /var/lib/reeve-agent
	Cloud      Provider // block storage of the cloud this host is in; nil means that none is reached
	// Boundary is called before and after a change's journal is written, with the step that it is about, so that tests can kill
	// the agent there; nil means nothing.
	Boundary func(step string)
}

// Service is the volumes of this host. Its methods may be called from any goroutine.
type Service struct {
	host    *host.Host
	ops     Operations
	cloud   Provider
	log     *slog.Logger
	dir     string // our part of the state directory
	now     func() time.Time
	drivers map[string]driver

	boundary    func(step string)
	retryPause  time.Duration
	metadataURL string // of the machine's cloud

	mu sync.Mutex // one change to volumes at a time
}

var (
	_ handlers.Handler = (*Service)(nil)
	_ handlers.Starter = (*Service)(nil)
)

// New builds a Service; it touches nothing.
func New(o Options) *Service {
	if o.StateDir == "" {
		o.StateDir = "/var/lib/reeve-agent"
	}
	if o.Boundary == nil {
		o.Boundary = func(string) {}
	}
	s := &Service{host: o.Host, ops: o.Operations, cloud: o.Cloud, log: o.Host.Log().With("handler", "storage"), dir: path.Join(o.StateDir, "storage"), now: time.Now,
		boundary: o.Boundary, retryPause: retryPause, metadataURL: metadataURL}
	s.drivers = s.newDrivers()
	return s
}

// Namespaces implements handlers.Handler.
func (s *Service) Namespaces() []string { return []string{"storage"} }

// Methods implements handlers.Handler.
func (s *Service) Methods() map[string]handlers.Method {
	return map[string]handlers.Method{
		"create":            method("create", strict, s.Create),
		"snapshot":          method("snapshot", strict, s.Snapshot),
		"detach":            method("detach", lenient, s.Detach),
		"destroy":           method("destroy", lenient, s.Destroy),
		"grow":              method("grow", strict, s.Grow),
		"replace_raid_disk": method("replace_raid_disk", strict, s.ReplaceRAIDDisk),
	}
}

// operate runs one change as an operation. What it did is kept when fn succeeds, and taken back otherwise.
func (s *Service) operate(ctx context.Context, name string, async agentapi.Bool, fn func(ctx context.Context, w *work) (any, error)) (any, error) {
	return s.ops.Start(ctx, operation.Task{Name: "storage." + name, Async: bool(async), Run: func(ctx context.Context, op *operation.Op) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.clearJournalLocked(ctx)
		w := s.begin(op.ID(), op.Log())
		result, err := fn(ctx, w)
		if err != nil {
			return nil, w.rollback(ctx, err)
		}
		return result, w.commit()
	}})
}

// Create makes a volume, or attaches it when it exists.
func (s *Service) Create(ctx context.Context, p agentapi.CreateVolumeParams) (any, error) {
	if p.Volume == nil {
		return nil, notDict("volume")
	}
	v, err := s.parse(p.Volume)
	if err != nil {
		return nil, err
	}
	return s.operate(ctx, "create", p.Async, func(ctx context.Context, w *work) (any, error) {
		if err := w.create(ctx, v, use{mkfs: bool(p.MkFS), mount: bool(p.Mount), fstab: bool(p.FSTab)}); err != nil {
			return nil, err
		}
		w.log.Info("volume is in place", "id", v.text("id"), "type", v.kind(), "device", v.text("device"))
		return v.StorageConfig, nil
	})
}

// Detach takes a volume off the host.
func (s *Service) Detach(ctx context.Context, p agentapi.DetachVolumeParams) (any, error) {
	v, err := s.parseExisting(p.Volume)
	if err != nil {
		return nil, err
	}
	return s.operate(ctx, "detach", p.Async, func(ctx context.Context, w *work) (any, error) {
		if err := w.detach(ctx, v, bool(p.Force)); err != nil {
			return nil, err
		}
		w.log.Info("volume is detached", "id", v.text("id"), "type", v.kind())
		return v.StorageConfig, nil
	})
}

// Destroy detaches a volume and deletes it.
func (s *Service) Destroy(ctx context.Context, p agentapi.DestroyVolumeParams) (any, error) {
	v, err := s.parseExisting(p.Volume)
	if err != nil {
		return nil, err
	}
	return s.operate(ctx, "destroy", p.Async, func(ctx context.Context, w *work) (any, error) {
		if err := w.destroy(ctx, v, deletion{force: bool(p.Force), disks: bool(p.RemoveDisks)}); err != nil {
			return nil, err
		}
		w.log.Info("volume is destroyed", "id", v.text("id"), "type", v.kind())
		return v.StorageConfig, nil
	})
}

// Snapshot copies a volume.
func (s *Service) Snapshot(ctx context.Context, p agentapi.SnapshotVolumeParams) (any, error) {
	v, err := s.parseExisting(p.Volume)
	if err != nil {
		return nil, err
	}
	about := label{tags: p.Tags}
	if p.Description != nil {
		about.description = *p.Description
	}
	return s.operate(ctx, "snapshot", p.Async, func(ctx context.Context, w *work) (any, error) {
		if err := w.ensure(ctx, v); err != nil {
			return nil, err
		}
		snap, err := w.snapshot(ctx, v, about)
		if err != nil {
			return nil, err
		}
		w.log.Info("snapshot is made", "id", snap.Text("id"), "volume", v.text("id"))
		return snap, nil
	})
}

// Grow makes a larger volume of the same data. The old one stays, detached.
func (s *Service) Grow(ctx context.Context, p agentapi.GrowStorageParams) (any, error) {
	v, err := s.parse(p.Volume)
	if err != nil {
		return nil, err
	}
	return s.operate(ctx, "grow", p.Async, func(ctx context.Context, w *work) (any, error) {
		bigger, err := w.grow(ctx, v, p.Growth)
		if err != nil {
			return nil, err
		}
		w.log.Info("volume has grown", "id", bigger.text("id"), "from", v.text("id"))
		return bigger.StorageConfig, nil
	})
}

// ReplaceRAIDDisk puts another disk into an array.
func (s *Service) ReplaceRAIDDisk(ctx context.Context, p agentapi.ReplaceRAIDDiskParams) (any, error) {
	v, err := s.parseExisting(p.Volume)
	if err != nil {
		return nil, err
	}
	array, isRAID := s.drivers[v.kind()].(*raid)
	if !isRAID {
		return nil, agentapi.Errorf(agentapi.KindInvalid, "AssertionError", "a volume of type %s has no disks to replace", v.kind())
	}
	disk, err := s.parseMember(p.Disk)
	if err != nil {
		return nil, err
	}
	return s.operate(ctx, "replace-raid-disk", p.Async, func(ctx context.Context, w *work) (any, error) {
		if err := array.replace(ctx, w, v, p.Index, disk); err != nil {
			return nil, err
		}
		w.log.Info("disk is replaced", "id", v.text("id"), "index", p.Index)
		return v.StorageConfig, nil
	})
}
