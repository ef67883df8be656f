package apache

import (
	"context"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/web"
)

// SetDefaultSSLCertificate points the packaged TLS site at a certificate of this host, or at the system's own pair when
// certificate or key is not here: both or neither. Nothing is fetched, and nothing reloaded: the next reload takes it. The
// site is not enabled by it.
//
// Result:  null
// Errors:  ValueError (id, or a pair that does not fit together), ApacheError (no such site, or nothing in it to change, or
// not even the system's pair), InitdError (config test; the site is as before)
// Effects: the default TLS site's file; one config test when it changes
// Source:  spec agent-web 2.5
func (s *Service) SetDefaultSSLCertificate(ctx context.Context, p agentapi.DefaultCertificateParams) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return handlers.Null{}, s.setDefaultCertificate(context.WithoutCancel(ctx), textOr(p.ID))
}

func (s *Service) setDefaultCertificate(ctx context.Context, id string) error {
	if err := s.recover(ctx); err != nil {
		return err
	}
	site, text, err := s.defaultTLSSite()
	if err != nil {
		return err
	}
	files, err := s.defaultPair(id)
	if err != nil {
		return err
	}
	want, err := s.withDefaultCertificate(text, files)
	if err != nil {
		return agentapi.Errorf(agentapi.KindUnsupported, "ApacheError", "%s lacks SSLCertificateFile or SSLCertificateKeyFile", site)
	}
	if want == text {
		return nil
	}
	if err := s.host.MkdirAll(s.privateDir, 0o755); err != nil {
		return err
	}
	st, err := s.host.Stage(s.stagingDir(), s.readers())
	if err != nil {
		return err
	}
	defer s.rollback(st)
	if _, err := st.Write(site, []byte(want), 0o644); err != nil {
		return err
	}
	// The site is tested in its place, since Apache reads it from there; a kill before Commit takes it back.
	if err := st.Apply(); err != nil {
		return err
	}
	if err := s.test(ctx); err != nil {
		return s.blame(ctx, st.Rollback, err)
	}
	return st.Commit()
}

// blame takes a change back and says whether it was to blame for a test that failed.
func (s *Service) blame(ctx context.Context, undo func() error, failed error) error {
	if err := undo(); err != nil {
		s.log.Error("take back a change", "err", err)
		return failed
	}
	if before := s.test(ctx); before != nil {
		return agentapi.Errorf(agentapi.KindConfigTest, "InitdError",
			"nothing was changed, since the configuration was broken before this call: %s", strings.TrimPrefix(before.Error(), "InitdError: "))
	}
	return failed
}

// defaultTLSSite is the file of the packaged TLS site.
func (s *Service) defaultTLSSite() (name, text string, err error) {
	for _, name := range s.layout.ApacheTLSSites {
		if data, err := s.host.ReadFile(name); err == nil {
			return name, string(data), nil
		}
	}
	return "", "", agentapi.Errorf(agentapi.KindNotFound, "ApacheError", "there is no default TLS site on this host: none of %s can be read", strings.Join(s.layout.ApacheTLSSites, ", "))
}

// defaultPair is the certificate with an id if it is here, else the system's own. What it returns fits together: a server
// that is given a key of another certificate passes its own test and then dies.
func (s *Service) defaultPair(id string) (web.CertificateFiles, error) {
	if id == "0" {
		id = "" // how old callers say null
	}
	files, present, err := web.CertificateOnHost(s.host, s.privateDir, id)
	if err != nil {
		return files, err
	}
	if !present {
		files = web.CertificateFiles{Cert: s.layout.SystemCert, Key: s.layout.SystemKey}
		if !s.host.Exists(files.Cert) || !s.host.Exists(files.Key) {
			return files, agentapi.Errorf(agentapi.KindNotFound, "ApacheError",
				"certificate %q is not on this host, and neither is the system's own at %s and %s", id, files.Cert, files.Key)
		}
	}
	return files, web.CheckKeyPair(s.host, files.Cert, files.Key)
}

func (s *Service) withDefaultCertificate(text string, files web.CertificateFiles) (string, error) {
	lines, err := withCertificate(parseLines(text), files, s.host.Exists)
	if err != nil {
		return "", err
	}
	lines = slices.DeleteFunc(lines, func(l line) bool { // a chain of ours goes for good, one of the operator stays as a comment
		return l.kind == lineText && strings.Contains(l.raw, "# SSLCertificateChainFile "+s.privateDir+"/")
	})
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.raw)
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// EnableModSSL loads Apache's TLS module, once; the next reload takes it. Where the module is a package that is not
// installed, the error says so.
//
// Result:  null
// Errors:  InitdError (a program has port 443, config test, module not installed), PopenError (a2enmod)
// Effects: mods-enabled/ssl.*; one config test when it changes
// Source:  spec agent-web 2.6
func (s *Service) EnableModSSL(ctx context.Context, _ handlers.NoParams) (handlers.Null, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	if err := s.recover(ctx); err != nil {
		return handlers.Null{}, err
	}
	l, err := s.load()
	if err != nil || l.modules["ssl_module"] {
		return handlers.Null{}, err
	}
	c := s.host.Begin()
	defer s.rollback(c)
	if err := s.enableTLS(ctx, l, c); err != nil {
		return handlers.Null{}, err
	}
	if err := s.test(ctx); err != nil {
		return handlers.Null{}, s.blame(ctx, c.Rollback, err)
	}
	c.Commit()
	return handlers.Null{}, nil
}
