package nspawn

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Image is what nodes boot from: a base, and on top of it thin layers.
type Image struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	Layers []string `json:"layers"` // directories, topmost first; the last is the base. Never changed once used
	// Extras names what the image has beside what every one has, sorted.
	Extras []string `json:"extras,omitempty"`
}

// ImageID is the id of the image that BuildImage makes unless told otherwise.
const ImageID = "debian-12-reeve"

// ImageOptions say what BuildImage makes. The zero value is useful.
type ImageOptions struct {
	// CacheDir is where images are kept, shared by every instance of this host. "" means DefaultImageCache.
	CacheDir string
	// ID and Name are what clients see. "" means ImageID and "Debian 12 with the Reeve agent", followed by the names of the extras.
	ID, Name string
	// Extras are installed in a layer between the base and the agent.
	Extras []Extra
	// Mirror is a Debian mirror. "" means http://deb.debian.org/debian.
	Mirror string
	// AgentDeb is the agent's package. "" makes an image without an agent.
	AgentDeb string
	// Unlisted keeps the image out of Images: for tests, which share a cache with the coordinators of this host.
	Unlisted bool
}

// Progress hears how a build goes on: stage is a short name, done of total its progress (total 0: unknown), detail what
// is being worked on.
type Progress func(stage string, done, total int, detail string)

// DefaultImageCache is the directory named by REEVE_IMAGE_CACHE, or /var/cache/reeve/images.
func DefaultImageCache() string {
	return cmp.Or(os.Getenv("REEVE_IMAGE_CACHE"), "/var/cache/reeve/images")
}

func (o ImageOptions) withDefaults() ImageOptions {
	o.CacheDir = cmp.Or(o.CacheDir, DefaultImageCache())
	o.Mirror = cmp.Or(o.Mirror, "http://deb.debian.org/debian")
	id, name := ImageID, "Debian 12 with the Reeve agent"
	if names := o.extraNames(); len(names) > 0 {
		id += "-" + strings.Join(names, "-")
		name += " and " + strings.Join(names, ", ")
	}
	o.ID, o.Name = cmp.Or(o.ID, id), cmp.Or(o.Name, name)
	return o
}

