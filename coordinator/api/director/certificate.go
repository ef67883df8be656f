package director

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// getCerts answers with a fresh certificate in a zip that clients unpack over their old one.
func (c *call) getCerts() {
	p, ok := c.passwordLogin()
	if !ok {
		return
	}
	pair, err := c.d.opts.Certificates.User(c.ctx(), p)
	if err != nil {
		c.no(err)
		return
	}
	var out bytes.Buffer
	zw := zip.NewWriter(&out)
	for _, f := range []struct {
		name string
		data []byte
	}{{"cert.pem", pair.Cert}, {"key.pem", pair.Key}, {"ca_cert.pem", pair.CA}} {
		w, err := zw.Create(f.name)
		if err == nil {
			_, err = w.Write(f.data)
		}
		if err != nil {
			c.no(err)
			return
		}
	}
	if err := zw.Close(); err != nil {
		c.no(err)
		return
	}
	c.w.Header().Set("Content-Type", "application/zip")
	c.w.Header().Set("Content-Disposition", "attachment; filename=certs.zip")
	send(c.w, http.StatusOK, out.Bytes())
}

// maxRequest is the largest certificate request, in bytes.
const maxRequest = 64 << 10

// getCert signs an agent's key for a manager. The answer is written to a file unseen, so that failures have a status.
func (c *call) getCert() {
	if c.r.MultipartForm == nil || len(c.r.MultipartForm.File["csr"]) == 0 {
		writeText(c.w, http.StatusBadRequest, "a file named csr is needed\n")
		return
	}
	part := c.r.MultipartForm.File["csr"][0]
	if part.Size > maxRequest {
		writeText(c.w, http.StatusRequestEntityTooLarge, "the certificate request is too large\n")
		return
	}
	f, err := part.Open()
	if err != nil {
		writeText(c.w, http.StatusBadRequest, "the certificate request cannot be read\n")
		return
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRequest))
	if err != nil {
		writeText(c.w, http.StatusBadRequest, "the certificate request cannot be read\n")
		return
	}
	cert, err := c.d.opts.Certificates.Agent(c.ctx(), c.peer, data)
	switch {
	case err == nil:
	case core.KindOf(err) == core.Invalid:
		writeText(c.w, http.StatusBadRequest, textOf(err)+"\n")
		return
	default:
		c.log(err)
		writeText(c.w, http.StatusServiceUnavailable, textOf(err)+"\n")
		return
	}
	c.w.Header().Set("Content-Type", "application/x-pem-file")
	send(c.w, http.StatusOK, cert)
}
