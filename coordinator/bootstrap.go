package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"github.com/reeve-paas/reeve/crypto/authority"
)

//go:embed bootstrap.sh
var bootstrapScript []byte

// bootstrap is ConPaaS.tar.gz: the agent's package, a script that installs it and enrolls the machine, the authority that the
// script trusts, and a list of checksums with its signature by the Director's authority. Nothing in it is secret.
type bootstrap struct {
	path     string // where it is kept
	pack     func() string
	listener func() []byte // certificate of the listeners' authority, PEM
	signer   *authority.Authority

	mu    sync.Mutex // protects the field below
	built string     // what it was made of
}

// open opens the archive, and makes it when there is none of this package.
func (b *bootstrap) open() (io.ReadSeekCloser, time.Time, error) {
	pack := b.pack()
	if pack == "" {
		return nil, time.Time{}, errors.New("the agent's package is not installed; set agent_package")
	}
	st, err := os.Stat(pack)
	if err != nil {
		return nil, time.Time{}, err
	}
	of := fmt.Sprint(pack, st.Size(), st.ModTime().UnixNano())
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.built != of {
		if err := b.build(pack, st.ModTime()); err != nil {
			return nil, time.Time{}, fmt.Errorf("make %s: %w", filepath.Base(b.path), err)
		}
		b.built = of
	}
	f, err := os.Open(b.path)
	return f, st.ModTime(), err
}

func (b *bootstrap) build(pack string, modified time.Time) error {
	deb, err := os.ReadFile(pack)
	if err != nil {
		return err
	}
	type member struct {
		name string
		mode int64
		data []byte
	}
	members := []member{{"reeve-agent.deb", 0o644, deb}, {"bootstrap.sh", 0o755, bootstrapScript}, {"ca.crt", 0o644, b.listener()}}
	var sums strings.Builder
	for _, m := range members {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(m.data), m.name)
	}
	signature, err := b.signer.Sign([]byte(sums.String()))
	if err != nil {
		return err
	}
	members = append(members, member{"SHA256SUMS", 0o644, []byte(sums.String())}, member{"SHA256SUMS.sig", 0o644, signature})
	out, err := renameio.NewPendingFile(b.path, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer out.Cleanup()
	zw := gzip.NewWriter(out)
	tw := tar.NewWriter(zw)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "ConPaaS/", Mode: 0o755, ModTime: modified}); err != nil {
		return err
	}
	for _, m := range members {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "ConPaaS/" + m.name, Mode: m.mode, Size: int64(len(m.data)), ModTime: modified}); err != nil {
			return err
		}
		if _, err := tw.Write(m.data); err != nil {
			return err
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}
