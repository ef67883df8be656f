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
//	create-volume, attach-volume, detach-volume, grow-volume, delete-volume
func (d *Dialect) volumeAnswers() map[string]answer {
	c := d.o.Core
	return map[string]answer{
		"list-volume-types": d.volumeTypes,
		"get-volume": func(ctx context.Context, n core.Node, params map[string]string) (any, error) {
			v, err := c.NodeVolume(ctx, n, volumeRef(params))
			return volumeReply(v, err)
		},
		"create-volume": changeVolume(c.CreateNodeVolume),
		"attach-volume": changeVolume(c.AttachNodeVolume),
		"detach-volume": changeVolume(c.DetachNodeVolume),
		"grow-volume":   changeVolume(c.GrowNodeVolume),
		"delete-volume": changeVolume(c.DestroyNodeVolume),
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

func changeVolume(do func(context.Context, core.Principal, core.Node, core.VolumeChange) (core.NodeVolume, error)) answer {
	return func(ctx context.Context, n core.Node, params map[string]string) (any, error) {
		ch := core.VolumeChange{VolumeRef: volumeRef(params), Request: params["request"]}
		if text := params["size"]; text != "" {
			size, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, core.Errorf(core.Invalid, core.ObjVolume, "size is no number of bytes")
			}
			ch.SizeBytes = size
		}
		p := api.Caller(ctx)
		p.Via = "agent"
		v, err := do(ctx, p, n, ch)
		return volumeReply(v, err)
	}
}
