package apache

import (
	"context"
	"errors"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

// tls is what a call says about certificates.
type tls struct {
	on bool
	id string // "" is the default certificate
}

// prepare renders a virtual host and makes what it needs besides: certificate, document roots, log directories. All of
// that is taken back when c is.
func (s *Service) prepare(ctx context.Context, l *loaded, c *host.Change, lines []line, cert tls) (string, error) {
	about := describe(lines, s.expand)
	for _, p := range slices.Concat(about.roots, about.logs) {
		if err := s.checkPath(p); err != nil {
			return "", err
		}
	}
	r := rendering{grant: outside(about.roots), exists: s.host.Exists}
	if cert.on {
		files, err := s.prepareTLS(ctx, l, c, lines, cert.id)
		if err != nil {
			return "", err
		}
		r.cert = &files
	}
	for _, port := range about.ports {
		if l.listens[port] {
			continue
		}
		if err := s.checkFree(ctx, port); err != nil {
			return "", err
		}
		r.listen = append(r.listen, port)
	}
	text, err := render(lines, r)
	if err != nil {
		return "", err
	}
	if err := s.checkTLS(parseLines(text)); err != nil {
		return "", err
	}
	for _, root := range about.roots {
		if err := s.makeRoot(c, root); err != nil {
			return "", err
		}
	}
	for _, log := range about.logs {
		if err := c.MkdirAll(path.Dir(log), 0o755); err != nil {
			return "", err
		}
	}
	return text, nil
}

// system are directories that hold the system's own files: nothing in them is a site's.
var system = []string{"/etc", "/root", "/boot", "/proc", "/sys", "/dev", "/run", "/var/run"}

// checkPath refuses a document root or log that would open or litter the system, or what the agent keeps to itself (spec
// agent-web 6, S13).
func (s *Service) checkPath(p string) error {
	if p == "/" || p == "/usr" {
		return web.Invalid("%s may not be a document root or log", p)
	}
	for _, dir := range slices.Concat(system, s.closed) {
		if within(p, dir) {
			return web.Invalid("%s lies in %s, which may not hold a document root or log", p, dir)
		}
		if within(dir, p) {
			return web.Invalid("%s holds %s, so it may not be a document root or log", p, dir)
		}
	}
	return nil
}

func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// outside are the roots that a packaged main configuration denies.
func outside(roots []string) []string {
	return slices.DeleteFunc(slices.Clone(roots), func(root string) bool { return within(root, "/var/www") || within(root, "/usr/share") })
}

// prepareTLS enables mod_ssl if nobody did, and gets the certificate onto the host.
func (s *Service) prepareTLS(ctx context.Context, l *loaded, c *host.Change, lines []line, id string) (web.CertificateFiles, error) {
	if id == "0" {
		id = "" // how old callers say null
	}
	// Before anything is fetched or enabled: a template that cannot take a certificate.
	if _, err := withCertificate(lines, web.CertificateFiles{}, s.host.Exists); err != nil {
		return web.CertificateFiles{}, err
	}
	files, err := web.StoreCertificate(ctx, s.host, c, s.certificates, s.privateDir, id)
	if err != nil {
		return files, err
	}
	return files, s.enableTLS(ctx, l, c)
}

// enableTLS loads mod_ssl. A graceful reload is enough for Apache to take it (spec agent-web 2.6). The packaged TLS site
// stays as it is: it needs certificates of a package that may not be there.
func (s *Service) enableTLS(ctx context.Context, l *loaded, c *host.Change) error {
	if l.modules["ssl_module"] {
		return nil
	}
	if s.layout.Family != "debian" {
		return agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "mod_ssl is not installed: install the package mod_ssl and repeat the call")
	}
	// ports.conf listens on 443 as soon as the module is there.
	if err := s.checkFree(ctx, 443); err != nil {
		return err
	}
	c.OnRollback(func() error {
		_, err := s.host.Run(context.WithoutCancel(ctx), host.Cmd{Path: "a2dismod", Args: []string{"--quiet", "--force", "ssl"}})
		return err
	})
	if _, err := s.host.Run(ctx, host.Cmd{Path: "a2enmod", Args: []string{"--quiet", "ssl"}}); err != nil {
		return &agentapi.Error{Kind: agentapi.KindInternal, Class: "PopenError", Text: err.Error(), Err: err}
	}
	now, err := s.load()
	if err == nil {
		*l = *now
	}
	return err
}

