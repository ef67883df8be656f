package deploy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/blob"
	"github.com/reeve-paas/reeve/handlers/deploy/platform"
	"github.com/reeve-paas/reeve/handlers/host"
)

const keepReleases = 10 // the newest ones, besides the current one

func releaseLink(n int) string         { return "releases/" + strconv.Itoa(n) }
func (a app) release(n int) string     { return path.Join(a.home(), releaseLink(n)) }
func (a app) unfinished(n int) string  { return path.Join(a.releases(), ".new-"+strconv.Itoa(n)) }
func (a app) releaseNote(n int) string { return path.Join(a.releases(), "."+strconv.Itoa(n)+".json") }
func (a app) discarded(n int) string   { return path.Join(a.releases(), ".old-"+strconv.Itoa(n)) }

// releaseNote lies beside a release: the release itself belongs to the app, this to root.
type releaseNote struct {
	SHA256   string `json:"sha256"`   // of the archive
	Switched bool   `json:"switched"` // PutRelease came to its end
}

// currentRelease is the number that the link names.
func (s *Service) currentRelease(a app) (int, error) {
	target, err := s.host.ReadLink(a.current())
	if err != nil {
		return 0, fmt.Errorf("current release of %s: %w", a.App, err)
	}
	n, ok := releaseNumber(strings.TrimPrefix(target, "releases/"))
	if !ok {
		return 0, fmt.Errorf("current release of %s: the link names %q", a.App, target)
	}
	return n, nil
}

func releaseNumber(name string) (int, bool) {
	n, err := strconv.Atoi(name)
	return n, err == nil && n >= 0 && strconv.Itoa(n) == name
}

