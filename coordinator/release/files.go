package release

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// Options configure Files. Dir, Secret and BaseURL are needed.
type Options struct {
	Dir     string
	Secret  []byte                          // makes the tokens
	BaseURL func(core.Node) (string, error) // where a node reaches us; a failure of no kind may pass by itself
	CACert  []byte                          // PEM of the authority behind an https BaseURL; nil: the host's own
	MaxSize int64                           // of one file; 0 means 512 MiB
	Clock   core.Clock
}

// Files implements core.Files in a directory. Its methods may be called from any goroutine.
type Files struct{ Options }

var _ core.Files = (*Files)(nil)

// lendFor is how long a token is good: longer than any build or fetch takes.
const lendFor = time.Hour

// Open makes the directories and clears away what was not whole.
func Open(o Options) (*Files, error) {
	if o.MaxSize == 0 {
		o.MaxSize = 512 << 20
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	f := &Files{o}
	if err := os.RemoveAll(f.path("tmp")); err != nil {
		return nil, err
	}
	for _, dir := range []string{"tmp", "accepted"} {
		if err := os.MkdirAll(f.path(dir), 0o700); err != nil {
			return nil, err
		}
	}
	return f, f.forget()
}

// forget removes what was written under names of core.TemporaryFile: whoever waited for it is gone.
func (f *Files) forget() error {
	names, err := filepath.Glob(f.path("accepted", core.TemporaryFile+"*"))
	for _, name := range names {
		sum, rerr := os.ReadFile(name)
		if err = errors.Join(err, rerr); rerr == nil {
			err = errors.Join(err, f.Delete(string(sum)), removed(name))
		}
	}
	return err
}

func removed(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

var (
	sumPattern  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	namePattern = regexp.MustCompile(`^[a-z0-9-]{1,100}$`)
)

func (f *Files) path(parts ...string) string {
	return filepath.Join(append([]string{f.Dir}, parts...)...)
}

func (f *Files) file(sum string) (string, error) {
	if !sumPattern.MatchString(sum) {
		return "", core.Errorf(core.NotFound, core.ObjRelease, "there is no such file")
	}
	return f.path(sum[:2], sum), nil
}

// Put implements core.Files.
func (f *Files) Put(_ context.Context, r io.Reader) (string, int64, error) {
	tmp, err := os.CreateTemp(f.path("tmp"), "")
	if err != nil {
		return "", 0, stored(err)
	}
	defer os.Remove(tmp.Name()) // gone after the rename
	defer tmp.Close()
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(tmp, sum), io.LimitReader(r, f.MaxSize+1))
	if err != nil {
		return "", 0, stored(err)
	}
	if size > f.MaxSize {
		return "", 0, core.Errorf(core.Invalid, core.ObjRelease, "the archive is larger than %d MiB", f.MaxSize>>20)
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return "", 0, stored(err)
	}
	name := hex.EncodeToString(sum.Sum(nil))
	to, err := f.file(name)
	if err != nil {
		return "", 0, err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return "", 0, stored(err)
	}
	return name, size, stored(os.Rename(tmp.Name(), to))
}

// stored classifies a failure of the disk or of whoever sends.
func stored(err error) error {
	if err == nil {
		return nil
	}
	return core.Wrap(core.Unavailable, core.ObjRelease, err, "the archive could not be stored")
}

// Open implements core.Files.
func (f *Files) Open(sum string) (io.ReadSeekCloser, error) { return f.open(sum) }

func (f *Files) open(sum string) (*os.File, error) {
	path, err := f.file(sum)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, core.Errorf(core.NotFound, core.ObjRelease, "there is no such file")
	}
	return file, err
}

// Lend implements core.Files.
func (f *Files) Lend(n core.Node, sum string) (agentapi.Blob, error) {
	file, err := f.open(sum)
	if err != nil {
		return agentapi.Blob{}, err
	}
	file.Close()
	blob, err := f.blob(n, http.MethodGet, sum)
	blob.SHA256 = sum
	return blob, err
}

