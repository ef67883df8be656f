package deploy

import (
	"context"
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/blob"
)

// fetched is where a release lies until it is whole.
func (a app) fetched(n int) string { return path.Join(a.releases(), ".get-"+strconv.Itoa(n)) }

// FetchRelease puts a built release beside the others.
func (s *Service) FetchRelease(ctx context.Context, p agentapi.FetchReleaseParams) (_ handlers.Null, err error) {
	if p.Release < 1 {
		return handlers.Null{}, invalid("a release number is 1 or more, not %d", p.Release)
	}
	if !blob.SHA256.MatchString(p.Source.SHA256) {
		return handlers.Null{}, invalid("a release is fetched by its sha256")
	}
	if err := blob.Check(p.Source); err != nil {
		return handlers.Null{}, err
	}
	_, unlock, err := s.locks.take(ctx, p.App+"/"+strconv.Itoa(p.Release), false)
	if err != nil {
		return handlers.Null{}, err
	}
	defer unlock()
	a, err := s.load(p.App)
	if err != nil {
		return handlers.Null{}, err
	}
	have, err := s.fetchedAlready(a, p)
	if have || err != nil {
		return handlers.Null{}, err
	}
	tmp := a.fetched(p.Release)
	defer func() { err = errors.Join(err, s.host.RemoveAll(tmp)) }()
	tree := path.Join(tmp, "tree")
	if err := errors.Join(s.host.RemoveAll(tmp), s.host.MkdirAll(tree, 0o700)); err != nil {
		return handlers.Null{}, err
	}
	if err := s.fetchInto(ctx, p.Source, tmp, tree, true); err != nil {
		return handlers.Null{}, err
	}
	o, err := s.ownerOf(a)
	if err != nil {
		return handlers.Null{}, err
	}
	if err := s.ownTree(tree, o); err != nil {
		return handlers.Null{}, err
	}
	if err := s.host.SyncFS(tree); err != nil {
		return handlers.Null{}, err
	}
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	if a, err = s.load(p.App); err != nil { // deleted in the meantime
		return handlers.Null{}, err
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	if err := s.writeNote(c, a, p.Release, releaseNote{SHA256: p.Source.SHA256, Switched: true}); err != nil {
		return handlers.Null{}, err
	}
	if err := s.host.Rename(tree, a.release(p.Release)); err != nil {
		return handlers.Null{}, err
	}
	c.Commit()
	if current, err := s.currentRelease(a); err == nil {
		s.prune(a, current, p.Release)
	}
	s.log.Info("release is fetched", "app", a.App, "release", p.Release)
	return handlers.Null{}, nil
}

// fetchedAlready says that a release is on this host; a conflict when it is there with other content.
func (s *Service) fetchedAlready(a app, p agentapi.FetchReleaseParams) (bool, error) {
	numbers, err := s.stored(a)
	if err != nil || !slices.Contains(numbers, p.Release) {
		return false, err
	}
	_, err = s.knownRelease(a, p.Release, p.Source.SHA256)
	return err == nil, err
}

// fetchInto downloads an archive into the directory tmp and unpacks it into tree, which is empty.
func (s *Service) fetchInto(ctx context.Context, b agentapi.Blob, tmp, tree string, built bool) error {
	file, err := s.host.CreateFile(path.Join(tmp, "archive"), 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := blob.Fetch(ctx, b, file); err != nil {
		return err
	}
	root, err := s.host.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	return unpack(ctx, root, file, defaultLimits, built)
}

// sweepApps removes what killed agents left of fetches and builds.
func (s *Service) sweepApps() error {
	entries, err := s.host.ReadDir(s.appsDir())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		name, isApp := cutSuffix(e.Name(), ".json")
		if !isApp {
			continue
		}
		a, err := s.load(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		left, err := s.host.ReadDir(a.releases())
		errs = append(errs, err)
		for _, l := range left {
			if strings.HasPrefix(l.Name(), ".get-") || strings.HasPrefix(l.Name(), ".build-") {
				errs = append(errs, s.host.RemoveAll(path.Join(a.releases(), l.Name())))
			}
		}
	}
	return errors.Join(errs...)
}
