package deploy

import (
	"context"
	"fmt"
	"os"
	"path"
	"regexp"

	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// unknownHosts answers requests for names that no route has. Without it nginx gives them to the first server it knows: one
// customer's site under everybody's name.
const unknownHosts = `# Written by reeve-agent: what is asked for under a name without a route is answered here.
server {
	listen 80 default_server;
	server_name _;
	access_log off;
	return 404 "There is no site of this name here.\n";
}
`

// defaultServer finds a listener of port 80 in a dump of nginx's configuration that is the default one already.
var defaultServer = regexp.MustCompile(`(?m)^\s*listen\s+(?:[^;\s]*:)?80\s[^;]*\bdefault_server\b`)

// PrepareRouter makes this host a router: nginx answers 404 to names without a route, and starts at every boot. A default
// server that an operator set up stays.
//
// Errors: InitdError
// Effects: conf.d/reeve-unknown-hosts.conf in nginx's directory, the link of the packaged default site; a running nginx
// reloads
func (s *Service) PrepareRouter(ctx context.Context, _ handlers.NoParams) (_ handlers.Null, err error) {
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	layout, dir := s.host.Layout(), path.Dir(s.host.Layout().NginxConf)
	file := path.Join(dir, "conf.d", "reeve-unknown-hosts.conf")
	if s.host.Exists(file) {
		return handlers.Null{}, s.enable(ctx, layout.NginxUnit)
	}
	c := s.host.Begin()
	defer rollback(c, &err)
	link := path.Join(dir, "sites-enabled/default")
	if target, err := os.Readlink(s.host.Path(link)); err == nil && path.Base(path.Dir(target)) == "sites-available" {
		// Who listed the directory opens what it found there.
		s.host.AwaitReaders(host.Readers{File: layout.NginxConf, Programs: []string{path.Base(layout.NginxBin)}})
		if err := s.host.Remove(link); err != nil {
			return handlers.Null{}, err
		}
		c.OnRollback(func() error { return os.Symlink(target, s.host.Path(link)) })
	}
	dump, err := s.host.Run(ctx, host.Cmd{Path: layout.NginxBin, Args: []string{"-T", "-q"}, MaxOutput: 16 << 20})
	if err != nil {
		return handlers.Null{}, fmt.Errorf("test nginx before it becomes a router: %w", err)
	}
	if !defaultServer.Match(dump.Stdout) {
		if _, err := c.WriteFile(file, []byte(unknownHosts), 0o644); err != nil {
			return handlers.Null{}, err
		}
		if _, err := s.host.Run(ctx, host.Cmd{Path: layout.NginxBin, Args: []string{"-t", "-q"}}); err != nil {
			return handlers.Null{}, fmt.Errorf("test nginx as a router: %w", err)
		}
	}
	if state, err := s.host.Units().State(ctx, layout.NginxUnit); err == nil && state.Running() {
		if err := s.host.Units().Reload(ctx, layout.NginxUnit); err != nil {
			return handlers.Null{}, err
		}
	}
	c.Commit()
	return handlers.Null{}, s.enable(ctx, layout.NginxUnit)
}
