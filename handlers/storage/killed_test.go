//go:build e2e

package storage

import (
	"context"
	"errors"

	"github.com/reeve-paas/reeve/handlers/host"
)

// failing is a host on which one program fails.
type failing struct{ program string }

func (f failing) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	if c.Path == f.program {
		return host.Output{Code: 1, Stderr: []byte("failure injected by the test")}, nil
	}
	out, err := host.New(host.Options{}).Run(ctx, c)
	if e, ok := errors.AsType[*host.CommandError](err); ok && e.Err == nil {
		return out, nil
	}
	return out, err
}
