package orchestrator

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// bodies are good requests of the routes that take one.
var bodies = map[string]string{
	"/api/v1/vm/start":          `{"name":"a","image":"1","size":"1"}`,
	"/api/v1/vm/stop":           `{"node":"1"}`,
	"/api/v1/vm/action/assign":  `{"node":"1","user":"u","vm_type":"t"}`,
	"/api/v1/vm/action/release": `{"node":"1"}`,
	"/api/v1/auth":              `{"username":"user","password":"password"}`,
}

// alwaysOpen are routes of the access perCloud that answer about no particular cloud.
var alwaysOpen = map[string]bool{"/api/v1/cloud": true}

// callers are everybody who may call, by the token they send.
var callers = []struct{ name, token string }{{"anonymous", ""}, {"a user", "user"}, {"an administrator", "admin"}, {"a bad token", "bad"}}

// goodStatus is what a row answers to a caller it lets in.
func goodStatus(row route) int {
	switch {
	case strings.Contains(row.pattern, "{action}") && row.method == "GET":
		return 400 // Unrecognized action found
	case row.method == anyMethod:
		return 501
	}
	return 200
}

// wantStatus is the rule: open routes look at nobody, per-cloud routes let anybody use an open cloud and nobody use a
// closed one without a token, and a token that is sent must be good wherever one is looked at.
func wantStatus(row route, path, cloud, token string) int {
	good := goodStatus(row)
	switch row.access {
	case open:
		return good
	case perCloud:
		if token == "bad" {
			return 401
		}
		if token == "" && cloud != "fake_driver" && !alwaysOpen[path] {
			return 401
		}
		return good
	default: // a token
		if token == "bad" || token == "" {
			return 403
		}
		return good
	}
}

func TestEveryRouteForEveryCaller(t *testing.T) {
	f := newFixture(t)
	for _, row := range routes {
		base, optional, hasCloud := strings.Cut(row.pattern, "[")
		base = strings.NewReplacer("{action}", "foo", "{number}", "7").Replace(base)
		clouds := []string{""}
		if hasCloud && optional == "/{cloud}]" {
			clouds = []string{"", "fake_driver", "closed"} // the first is default, which is closed here
		}
		for _, cloud := range clouds {
			path := base
			if cloud != "" {
				path += "/" + cloud
			}
			method := row.method
			if method == anyMethod {
				method = "PUT"
			}
			for _, who := range callers {
				t.Run(fmt.Sprintf("%s %s for %s", method, path, who.name), func(t *testing.T) {
					want := wantStatus(row, base, cloud, who.token)
					if base == "/api/v1/tenants" && cloud == "closed" && who.token == "" {
						want = 200 // says nothing about any cloud but default
					}
					var headers []string
					if who.token != "" {
						headers = []string{"X-Auth-Token: " + who.token}
					}
					w := f.do(method, path, bodies[base], headers...)
					if w.Code != want {
						t.Errorf("got %d %s, want %d", w.Code, w.Body, want)
					}
					if who.token != "" && who.token != "bad" {
						return
					}
					if body := bodies[base]; body != "" && who.token == "bad" { // the same token, sent in the body
						w := f.do(method, path, `{"auth_token":"bad",`+body[1:])
						if w.Code != want {
							t.Errorf("token in the body: got %d %s, want %d", w.Code, w.Body, want)
						}
					}
				})
			}
		}
	}
}

func TestAnonymousCallersAreToldHowToGetIn(t *testing.T) {
	w := newFixture(t).do("GET", "/api/v1/nodes/closed", "")
	if w.Code != 401 || !strings.Contains(w.Body.String(), "POST /api/v1/auth") || w.Header().Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("got %d %s %v", w.Code, w.Body, w.Header())
	}
	if !strings.Contains(w.Body.String(), `"status_long_message": "No permission -- see authorization schemes"`) {
		t.Errorf("got %s, want the error body", w.Body)
	}
}

func TestABadBodyDoesNotGetPastTheToken(t *testing.T) {
	f := newFixture(t)
	for _, tc := range []struct{ method, path string }{
		{"POST", "/api/v1/vm/start/closed"}, {"PUT", "/api/v1/vm/stop/closed"},
		{"PUT", "/api/v1/vm/action/assign/closed"}, {"PUT", "/api/v1/vm/action/release/closed"},
	} {
		if w := f.do(tc.method, tc.path, `{"unknown":1}`); w.Code != 401 {
			t.Errorf("%s: got %d %s, want 401", tc.path, w.Code, w.Body)
		}
	}
}

func TestCloudsThatTheCallerMayNotUseShowTheirNameOnly(t *testing.T) {
	f := newFixture(t)
	hidden := `{
      "host": "",
      "name": "closed",
      "type": ""
    }`
	if w := f.do("GET", "/api/v1/cloud", ""); !strings.Contains(w.Body.String(), hidden) {
		t.Errorf("anonymous: got %s", w.Body)
	}
	if w := f.do("GET", "/api/v1/cloud", "", "X-Auth-Token: user"); strings.Contains(w.Body.String(), hidden) {
		t.Errorf("with a token: got %s", w.Body)
	}
}

func TestEveryMethodOfEveryPathHasAnAnswer(t *testing.T) {
	f := newFixture(t)
	for _, row := range routes {
		base, _, _ := strings.Cut(row.pattern, "[")
		path := strings.NewReplacer("{action}", "foo", "{number}", "7").Replace(base)
		defined := map[string]bool{}
		for _, other := range routes {
			if otherBase, _, _ := strings.Cut(other.pattern, "["); otherBase == base {
				defined[other.method] = true
			}
		}
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"} {
			if defined[method] || defined[anyMethod] {
				continue
			}
			w := f.do(method, path, "")
			if w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), `"message": "Not implemented"`) {
				t.Errorf("%s %s: got %d %s, want 501", method, path, w.Code, w.Body)
			}
		}
	}
}
