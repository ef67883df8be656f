package apache

import (
	"context"
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// change is the difference a call makes to the vhost directory.
type change struct {
	put []vhostFile
	del []string // names; one that is also put is put
}

type vhostFile struct{ name, text string }

// change runs one mutating call: prepare renders what the call wants, and makes what it needs besides (certificates,
// directories) as part of c; then the files are tested, put in place and served. After an error everything is as before.
func (s *Service) change(ctx context.Context, reload bool, prepare func(context.Context, *loaded, *host.Change) (change, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.recover(ctx); err != nil {
		return err
	}
	l, err := s.load()
	if err != nil {
		return err
	}
	c := s.host.Begin()
	defer s.rollback(c)
	ch, err := prepare(ctx, l, c)
	if err != nil {
		return err
	}
	if err := s.apply(ctx, l, c, ch, reload); err != nil {
		return err
	}
	c.Commit()
	return nil
}

func (s *Service) rollback(c interface{ Rollback() error }) {
	if err := c.Rollback(); err != nil {
		s.log.Error("take back a change", "err", err)
	}
}

// apply tests a change beside the live configuration, puts it in place and, if reload is set, makes Apache read it.
//
// The happy path runs Apache's test once. Whether the configuration was broken before is only asked when that test fails,
// and the reload of the unit repeats the test anyway.
func (s *Service) apply(ctx context.Context, l *loaded, c *host.Change, ch change, reload bool) error {
	ctx = context.WithoutCancel(ctx) // a caller who hangs up now leaves no half change
	st, err := s.stage(l, c, ch)
	if err != nil {
		return err
	}
	defer s.rollback(st)
	if st.Empty() {
		if reload {
			return s.server.Reload(ctx)
		}
		return nil
	}
	if err := s.testStaged(ctx, st.main); err != nil {
		return err
	}
	before, err := s.host.Units().State(ctx, s.layout.ApacheUnit)
	if err != nil && reload {
		return err
	}
	if before.Running() {
		if _, err := st.Scratch(wasRunningMark, nil); err != nil {
			return err
		}
	}
	if err := st.Apply(); err != nil {
		return err
	}
	if !reload {
		return st.Commit()
	}
	if err = s.server.Reload(ctx); err == nil {
		err = st.Commit()
	}
	if err != nil {
		s.undo(ctx, c, st, before.Running())
	}
	return err
}

// undo puts everything back after Apache did not take a change, or the change could not be kept, and makes Apache read what
// is there again.
func (s *Service) undo(ctx context.Context, c *host.Change, st *stagedSites, wasRunning bool) {
	err := st.Rollback()
	s.host.AwaitReaders(s.readers()) // who read a site that is gone looks for its directories yet
	if err := errors.Join(err, c.Rollback()); err != nil {
		s.log.Error("put the old virtual hosts back", "err", err)
	}
	if err := s.server.Recover(ctx, wasRunning); err != nil {
		s.log.Error("bring Apache back after a failed change", "err", err)
	}
}

// readers are whoever reads Apache's configuration: it lists our directory first and opens the files then.
func (s *Service) readers() host.Readers {
	return host.Readers{File: s.layout.ApacheConf, Programs: []string{"apache2", "httpd"}}
}

// stagedSites is a staged change with the main configuration that tests it.
type stagedSites struct {
	*host.Staged
	main string // path of the main configuration for the test
}

func (s *Service) stage(l *loaded, c *host.Change, ch change) (*stagedSites, error) {
	if !l.oursReached && !l.vhostsInMain {
		return nil, s.notIncluded()
	}
	for _, dir := range []string{s.privateDir, s.vhostDir()} {
		if err := c.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	names, err := s.vhostFiles()
	if err != nil {
		return nil, err
	}
	st, err := s.host.Stage(s.stagingDir(), s.readers())
	if err != nil {
		return nil, err
	}
	paths, err := s.stageFiles(st, names, ch)
	if err == nil && !l.vhostsInMain {
		err = s.stageInclude(st)
	}
	var main string
	if err == nil && !st.Empty() {
		main, err = st.Scratch("main.conf", []byte(stagedMain(l.main, s.vhostMask(), paths)))
	}
	if err != nil {
		s.rollback(st)
		return nil, err
	}
	return &stagedSites{Staged: st, main: main}, nil
}

// stageFiles stages the new files before the removals: a rename is never seen with the site missing. It returns the files
// that Apache would read after the change, in its order.
func (s *Service) stageFiles(st *host.Staged, names []string, ch change) ([]string, error) {
	files := map[string]string{}
	for _, name := range names {
		files[name] = path.Join(s.vhostDir(), name)
	}
	put := map[string]bool{}
	for _, f := range ch.put {
		put[f.name] = true
		target := path.Join(s.vhostDir(), f.name)
		if old, err := s.host.ReadFile(target); err == nil && string(old) == f.text {
			continue
		}
		staged, err := st.Write(target, []byte(f.text), 0o644)
		if err != nil {
			return nil, err
		}
		files[f.name] = staged
	}
	for _, name := range ch.del {
		if _, there := files[name]; put[name] || !there { // named twice, or not there
			continue
		}
		if err := st.Remove(path.Join(s.vhostDir(), name)); err != nil {
			return nil, err
		}
		delete(files, name)
	}
	return sortedValues(files), nil
}

func (s *Service) stageInclude(st *host.Staged) error {
	want := includeFile(s.vhostMask())
	if have, err := s.host.ReadFile(s.includePath()); err == nil && string(have) == want {
		return nil
	}
	_, err := st.Write(s.includePath(), []byte(want), 0o644)
	return err
}

// testStaged runs Apache's test on the staged configuration. Its output names the files as they will be called.
func (s *Service) testStaged(ctx context.Context, main string) error {
	err := s.testFile(ctx, main, stagedDefine)
	if err == nil {
		return nil
	}
	if before := s.test(ctx); before != nil {
		return agentapi.Errorf(agentapi.KindConfigTest, "InitdError",
			"nothing was changed, since the configuration was broken before this call: %s", strings.TrimPrefix(before.Error(), "InitdError: "))
	}
	if e, ok := err.(*agentapi.Error); ok {
		e.Text = s.finalNames(e.Text)
	}
	return err
}

// stagedName matches a staged file: the number of its step goes before its name.
var stagedName = regexp.MustCompile(`/[0-9]+-`)

func (s *Service) finalNames(text string) string {
	dir := s.host.Path(s.stagingDir())
	text = strings.ReplaceAll(text, dir+"/main.conf", s.layout.ApacheConf)
	before, after, found := strings.Cut(text, dir)
	for found {
		if at := stagedName.FindStringIndex(after); at != nil && at[0] == 0 {
			after = "/" + after[at[1]:]
		}
		before += s.vhostDir()
		var more string
		more, after, found = strings.Cut(after, dir)
		before += more
	}
	return before
}

func sortedValues(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = m[k]
	}
	return out
}
