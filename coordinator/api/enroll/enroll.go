package enroll

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
)

//go:embed enroll.sh
var script []byte

// Script is the enrolment script, and its SHA-256 in hex. Its arguments are our URL and the SHA-256 of /agent/ca.crt; it
// reads the token from standard input.
func Script() (text []byte, sum string) {
	hash := sha256.Sum256(script)
	return script, hex.EncodeToString(hash[:])
}

// Core is what enrolment asks of core.
type Core interface {
	Redeem(ctx context.Context, p core.Principal, token, address string) (core.Node, error)
}

// Options configure a Dialect. Core and Package are needed.
type Options struct {
	Core Core
	CA   []byte // certificate of our authority, PEM; nil when TLS is not spoken
	// RoutesCA is the certificate of the authority of hosted names, PEM; whoever wants to trust those downloads it.
	RoutesCA []byte
	// Package finds the agent's package: family is "deb" or "rpm".
	Package func(family string) (path string, err error)
	Log     *slog.Logger
	// QueryEnv and Messages are the paths below which agents ask and tell; "" leaves them alone.
	QueryEnv, Messages string
}

// Dialect answers machines that are being enrolled.
type Dialect struct{ o Options }

// New builds the dialect.
func New(o Options) *Dialect {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Dialect{o}
}

// Mount is how the dialect goes into a server.
func (d *Dialect) Mount() api.Mount {
	return api.Mount{Name: "enroll", Prefixes: []string{"/agent/"}, Dialect: d, Fail: func(w http.ResponseWriter, _ *http.Request, status int, err *core.Error) {
		fail(w, status, err.Msg)
	}}
}

// Register adds the routes to a mux.
func (d *Dialect) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /agent/enroll", d.enroll)
	mux.HandleFunc("GET /agent/enroll.sh", func(w http.ResponseWriter, r *http.Request) { send(w, "text/x-shellscript", script) })
	mux.HandleFunc("GET /agent/ca.crt", d.authority(d.o.CA))
	mux.HandleFunc("GET /agent/routes-ca.crt", d.authority(d.o.RoutesCA))
	mux.HandleFunc("GET /agent/download/{file}", d.download)
}

func send(w http.ResponseWriter, kind string, data []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	_, _ = w.Write(data)
}

func sendJSON(w http.ResponseWriter, status int, v any) {
	data, _ := json.Marshal(v) // strings only
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

func fail(w http.ResponseWriter, status int, message string) {
	sendJSON(w, status, map[string]string{"message": message})
}

// Request is the body of POST /agent/enroll.
type Request struct {
	Token   string `json:"token"`
	Address string `json:"address,omitempty"` // where the agent can be reached; "" means where the request comes from
}

// Identity is the answer to it.
type Identity struct {
	ServerID string `json:"server_id"`
	Name     string `json:"name"`
	Key      string `json:"key"` // base64 of 40 bytes, as the agent's key file holds it
	// Paths below the URL that was asked, where the agent asks and tells.
	QueryEnv string `json:"queryenv,omitempty"`
	Messages string `json:"messages,omitempty"`
}

// statuses is the only place where enrolment names a failure.
var statuses = map[core.Kind]int{
	core.Unauthenticated: http.StatusForbidden, core.Invalid: http.StatusBadRequest, core.Exists: http.StatusConflict,
	core.Unavailable: http.StatusServiceUnavailable,
}

func (d *Dialect) enroll(w http.ResponseWriter, r *http.Request) {
	body, err := api.ReadBody(r)
	var request Request
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	if err != nil || request.Token == "" {
		fail(w, http.StatusBadRequest, `the body has to be {"token": "…"}`)
		return
	}
	p := api.Caller(r.Context())
	p.Via = "token"
	address := request.Address
	if address == "" {
		address = p.From
	}
	n, err := d.o.Core.Redeem(r.Context(), p, request.Token, address)
	if err != nil {
		status, known := statuses[core.KindOf(err)]
		if !known {
			d.o.Log.Error("enrolment failed", "err", err)
			status = http.StatusInternalServerError
		}
		fail(w, status, core.PublicError("", err))
		return
	}
	d.o.Log.Info("machine has redeemed its token", "node", n.Name, "address", address)
	sendJSON(w, http.StatusOK, Identity{ServerID: string(n.ID), Name: n.Name, Key: base64.StdEncoding.EncodeToString(n.AgentKey),
		QueryEnv: d.o.QueryEnv, Messages: d.o.Messages})
}

func (d *Dialect) authority(root []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if root == nil {
			fail(w, http.StatusNotFound, "this coordinator speaks no TLS")
			return
		}
		send(w, "application/x-pem-file", root)
	}
}

// packages are the files of /agent/download by name, and the family each is for.
var packages = []struct{ name, family string }{{"reeve-agent.deb", "deb"}, {"reeve-agent.rpm", "rpm"}}

func (d *Dialect) download(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	if name == "SHA256SUMS" {
		d.sums(w)
		return
	}
	for _, p := range packages {
		if p.name != name {
			continue
		}
		path, err := d.o.Package(p.family)
		if err != nil {
			fail(w, http.StatusNotFound, core.PublicError("", err))
			return
		}
		f, err := os.Open(path)
		if err != nil {
			d.o.Log.Error("the agent's package cannot be read", "err", err)
			fail(w, http.StatusNotFound, "the package cannot be read")
			return
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, name, time.Time{}, f)
		return
	}
	fail(w, http.StatusNotFound, "there is no such file")
}

func (d *Dialect) sums(w http.ResponseWriter) {
	text := ""
	for _, p := range packages {
		path, err := d.o.Package(p.family)
		if err != nil {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		text += fmt.Sprintf("%x  %s\n", sha256.Sum256(data), p.name)
	}
	send(w, "text/plain", []byte(text))
}
