package core

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// CodeVersion is an archive that was uploaded for a service.
type CodeVersion struct {
	Num         int64
	AppID       AppID
	Filename    string
	Description string
	CreatedAt   time.Time
	File        string // SHA-256 of its tar.gz among Files
	SizeBytes   int64  // of the tar.gz
	Archive     []byte // the tar.gz itself when File is "": versions were kept so once. nil in lists
}

const (
	// MaxCode is the largest archive of a code version, in bytes.
	MaxCode = 512 << 20
	// maxInline is the largest archive that goes to an agent within a request. Agents of older images take no other.
	maxInline = 4 << 20
)

// UploadCode stores a code version, whose archive data has.
//
// Errors: not_found, invalid (too big, no archive, members that lead out of it), unsupported (the type runs no code),
// unavailable (no space)
func (c *Core) UploadCode(ctx context.Context, p Principal, num int64, v CodeVersion, data io.ReaderAt, size int64) (CodeVersion, error) {
	err := c.uploadCode(ctx, p, num, &v, data, size)
	if err != nil {
		c.refused(ctx, p, "service.upload", "", err)
	}
	return v, err
}

func (c *Core) uploadCode(ctx context.Context, p Principal, num int64, v *CodeVersion, data io.ReaderAt, size int64) error {
	takesCode := func(r Reader) (Service, error) {
		s, err := ownService(r, p, num)
		if err == nil && (!s.Managed || s.App.Platform == "") {
			err = Errorf(Unsupported, ObjCode, "this service runs no code")
		}
		return s, err
	}
	switch _, err := view(ctx, c.Store, takesCode); {
	case err != nil:
		return err
	case c.Files == nil:
		return Errorf(Unsupported, ObjCode, "archives cannot be stored here")
	case size > MaxCode:
		return Errorf(Invalid, ObjCode, "ERROR: the archive has more than %d MiB", MaxCode>>20)
	}
	c.filesMu.RLock() // nobody takes the file for one that is not needed before the version names it
	defer c.filesMu.RUnlock()
	var err error
	if v.File, v.SizeBytes, err = c.storeArchive(ctx, v.Filename, data, size); err != nil {
		return err
	}
	v.CreatedAt = c.now()
	return c.Store.Update(ctx, func(tx Tx) error {
		v.Num = 0
		s, err := takesCode(tx)
		if err != nil {
			return err
		}
		v.AppID = s.AppID
		if err := tx.PutCodeVersion(v); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "service.upload", string(s.AppID), "", "accepted"))
	})
}

// storeArchive puts the normal form of an archive among the files.
func (c *Core) storeArchive(ctx context.Context, filename string, data io.ReaderAt, size int64) (sum string, stored int64, err error) {
	pr, pw := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := normalArchive(pw, filename, data, size)
		pw.CloseWithError(err)
		packed <- err
	}()
	sum, stored, err = c.Files.Put(ctx, pr)
	pr.Close()
	if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
		return "", 0, perr
	}
	return sum, stored, err
}

// CodeVersions lists a service's code versions, newest first.
func (c *Core) CodeVersions(ctx context.Context, p Principal, num int64) ([]CodeVersion, error) {
	return view(ctx, c.Store, func(r Reader) ([]CodeVersion, error) {
		s, err := ownService(r, p, num)
		if err != nil {
			return nil, err
		}
		return r.CodeVersions(s.AppID)
	})
}

// OpenCode is one code version and what its archive holds, which the caller closes.
//
// Errors: not_found
func (c *Core) OpenCode(ctx context.Context, p Principal, num, version int64) (CodeVersion, io.ReadCloser, error) {
	s, err := c.Service(ctx, p, num)
	if err != nil {
		return CodeVersion{}, nil, err
	}
	v, err := c.codeFile(ctx, s.AppID, version)
	if err != nil {
		return CodeVersion{}, nil, err
	}
	f, err := c.Files.Open(v.File)
	return v, f, err
}

