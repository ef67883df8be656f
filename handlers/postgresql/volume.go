package postgresql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
)

// Storage is what this handler needs of the storage namespace. Configs are those of agentapi.StorageConfig.
type Storage struct {
	// Snapshot returns when the snapshot is complete.
	Snapshot func(ctx context.Context, volume map[string]json.RawMessage, description string, tags map[string]string) (map[string]json.RawMessage, error)
	Grow     func(ctx context.Context, volume, growth map[string]json.RawMessage) (map[string]json.RawMessage, error)
}

// volumeConf is where the config of the data's volume is kept (spec agent-core 6.3).
const volumeConf = "/etc/scalr/private.d/storage/postgresql.json"

// CreateDataBundle snapshots the volume of the data. The server's own begin and end of a backup are left out: the snapshot
// is of one moment and holds data and log, so a server starts from it as after a power failure (spec agent-core 6.6); with a
// backup's label it would ask for the log of after the snapshot, which nobody keeps.
func (s *Service) CreateDataBundle(ctx context.Context, p agentapi.CreateDataBundleParams) (any, error) {
	return s.ops.Start(ctx, operation.Task{Name: opDataBundle, Exclusive: true, Async: p.Async.Or(true),
		Run: func(ctx context.Context, op *operation.Op) (any, error) {
			bundle, used, err := s.dataBundle(ctx, op)
			message := agentapi.DBMsrCreateDataBundleResult{DBType: "postgresql", Status: "ok", UsedSize: used,
				PostgreSQL: &agentapi.DBMsrSnapshotState{SnapshotConfig: bundle.Snapshot}}
			if err != nil {
				message = agentapi.DBMsrCreateDataBundleResult{DBType: "postgresql", Status: "error", LastError: textOf(err)}
			}
			s.tell(ctx, msgDataBundle, message)
			if err != nil {
				return nil, err
			}
			return bundle, nil
		}})
}

func (s *Service) dataBundle(ctx context.Context, op *operation.Op) (bundle agentapi.DataBundle, used string, err error) {
	volume, err := s.volume()
	if err != nil {
		return bundle, "", err
	}
	srv, err := s.server()
	if err != nil {
		return bundle, "", err
	}
	standby, err := srv.value(ctx, "SELECT pg_is_in_recovery()")
	if err != nil {
		return bundle, "", err
	}
	if err := s.checkWhole(srv); err != nil {
		return bundle, "", err
	}
	if err := srv.exec(ctx, superuser, "CHECKPOINT"); err != nil { // what is written already need not be replayed
		return bundle, "", err
	}
	if err := s.host.SyncFS(srv.dataDir); err != nil {
		return bundle, "", err
	}
	bundle.Type, bundle.Consistency = "snap_postgresql", "crash"
	bundle.Snapshot, err = s.storage.Snapshot(ctx, volume, "PostgreSQL data bundle "+op.ID(), map[string]string{"scalr-purpose": purpose(standby == "t")})
	if err != nil {
		return bundle, "", err
	}
	use, err := s.host.StatFS(ctx, srv.dataDir)
	if err != nil {
		return bundle, "", err
	}
	return bundle, fmt.Sprintf("%.3f", float64(use.SizeBytes-use.FreeBytes)/(1<<20)/1000), nil
}

// checkWhole sees to it that the snapshot has all there is: data and log must stop at the same moment, or the server does
// not start from it.
func (s *Service) checkWhole(srv *server) error {
	if target, err := s.host.ReadLink(path.Join(srv.dataDir, "pg_wal")); err == nil {
		return agentapi.Errorf(agentapi.KindUnsupported, "StorageError", "the log lies apart from the data, in %s: a snapshot of the data's volume would not do", target)
	}
	spaces, err := s.host.ReadDir(path.Join(srv.dataDir, "pg_tblspc"))
	if err == nil && len(spaces) > 0 {
		err = agentapi.Errorf(agentapi.KindUnsupported, "StorageError", "there are tablespaces outside the data's volume: a snapshot of it would not do")
	}
	return err
}

// volume is the config of the volume that holds the data.
func (s *Service) volume() (map[string]json.RawMessage, error) {
	var volume map[string]json.RawMessage
	text, err := s.host.ReadFile(s.volumeConf)
	if err == nil {
		err = json.Unmarshal(text, &volume)
	}
	if err != nil || s.storage.Snapshot == nil {
		return nil, &agentapi.Error{Kind: agentapi.KindUnsupported, Class: "StorageError", Err: err,
			Text: "no volume of the storage namespace holds PostgreSQL's data: " + s.volumeConf + " would tell its config"}
	}
	return volume, nil
}

// GrowVolume grows the volume of the data while the server is stopped. The server is always started again.
func (s *Service) GrowVolume(ctx context.Context, p agentapi.GrowDataVolumeParams) (any, error) {
	var volume, growth map[string]json.RawMessage
	if json.Unmarshal(p.Volume, &volume) != nil || volume == nil {
		return nil, agentapi.Errorf(agentapi.KindInvalid, "AssertionError", "volume configuration is invalid, 'dict' type expected")
	}
	var id agentapi.Text
	if raw := volume["id"]; len(raw) == 0 || json.Unmarshal(raw, &id) != nil || id == "" {
		return nil, agentapi.Errorf(agentapi.KindInvalid, "AssertionError", "volume.id can't be blank")
	}
	if json.Unmarshal(p.Growth, &growth) != nil {
		return nil, agentapi.Errorf(agentapi.KindInvalid, "AssertionError", "growth configuration is invalid, 'dict' type expected")
	}
	if s.storage.Grow == nil {
		return nil, agentapi.Errorf(agentapi.KindUnsupported, "StorageError", "this agent has no storage namespace")
	}
	return s.ops.Start(ctx, operation.Task{Name: opGrow, Exclusive: true, Async: p.Async.Or(false),
		Run: func(ctx context.Context, _ *operation.Op) (any, error) { return s.grow(ctx, volume, growth) }})
}

func (s *Service) grow(ctx context.Context, volume, growth map[string]json.RawMessage) (grown map[string]json.RawMessage, err error) {
	if _, err := s.StopService(ctx, agentapi.ReasonParams{Reason: agentapi.Ptr(agentapi.Text("its volume grows"))}); err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		_, startErr := s.StartService(ctx, agentapi.ReasonParams{})
		err = errors.Join(err, startErr)
	}()
	grown, err = s.storage.Grow(ctx, volume, growth)
	if err != nil {
		return nil, err
	}
	return grown, s.keepVolume(volume, grown)
}

// keepVolume writes the new volume where the old one was written down.
func (s *Service) keepVolume(old, grown map[string]json.RawMessage) error {
	var kept map[string]json.RawMessage
	text, err := s.host.ReadFile(s.volumeConf)
	if err != nil || json.Unmarshal(text, &kept) != nil || string(kept["id"]) != string(old["id"]) {
		return nil
	}
	if text, err = json.Marshal(grown); err != nil {
		return err
	}
	return s.host.UpdateFile(s.volumeConf, append(text, '\n'))
}
