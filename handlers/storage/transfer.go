package storage

import (
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// transfer keeps a directory as chunks of a compressed archive beside a manifest, in the old agent's layout (spec agent-core
// 5.8).
type transfer struct {
	s           *Service
	description string
	tags        map[string]agentapi.Text
	chunk       int64 // bytes of a chunk; 0 means 100 MiB
}

const (
	manifestName = "manifest.json"
	chunkSize    = 100 * mib
	gzipLevel    = 5
)

type manifest struct {
	Version     float64                  `json:"version"`
	Description string                   `json:"description"`
	Tags        map[string]agentapi.Text `json:"tags"`
	CreatedAt   string                   `json:"created_at"`
	Files       []manifestFile           `json:"files"`
}

type manifestFile struct {
	Name       string          `json:"name"`
	Streamer   *string         `json:"streamer"`
	Compressor *string         `json:"compressor"`
	Chunks     []manifestChunk `json:"chunks"`
}

// manifestChunk is [name, md5 in hexadecimal, bytes].
type manifestChunk struct {
	Name, MD5 string
	Size      int64
}

func (c manifestChunk) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{c.Name, c.MD5, c.Size})
}

func (c *manifestChunk) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil || len(parts) < 3 {
		return errors.New("a chunk is [name, md5, size]")
	}
	return errors.Join(json.Unmarshal(parts[0], &c.Name), json.Unmarshal(parts[1], &c.MD5), json.Unmarshal(parts[2], &c.Size))
}

// upload keeps what lies in dir. It returns the path of the manifest and how many bytes of the filesystem are in use.
func (t transfer) upload(ctx context.Context, w *work, dir, name, place string) (manifestPath string, size uint64, err error) {
	use, err := t.s.host.StatFS(ctx, dir)
	if err != nil {
		return "", 0, err
	}
	to := path.Join(place, newID("transfer", name))
	if err := w.makeDirs(place); err != nil {
		return "", 0, err
	}
	if err := w.will("remove-tree", to); err != nil {
		return "", 0, err
	}
	if err := t.s.host.MkdirAll(to, 0o700); err != nil {
		return "", 0, err
	}
	chunks, err := t.archive(ctx, dir, path.Join(to, name+".tar.gz"))
	if err != nil {
		return "", 0, err
	}
	streamer, compressor := "tar", "gzip"
	m := manifest{Version: 2.0, Description: t.description, Tags: t.tags, CreatedAt: t.s.now().UTC().Format(time.DateTime),
		Files: []manifestFile{{Name: name, Streamer: &streamer, Compressor: &compressor, Chunks: chunks}}}
	if m.Tags == nil {
		m.Tags = map[string]agentapi.Text{}
	}
	data, err := json.Marshal(m)
	if err != nil {
		return "", 0, err
	}
	manifestPath = path.Join(to, manifestName)
	return manifestPath, use.SizeBytes - use.FreeBytes, t.s.host.WriteFile(manifestPath, data, 0o600)
}

// archive runs tar and cuts its compressed output into chunks.
func (t transfer) archive(ctx context.Context, dir, prefix string) ([]manifestChunk, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ran := make(chan error, 1)
	go func() {
		_, err := t.s.host.Run(ctx, host.Cmd{Path: "tar", Args: []string{"--create", "--file=-", "--one-file-system", "--sparse", "--acls", "--xattrs",
			"--xattrs-include=*", "--numeric-owner", "--directory=" + t.s.host.Path(dir), "."}, StdoutFile: write, Timeout: copyTimeout})
		write.Close()
		ran <- err
	}()
	out := &chunker{host: t.s.host, prefix: prefix, max: t.chunk}
	if out.max == 0 {
		out.max = chunkSize
	}
	zip, err := gzip.NewWriterLevel(out, gzipLevel)
	if err == nil {
		_, err = io.Copy(zip, read)
		err = errors.Join(err, zip.Close())
	}
	read.Close() // tar ends when nobody listens
	err = errors.Join(err, <-ran, out.close())
	if err != nil {
		return nil, storageErrorOf(err)
	}
	return out.chunks, nil
}

// chunker writes files of at most max bytes: prefix.000, prefix.001, …
type chunker struct {
	host   *host.Host
	prefix string
	max    int64

	file   *os.File
	size   int64
	sum    hash.Hash
	chunks []manifestChunk
}

