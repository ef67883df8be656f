package orchestrator

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Target is a coordinator that just started: the clouds "default" and "fake_driver" are two dummies of their own, and the
// user may log in.
type Target struct {
	URL      string // without a path
	Username string
	Password string
}

// reply is one answer.
type reply struct {
	status int
	header http.Header
	body   string
}

// client sends requests to one Target.
type client struct {
	t      testing.TB
	target Target
}

// do sends a request; headers are "Name: value".
func (c client) do(method, path, body string, headers ...string) reply {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.target.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
		if value == "" {
			req.Header.Del(name)
		}
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return reply{resp.StatusCode, resp.Header, string(data)}
}

var httpClient = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (c client) get(path string) reply        { c.t.Helper(); return c.do("GET", path, "") }
func (c client) post(path, body string) reply { c.t.Helper(); return c.do("POST", path, body) }
func (c client) put(path, body string) reply  { c.t.Helper(); return c.do("PUT", path, body) }
func (c client) start() reply                 { c.t.Helper(); return c.post("/api/v1/vm/start/fake_driver", startBody) }
func (c client) stop(body string) reply {
	c.t.Helper()
	return c.put("/api/v1/vm/stop/fake_driver", body)
}
func (c client) assign(body string) reply {
	c.t.Helper()
	return c.put("/api/v1/vm/action/assign/fake_driver", body)
}
func (c client) release(body string) reply {
	c.t.Helper()
	return c.put("/api/v1/vm/action/release/fake_driver", body)
}
func (c client) auth(user, password string) reply {
	c.t.Helper()
	body, _ := json.Marshal(map[string]string{"username": user, "password": password})
	return c.post("/api/v1/auth", string(body))
}

func (c client) token() string {
	c.t.Helper()
	r := c.auth(c.target.Username, c.target.Password)
	c.wantStatus(r, 200)
	return c.object(r)["token"].(string)
}

const startBody = `{"image": "1", "name": "cloud_test", "size": "1"}`

func (c client) wantStatus(r reply, want int) {
	c.t.Helper()
	if r.status != want {
		c.t.Errorf("got status %d, want %d; body %s", r.status, want, r.body)
	}
}

// wantBody compares byte for byte with the layout of the API: sorted keys, indent 2.
func (c client) wantBody(r reply, status int, want string) {
	c.t.Helper()
	c.wantStatus(r, status)
	if pretty := layout(c.t, want); r.body != pretty {
		c.t.Errorf("got body\n%s\nwant\n%s", r.body, pretty)
	}
}

// wantError checks the error body: five keys, the status twice, and the message, which may end in "…" for any end.
func (c client) wantError(r reply, status int, message string) {
	c.t.Helper()
	c.wantStatus(r, status)
	o := c.object(r)
	got, _ := o["message"].(string)
	prefix, open := strings.CutSuffix(message, "…")
	if got != message && !(open && strings.HasPrefix(got, prefix)) {
		c.t.Errorf("got message %q, want %q", got, message)
	}
	if len(o) != 5 || o["status"] != "error" || o["status_code"] != float64(status) || o["status_short_message"] == "" || o["status_long_message"] == "" {
		c.t.Errorf("got error body %s, want the five keys", r.body)
	}
	if ct := r.header["Content-Type"]; len(ct) != 1 || ct[0] != "application/json" {
		c.t.Errorf("got Content-Type %q", ct)
	}
}

func (c client) object(r reply) map[string]any {
	c.t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(r.body), &o); err != nil {
		c.t.Fatalf("body %q: %v", r.body, err)
	}
	return o
}

// ids are the ids of the nodes of a cloud, in order.
func (c client) ids(cloud string) string {
	c.t.Helper()
	r := c.get("/api/v1/nodes/" + cloud)
	c.wantStatus(r, 200)
	var list struct{ Nodes []struct{ ID string } }
	if err := json.Unmarshal([]byte(r.body), &list); err != nil {
		c.t.Fatal(err)
	}
	var ids []string
	for _, n := range list.Nodes {
		ids = append(ids, n.ID)
	}
	return strings.Join(ids, ",")
}

func (c client) wantIDs(cloud, want string) {
	c.t.Helper()
	if got := c.ids(cloud); got != want {
		c.t.Errorf("%s has nodes %s, want %s", cloud, got, want)
	}
}

// layout rewrites JSON with sorted keys and two blanks per level.
func layout(t testing.TB, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