// Accept implements core.Files.
func (f *Files) Accept(n core.Node, name string) (agentapi.Blob, error) {
	if !namePattern.MatchString(name) {
		return agentapi.Blob{}, core.Errorf(core.Invalid, core.ObjRelease, "a file cannot be called %q", name)
	}
	return f.blob(n, http.MethodPut, name)
}

func (f *Files) blob(n core.Node, method, what string) (agentapi.Blob, error) {
	base, err := f.BaseURL(n)
	if _, known := errors.AsType[*core.Error](err); known {
		return agentapi.Blob{}, err
	}
	if err != nil {
		return agentapi.Blob{}, core.Wrap(core.Unavailable, core.ObjNode, err, "no address under which %s could reach us", n.Name)
	}
	to, err := url.JoinPath(base, Prefix, what)
	if err != nil {
		return agentapi.Blob{}, err
	}
	until := f.Clock().Add(lendFor).Unix()
	return agentapi.Blob{URL: to, Token: agentapi.Secret(f.token(method, what, until)), CACert: string(f.CACert)}, nil
}

func (f *Files) token(method, what string, until int64) string {
	mac := hmac.New(sha256.New, f.Secret)
	fmt.Fprintf(mac, "reeve-blob-v1\x00%s\x00%s\x00%d", method, what, until)
	return fmt.Sprintf("%d.%s", until, hex.EncodeToString(mac.Sum(nil)))
}

// allowed says that the request carries the token for its method and file.
func (f *Files) allowed(r *http.Request, method, what string) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return false
	}
	text, _, _ := strings.Cut(token, ".")
	until, err := strconv.ParseInt(text, 10, 64)
	return err == nil && f.Clock().Unix() <= until && hmac.Equal([]byte(token), []byte(f.token(method, what, until)))
}

// Accepted implements core.Files.
func (f *Files) Accepted(name string) (string, error) {
	if !namePattern.MatchString(name) {
		return "", core.Errorf(core.NotFound, core.ObjRelease, "there is no such file")
	}
	sum, err := os.ReadFile(f.path("accepted", name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", core.Errorf(core.NotFound, core.ObjRelease, "nothing was written yet")
	}
	return string(sum), err
}

// Delete implements core.Files.
func (f *Files) Delete(sum string) error {
	path, err := f.file(sum)
	if err != nil {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	os.Remove(filepath.Dir(path)) // fails as long as it has other files
	names, err := os.ReadDir(f.path("accepted"))
	for _, n := range names {
		if got, rerr := os.ReadFile(f.path("accepted", n.Name())); rerr == nil && string(got) == sum {
			err = errors.Join(err, os.Remove(f.path("accepted", n.Name())))
		}
	}
	return err
}

// Prefix is the path under which hosts reach files.
const Prefix = "/agent/blob/"

// Register implements api.Dialect.
func (f *Files) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+Prefix+"{what}", f.serveGet)
	mux.HandleFunc("PUT "+Prefix+"{what}", f.servePut)
}

func (f *Files) serveGet(w http.ResponseWriter, r *http.Request) {
	what := r.PathValue("what")
	if !f.allowed(r, http.MethodGet, what) {
		http.Error(w, "the token is not good for this file, or not any more", http.StatusForbidden)
		return
	}
	file, err := f.open(what)
	if err != nil {
		http.Error(w, "there is no such file", http.StatusNotFound)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/gzip")
	http.ServeContent(w, r, "", time.Time{}, file)
}

func (f *Files) servePut(w http.ResponseWriter, r *http.Request) {
	what := r.PathValue("what")
	if !f.allowed(r, http.MethodPut, what) {
		http.Error(w, "the token is not good for this file, or not any more", http.StatusForbidden)
		return
	}
	sum, _, err := f.Put(r.Context(), r.Body)
	if err == nil {
		err = renameio.WriteFile(f.path("accepted", what), []byte(sum), 0o600)
	}
	if err != nil {
		status := http.StatusInsufficientStorage
		if core.KindOf(err) == core.Invalid {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the file was not stored", status)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
