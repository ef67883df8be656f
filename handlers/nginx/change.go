package nginx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

// state is what the files say now.
type state struct {
	conf      string // text of nginx.conf
	confNodes []*node
	included  bool // nginx.conf includes both of our files
	misplaced bool // it includes upstreams first, as an older agent did: see orderSteps
	upstreams *file
	proxies   *file
	table     backendTable
	tableText string // the table's file, "" when there is none

	confChanged bool // conf is no longer what the file says
	quiet       bool // the change is not worth a reload
}

func (s *Service) load() (*state, error) {
	conf, err := s.host.ReadFile(s.layout.NginxConf)
	if err != nil {
		return nil, agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "nginx is not installed on this host: %s cannot be read", s.layout.NginxConf)
	}
	st := &state{conf: string(conf)}
	if st.confNodes, err = parse(st.conf); err != nil {
		return nil, inFile(err, s.layout.NginxConf)
	}
	found := s.ourIncludes(st.confNodes)
	up, pr := found[s.upstreamsPath()], found[s.proxiesPath()]
	st.included = up != nil && pr != nil
	st.misplaced = st.included && up.start < pr.start
	if st.upstreams, err = s.loadFile(s.upstreamsPath()); err != nil {
		return nil, err
	}
	if st.proxies, err = s.loadFile(s.proxiesPath()); err != nil {
		return nil, err
	}
	return st, s.loadTable(st)
}

func (s *Service) loadFile(name string) (*file, error) {
	data, err := s.host.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := parseFile(string(data))
	return f, inFile(err, name)
}

func inFile(err error, name string) error {
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		e.Text = name + ": " + e.Text
	}
	return err
}

// ourIncludes finds the include directives of our files, wherever they stand.
func (s *Service) ourIncludes(nodes []*node) map[string]*node {
	found := map[string]*node{}
	for _, n := range nodes {
		n.walk(func(n *node) {
			if n.name() != "include" || len(n.args) != 2 {
				return
			}
			target := n.arg(1)
			if !path.IsAbs(target) {
				target = path.Join(s.dir(), target)
			}
			if target == s.upstreamsPath() || target == s.proxiesPath() || target == s.statusPath() {
				found[target] = n
			}
		})
	}
	return found
}

