package agent

import (
	"context"
	"encoding/xml"
	"strconv"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// Volumes are commands of our own, beside those that an older agent knows: parameters type, and id or key; size in bytes; and,
// where something is changed, request, a name that no other request had.
//
//	list-volume-types  <volumes><type>nspawn</type></volumes>, none where the node's cloud has no volumes for agents
//	get-volume         <volume id key size here device/>; the same after a change. Without an id there is no such volume
//	create-volume, attach-volume, detach-volume, grow-volume, delete-volume; create-volume may name a snapshot
//	create-snapshot    <snapshot id size/> of a volume, under a snapshot-key
//	delete-snapshot    <snapshot/>, by snapshot or snapshot-key
func (d *Dialect) volumeAnswers() map[string]answer {
	c := d.o.Core
	return map[string]answer{
		"list-volume-types": d.volumeTypes,
		"get-volume": func(ctx context.Context, n core.Node, params map[string]string) (any, error) {
			v, err := c.NodeVolume(ctx, n, volumeRef(params))
			return volumeReply(v, err)
		},
		"create-volume":   changeVolume(c.CreateNodeVolume),
		"attach-volume":   changeVolume(c.AttachNodeVolume),
		"detach-volume":   changeVolume(c.DetachNodeVolume),
		"grow-volume":     changeVolume(c.GrowNodeVolume),
		"delete-volume":   changeVolume(c.DestroyNodeVolume),
		"create-snapshot": changeSnapshot(c.SnapshotNodeVolume),
		"delete-snapshot": changeSnapshot(func(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.CloudSnapshot, error) {
			return core.CloudSnapshot{}, c.DestroyNodeSnapshot(ctx, p, n, ch)
		}),
	}
}

type volumeTypes struct {
	XMLName xml.Name `xml:"volumes"`
	Types   []string `xml:"type"`
}

func (d *Dialect) volumeTypes(_ context.Context, n core.Node, _ map[string]string) (any, error) {
	reply := volumeTypes{}
	if kind := d.o.Core.VolumeKind(n); kind != "" {
		reply.Types = []string{kind}
	}
	return reply, nil
}

// volume is the reply of the other commands.
type volume struct {
	XMLName xml.Name `xml:"volume"`
	ID      string   `xml:"id,attr,omitempty"`
	Size    int64    `xml:"size,attr,omitempty"` // bytes
	Here    int      `xml:"here,attr,omitempty"` // 1: attached to the node that asks
	Device  string   `xml:"device,attr,omitempty"`
}

func volumeRef(params map[string]string) core.VolumeRef {
	return core.VolumeRef{Kind: params["type"], ID: params["id"], Key: params["key"]}
}

func volumeReply(v core.NodeVolume, err error) (any, error) {
	if core.KindOf(err) == core.NotFound {
		return volume{}, nil
	}
	reply := volume{ID: v.ID, Size: v.SizeBytes, Device: v.Device}
	if v.Here {
		reply.Here = 1
	}
	return reply, err
}

// snapshot is the reply about snapshots.
type snapshot struct {
	XMLName xml.Name `xml:"snapshot"`
	ID      string   `xml:"id,attr,omitempty"`
	Size    int64    `xml:"size,attr,omitempty"` // bytes
}

func changeSnapshot(do func(context.Context, core.Principal, core.Node, core.VolumeChange) (core.CloudSnapshot, error)) answer {
	return func(ctx context.Context, n core.Node, params map[string]string) (any, error) {
		ch, err := volumeChange(params)
		if err != nil {
			return nil, err
		}
		s, err := do(ctx, agentCaller(ctx), n, ch)
		if core.KindOf(err) == core.NotFound {
			return snapshot{}, nil
		}
		return snapshot{ID: s.ID, Size: s.SizeBytes}, err
	}
}

func changeVolume(do func(context.Context, core.Principal, core.Node, core.VolumeChange) (core.NodeVolume, error)) answer {
	return func(ctx context.Context, n core.Node, params map[string]string) (any, error) {
		ch, err := volumeChange(params)
		if err != nil {
			return nil, err
		}
		v, err := do(ctx, agentCaller(ctx), n, ch)
		return volumeReply(v, err)
	}
}

func volumeChange(params map[string]string) (core.VolumeChange, error) {
	ch := core.VolumeChange{VolumeRef: volumeRef(params), Request: params["request"], SnapshotID: params["snapshot"], SnapshotKey: params["snapshot-key"]}
	if text := params["size"]; text != "" {
		size, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return ch, core.Errorf(core.Invalid, core.ObjVolume, "size is no number of bytes")
		}
		ch.SizeBytes = size
	}
	return ch, nil
}

func agentCaller(ctx context.Context) core.Principal {
	p := api.Caller(ctx)
	p.Via = "agent"
	return p
}
