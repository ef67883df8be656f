package cloud

import (
	"context"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Broken is a configured cloud that cannot work here: every call fails with the reason. It keeps a coordinator with
// several clouds serving the others, and its clients told why.
func Broken(info core.CloudInfo, reason error) Driver {
	info.Volumes, info.Power = false, false // it has no such methods
	return broken{info, core.Wrap(core.Unavailable, core.ObjCloud, reason, "the cloud %s does not work on this machine", info.Name)}
}

type broken struct {
	info core.CloudInfo
	err  error
}

func (b broken) Info() core.CloudInfo                                 { return b.info }
func (b broken) Images(context.Context) ([]core.Image, error)         { return nil, b.err }
func (b broken) Sizes(context.Context) ([]core.Size, error)           { return nil, b.err }
func (b broken) Locations(context.Context) ([]core.Location, error)   { return nil, b.err }
func (b broken) Nodes(context.Context) ([]core.CloudNode, error)      { return nil, b.err }
func (b broken) RebootNode(context.Context, string) error             { return b.err }
func (b broken) DestroyNode(context.Context, string) error            { return b.err }
func (b broken) Node(context.Context, string) (core.CloudNode, error) { return core.CloudNode{}, b.err }
func (b broken) CreateNode(context.Context, core.NodeSpec) (core.CloudNode, error) {
	return core.CloudNode{}, b.err
}
