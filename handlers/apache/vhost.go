package apache

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

// vhostName is the file name of a virtual host. It checks both parts, so the file is a direct child of its directory.
func vhostName(hostname string, port agentapi.Text) (string, error) {
	if err := web.CheckHostname(hostname); err != nil {
		return "", err
	}
	n, err := port.Port()
	if err != nil {
		return "", err
	}
	name := hostname + "-" + strconv.Itoa(n) + vhostSuffix
	return name, checkLength(name, maxName)
}

// newVHostName is vhostName for a file that will be written, which is staged under a longer name first.
func newVHostName(hostname string, port agentapi.Text) (string, error) {
	name, err := vhostName(hostname, port)
	if err != nil {
		return "", err
	}
	return name, checkLength(name, host.MaxStagedName)
}

// maxName is the longest name of a file in a directory of Linux, in bytes.
const maxName = 255

func checkLength(name string, limit int) error {
	if excess := len(name) - limit; excess > 0 {
		return web.Invalid("hostname is %d characters too long to name a virtual host's file", excess)
	}
	return nil
}

// CreateVHost writes one name-based virtual host and, if Reload is set, makes Apache serve it. Called again with the same
// parameters it changes no file and returns the same path.
//
// Result:  absolute path of the vhost's file, string
// Errors:  ParseError (template), ValueError (hostname, port, paths, certificate), ApacheError (TLS), InitdError (config test, reload)
// Effects: <vhost dir>/<hostname>-<port>.vhost.conf, certificate files, document root and log directories; reloads Apache
// Source:  spec agent-web 2.3
func (s *Service) CreateVHost(ctx context.Context, p agentapi.CreateVHostParams) (string, error) {
	name, err := newVHostName(p.Hostname, p.Port)
	if err != nil {
		return "", err
	}
	lines, err := parseTemplate(p.Template)
	if err != nil {
		return "", err
	}
	err = s.change(ctx, p.Reload.Or(true), func(ctx context.Context, l *loaded, c *host.Change) (change, error) {
		text, err := s.prepare(ctx, l, c, lines, tls{on: bool(p.SSL), id: textOr(p.SSLCertificateID)})
		return change{put: []vhostFile{{name, text}}}, err
	})
	if err != nil {
		return "", err
	}
	return path.Join(s.vhostDir(), name), nil
}

// UpdateVHost renames a virtual host, moves it to another port, gives it another template or certificate.
//
// Result:  null, also when nothing changed
// Errors:  as CreateVHost; ValueError when there is neither such a vhost nor a template
// Effects: the vhost's file, removed under its old name; reloads Apache
// Source:  spec agent-web 2.5. An absent port keeps the port, where the old agent moved the vhost to 80.
func (s *Service) UpdateVHost(ctx context.Context, p agentapi.UpdateVHostParams) (handlers.Null, error) {
	oldName, err := vhostName(p.Signature.Hostname, p.Signature.Port)
	if err != nil {
		return handlers.Null{}, err
	}
	hostname, port := textOr(p.Hostname), textOr(p.Port)
	newName, err := newVHostName(or(hostname, p.Signature.Hostname), agentapi.Text(or(port, string(p.Signature.Port))))
	if err != nil {
		return handlers.Null{}, err
	}
	return handlers.Null{}, s.change(ctx, p.Reload.Or(true), func(ctx context.Context, l *loaded, c *host.Change) (change, error) {
		lines, err := s.updated(p, oldName)
		if err != nil {
			return change{}, err
		}
		cert := tls{on: p.SSL.Or(false) && (textOr(p.SSLCertificateID) != "" || textOr(p.Template) != ""), id: textOr(p.SSLCertificateID)}
		text, err := s.prepare(ctx, l, c, lines, cert)
		ch := change{put: []vhostFile{{newName, text}}}
		if newName != oldName {
			ch.del = []string{oldName}
		}
		return ch, err
	})
}

// updated is the template of an update: the caller's, or what the vhost has, with the new names in it.
func (s *Service) updated(p agentapi.UpdateVHostParams, oldName string) ([]line, error) {
	text := textOr(p.Template)
	if text == "" {
		old, err := s.host.ReadFile(path.Join(s.vhostDir(), oldName))
		if err != nil {
			return nil, agentapi.Errorf(agentapi.KindNotFound, "ValueError", "there is no virtual host %s:%s, and no template to make one of",
				p.Signature.Hostname, p.Signature.Port)
		}
		text = stripOurs(string(old))
	}
	lines, err := parseTemplate(text)
	if err != nil {
		return nil, err
	}
	port, _ := strconv.Atoi(textOr(p.Port)) // checked with the file name
	return withNames(lines, textOr(p.Hostname), port)
}

// DeleteVHosts removes virtual hosts; one that is not there is skipped. Document roots, logs and certificates stay.
//
// Result:  null
// Errors:  ValueError, InitdError
// Effects: removes files of the vhost directory; reloads Apache
// Source:  spec agent-web 2.5
func (s *Service) DeleteVHosts(ctx context.Context, p agentapi.DeleteVHostsParams) (handlers.Null, error) {
	var ch change
	for _, ref := range p.VHosts {
		name, err := vhostName(ref.Hostname, ref.Port)
		if err != nil {
			return handlers.Null{}, err
		}
		ch.del = append(ch.del, name)
	}
	return handlers.Null{}, s.change(ctx, p.Reload.Or(true), func(context.Context, *loaded, *host.Change) (change, error) {
		for _, name := range ch.del {
			if !s.host.Exists(path.Join(s.vhostDir(), name)) {
				s.log.Warn("virtual host to delete is not there", "file", name)
			}
		}
		return ch, nil
	})
}

// ListServedVirtualHosts are the names of the agent's files that Apache parses, sorted.
//
// Result:  file names, without their directory
// Errors:  PopenError when the configuration is broken
// Source:  spec agent-web 2.5
func (s *Service) ListServedVirtualHosts(ctx context.Context, _ handlers.NoParams) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names, err := s.vhostFiles()
	if err != nil {
		return nil, err
	}
	out, err := s.host.Run(ctx, host.Cmd{Path: s.layout.ApacheCtl, Args: []string{"-S", "-f", s.host.Path(s.layout.ApacheConf)}, Timeout: testTimeout})
	if err != nil {
		return nil, &agentapi.Error{Kind: agentapi.KindConfigTest, Class: "PopenError", Text: err.Error(), Err: err}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		// With the bracket and the colon, since a path may be the end of another one.
		return !bytes.Contains(out.Stdout, []byte("("+path.Join(s.vhostDir(), name)+":"))
	}), nil
}

// vhostFiles are the names of the virtual hosts on disk, in the order Apache reads them. Never nil.
func (s *Service) vhostFiles() ([]string, error) {
	entries, err := os.ReadDir(s.host.Path(s.vhostDir()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names := []string{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), vhostSuffix) && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func textOr(t *agentapi.Text) string {
	if t == nil {
		return ""
	}
	return string(*t)
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
