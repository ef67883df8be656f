package host

import (
	"compress/gzip"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"
)

// ChunkSize is how much of a backup lies in one file, in bytes (spec agent-core 5.8).
const ChunkSize = 100 << 20

// Manifest describes what was backed up into a directory, in Scalarizr's form: manifest.json beside the chunks.
type Manifest struct {
	Version     float64           `json:"version"` // 2.0
	Description string            `json:"description"`
	Tags        map[string]string `json:"tags"`
	CreatedAt   string            `json:"created_at"` // "YYYY-MM-DD HH:MM:SS", UTC
	Files       []ManifestFile    `json:"files"`
}

// ManifestFile is one thing in the backup. Streamer is "tar" for a directory and nil for a file.
type ManifestFile struct {
	Name       string  `json:"name"`
	Streamer   *string `json:"streamer"`
	Compressor *string `json:"compressor"` // "gzip" or nil
	Chunks     []Chunk `json:"chunks"`
}

// Chunk is one file of the backup; the chunks of one thing follow each other. On disk: [name, md5 in hexadecimal, size].
type Chunk struct {
	Name string
	MD5  string
	Size int64 // bytes
}

// MarshalJSON writes the triple.
func (c Chunk) MarshalJSON() ([]byte, error) { return json.Marshal([]any{c.Name, c.MD5, c.Size}) }

// UnmarshalJSON reads the triple.
func (c *Chunk) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil || len(parts) != 3 {
		return errors.New("a chunk is [name, md5, size]")
	}
	return errors.Join(json.Unmarshal(parts[0], &c.Name), json.Unmarshal(parts[1], &c.MD5), json.Unmarshal(parts[2], &c.Size))
}

// WriteManifest puts manifest.json into a directory of chunks. It is the last file of a backup: what has one is whole.
func (h *Host) WriteManifest(dir string, created time.Time, m Manifest) error {
	m.Version, m.CreatedAt = 2.0, created.UTC().Format(time.DateTime)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return h.WriteFile(filepath.Join(dir, "manifest.json"), append(text, '\n'), 0o600)
}

// Chunker compresses what is written to it into chunks of a directory, "<name>.gz.000" and up.
type Chunker struct {
	dir, name string
	size      int64
	gzip      *gzip.Writer
	file      *os.File
	sum       hash.Hash
	now       Chunk
	chunks    []Chunk
}

// NewChunker begins the chunks of one file. size is ChunkSize, or less for a test.
func (h *Host) NewChunker(dir, name string, size int64) *Chunker {
	c := &Chunker{dir: h.Path(dir), name: name, size: size}
	c.gzip, _ = gzip.NewWriterLevel((*chunkFiles)(c), 5) // the level exists
	return c
}

// Write implements io.Writer.
func (c *Chunker) Write(p []byte) (int, error) { return c.gzip.Write(p) }

// Close finishes and syncs the last chunk.
func (c *Chunker) Close() error {
	err := c.gzip.Close()
	return errors.Join(err, c.end())
}

// File describes what was written, after Close.
func (c *Chunker) File() ManifestFile {
	compressor := "gzip"
	return ManifestFile{Name: c.name, Compressor: &compressor, Chunks: c.chunks}
}

// chunkFiles is the compressed side of a Chunker.
type chunkFiles Chunker

func (c *chunkFiles) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if c.file == nil {
			if err := c.begin(); err != nil {
				return n, err
			}
		}
		part := p[:min(int64(len(p)), c.size-c.now.Size)]
		m, err := io.MultiWriter(c.file, c.sum).Write(part)
		n, p = n+m, p[m:]
		c.now.Size += int64(m)
		if err != nil {
			return n, err
		}
		if c.now.Size == c.size {
			if err := (*Chunker)(c).end(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (c *chunkFiles) begin() (err error) {
	c.now = Chunk{Name: fmt.Sprintf("%s.gz.%03d", c.name, len(c.chunks))}
	c.sum = md5.New()
	c.file, err = os.OpenFile(filepath.Join(c.dir, c.now.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return err
}

func (c *Chunker) end() error {
	if c.file == nil {
		return nil
	}
	c.now.MD5 = hex.EncodeToString(c.sum.Sum(nil))
	c.chunks = append(c.chunks, c.now)
	err := errors.Join(c.file.Sync(), c.file.Close())
	c.file = nil
	return err
}
