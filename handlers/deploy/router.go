package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"

	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// unknownHosts answers requests for names that no route has. Without it nginx gives them to the first server it knows: one
// customer's site under everybody's name, and with TLS one customer's certificate. There no name means no handshake (nginx
// 1.19.4). nginx takes the versions of TLS for all names from the default server.
var unknownHosts = []struct {
	port, text string
}{
	{"80", `server {
	listen 80 default_server;
	server_name _;
	access_log off;
	return 404 "There is no site of this name here.\n";
}
`},
	{"443", `server {
	listen 443 ssl default_server;
	server_name _;
	access_log off;
	ssl_protocols TLSv1.2 TLSv1.3;
	ssl_reject_handshake on;
}
`},
}

const unknownHostsHead = "# Written by reeve-agent: what is asked for under a name without a route is answered here.\n"

// dumpedFile is the line that begins each file in a dump of nginx's configuration.
var dumpedFile = regexp.MustCompile(`(?m)^# configuration file (.*):$`)

// unknownHostsText is our file for a host whose configuration, our file left out, is dumped. A port whose default server an
// operator set up is left to it. It is "" when nothing is left to say.
func unknownHostsText(dump []byte, file string) string {
	var others []byte
	parts := dumpedFile.FindAllSubmatchIndex(dump, -1)
	if len(parts) == 0 {
		others = dump
	}
	for i, at := range parts {
		end := len(dump)
		if i+1 < len(parts) {
			end = parts[i+1][0]
		}
		if string(dump[at[2]:at[3]]) != file {
			others = append(others, dump[at[1]:end]...)
		}
	}
	var text bytes.Buffer
	for _, u := range unknownHosts {
		taken := regexp.MustCompile(`(?m)^\s*listen\s+(?:[^;\s]*:)?` + u.port + `\s[^;]*\bdefault_server\b`)
		if !taken.Match(others) {
			text.WriteString(u.text)
		}
	}
	if text.Len() == 0 {
		return ""
	}
	return unknownHostsHead + text.String()
}

func (s *Service) unknownHostsFile() string {
	return path.Join(path.Dir(s.host.Layout().NginxConf), "conf.d", "reeve-unknown-hosts.conf")
}

// PrepareRouter makes this host a router: nginx answers 404 to names without a route, shows them no certificate, and starts
// at every boot. A default server that an operator set up stays.
//
// Errors: InitdError
// Effects: conf.d/reeve-unknown-hosts.conf in nginx's directory, the link of the packaged default site; a running nginx
// reloads
func (s *Service) PrepareRouter(ctx context.Context, _ handlers.NoParams) (handlers.Null, error) {
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	if err := s.answerUnknownHosts(ctx); err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, s.enable(ctx, s.host.Layout().NginxUnit)
}

// renewUnknownHosts brings the file of a router that an older agent prepared up to date.
func (s *Service) renewUnknownHosts(ctx context.Context) error {
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	text, err := s.host.ReadFile(s.unknownHostsFile())
	if errors.Is(err, fs.ErrNotExist) || string(text) == unknownHostsText(nil, "") {
		return nil
	}
	return s.answerUnknownHosts(ctx)
}

func (s *Service) answerUnknownHosts(ctx context.Context) (err error) {
	layout, file := s.host.Layout(), s.unknownHostsFile()
	changed := false
	c := s.host.Begin()
	defer rollback(c, &err)
	link := path.Join(path.Dir(layout.NginxConf), "sites-enabled/default")
	if target, err := os.Readlink(s.host.Path(link)); err == nil && path.Base(path.Dir(target)) == "sites-available" && !s.host.Exists(file) {
		// Who listed the directory opens what it found there.
		s.host.AwaitReaders(host.Readers{File: layout.NginxConf, Programs: []string{path.Base(layout.NginxBin)}})
		if err := s.host.Remove(link); err != nil {
			return err
		}
		c.OnRollback(func() error { return os.Symlink(target, s.host.Path(link)) })
		changed = true
	}
	dump, err := s.host.Run(ctx, host.Cmd{Path: layout.NginxBin, Args: []string{"-T", "-q"}, MaxOutput: 16 << 20})
	if err != nil {
		return fmt.Errorf("test nginx before it becomes a router: %w", err)
	}
	if text := unknownHostsText(dump.Stdout, s.host.Path(file)); text != "" {
		written, err := c.WriteFile(file, []byte(text), 0o644)
		if err != nil {
			return err
		}
		changed = changed || written
	}
	if changed {
		if _, err := s.host.Run(ctx, host.Cmd{Path: layout.NginxBin, Args: []string{"-t", "-q"}}); err != nil {
			return fmt.Errorf("test nginx as a router: %w", err)
		}
		if state, err := s.host.Units().State(ctx, layout.NginxUnit); err == nil && state.Running() {
			if err := s.host.Units().Reload(ctx, layout.NginxUnit); err != nil {
				return err
			}
		}
	}
	c.Commit()
	return nil
}