func (o ImageOptions) extraNames() []string {
	var names []string
	for _, e := range o.Extras {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Layout of the cache: <recipe hash>/rootfs, <recipe hash>/agent-<package hash>/root, <recipe hash>/with-<hash of packages>/root
// with <...>/agent-<package hash>/root beside it, and <image id>.json, which says what an image is made of at present.
const (
	dirRootfs = "rootfs"
	dirLayer  = "root"
)

// BuildImage makes the node image, or finds that it is there. The base, a minute of work, is made once per recipe; the
// layer of extras once per set of packages, the layer with the agent once per package, in about a second. Builds at the same
// time wait for one another. A build that was cut off leaves a temporary directory, which the next one removes.
//
// Errors:  unsupported (mmdebstrap missing), unavailable (mirror, disk)
// Effects: writes below the cache only; fetches Debian packages when the base, or the layer of extras, is not there
func BuildImage(ctx context.Context, o ImageOptions, progress Progress) (Image, error) {
	o = o.withDefaults()
	if progress == nil {
		progress = func(string, int, int, string) {}
	}
	if strings.ContainsAny(o.CacheDir, ":,\\") || !filepath.IsAbs(o.CacheDir) {
		return Image{}, core.Errorf(core.Invalid, core.ObjImage, "image cache %q: want an absolute path without : , \\", o.CacheDir)
	}
	if err := privateDir(o.CacheDir); err != nil {
		return Image{}, core.Wrap(core.Unavailable, core.ObjImage, err, "image cache")
	}
	lock, err := lockFileContext(ctx, filepath.Join(o.CacheDir, "lock"), func() { progress("wait", 0, 0, "another build is under way") })
	if err != nil {
		return Image{}, core.Wrap(core.Unavailable, core.ObjImage, err, "image cache")
	}
	defer lock.Close()
	recipe := newRecipe(o.Mirror)
	home := filepath.Join(o.CacheDir, recipe.hash())
	if err := buildBase(ctx, home, recipe, lock, progress); err != nil {
		return Image{}, core.Wrap(core.Unavailable, core.ObjImage, err, "build the base image")
	}
	image := Image{ID: o.ID, Name: o.Name, Layers: []string{filepath.Join(home, dirRootfs)}, Extras: o.extraNames()}
	if len(o.Extras) > 0 {
		var layer string
		if home, layer, err = buildExtraLayer(ctx, home, o.Extras, lock, progress); err != nil {
			return Image{}, core.Wrap(core.Unavailable, core.ObjImage, err, "install %s into the image", strings.Join(image.Extras, ", "))
		}
		image.Layers = slices.Insert(image.Layers, 0, layer)
	}
	if o.AgentDeb != "" {
		layer, err := buildAgentLayer(ctx, home, image.Layers, o.AgentDeb, progress)
		if err != nil {
			return Image{}, core.Wrap(core.Unavailable, core.ObjImage, err, "install the agent into the image")
		}
		image.Layers = slices.Insert(image.Layers, 0, layer)
	}
	if !o.Unlisted {
		if err := writeJSON(filepath.Join(o.CacheDir, o.ID+".json"), image); err != nil {
			return Image{}, core.Wrap(core.Unavailable, core.ObjImage, err, "image cache")
		}
	}
	progress("done", 1, 1, image.ID)
	return image, nil
}

// Images lists what BuildImage has made in a cache ("" means DefaultImageCache): the usual image first, others by id. It
// is empty while nothing is there, and skips an image whose directories were deleted.
func Images(cache string) ([]Image, error) {
	files, err := filepath.Glob(filepath.Join(cmp.Or(cache, DefaultImageCache()), "*.json"))
	if err != nil {
		return nil, err
	}
	var images []Image
	for _, f := range files {
		var i Image
		if err := readJSON(f, &i); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(i.Layers, func(dir string) bool { return !exists(dir) }) {
			images = append(images, i)
		}
	}
	slices.SortStableFunc(images, func(a, b Image) int {
		switch {
		case a.ID == ImageID:
			return -1
		case b.ID == ImageID:
			return 1
		}
		return 0 // the files come sorted
	})
	return images, nil
}

// privateDir makes a directory that root alone can enter, also when it is there with another mode: an image holds
// set-user-ID root programs, which users of the host must not reach. Nodes do not mind, because the kernel follows the path
// of a lower directory once, when root mounts it.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st.Mode()&fs.ModeSticky != 0 {
		return fmt.Errorf("%s is shared with other users; name a directory of its own, such as %s", dir, filepath.Join(dir, "reeve-images"))
	}
	return os.Chmod(dir, 0o700)
}

// lockFileContext waits for a lock until ctx ends, and says so when it must.
func lockFileContext(ctx context.Context, path string, waiting func()) (*os.File, error) {
	for first := true; ; first = false {
		lock, err := lockFile(path)
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		if first {
			waiting()
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// buildBase makes <home>/rootfs unless it is there. It appears by a rename, complete or not at all.
func buildBase(ctx context.Context, home string, r recipe, lock *os.File, progress Progress) error {
	if err := privateDir(home); err != nil {
		return err
	}
	final := filepath.Join(home, dirRootfs)
	if exists(final) {
		progress("base", 1, 1, "already there")
		return nil
	}
	tmp := filepath.Join(home, dirRootfs+".new")
	if err := removeRootfs(tmp); err != nil {
		return err
	}
	if err := r.bootstrap(ctx, tmp, lock, progress); err != nil {
		return errors.Join(err, removeRootfs(tmp))
	}
	progress("base", 0, 0, "configure services")
	if err := r.finish(ctx, tmp); err != nil {
		return errors.Join(err, removeRootfs(tmp))
	}
	return os.Rename(tmp, final)
}

// removeRootfs deletes an unfinished tree. What a killed build left mounted in it is unmounted first.
func removeRootfs(dir string) error {
	if err := unmountBelow(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// fileHash is the SHA-256 of a file, in hex.
func fileHash(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is not there", path)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