// change runs one mutating call: prepare computes new contents of the two files from the present ones, updates the table,
// and makes what it needs besides as part of c; then they are tested, put in place and served. After an error everything is
// as before. prepare may say that there is nothing to do at all, not even a reload.
func (s *Service) change(ctx context.Context, reload bool, prepare func(context.Context, *host.Change, *state) (upstreams, proxies *file, err error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.recover(ctx); err != nil {
		return err
	}
	st, err := s.load()
	if err != nil {
		return err
	}
	c := s.host.Begin()
	defer s.rollback(c)
	upstreams, proxies, err := prepare(ctx, c, st)
	if err != nil {
		return err
	}
	if upstreams == nil {
		return nil
	}
	proxies = withNoApp(upstreams, proxies)
	st.table.keepOnly(upstreams)
	if err := s.apply(ctx, c, st, upstreams.text(), proxies.text(), reload && !st.quiet); err != nil {
		return err
	}
	c.Commit()
	s.dropCertificates(proxies)
	return nil
}

// dropCertificates removes the certificates that came with proxies and that none of them names any more. It comes after the
// change, which nothing takes back then; what a kill leaves goes with the next one.
func (s *Service) dropCertificates(proxies *file) {
	named, awaited := map[string]bool{}, false
	for _, it := range proxies.items {
		for _, n := range slices.Concat(it.n.children("ssl_certificate"), it.n.children("ssl_certificate_key")) {
			named[n.arg(1)] = true
		}
	}
	err := web.DropCertificates(s.host, s.privateDir, func(file string) bool {
		if !named[file] && !awaited {
			s.host.AwaitReaders(s.readers()) // who read the proxies of before opens what they name
			awaited = true
		}
		return named[file]
	})
	if err != nil {
		s.log.Error("remove certificates that no proxy names", "err", err)
	}
}

// withNoApp makes every location fit the upstreams: those without a server show a page that says so.
func withNoApp(upstreams, proxies *file) *file {
	known := map[string]bool{}
	for _, it := range upstreams.items {
		if it.n.name() == "upstream" {
			known[it.n.arg(1)] = answers(it.n)
		}
	}
	has := func(name string) (bool, bool) { a, ok := known[name]; return a, ok }
	out := proxies.clone()
	for i, it := range out.items {
		if it.n.name() != "server" {
			continue
		}
		if marked := markNoApp(it.n, has); marked != it.n {
			out.items[i] = newItem(marked)
		}
	}
	return out
}

// fileChange is one file of a change, new content included. before says that readers who began before the change are waited
// for, and undo that those are who began before it is taken back.
type fileChange struct {
	path, text   string
	before, undo bool
}

// apply tests new contents of the two files beside the live configuration, puts them in place and, if reload is set, makes
// nginx read them. The happy path runs nginx's test once, besides the one that is part of the unit's reload.
func (s *Service) apply(ctx context.Context, c *host.Change, st *state, upstreams, proxies string, reload bool) error {
	ctx = context.WithoutCancel(ctx) // a caller who hangs up now leaves no half change
	if err := s.ensurePages(c); err != nil {
		return err
	}
	steps, err := s.steps(st, upstreams, proxies)
	if err != nil {
		return err
	}
	if text := st.table.text(); text != st.tableText {
		if text == "" {
			text = "{}\n"
		}
		if text != st.tableText {
			if err := c.MkdirAll(s.privateDir, 0o755); err != nil {
				return err
			}
			steps = append(steps, fileChange{path: s.tablePath(), text: text})
		}
	}
	if len(steps) == 0 {
		if reload {
			return s.server.Reload(ctx)
		}
		return nil
	}
	staged, err := s.stageWithStatus(ctx, st, steps)
	if err != nil {
		return err
	}
	defer s.rollback(staged)
	before, err := s.host.Units().State(ctx, s.layout.NginxUnit)
	if err != nil && reload {
		return err
	}
	if before.Running() {
		if _, err := staged.Scratch(wasRunningMark, nil); err != nil {
			return err
		}
	}
	defaultSite := ""
	if !st.included {
		if defaultSite, err = s.keepDefaultSite(staged); err != nil {
			return err
		}
	}
	if err := staged.Apply(); err != nil {
		return err
	}
	if defaultSite != "" {
		s.dropDefaultSite(c, defaultSite)
	}
	if !reload {
		return staged.Commit()
	}
	if err = s.server.Reload(ctx); err == nil {
		err = staged.Commit()
	}
	if err != nil {
		s.undo(ctx, c, staged, before.Running())
	}
	return err
}

// undo puts everything back after nginx did not take a change, or the change could not be kept, and makes nginx read what
// is there again.
func (s *Service) undo(ctx context.Context, c *host.Change, staged *host.Staged, wasRunning bool) {
	err := staged.Rollback()
	s.host.AwaitReaders(s.readers()) // who read a server that is gone looks for its certificate yet
	if err := errors.Join(err, c.Rollback()); err != nil {
		s.log.Error("put the old proxies back", "err", err)
	}
	if err := s.server.Recover(ctx, wasRunning); err != nil {
		s.log.Error("bring nginx back after a failed change", "err", err)
	}
}

// readers are whoever reads nginx's configuration.
func (s *Service) readers() host.Readers {
	return host.Readers{File: s.layout.NginxConf, Programs: []string{path.Base(s.layout.NginxBin)}}
}

// steps are the file changes in the order they are made.
func (s *Service) steps(st *state, upstreams, proxies string) ([]fileChange, error) {
	steps, err := orderSteps(st.upstreams.text(), upstreams, st.proxies.text(), proxies)
	if err != nil {
		return nil, err
	}
	for i, step := range steps {
		steps[i].path = map[string]string{"upstreams": s.upstreamsPath(), "proxies": s.proxiesPath()}[step.path]
	}
	conf := st.conf
	if st.misplaced && len(steps) > 0 {
		conf = s.inOrder(st)
		steps[0].before = true // who reads upstreams first must not see proxies that are newer
	}
	if st.confChanged || conf != st.conf { // while the upstream that it drops the name of is there
		steps = slices.Insert(steps, 0, fileChange{path: s.layout.NginxConf, text: conf})
	}
	if st.included {
		return steps, nil
	}
	// A missing file makes nginx's test fail, so both exist before nginx.conf names them.
	for _, f := range []fileChange{{path: s.upstreamsPath(), text: upstreams}, {path: s.proxiesPath(), text: proxies}} {
		if !s.host.Exists(f.path) && !slices.ContainsFunc(steps, func(x fileChange) bool { return x.path == f.path }) {
			steps = append(steps, f)
		}
	}
	conf, err = s.withIncludes(st)
	return append(steps, fileChange{path: s.layout.NginxConf, text: conf}), err
}

// orderSteps finds an order of writes that never leaves a proxy naming an upstream that does not exist: upstreams first
// when all the old proxies' names survive, proxies first when the new ones need nothing new, else both generations of
// upstreams, the proxies, and then the new upstreams alone. Unchanged files are left out.
//
// That holds for who reads the files one after the other while they change, too. nginx.conf includes proxies before
// upstreams, in which order nginx takes names as well, so whoever read proxies reads upstreams at least as new: what those
// proxies name is there, unless it was dropped meanwhile. So names are dropped only when nobody reads any more who began
// before.
func orderSteps(oldUp, newUp, oldPr, newPr string) ([]fileChange, error) {
	up, pr := fileChange{path: "upstreams", text: newUp}, fileChange{path: "proxies", text: newPr}
	if oldUp == newUp {
		if oldPr == newPr {
			return nil, nil
		}
		return []fileChange{pr}, nil
	}
	before, err := parseFile(oldUp)
	if err != nil {
		return nil, err
	}
	after, err := parseFile(newUp)
	if err != nil {
		return nil, err
	}
	missing := func(proxies string, have, known *file) bool {
		return slices.ContainsFunc(references(proxies, known), func(name string) bool { return !slices.Contains(upstreamNames(have), name) })
	}
	up.before, up.undo = drops(before, after), drops(after, before)
	switch {
	case oldPr == newPr:
		return []fileChange{up}, nil
	case !missing(oldPr, after, before):
		return []fileChange{up, pr}, nil
	case !missing(newPr, before, after):
		return []fileChange{pr, up}, nil
	}
	both := after.clone()
	for _, it := range before.items {
		if it.n.name() == "upstream" && !slices.Contains(upstreamNames(after), it.n.arg(1)) {
			both.items = append(both.items, it)
		}
	}
	return []fileChange{{path: "upstreams", text: both.text(), undo: drops(both, before)}, pr, {path: "upstreams", text: newUp, before: true}}, nil
}

// drops says that an upstream of one file is not in the next.
func drops(one, next *file) bool {
	names := upstreamNames(next)
	return slices.ContainsFunc(upstreamNames(one), func(name string) bool { return !slices.Contains(names, name) })
}

func upstreamNames(f *file) []string {
	var names []string
	for _, it := range f.items {
		if it.n.name() == "upstream" {
			names = append(names, it.n.arg(1))
		}
	}
	return names
}

// references are the upstreams of known that a proxies file passes to.
func references(proxies string, known *file) []string {
	nodes, _ := parse(proxies) // parsed before
	var names []string
	for _, n := range nodes {
		names = append(names, passes(n)...)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(upstreamNames(known), name) })
}