// checkFree refuses a port that another program has: Apache's test does not notice, and the reload would kill Apache.
func (s *Service) checkFree(ctx context.Context, port int) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	if err == nil {
		return ln.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil // nothing is known; the reload will tell
	}
	if st, stateErr := s.host.Units().State(ctx, s.layout.ApacheUnit); stateErr == nil && web.Listens(s.host, st.MainPID, port) {
		return nil
	}
	return agentapi.Errorf(agentapi.KindConflict, "InitdError", "port %d is in use by another program", port)
}

// checkTLS refuses certificates that pass Apache's test and then kill Apache: no certificate, or one of another key
// (spec agent-web 8.1). It looks at every VirtualHost, also of templates that bring their own certificate.
func (s *Service) checkTLS(lines []line) error {
	for block := range hostBlocks(lines) {
		engine := false
		var certs, keys []string
		for _, l := range block {
			if l.kind != lineDirective || len(l.args) == 0 {
				continue
			}
			switch {
			case l.is("SSLEngine"):
				engine = strings.EqualFold(l.args[0], "on")
			case l.is("SSLCertificateFile"):
				certs = append(certs, l.args[0])
			case l.is("SSLCertificateKeyFile"):
				keys = append(keys, l.args[0])
			}
		}
		if !engine {
			continue
		}
		if len(certs) == 0 {
			return agentapi.Errorf(agentapi.KindInvalid, "ApacheError", "SSLEngine is on, but there is no SSLCertificateFile")
		}
		for i, cert := range certs {
			key := cert // a file may hold both
			if i < len(keys) {
				key = keys[i]
			}
			if !path.IsAbs(cert) || !path.IsAbs(key) {
				continue
			}
			if err := web.CheckKeyPair(s.host, cert, key); err != nil {
				return err
			}
		}
	}
	return nil
}

const placeholder = `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>It works</title></head>
<body><h1>It works</h1><p>This site has no content yet.</p></body>
</html>
`

// makeRoot makes a document root that is missing, with a page in it, owned by Apache's user. What exists is not touched.
// The directory appears complete: a kill leaves the whole of it or none.
func (s *Service) makeRoot(c *host.Change, root string) error {
	if s.host.Exists(root) {
		return nil
	}
	if err := c.MkdirAll(path.Dir(root), 0o755); err != nil {
		return err
	}
	half := path.Join(path.Dir(root), "."+path.Base(root)+".reeve-new")
	full := s.host.Path(half)
	if err := os.RemoveAll(full); err != nil {
		return err
	}
	c.OnRollback(func() error { return os.RemoveAll(full) })
	if err := s.host.MkdirAll(half, 0o755); err != nil {
		return err
	}
	page := path.Join(half, "index.html")
	if err := s.host.WriteFile(page, []byte(placeholder), 0o644); err != nil {
		return err
	}
	uid, gid, err := web.UserIDs(s.host, s.layout.ApacheUser)
	if err != nil {
		return err
	}
	for _, p := range []string{page, half} {
		if err := os.Lchown(s.host.Path(p), uid, gid); err != nil {
			return err
		}
	}
	if err := os.Rename(full, s.host.Path(root)); err != nil {
		return err
	}
	c.OnRollback(func() error {
		os.Remove(s.host.Path(path.Join(root, "index.html")))
		return os.Remove(s.host.Path(root))
	})
	return nil
}