// stored lists the releases on this host, in rising order. Unfinished ones do not count.
func (s *Service) stored(a app) ([]int, error) {
	entries, err := s.host.ReadDir(a.releases())
	if err != nil {
		return nil, err
	}
	numbers := []int{}
	for _, e := range entries {
		if n, ok := releaseNumber(e.Name()); ok && e.IsDir() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// PutRelease unpacks a release beside the current one and switches to it.
func (s *Service) PutRelease(ctx context.Context, p agentapi.PutReleaseParams) (_ agentapi.AppPaths, err error) {
	switch {
	case p.Release < 1:
		return agentapi.AppPaths{}, invalid("a release number is 1 or more, not %d", p.Release)
	case (p.Source == nil) == (len(p.Archive) == 0):
		return agentapi.AppPaths{}, invalid("a release has an archive or a source, and not both")
	case p.Source == nil:
		sum := sha256.Sum256(p.Archive)
		return s.putRelease(ctx, p.App, p.Release, hex.EncodeToString(sum[:]), bytes.NewReader(p.Archive))
	case !blob.SHA256.MatchString(p.Source.SHA256):
		return agentapi.AppPaths{}, invalid("a release is fetched by its sha256")
	}
	if err := blob.Check(*p.Source); err != nil {
		return agentapi.AppPaths{}, err
	}
	_, unlock, err := s.locks.take(ctx, p.App+"/"+strconv.Itoa(p.Release), false)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	defer unlock()
	a, err := s.load(p.App)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	have, err := s.knownRelease(a, p.Release, p.Source.SHA256)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	if have.SHA256 != "" {
		return s.putRelease(ctx, p.App, p.Release, p.Source.SHA256, nil)
	}
	tmp := a.fetched(p.Release)
	defer func() { err = errors.Join(err, s.host.RemoveAll(tmp)) }()
	if err := errors.Join(s.host.RemoveAll(tmp), s.host.MkdirAll(tmp, 0o700)); err != nil {
		return agentapi.AppPaths{}, err
	}
	file, err := s.host.CreateFile(path.Join(tmp, "archive"), 0o600)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	defer file.Close()
	if _, err := blob.Fetch(ctx, *p.Source, file); err != nil {
		return agentapi.AppPaths{}, err
	}
	return s.putRelease(ctx, p.App, p.Release, p.Source.SHA256, file)
}

// putRelease unpacks an archive of the sum given, unless it is here already, and switches to it. A nil archive is one that
// was here a moment ago.
func (s *Service) putRelease(ctx context.Context, name string, n int, sum string, archive io.Reader) (_ agentapi.AppPaths, err error) {
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	a, err := s.load(name)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	note := releaseNote{SHA256: sum}
	have, err := s.knownRelease(a, n, note.SHA256)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	if have.Switched {
		return s.paths(a)
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	if have.SHA256 == "" {
		if archive == nil {
			return agentapi.AppPaths{}, conflict("release %d of app %q was removed meanwhile; try again", n, name)
		}
		if err := s.unpackRelease(ctx, c, a, n, archive, note); err != nil {
			return agentapi.AppPaths{}, err
		}
	}
	if err := s.switchTo(ctx, c, a, n); err != nil {
		return agentapi.AppPaths{}, err
	}
	note.Switched = true
	if err := s.writeNote(c, a, n, note); err != nil {
		return agentapi.AppPaths{}, err
	}
	paths, err := s.paths(a)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	c.Commit()
	s.prune(a, n)
	s.log.Info("release is in place", "app", a.App, "release", n)
	return paths, nil
}

// knownRelease is the note of a release that is on this host already, the zero note when it is new, and a conflict when
// the number cannot be used for this archive.
func (s *Service) knownRelease(a app, n int, sum string) (releaseNote, error) {
	numbers, err := s.stored(a)
	if err != nil {
		return releaseNote{}, err
	}
	if !slices.Contains(numbers, n) {
		if last := numbers[max(0, len(numbers)-1):]; len(last) > 0 && n < last[0] {
			return releaseNote{}, conflict("release numbers only grow: %d comes after %d; switch_release goes back to a stored one", n, last[0])
		}
		return releaseNote{}, nil
	}
	var note releaseNote
	data, err := s.host.ReadFile(a.releaseNote(n))
	if err == nil {
		err = json.Unmarshal(data, &note)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return releaseNote{}, err
	}
	if note.SHA256 != sum {
		return releaseNote{}, conflict("release %d of app %q exists with other content", n, a.App)
	}
	return note, nil
}

func (s *Service) writeNote(c *host.Change, a app, n int, note releaseNote) error {
	data, err := json.Marshal(note)
	if err != nil {
		return err
	}
	_, err = c.WriteFile(a.releaseNote(n), append(data, '\n'), 0o600)
	return err
}

// unpackRelease puts the release in place, complete and on disk, or not at all.
func (s *Service) unpackRelease(ctx context.Context, c *host.Change, a app, n int, archive io.Reader, note releaseNote) (err error) {
	o, err := s.ownerOf(a)
	if err != nil {
		return err
	}
	tmp := a.unfinished(n)
	defer func() { err = errors.Join(err, s.host.RemoveAll(tmp)) }()
	tree := path.Join(tmp, "tree")
	if err := errors.Join(s.host.RemoveAll(tmp), s.host.MkdirAll(tree, 0o700)); err != nil {
		return err
	}
	root, err := s.host.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unpack(ctx, root, archive, defaultLimits, false); err != nil {
		return err
	}
	if st, err := root.Stat("htdocs"); err != nil || !st.IsDir() { // the whole archive is what is to be served
		site := path.Join(tmp, "site")
		if err := s.host.MkdirAll(site, 0o700); err != nil {
			return err
		}
		if err := s.host.Rename(tree, path.Join(site, "htdocs")); err != nil {
			return err
		}
		tree = site
	}
	if err := s.ownTree(tree, o); err != nil {
		return err
	}
	if err := s.host.SyncFS(tree); err != nil {
		return err
	}
	if err := s.writeNote(c, a, n, note); err != nil {
		return err
	}
	c.OnRollback(func() error { return s.host.RemoveAll(a.release(n)) })
	return s.host.Rename(tree, a.release(n))
}

// ownerOf looks up who owns an app's files.
func (s *Service) ownerOf(a app) (owner, error) {
	web, err := s.host.LookupUser(s.host.Layout().ApacheUser)
	if err != nil {
		return owner{}, err
	}
	user, err := s.host.LookupUser(unixUser(a.App))
	return owner{uid: int(user.UID), gid: int(user.GID), web: int(web.GID)}, err
}

// ownTree gives a release its owner and modes; executable files stay so. The app may be writing there already, so nothing
// it does with links leads us out.
func (s *Service) ownTree(dir string, o owner) error {
	root, err := s.host.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(fileMode)
		if d.IsDir() {
			mode = dirMode
		} else if info.Mode()&0o100 != 0 {
			mode = execMode
		}
		return s.host.OwnBelow(root, name, o.uid, o.web, mode)
	})
}

// SwitchRelease makes a stored release the current one.
func (s *Service) SwitchRelease(ctx context.Context, p agentapi.SwitchReleaseParams) (_ agentapi.AppPaths, err error) {
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	a, err := s.load(p.App)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	numbers, err := s.stored(a)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	if !slices.Contains(numbers, p.Release) {
		return agentapi.AppPaths{}, notFound("app %q has no release %d on this host; it has %v", a.App, p.Release, numbers)
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	if err := s.switchTo(ctx, c, a, p.Release); err != nil {
		return agentapi.AppPaths{}, err
	}
	paths, err := s.paths(a)
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	c.Commit()
	return paths, nil
}

// switchTo points the link at a release and makes a running httpd notice, where the platform needs that. It also does so
// when the link is right already: a killed agent may have got no further than that.
func (s *Service) switchTo(ctx context.Context, c *host.Change, a app, n int) error {
	old, err := s.host.ReadLink(a.current())
	if err != nil {
		return err
	}
	reloaded := false
	c.OnRollback(func() error { // runs when the link is back
		if !reloaded {
			return nil
		}
		return s.host.Units().Reload(context.WithoutCancel(ctx), s.host.Layout().ApacheUnit)
	})
	if old != releaseLink(n) {
		c.OnRollback(func() error { return s.host.ReplaceLink(a.current(), old) })
		if err := s.host.ReplaceLink(a.current(), releaseLink(n)); err != nil {
			return err
		}
	}
	if p, _ := platform.Get(a.Platform); !p.Reload {
		return nil
	}
	unit := s.host.Layout().ApacheUnit
	state, err := s.host.Units().State(ctx, unit)
	if err != nil || !state.Running() {
		return err
	}
	reloaded = true
	return s.host.Units().Reload(ctx, unit)
}

// prune removes old releases that are not to be kept, and what killed agents left. A failure is only logged: the next
// release tries again.
func (s *Service) prune(a app, keep ...int) {
	entries, err := s.host.ReadDir(a.releases())
	if err != nil {
		s.log.Warn("prune releases", "app", a.App, "err", err)
		return
	}
	numbers, err := s.stored(a)
	if err != nil {
		s.log.Warn("prune releases", "app", a.App, "err", err)
		return
	}
	used, err := s.usedReleases(a.App)
	if err != nil {
		s.log.Warn("prune releases", "app", a.App, "err", err)
		return
	}
	for _, n := range numbers[:max(0, len(numbers)-keepReleases)] {
		if slices.Contains(keep, n) || used[n] {
			continue
		}
		// Renamed first: a half removed release must not look like one.
		err := errors.Join(s.host.RemoveAll(a.discarded(n)), s.host.Rename(a.release(n), a.discarded(n)),
			s.host.RemoveAll(a.discarded(n)), s.host.Remove(a.releaseNote(n)))
		if err != nil {
			s.log.Warn("prune releases", "app", a.App, "release", n, "err", err)
		}
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") || strings.HasPrefix(e.Name(), ".old-") {
			if err := s.host.RemoveAll(path.Join(a.releases(), e.Name())); err != nil {
				s.log.Warn("prune releases", "app", a.App, "err", err)
			}
		}
	}
}
