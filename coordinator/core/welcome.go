package core

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"errors"
	"path"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// A platform's folder below welcome/ is the source of what an app of it serves before its owner deploys something; every app
// gets the page beside them, too. Java's serves the page without more.
//
//go:embed welcome
var welcomeFiles embed.FS

const welcomeDir = "welcome"

// welcomeSource packs the source for an app as tar.gz, the same every time. Each app's is different: archives are kept by
// their sums, and what ends with one app must not be missed by another that is being made.
func welcomeSource(app App) ([]byte, error) {
	files := map[string][]byte{".instance": []byte(app.ID + "\n")}
	names := []string{".instance"}
	for _, dir := range []string{welcomeDir, path.Join(welcomeDir, app.Platform)} {
		entries, err := welcomeFiles.ReadDir(dir)
		if err != nil && app.Platform != platformJava {
			return nil, Wrap(Internal, ObjRelease, err, "find what an app of platform %s serves at first", app.Platform)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			if files[e.Name()], err = welcomeFiles.ReadFile(path.Join(dir, e.Name())); err != nil {
				return nil, err
			}
			names = append(names, e.Name())
		}
	}
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	for _, name := range names {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := tw.Write(files[name]); err != nil {
			return nil, err
		}
	}
	err := errors.Join(tw.Close(), zw.Close())
	return out.Bytes(), err
}

// putWelcome stores that source. filesMu is held, shared, until something names it.
func (c *Core) putWelcome(ctx context.Context, app App) (sum string, err error) {
	source, err := welcomeSource(app)
	if err == nil {
		sum, _, err = c.Files.Put(ctx, bytes.NewReader(source))
	}
	return sum, err
}

// storeWelcome gives the first release of a new app its source.
func (c *Core) storeWelcome(ctx context.Context, run *operation.Run) error {
	p, app, err := c.rollOf(ctx, run)
	if err != nil {
		return err
	}
	c.filesMu.RLock()
	defer c.filesMu.RUnlock()
	sum, err := c.putWelcome(ctx, app)
	if err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		rel, err := tx.Release(app.ID, p.Release)
		if err != nil {
			return err
		}
		rel.Source = sum
		return tx.PutRelease(&rel)
	})
}
