package tsuru_test

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/api/tsuru"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestEveryKindHasAStatus(t *testing.T) {
	for _, k := range core.Kinds() {
		if code, ok := tsuru.Statuses[k]; !ok || code < 400 {
			t.Errorf("kind %q has the status %d", k, code)
		}
	}
}

// wantStatus is the rule: the order is 401, then what a token is good for, then the app.
func wantStatus(row tsuru.Row, who string) int {
	app := strings.Contains(row.Pattern, "{app}")
	switch who {
	case "nobody", "an expired token", "a made-up token":
		if row.Access == "public" {
			return 200
		}
		return 401
	case "the app's token", "another app's token":
		switch {
		case row.Access == "public":
			return 200
		case row.Access != "any":
			return 403
		case app && who == "another app's token":
			return 401
		}
		return 200
	case "an administrator":
		return 200
	}
	if row.Access == "admin" || app && who == "a member of another team" {
		return 403
	}
	return 200
}

func TestEveryRouteForEveryCaller(t *testing.T) {
	b := newBed(t)
	handler, err := api.NewHandler(api.HandlerOptions{Log: slog.New(slog.DiscardHandler)}, tsuru.New(tsuru.Options{Core: b.core, Auth: b.auth}).Stub().Mount())
	b.must(err)
	ann := b.as(b.ann).create("shop").create("other")
	own, other := ann.env("shop", "")["TSURU_APP_TOKEN"].Value, ann.env("other", "")["TSURU_APP_TOKEN"].Value
	expired := b.login("ann@example.test", password)
	b.now.advance(7*24*time.Hour + time.Minute)
	tokens := []struct{ who, token string }{
		{"nobody", ""}, {"an expired token", expired}, {"a made-up token", strings.Repeat("0", 40)}, {"the app's token", own}, {"another app's token", other},
		{"a member of another team", b.login("bob@example.test", password)}, {"a member", b.login("ann@example.test", password)},
		{"an administrator", b.login("root@example.test", password)},
	}
	b.server.Close()
	b.server = httptest.NewServer(handler)
	t.Cleanup(b.server.Close)
	path := strings.NewReplacer("{app}", "shop", "{email}", "ann@example.test", "{team}", "red", "{name}", "app", "{unit}", "x", "{id}", "1",
		"{platform}", "python", "{healer}", "unit", "{machine}", "m", "{service}", "s", "{instance}", "i", "{event}", "e", "{role}", "r", "{key}", "k")
	for _, row := range tsuru.Rows() {
		for _, prefix := range []string{"", "/1.13"} {
			for _, c := range tokens {
				t.Run(fmt.Sprintf("%s %s%s for %s", row.Method, prefix, row.Pattern, c.who), func(t *testing.T) {
					b.as(c.token).do(row.Method, prefix+path.Replace(row.Pattern)).want(wantStatus(row, c.who))
				})
			}
		}
	}
}

// TestEveryWriteToAnAppTakesItsLock holds the table against spec 0.4: what is not locked is listed there.
func TestEveryWriteToAnAppTakesItsLock(t *testing.T) {
	free := map[string]bool{"POST /apps/{app}/log": true, "POST /apps/{app}/run": true, "POST /apps/{app}/units/register": true,
		"POST /apps/{app}/customdata": true, "DELETE /apps/{app}/lock": true}
	for _, row := range tsuru.Rows() {
		name := row.Method + " " + row.Pattern
		want := strings.Contains(row.Pattern, "{app}") && row.Method != "GET" && !free[name] || name == "GET /apps/{app}/restart"
		if row.Locks != want {
			t.Errorf("%s: got lock %t, want %t", name, row.Locks, want)
		}
	}
}