// passes are the hosts of every proxy_pass in a block.
func passes(n *node) []string {
	var names []string
	n.walk(func(n *node) {
		if n.name() == "proxy_pass" {
			names = append(names, passedUpstream(n))
		}
	})
	return names
}

// stage writes the new contents beside the live ones and has nginx test them.
func (s *Service) stage(ctx context.Context, st *state, steps []fileChange) (*host.Staged, error) {
	staged, err := s.host.Stage(s.stagingDir(), s.readers())
	if err != nil {
		return nil, err
	}
	err = func() error {
		final := map[string]string{} // target -> staged file that it ends as
		conf := st.conf
		for _, step := range steps {
			if final[step.path], err = staged.Write(step.path, []byte(step.text), 0o644); err != nil {
				return err
			}
			staged.Quiet(step.before, step.undo)
			if step.path == s.layout.NginxConf {
				conf = step.text
			}
		}
		text, err := s.stagedMain(conf, final)
		if err != nil {
			return err
		}
		return s.testStaged(ctx, text, final)
	}()
	if err != nil {
		s.rollback(staged)
		return nil, err
	}
	return staged, nil
}

// testStaged runs nginx's test on a main configuration that names staged files. Its output gets their final names.
func (s *Service) testStaged(ctx context.Context, conf string, final map[string]string) error {
	if err := s.host.WriteFile(s.stagedConf(), []byte(conf), 0o600); err != nil {
		return err
	}
	defer os.Remove(s.host.Path(s.stagedConf()))
	err := s.testFile(ctx, s.stagedConf())
	if err == nil {
		return nil
	}
	if before := s.test(ctx); before != nil {
		return agentapi.Errorf(agentapi.KindConfigTest, "PopenError",
			"nothing was changed, since the configuration was broken before this call: %s", strings.TrimPrefix(before.Error(), "PopenError: "))
	}
	if e, ok := err.(*agentapi.Error); ok {
		for target, staged := range final {
			e.Text = strings.ReplaceAll(e.Text, s.host.Path(staged), target)
		}
		e.Text = strings.ReplaceAll(e.Text, s.host.Path(s.stagedConf()), s.layout.NginxConf)
	}
	return err
}

