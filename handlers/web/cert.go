package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"path"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Certificates finds a certificate by its id; "" is the default one. All three parts are PEM, chain may be empty.
type Certificates interface {
	Certificate(ctx context.Context, id string) (cert, key, chain []byte, err error)
}

// PrivateDir is where the web servers' files of the agent live: the old agent's directory on a host it was replaced on,
// our own elsewhere.
func PrivateDir(h *host.Host) string {
	const old = "/etc/scalr/private.d"
	if h.Exists(old + "/vhosts") {
		return old
	}
	return "/etc/reeve/private.d"
}

// CertificateFiles are the paths of a certificate on this host. Cert holds the chain too; Chain alone is "" without one.
type CertificateFiles struct{ Cert, Key, Chain string }

// certificateFiles are the names of spec agent-web 2.1.
func certificateFiles(privateDir, id string) CertificateFiles {
	name := "https"
	if id != "" {
		name += "_" + id
	}
	base := path.Join(privateDir, "keys", name)
	return CertificateFiles{Cert: base + ".crt", Key: base + ".key", Chain: base + "-ca.crt"}
}

// CertificateOnHost finds the files of a certificate, without fetching or checking it. It is present when certificate and key
// both exist.
func CertificateOnHost(h *host.Host, privateDir, id string) (files CertificateFiles, present bool, err error) {
	if err := CheckCertificateID(id); err != nil {
		return files, false, err
	}
	files = certificateFiles(privateDir, id)
	present = h.Exists(files.Cert) && h.Exists(files.Key)
	if present && !h.Exists(files.Chain) {
		files.Chain = ""
	}
	return files, present, nil
}

// StoreCertificate makes a certificate available to both web servers and returns its files. One that is on disk is not
// fetched again. Whatever is returned was checked: a server that is given a key of another certificate passes its own
// test and then dies (spec agent-web 8.1). What is written is taken back when c is rolled back.
func StoreCertificate(ctx context.Context, h *host.Host, c *host.Change, source Certificates, privateDir, id string) (CertificateFiles, error) {
	files, present, err := CertificateOnHost(h, privateDir, id)
	if err != nil {
		return files, err
	}
	if present {
		return files, CheckKeyPair(h, files.Cert, files.Key)
	}
	if source == nil {
		return files, agentapi.Errorf(agentapi.KindUnsupported, "ValueError",
			"certificate %q is not on this host and there is no source to fetch it from: put it at %s and %s", id, files.Cert, files.Key)
	}
	cert, key, chain, err := source.Certificate(ctx, id)
	if err != nil {
		return files, &agentapi.Error{Kind: agentapi.KindUnavailable, Class: "Exception", Text: "fetch certificate " + id + ": " + err.Error(), Err: err}
	}
	if len(bytes.TrimSpace(cert)) == 0 {
		return files, agentapi.Errorf(agentapi.KindNotFound, "ValueError", "there is no certificate %q", id)
	}
	return writeCertificate(h, c, files, cert, key, chain)
}

// PutCertificate makes a certificate that its caller has available, and returns its files. An id means one content for ever:
// what is on disk under it is not replaced, since a kill in between would leave a certificate with the key of another.
func PutCertificate(h *host.Host, c *host.Change, privateDir, id string, pair agentapi.KeyPair) (CertificateFiles, error) {
	if !strings.HasPrefix(id, agentapi.DeliveredPrefix) {
		return CertificateFiles{}, Invalid("the id of a certificate that comes with its proxy begins with %s", agentapi.DeliveredPrefix)
	}
	files, present, err := CertificateOnHost(h, privateDir, id)
	if err != nil {
		return files, err
	}
	cert := append(bytes.TrimSpace([]byte(pair.Cert)), '\n')
	if !present {
		return writeCertificate(h, c, files, cert, []byte(pair.Key), nil)
	}
	if old, err := h.ReadFile(files.Cert); err != nil || !bytes.Equal(old, cert) {
		return files, Invalid("another certificate is on this host as %s", id)
	}
	return files, CheckKeyPair(h, files.Cert, files.Key)
}

// DropCertificates removes the certificates that came with proxies and that used does not name any more.
func DropCertificates(h *host.Host, privateDir string, used func(file string) bool) error {
	dir := path.Dir(certificateFiles(privateDir, "").Key)
	list, err := h.ReadDir(dir)
	errs := []error{err}
	for _, entry := range list {
		id, ok := strings.CutPrefix(entry.Name(), "https_")
		id, ext := strings.TrimSuffix(id, path.Ext(id)), path.Ext(id)
		files := certificateFiles(privateDir, id)
		if !ok || !strings.HasPrefix(id, agentapi.DeliveredPrefix) || ext != ".crt" && ext != ".key" || used(files.Cert) || used(files.Key) {
			continue
		}
		errs = append(errs, h.Remove(path.Join(dir, entry.Name())))
	}
	return errors.Join(errs...)
}

func writeCertificate(h *host.Host, c *host.Change, files CertificateFiles, cert, key, chain []byte) (CertificateFiles, error) {
	full := append(bytes.TrimSpace(cert), '\n')
	chain = bytes.TrimSpace(chain)
	if len(chain) > 0 {
		chain = append(chain, '\n')
		if block, _ := pem.Decode(chain); block == nil || block.Type != "CERTIFICATE" {
			return files, Invalid("the certificate's chain is not PEM")
		}
		full = append(full, chain...)
	}
	if err := matches(full, key); err != nil {
		return files, err
	}
	if err := c.MkdirAll(path.Dir(files.Key), 0o700); err != nil {
		return files, err
	}
	if len(chain) == 0 {
		if err := c.Remove(files.Chain); err != nil {
			return files, err
		}
	} else if _, err := c.WriteFile(files.Chain, chain, 0o644); err != nil {
		return files, err
	}
	// A pair counts as present when both files exist, so a kill between the two makes the next call fetch it again.
	if _, err := c.WriteFile(files.Key, key, 0o600); err != nil {
		return files, err
	}
	if _, err := c.WriteFile(files.Cert, full, 0o644); err != nil {
		return files, err
	}
	if len(chain) == 0 {
		files.Chain = ""
	}
	return files, nil
}

// CheckKeyPair says whether two files of the host are a certificate and its key.
func CheckKeyPair(h *host.Host, cert, key string) error {
	certPEM, err := h.ReadFile(cert)
	if err != nil {
		return Invalid("certificate file %s cannot be read", cert)
	}
	keyPEM, err := h.ReadFile(key)
	if err != nil {
		return Invalid("key file %s cannot be read", key)
	}
	return matches(certPEM, keyPEM)
}

// matches never says what is in the files.
func matches(cert, key []byte) error {
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return Invalid("certificate and key do not fit together: %v", err)
	}
	return nil
}