func (c *chunker) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if c.file == nil {
			name := fmt.Sprintf("%s.%03d", c.prefix, len(c.chunks))
			if c.file, err = os.OpenFile(c.host.Path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
				return n, err
			}
			c.size, c.sum = 0, md5.New()
			c.chunks = append(c.chunks, manifestChunk{Name: path.Base(name)})
		}
		part := p[:min(int64(len(p)), c.max-c.size)]
		m, err := c.file.Write(part)
		c.sum.Write(part[:m])
		c.size, n, p = c.size+int64(m), n+m, p[m:]
		if err != nil {
			return n, err
		}
		if c.size == c.max {
			if err := c.close(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// close ends a chunk, which is on disk then.
func (c *chunker) close() error {
	if c.file == nil {
		return nil
	}
	last := &c.chunks[len(c.chunks)-1]
	last.MD5, last.Size = hex.EncodeToString(c.sum.Sum(nil)), c.size
	err := errors.Join(c.file.Sync(), c.file.Close())
	c.file = nil
	return err
}

// download unpacks what a manifest describes into dir.
func (t transfer) download(ctx context.Context, manifestPath, dir string) error {
	if strings.HasSuffix(manifestPath, ".ini") {
		return storageError(agentapi.KindUnsupported, "manifests in the form of .ini files are not read")
	}
	data, err := t.s.host.ReadFile(manifestPath)
	if err != nil {
		return storageErrorOf(err)
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return storageError(agentapi.KindInvalid, "%s is no manifest: %v", manifestPath, err)
	}
	for _, f := range m.Files {
		if f.Streamer == nil || *f.Streamer != "tar" {
			return storageError(agentapi.KindUnsupported, "%s holds %q, which is no archive", manifestPath, f.Name)
		}
		if err := t.unpack(ctx, path.Dir(manifestPath), f, dir); err != nil {
			return err
		}
	}
	return nil
}

func (t transfer) unpack(ctx context.Context, from string, f manifestFile, dir string) error {
	if slices.ContainsFunc(f.Chunks, func(c manifestChunk) bool { return c.Name != path.Base(c.Name) || c.Name == ".." || c.Name == "." }) {
		return storageError(agentapi.KindInvalid, "the manifest names files elsewhere")
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	fed := make(chan error, 1)
	go func() {
		err := t.feed(write, from, f)
		write.Close()
		fed <- err
	}()
	_, err = t.s.host.Run(ctx, host.Cmd{Path: "tar", Args: []string{"--extract", "--file=-", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner",
		"--preserve-permissions", "--directory=" + t.s.host.Path(dir)}, StdinFile: read, Timeout: copyTimeout})
	read.Close()
	feedErr := <-fed
	if feedErr != nil && !errors.Is(feedErr, os.ErrClosed) {
		return storageErrorOf(feedErr) // why tar failed, if it did
	}
	if err != nil {
		return storageErrorOf(err)
	}
	return nil
}

// feed writes the content of all chunks, decompressed, and fails when one is not what the manifest says.
func (t transfer) feed(to io.Writer, from string, f manifestFile) error {
	chunks := &chunkReader{host: t.s.host, dir: from, left: f.Chunks}
	defer chunks.Close()
	var content io.Reader = chunks
	if f.Compressor != nil {
		if *f.Compressor != "gzip" {
			return fmt.Errorf("compressor %.40q is not known", *f.Compressor)
		}
		zip, err := gzip.NewReader(chunks)
		if err != nil {
			return err
		}
		content = zip
	}
	_, err := io.Copy(to, content)
	return err
}

// chunkReader reads chunks one after the other. Each is checked at its end.
type chunkReader struct {
	host *host.Host
	dir  string
	left []manifestChunk

	file *os.File
	size int64
	sum  hash.Hash
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for {
		if r.file == nil {
			if len(r.left) == 0 {
				return 0, io.EOF
			}
			var err error
			if r.file, err = os.Open(r.host.Path(path.Join(r.dir, r.left[0].Name))); err != nil {
				return 0, err
			}
			r.size, r.sum = 0, md5.New()
		}
		n, err := r.file.Read(p)
		r.size += int64(n)
		r.sum.Write(p[:n])
		if n > 0 || err != nil && err != io.EOF {
			return n, err
		}
		want := r.left[0]
		if r.size != want.Size || hex.EncodeToString(r.sum.Sum(nil)) != want.MD5 {
			return 0, fmt.Errorf("chunk %s is damaged", want.Name)
		}
		r.file.Close()
		r.file, r.left = nil, r.left[1:]
	}
}

func (r *chunkReader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}
