package queryenv

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// How long a request about a volume is repeated, and how long for one of its answers is waited: clouds take their time, and
// a copy takes more.
const (
	volumePatience = 2 * time.Minute
	copyPatience   = 15 * time.Minute
)

// ErrNoVolume is a volume that the coordinator does not have for this host.
var ErrNoVolume = errors.New("the coordinator has no such volume for this host")

// Volume is a volume of the cloud that this host is in.
type Volume struct {
	ID        string
	SizeBytes int64
	Here      bool   // attached to this host
	Device    string // "" unless it is Here
}

// VolumeRef names a volume by its id, or by the key it was made under.
type VolumeRef struct{ Type, ID, Key string }

func (r VolumeRef) params() map[string]string {
	params := map[string]string{"type": r.Type}
	if r.ID != "" {
		params["id"] = r.ID
	} else {
		params["key"] = r.Key
	}
	return params
}

// VolumeTypes are the types of volumes that this host may ask for. A coordinator that does not know the question has none.
//
// Errors: QueryEnvError, InvalidSignatureError
func (c *Client) VolumeTypes(ctx context.Context) ([]string, error) {
	reply, err := c.ask(ctx, "list-volume-types", nil)
	if e, typed := errors.AsType[*agentapi.Error](err); typed && e.Class == "QueryEnvError" && e.Kind == agentapi.KindInvalid {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var types []string
	for _, t := range reply.child("volumes").Children {
		types = append(types, t.Text)
	}
	return types, nil
}

// Volume describes a volume.
//
// Errors: ErrNoVolume, QueryEnvError, InvalidSignatureError; so all that follow
func (c *Client) Volume(ctx context.Context, r VolumeRef) (Volume, error) {
	return c.volume(ctx, question{command: "get-volume", params: r.params(), patience: volumePatience})
}

// CreateVolume makes a volume, empty or of a snapshot, or finds the one of the same key. Of a snapshot, sizeBytes may be 0.
func (c *Client) CreateVolume(ctx context.Context, r VolumeRef, sizeBytes int64, snapshotID string) (Volume, error) {
	params := r.params()
	if sizeBytes > 0 {
		params["size"] = strconv.FormatInt(sizeBytes, 10)
	}
	if snapshotID != "" {
		params["snapshot"] = snapshotID
	}
	return c.volume(ctx, question{command: "create-volume", params: params, change: true, patience: copyPatience})
}

// CreateSnapshot copies a volume, or finds the copy of the same key, and returns its id.
func (c *Client) CreateSnapshot(ctx context.Context, r VolumeRef, key string) (string, error) {
	params := r.params()
	params["snapshot-key"] = key
	reply, err := c.askFor(ctx, question{command: "create-snapshot", params: params, change: true, patience: copyPatience})
	if err != nil {
		return "", err
	}
	id := reply.child("snapshot").get("id")
	if id == "" {
		return "", ErrNoVolume
	}
	return id, nil
}

// DeleteSnapshot deletes a snapshot by its id, or by the key it was made under; one that is not there is no error.
func (c *Client) DeleteSnapshot(ctx context.Context, r VolumeRef) error {
	params := map[string]string{"type": r.Type}
	if r.ID != "" {
		params["snapshot"] = r.ID
	} else {
		params["snapshot-key"] = r.Key
	}
	_, err := c.askFor(ctx, question{command: "delete-snapshot", params: params, change: true, patience: volumePatience})
	return err
}

// AttachVolume attaches a volume to this host.
func (c *Client) AttachVolume(ctx context.Context, r VolumeRef) (Volume, error) {
	return c.changeVolume(ctx, "attach-volume", r, 0)
}

// DetachVolume detaches a volume from this host.
func (c *Client) DetachVolume(ctx context.Context, r VolumeRef) error {
	_, err := c.changeVolume(ctx, "detach-volume", r, 0)
	return err
}

// GrowVolume makes a volume at least this large; what is on it stays.
func (c *Client) GrowVolume(ctx context.Context, r VolumeRef, sizeBytes int64) (Volume, error) {
	return c.changeVolume(ctx, "grow-volume", r, sizeBytes)
}

// DeleteVolume deletes a volume and what is on it.
func (c *Client) DeleteVolume(ctx context.Context, r VolumeRef) error {
	_, err := c.changeVolume(ctx, "delete-volume", r, 0)
	if errors.Is(err, ErrNoVolume) {
		return nil
	}
	return err
}

func (c *Client) changeVolume(ctx context.Context, command string, r VolumeRef, sizeBytes int64) (Volume, error) {
	params := r.params()
	if sizeBytes > 0 {
		params["size"] = strconv.FormatInt(sizeBytes, 10)
	}
	return c.volume(ctx, question{command: command, params: params, change: true, patience: volumePatience})
}

func (c *Client) volume(ctx context.Context, q question) (Volume, error) {
	reply, err := c.askFor(ctx, q)
	if err != nil {
		return Volume{}, err
	}
	found := reply.child("volume")
	v := Volume{ID: found.get("id"), Here: found.get("here") == "1", Device: found.get("device")}
	if v.ID == "" {
		return v, ErrNoVolume
	}
	if v.SizeBytes, err = strconv.ParseInt(found.get("size"), 10, 64); err != nil {
		return v, queryEnvError(agentapi.KindInternal, "the reply to "+q.command+" has no size", err)
	}
	return v, nil
}
