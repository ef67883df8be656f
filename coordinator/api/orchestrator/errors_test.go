package orchestrator

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestEveryKindHasAReason(t *testing.T) {
	for _, k := range core.Kinds() {
		why, ok := reasons[k]
		if !ok {
			t.Errorf("kind %q has no reason", k)
		}
		if _, ok := statusTexts[why.status]; !ok {
			t.Errorf("kind %q: status %d has no words", k, why.status)
		}
	}
}

func TestFailuresOfTheWork(t *testing.T) {
	secret := errors.New("open /var/lib/secret: permission denied")
	for _, tc := range []struct {
		err               error
		list, start, stop string // status and message
	}{
		{core.Wrap(core.Unavailable, core.ObjCloud, secret, "no route"), "500 Cloud not valid or wrong path", "500 Something went wrong Cloud not valid or wrong path", "500 Cloud not valid or wrong path"},
		{core.Errorf(core.Unauthenticated, core.ObjCloud, "bad provider password"), "500 Cloud not valid or wrong path", "500 Something went wrong Cloud not valid or wrong path", "500 Cloud not valid or wrong path"},
		{core.Errorf(core.Unsupported, core.ObjCloud, "cannot"), "400 Cloud not valid", "500 Something went wrong Cloud not valid", "400 Cloud not valid"},
		{secret, "500 Cloud not valid or wrong path", "500 Something went wrong Cloud not valid or wrong path", "500 Cloud not valid or wrong path"},
		{core.Errorf(core.NotFound, core.ObjImage, "x"), "400 no useful image id here", "500 Something went wrong no useful image id here", "400 no useful image id here"},
		{core.Errorf(core.NotFound, core.ObjNode, "x"), "400 no useful node id here", "500 Something went wrong no useful node id here", "400 no useful node id here"},
		{core.Errorf(core.Busy, core.ObjNode, "the node belongs to an app"), "400 the node belongs to an app", "500 Something went wrong the node belongs to an app", "400 the node belongs to an app"},
		{core.Errorf(core.Forbidden, core.ObjNode, "another's"), "403 Forbidden", "500 Something went wrong Forbidden", "403 Forbidden"},
		{fmt.Errorf("context: %w", core.Wrap(core.Quota, core.ObjNode, secret, "ten nodes are the limit")), "400 ten nodes are the limit", "500 Something went wrong ten nodes are the limit", "400 ten nodes are the limit"},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			f := newFixture(t)
			f.core.err = tc.err
			f.core.clouds["fake_driver"].err = tc.err
			for name, one := range map[string]struct{ method, path, body, want string }{
				"nodes":  {"GET", "/api/v1/nodes/fake_driver", "", tc.list},
				"images": {"GET", "/api/v1/images/fake_driver", "", tc.list},
				"sizes":  {"GET", "/api/v1/sizes/fake_driver", "", tc.list},
				"status": {"GET", "/api/v1/vm/status/fake_driver", "", tc.list},
				"start":  {"POST", "/api/v1/vm/start/fake_driver", bodies["/api/v1/vm/start"], tc.start},
				"stop":   {"PUT", "/api/v1/vm/stop/fake_driver", bodies["/api/v1/vm/stop"], tc.stop},
			} {
				w := f.do(one.method, one.path, one.body)
				status, message, _ := strings.Cut(one.want, " ")
				if fmt.Sprint(w.Code) != status || !strings.Contains(w.Body.String(), `"message": "`+message+`"`) {
					t.Errorf("%s: got %d %s, want %s", name, w.Code, w.Body, one.want)
				}
				if strings.Contains(w.Body.String(), "secret") {
					t.Errorf("%s: the answer tells what only the log should: %s", name, w.Body)
				}
			}
		})
	}
}

func TestANodeGoneFromItsCloudIsNotFoundInThePool(t *testing.T) {
	f := newFixture(t)
	f.core.err = core.Errorf(core.NotFound, core.ObjNode, "gone")
	w := f.do("PUT", "/api/v1/vm/action/release/fake_driver", `{"node":"1"}`)
	if w.Code != 400 || !strings.Contains(w.Body.String(), `"message": "Node not found"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestLoginFailures(t *testing.T) {
	for _, tc := range []struct {
		err     error
		status  int
		message string
	}{
		{core.Errorf(core.RateLimited, core.ObjAccount, "try again in 4 seconds"), 403, "try again in 4 seconds"},
		{core.Errorf(core.Unavailable, core.ObjAccount, "too many logins at once"), 500, "the credential could not be checked; try again"},
		{errors.New("database is on fire"), 500, "the credential could not be checked; try again"},
	} {
		f := newFixture(t)
		f.auth.err = tc.err
		w := f.do("POST", "/api/v1/auth", bodies["/api/v1/auth"])
		if w.Code != tc.status || !strings.Contains(w.Body.String(), `"message": "`+tc.message+`"`) {
			t.Errorf("%v: got %d %s", tc.err, w.Code, w.Body)
		}
		if w := f.do("GET", "/api/v1/nodes/closed", "", "X-Auth-Token: user"); w.Code != 500 {
			t.Errorf("%v: a token that cannot be checked: got %d %s, want 500", tc.err, w.Code, w.Body)
		}
	}
}

func TestTestIs500WhenTheDefaultCloudDoesNotAnswer(t *testing.T) {
	f := newFixture(t)
	f.core.clouds["default"].err = core.Errorf(core.Unavailable, core.ObjCloud, "down")
	if w := f.do("PUT", "/api/v1/test/start", "", "X-Auth-Token: user"); w.Code != 500 {
		t.Errorf("got %d %s, want 500", w.Code, w.Body)
	}
}

func TestPlumbingFailuresHaveTheErrorBody(t *testing.T) {
	w := newFixture(t).do("PUT", "/api/v1/vm/stop/fake_driver", strings.Repeat("x", 2<<20))
	if w.Code != 413 || !strings.Contains(w.Body.String(), `"status_short_message": "Request Entity Too Large"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
