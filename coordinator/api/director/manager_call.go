package director

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// managerCall is one call of a manager's method.
type managerCall struct {
	m      *Managers
	r      *http.Request
	caller core.Principal // the owner, or what acts for them
	role   auth.Role      // of the certificate
	num    int64          // of the service
	params map[string]json.RawMessage
	files  map[string][]*multipart.FileHeader
}

func (c *managerCall) ctx() context.Context { return c.r.Context() }

// text is a parameter that is a text; a number is taken as one too.
func (c *managerCall) text(name string) string {
	var s string
	if json.Unmarshal(c.params[name], &s) == nil {
		return s
	}
	return strings.Trim(string(c.params[name]), `"`)
}

// number is a parameter that is a number, also written as a text; 0 when it is not there.
func (c *managerCall) number(name string) (int, error) {
	text := c.text(name)
	if text == "" || text == "null" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, core.Errorf(core.Invalid, "", "ERROR: Expected a non-negative integer value for %q", name)
	}
	return n, nil
}

// ServeHTTP answers for the manager whose address was asked.
func (m *Managers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	api.SetRoute(r.Context(), "refused")
	who, ok := m.at(r)
	switch {
	case !ok || r.URL.Path != "/" && r.URL.Path != "":
		writeText(w, http.StatusNotFound, "not found\n")
		return
	case foreign(r):
		write(w, http.StatusForbidden, refusal{Error: "Not allowed"})
		return
	case r.Method != get && r.Method != post:
		w.Header().Set("Allow", "GET, POST")
		writeText(w, http.StatusMethodNotAllowed, "method not allowed\n")
		return
	}
	peer, err := m.o.Certificates.Peer(r.Context(), r.TLS)
	if err != nil || !mayManage(peer, who) {
		write(w, http.StatusForbidden, refusal{Error: "The certificate is not one of this service's owner"})
		return
	}
	c := &managerCall{m: m, r: r, num: who.Service.App.Num, role: peer.Role}
	c.caller = api.SetPrincipal(r.Context(), core.Principal{Account: who.Owner, Via: "certificate"})
	c.do(w)
}

// mayManage says whether a peer may manage a service (spec director 3.4).
func mayManage(p auth.Peer, who core.Manager) bool {
	switch p.Role {
	case auth.RoleFrontend:
		return true
	case auth.RoleUser:
		return p.Account.ID == who.Owner.ID
	case auth.RoleManager:
		return p.Account.ID == who.Owner.ID && p.Service == who.Service.App.Num
	}
	return false
}