// codeFile is a code version whose archive is among the files.
func (c *Core) codeFile(ctx context.Context, app AppID, version int64) (CodeVersion, error) {
	v, err := view(ctx, c.Store, func(r Reader) (CodeVersion, error) { return r.CodeVersion(app, version) })
	if err != nil || v.File != "" {
		return v, err
	}
	if c.Files == nil {
		return v, Errorf(Unsupported, ObjCode, "archives cannot be stored here")
	}
	c.filesMu.RLock()
	defer c.filesMu.RUnlock()
	if v.File, v.SizeBytes, err = c.Files.Put(ctx, bytes.NewReader(v.Archive)); err != nil {
		return v, err
	}
	v.Archive = nil
	return v, c.Store.Update(ctx, func(tx Tx) error { return tx.PutCodeVersion(&v) })
}

// putCode brings a code version to a node, as a release of the app, and makes it the current one.
func (c *Core) putCode(ctx context.Context, agent Agent, s Service, n Node, v CodeVersion) error {
	p := agentapi.PutReleaseParams{App: appName(s.App), Release: s.Release}
	if v.SizeBytes > maxInline {
		blob, err := c.Files.Lend(n, v.File)
		if err != nil {
			return err
		}
		p.Source = &blob
	} else {
		f, err := c.Files.Open(v.File)
		if err != nil {
			return err
		}
		p.Archive, err = io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return agent.PutRelease(ctx, p)
}

// DeleteCode forgets a code version.
//
// Errors: not_found, busy (it is the active one)
func (c *Core) DeleteCode(ctx context.Context, p Principal, num, version int64) error {
	var app AppID
	var file string
	err := c.Store.Update(ctx, func(tx Tx) error {
		s, err := ownService(tx, p, num)
		if err != nil {
			return err
		}
		app = s.AppID
		v, err := tx.CodeVersion(s.AppID, version)
		if err != nil {
			return err
		}
		if s.Version == version {
			return Errorf(Busy, ObjCode, "ERROR: the active code version cannot be deleted")
		}
		if err := tx.DeleteCodeVersion(version); err != nil {
			return err
		}
		file = v.File
		return tx.Audit(c.auditRecord(p, "service.delete_code", string(s.AppID), "", "accepted"))
	})
	if err == nil {
		err = c.dropCodeFiles(ctx, app, file)
	}
	if err != nil {
		c.refused(ctx, p, "service.delete_code", "", err)
	}
	return err
}

// dropCodeFiles deletes what is kept of a code version that is gone: its archive, and what was built of it.
func (c *Core) dropCodeFiles(ctx context.Context, app AppID, file string) error {
	var releases []Release
	err := c.Store.View(ctx, func(r Reader) error {
		versions, err := r.CodeVersions(app)
		if err != nil || slices.ContainsFunc(versions, func(v CodeVersion) bool { return v.File == file }) {
			return err
		}
		releases, err = r.Releases(app)
		return err
	})
	if err != nil {
		return err
	}
	for _, rel := range releases {
		if rel.Source == file && file != "" {
			if err := c.dropFiles(ctx, app, rel.Number); err != nil {
				return err
			}
		}
	}
	return c.dropUnused(ctx, file)
}

// dropCode forgets all code versions of an app.
func (c *Core) dropCode(ctx context.Context, app AppID) error {
	all, err := view(ctx, c.Store, func(r Reader) ([]CodeVersion, error) { return r.CodeVersions(app) })
	if err != nil {
		return err
	}
	for _, v := range all {
		if err := c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteCodeVersion(v.Num) }); err != nil {
			return err
		}
		if err := c.dropUnused(ctx, v.File); err != nil {
			return err
		}
	}
	return nil
}

// stillThere says that a file which was stored a while ago is there yet. Another app may have been given the same one, and its end
// have taken it away before anything here named it. It is called with filesMu held, which is kept until something does.
func (c *Core) stillThere(sum string) error {
	f, err := c.Files.Open(sum)
	if isNotFound(err) {
		return Errorf(Unavailable, ObjRelease, "the archive was removed before it was used; send it again")
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// dropUnused deletes those of the files that no release and no code version needs.
func (c *Core) dropUnused(ctx context.Context, files ...string) error {
	c.filesMu.Lock()
	defer c.filesMu.Unlock()
	for _, f := range files {
		if f == "" || c.Files == nil {
			continue
		}
		used, err := view(ctx, c.Store, func(r Reader) (bool, error) { return r.FileUsed(f) })
		if err == nil && !used {
			err = c.Files.Delete(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