// stagedMain is nginx.conf with our includes replaced by the staged files, and a pid file of the test's own: the test of a
// stopped nginx would leave an empty one.
func (s *Service) stagedMain(conf string, final map[string]string) (string, error) {
	nodes, err := parse(conf)
	if err != nil {
		return "", inFile(err, s.layout.NginxConf)
	}
	type edit struct {
		n    *node
		text string
	}
	var edits []edit
	for target, n := range s.ourIncludes(nodes) {
		if staged := final[target]; staged != "" {
			edits = append(edits, edit{n, "include " + word(s.host.Path(staged)) + ";"})
		}
	}
	pid := "pid " + word(s.host.Path(path.Join(s.stagingDir(), "nginx.pid"))) + ";"
	hasPID := false
	for _, n := range nodes {
		if n.name() == "pid" {
			edits, hasPID = append(edits, edit{n, pid}), true
		}
	}
	slices.SortFunc(edits, func(a, b edit) int { return b.n.start - a.n.start })
	for _, e := range edits {
		conf = conf[:e.n.start] + e.text + conf[e.n.end:]
	}
	if !hasPID {
		conf = pid + "\n" + conf
	}
	return conf, nil
}

// withIncludes is nginx.conf with our two files included, proxies first, at the end of http, so operators' servers come
// first.
func (s *Service) withIncludes(st *state) (string, error) {
	at := slices.IndexFunc(st.confNodes, func(n *node) bool { return n.name() == "http" && n.isBlock })
	if at < 0 {
		return "", agentapi.Errorf(agentapi.KindUnsupported, "ParseError", "%s has no http block to add the proxies to", s.layout.NginxConf)
	}
	found := s.ourIncludes(st.confNodes)
	end := st.confNodes[at].close
	if up := found[s.upstreamsPath()]; up != nil {
		end = up.start
	}
	var b strings.Builder
	for _, f := range []string{s.proxiesPath(), s.upstreamsPath()} {
		if found[f] == nil {
			fmt.Fprintf(&b, "\tinclude %s;\n", word(f))
		}
	}
	return appendLine(st.conf, end, b.String()), nil
}

// inOrder is nginx.conf with the places of our two includes exchanged.
func (s *Service) inOrder(st *state) string {
	found := s.ourIncludes(st.confNodes)
	up, pr := found[s.upstreamsPath()], found[s.proxiesPath()]
	text := st.conf
	return text[:up.start] + text[pr.start:pr.end] + text[up.end:pr.start] + text[up.start:up.end] + text[pr.end:]
}

// defaultSiteMark is a file among the staged ones that holds where the link of the packaged site pointed.
const defaultSiteMark = "default-site"

func (s *Service) defaultSite() string { return path.Join(s.dir(), "sites-enabled/default") }

// keepDefaultSite notes where the link of the packaged site points, so that a kill loses nothing. It is "" when the link is
// not there or not the packaged one.
func (s *Service) keepDefaultSite(staged *host.Staged) (target string, err error) {
	target, err = os.Readlink(s.host.Path(s.defaultSite()))
	if err != nil || path.Base(target) != "default" || path.Base(path.Dir(target)) != "sites-available" {
		return "", nil
	}
	_, err = staged.Scratch(defaultSiteMark, []byte(target))
	return target, err
}

// dropDefaultSite removes the packaged site, once, when nginx.conf gets our includes: it claims every unknown host on port
// 80. The file in sites-available stays, and an operator who enables it again keeps it.
func (s *Service) dropDefaultSite(c *host.Change, target string) {
	s.host.AwaitReaders(s.readers()) // who listed the directory opens what it found
	link := s.host.Path(s.defaultSite())
	if err := os.Remove(link); err != nil {
		s.log.Warn("the packaged default site stays", "err", err)
		return
	}
	c.OnRollback(func() error { return symlinkIfMissing(target, link) })
}

// bringDefaultSiteBack restores the link that an interrupted change removed.
func (s *Service) bringDefaultSiteBack() error {
	target, err := s.host.ReadFile(path.Join(s.stagingDir(), defaultSiteMark))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return symlinkIfMissing(string(target), s.host.Path(s.defaultSite()))
}

func symlinkIfMissing(target, link string) error {
	if err := os.Symlink(target, link); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// ensurePages writes the error pages and their locations where they are absent.
func (s *Service) ensurePages(c *host.Change) error {
	if err := c.MkdirAll(s.pagesDir, 0o755); err != nil {
		return err
	}
	files := map[string]string{s.errorPagesPath(): errorPages(s.pagesDir)}
	for name, text := range pages {
		files[path.Join(s.pagesDir, name)] = text
	}
	for name, text := range files {
		if s.host.Exists(name) {
			continue
		}
		if _, err := c.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
