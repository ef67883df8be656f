package core

import (
	"context"
	"io"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// TemporaryFile begins the names that Files forgets, with what was written under them, when it is opened again.
const TemporaryFile = "tmp-"

// Files keeps the archives of sources and releases by their SHA-256, and lends them to hosts for a short time.
//
// Contract: a file is there as a whole or not at all. Put and Delete may be repeated.
type Files interface {
	// Put stores what r has.
	//
	// Errors: invalid (larger than the limit), unavailable (no space)
	Put(ctx context.Context, r io.Reader) (sha256 string, size int64, err error)
	// Open reads a stored file. Errors: not_found
	Open(sha256 string) (io.ReadSeekCloser, error)
	// Lend lets a host fetch a stored file. Errors: not_found, unsupported (the host cannot reach us as we are set up)
	Lend(n Node, sha256 string) (agentapi.Blob, error)
	// Accept lets a host write one file under a name. Writing again replaces it. Errors: unsupported, as with Lend
	Accept(n Node, name string) (agentapi.Blob, error)
	// Accepted is the sum of what was written under the name. Errors: not_found (nothing was yet)
	Accepted(name string) (sha256 string, err error)
	Delete(sha256 string) error
}