// at finds the manager by the address that the connection came to.
func (m *Managers) at(r *http.Request) (core.Manager, bool) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		return core.Manager{}, false
	}
	host, _, err := net.SplitHostPort(local.String())
	if err != nil {
		return core.Manager{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	one, ok := m.running[host]
	if !ok {
		return core.Manager{}, false
	}
	return one.manager, true
}

// request is a call as it came.
type request struct {
	method  string
	kind    kind
	params  map[string]json.RawMessage
	service *int64
	id      json.RawMessage
}

func (c *managerCall) do(w http.ResponseWriter) {
	req, status, problem := c.read(w)
	if problem != "" {
		writeText(w, status, problem+"\n")
		return
	}
	i := slices.IndexFunc(managerMethods, func(m managerMethod) bool { return m.name == req.method && m.kind == req.kind })
	if i < 0 {
		writeText(w, http.StatusNotFound, "method not found\n")
		return
	}
	method := managerMethods[i]
	if method.about && len(req.params["service_id"]) > 0 {
		c.params = req.params
		n, err := c.number("service_id")
		if err != nil {
			write(w, http.StatusOK, refusal{textOf(err), req.id})
			return
		}
		about := int64(n)
		req.service = &about
	}
	if req.service != nil && *req.service != 0 && !c.turnTo(*req.service) {
		writeText(w, http.StatusNotFound, "service not found\n")
		return
	}
	api.SetRoute(c.ctx(), "manager "+method.name)
	c.params = req.params
	var unknown []string
	for name := range req.params {
		if !slices.Contains(method.params, name) {
			unknown = append(unknown, clip(name))
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		write(w, http.StatusOK, refusal{fmt.Sprintf("ERROR: Unexpected arguments ['%s']", strings.Join(unknown, "', '")), req.id})
		return
	}
	result, err := method.serve(c)
	if err != nil {
		if core.KindOf(err) == core.Internal {
			c.m.log.Error("manager's call failed", "method", method.name, "service", c.num, "err", err)
		}
		write(w, http.StatusOK, refusal{textOf(err), req.id})
		return
	}
	if f, ok := result.(rawFile); ok {
		c.send(w, f)
		return
	}
	write(w, http.StatusOK, reply{Result: result, ID: req.id})
}

// turnTo makes the call one about another service of the same application: in 2.x an application has one manager, which is
// the first service's, and requests say which service they mean. A manager's certificate is good for its own service alone.
func (c *managerCall) turnTo(num int64) bool {
	if num == c.num {
		return true
	}
	here, err := c.service()
	if err != nil || c.role == auth.RoleManager {
		return false
	}
	there, err := c.m.o.Core.Service(c.ctx(), c.caller, num)
	if err != nil || !there.Managed || there.Application != here.Application {
		return false
	}
	c.num = num
	return true
}

// jsonTypes are the content types that a call may have, exactly.
var jsonTypes = []string{"application/json", "application/json-rpc", "application/jsonrequest"}

// read takes the call from the query or the body. A problem is answered with its status.
func (c *managerCall) read(w http.ResponseWriter) (req request, status int, problem string) {
	contentType := c.r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(contentType); c.r.Method == post && err == nil && media == "multipart/form-data" {
		return c.readUpload()
	}
	if !slices.Contains(jsonTypes, contentType) {
		return req, http.StatusUnsupportedMediaType, "the content type is not application/json"
	}
	var wire struct {
		Method  string          `json:"method"`
		Params  json.RawMessage `json:"params"`
		ID      json.RawMessage `json:"id"`
		Service *int64          `json:"service_id"`
	}
	if c.r.Method == get {
		req.kind = byGet
		q := c.r.URL.Query()
		wire.Method, wire.Params = q.Get("method"), json.RawMessage(q.Get("params"))
		wire.ID, _ = json.Marshal(q.Get("id"))
		if isNumber(q.Get("id")) {
			wire.ID = json.RawMessage(q.Get("id"))
		}
		if q.Has("service_id") {
			n, err := strconv.ParseInt(q.Get("service_id"), 10, 64)
			if err != nil {
				return req, http.StatusBadRequest, "service_id is not a number"
			}
			wire.Service = &n
		}
	} else {
		req.kind = byPost
		if c.r.ContentLength < 0 {
			return req, http.StatusLengthRequired, "a length is needed"
		}
		data, err := io.ReadAll(http.MaxBytesReader(w, c.r.Body, maxForm))
		if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
			return req, http.StatusRequestEntityTooLarge, "the request's body is too large"
		}
		if err != nil || json.Unmarshal(data, &wire) != nil {
			return req, http.StatusBadRequest, "the body is no JSON object of a call"
		}
	}
	if wire.Method == "" {
		return req, http.StatusBadRequest, "the method is missing"
	}
	req.method, req.service, req.id = wire.Method, wire.Service, wire.ID
	if len(req.id) == 0 {
		req.id = json.RawMessage("null")
	}
	if err := readObject(wire.Params, &req.params); err != nil {
		return req, http.StatusBadRequest, "params is no JSON object"
	}
	return req, 0, ""
}

// readObject reads a JSON object that may be missing. An empty list is an object without members: PHP, in which the web
// frontend is written, has one empty array for both.
func readObject[T any](data json.RawMessage, to *map[string]T) error {
	text := bytes.TrimSpace(data)
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(text, &list) == nil && len(list) == 0 {
		return nil
	}
	return json.Unmarshal(text, to)
}

// maxUpload is the largest body of an upload, in bytes.
const maxUpload = core.MaxCode + maxForm

// readUpload reads a form. Files that are not small wait on disk until the call is answered.
func (c *managerCall) readUpload() (req request, status int, problem string) {
	c.r.Body = http.MaxBytesReader(nil, c.r.Body, maxUpload)
	if err := c.r.ParseMultipartForm(maxForm); err != nil {
		if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
			return req, http.StatusRequestEntityTooLarge, "the upload is too large"
		}
		return req, http.StatusBadRequest, "the form cannot be read"
	}
	req.kind, req.id, req.params = byUpload, json.RawMessage("null"), map[string]json.RawMessage{}
	for name, values := range c.r.MultipartForm.Value {
		switch name {
		case "method":
			req.method = values[0]
		case "service_id":
			n, err := strconv.ParseInt(values[0], 10, 64)
			if err != nil {
				return req, http.StatusBadRequest, "service_id is not a number"
			}
			req.service = &n
		default:
			req.params[name], _ = json.Marshal(values[0])
		}
	}
	if req.method == "" {
		return req, http.StatusBadRequest, "the method is missing"
	}
	c.files = c.r.MultipartForm.File
	return req, 0, ""
}

// file is an uploaded file, which the caller closes, and what is known of it.
func (c *managerCall) file(name string) (multipart.File, *multipart.FileHeader, error) {
	if len(c.files[name]) == 0 {
		return nil, nil, core.Errorf(core.Invalid, "", "ERROR: the file %q is missing", name)
	}
	f, err := c.files[name][0].Open()
	return f, c.files[name][0], err
}
