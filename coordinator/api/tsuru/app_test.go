package tsuru_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api/tsuru"
	"github.com/reeve-paas/reeve/coordinator/core"
)

func (c caller) create(name string, more ...string) caller {
	c.Helper()
	c.post("/apps", fmt.Sprintf(`{"name":%q,"platform":"python","memory":"0","swap":"0","teamOwner":""%s}`, name, strings.Join(more, ""))).want(200)
	return c
}

// deploy uploads an archive with files of these names, as the client of the time does.
func (c caller) deploy(app string, files ...string) answer {
	c.Helper()
	kind, body := upload("file", archive(files...))
	return c.with("Content-Type: "+kind).post("/apps/"+app+"/deploy", body)
}

func upload(field, content string) (kind, body string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	f, _ := w.CreateFormFile(field, "archive.tar.gz")
	_, _ = io.WriteString(f, content)
	_ = w.Close()
	return w.FormDataContentType(), b.String()
}

type shownApp struct {
	Name, Platform, Repository, IP, Owner, TeamOwner, State, Memory string
	CName                                                           []string
	Teams                                                           []string
	Deploys                                                         int
	Ready                                                           bool
	Units                                                           []struct{ ID, Name, Status, IP string }
}

func (c caller) info(app string) (got shownApp) {
	c.Helper()
	c.get("/apps/" + app).want(200).into(&got)
	return got
}

type shownVar struct {
	Name, Value string
	Public      bool
}

func (c caller) env(app, body string) map[string]shownVar {
	c.Helper()
	var got []shownVar
	c.get("/apps/"+app+"/env", body).want(200).into(&got)
	vars := map[string]shownVar{}
	for _, v := range got {
		vars[v.Name] = v
	}
	return vars
}

var form = "Content-Type: application/x-www-form-urlencoded"

func TestApps(t *testing.T) {
	b := newBed(t).work()
	ann, bob, root := b.as(b.ann), b.as(b.bob), b.as(b.admin)
	t.Run("27 and 28 a new app", func(t *testing.T) {
		var got map[string]string
		ann.post("/apps", `{"name":"shop","platform":"python"}`).want(200).into(&got) // fails on anything but strings
		if got["status"] != "success" || !regexp.MustCompile(`^.*@.*:shop\.git$`).MatchString(got["repository_url"]) || got["ip"] != "shop.apps.test" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("29 memory and swap", func(t *testing.T) {
		ann.post("/apps", `{"name":"mem-1","framework":"python","memory":"0","swap":"0"}`).want(200)
		ann.post("/apps", `{"name":"mem-2","platform":"python","memory":0,"swap":0}`).want(200)
		ann.post("/apps", `{"name":"mem-3","platform":"python","memory":"512"}`).want(200)
		if got := ann.info("mem-3"); got.Memory != "512" {
			t.Errorf("got the memory %q", got.Memory)
		}
		ann.post("/apps", `{"name":"mem-4","platform":"python","memory":"9999999"}`).want(403)
		ann.post("/apps", `{"name":"mem-4","platform":"python","memory":"x"}`).want(400)
	})
	t.Run("30 without a team", func(t *testing.T) {
		b.as(b.account("lonely@example.test", "")).post("/apps", `{"name":"alone","platform":"nope"}`).want(400)
	})
	t.Run("31 bad names", func(t *testing.T) {
		for _, name := range []string{"Bad_Name", strings.Repeat("a", 64), "tsr", "python", "go", "1a", "", "a.b"} {
			ann.post("/apps", fmt.Sprintf(`{"name":%q,"platform":"python"}`, name)).want(400)
		}
		ann.post("/apps", fmt.Sprintf(`{"name":%q,"platform":"python"}`, strings.Repeat("a", 63))).want(200)
	})
	t.Run("32 taken names, unknown platforms", func(t *testing.T) {
		bob.post("/apps", `{"name":"shop","platform":"python"}`).want(409).has("shop already exists")
		ann.post("/apps", `{"name":"other","platform":"cobol"}`).want(400).is("Invalid platform\n")
		ann.post("/apps", `{`).want(400)
		ann.post("/apps", `{"name":"other","platform":"python","teamOwner":"blue"}`).want(403)
		two := b.as(b.account("two@example.test", "first"))
		two.post("/teams", `{"name":"second"}`).want(200)
		two.post("/apps", `{"name":"other","platform":"python"}`).want(400)
		two.post("/apps", `{"name":"other","platform":"python","TEAMOWNER":"second"}`).want(200)
		if got := two.info("other"); got.TeamOwner != "second" || len(got.Teams) != 2 || got.Owner != "two@example.test" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("33 quota of apps", func(t *testing.T) {
		few := b.as(b.account("few@example.test", "few"))
		root.with(form).post("/users/few@example.test/quota", "limit=1").want(200)
		few.create("few-1")
		few.post("/apps", `{"name":"few-2","platform":"python"}`).want(403).is("Quota exceeded\n")
		root.with(form).post("/users/few@example.test/quota", "limit=0").want(403)
		few.delete("/apps/few-1").want(200)
		b.until("the app's end", func() bool { return few.get("/apps/few-1").code == 404 })
		few.create("few-2")
	})
	t.Run("34 who sees an app", func(t *testing.T) {
		ann.get("/apps").want(200).has(`"name":"shop"`)
		root.get("/apps").want(200).has(`"name":"shop"`)
		bob.get("/apps").want(200).is("[]\n")
	})
	t.Run("35 and 36 keys of an app", func(t *testing.T) {
		var list []map[string]any
		ann.get("/apps").want(200).into(&list)
		for _, key := range []string{"name", "Name", "ip", "Ip", "units", "Units"} {
			if _, ok := list[0][key]; !ok {
				t.Errorf("%s is missing in the list", key)
			}
		}
		var one map[string]any
		a := ann.get("/apps/shop").want(200).into(&one)
		for _, key := range []string{"name", "Name", "platform", "Platform", "Framework", "repository", "Repository", "teams", "Teams", "State", "ready", "owner", "deploys"} {
			if _, ok := one[key]; !ok {
				t.Errorf("%s is missing", key)
			}
		}
		if _, ok := one["cname"].([]any); !ok {
			t.Errorf("got the cname %v, want an array", one["cname"])
		}
		if kind := a.header.Get("Content-Type"); kind != "application/json; profile="+b.server.URL+"/schema/app" {
			t.Errorf("got the type %q", kind)
		}
	})
	t.Run("37 unknown and foreign apps", func(t *testing.T) {
		ann.get("/apps/nope").want(404).is("App nope not found.\n")
		bob.get("/apps/shop").want(403).is("User does not have access to this app\n")
	})
	t.Run("38 removal", func(t *testing.T) {
		ann.create("gone").deploy("gone", "app.py").want(200).has("\nOK\n")
		ann.delete("/apps/gone").want(200).is("success")
		b.until("the app's end", func() bool { return !strings.Contains(ann.get("/apps").body, `"gone"`) })
		if apps, units, proxies, _, _ := b.world.traces(); apps+units+proxies != 0 {
			t.Errorf("got %d apps, %d units, %d proxies left on hosts", apps, units, proxies)
		}
		ann.create("gone") // the name is free again
	})
	t.Run("39 the lock", func(t *testing.T) {
		release := b.world.hold()
		defer release()
		done := make(chan answer)
		go func() { done <- ann.deploy("shop", "app.py") }()
		b.until("the lock", func() bool { return b.working("shop") })
		ann.post("/apps/shop/restart").want(409).has("ann@example.test")
		ann.delete("/apps/shop").want(409)
		ann.put("/swap?app1=shop&app2=mem-1").want(409)
		ann.get("/apps/shop").want(200)
		ann.get("/apps/shop/env").want(200)
		ann.get("/apps/shop/log?lines=1").want(200)
		release()
		(<-done).want(200).has("\nOK\n")
		ann.post("/apps/shop/env", `{"A":"1"}`).want(200)

		ann.deploy("gone", "app.py").want(200)
		release = b.world.hold()
		defer release()
		ann.delete("/apps/gone").want(200).is("success")
		ann.post("/apps/gone/env", `{"A":"1"}`).want(409)
		ann.delete("/apps/gone").want(409)
		ann.get("/apps/gone").want(200)
		ann.get("/apps").want(200).has(`"name":"gone"`)
		release()
		b.until("the app's end", func() bool { return ann.get("/apps/gone").code == 404 })
	})
	t.Run("40 restart", func(t *testing.T) {
		ann.get("/apps/shop/restart").want(200)
		before := ann.info("shop").Units[0].Name
		ann.post("/apps/shop/restart").want(200).has("Restarting")
		if after := ann.info("shop").Units; len(after) != 1 || after[0].Name == before {
			t.Errorf("got the units %v after %s", after, before)
		}
		ann.post("/apps/mem-1/restart").want(200) // without units: nothing to do
		ann.post("/apps/shop/stop").want(200)
		if got := ann.info("shop").Units[0].Status; got != "stopped" {
			t.Errorf("got the status %s of a stopped unit", got)
		}
		ann.post("/apps/shop/start").want(200)
		if got := ann.info("shop").Units[0].Status; got != "started" {
			t.Errorf("got the status %s of a started unit", got)
		}
	})
	t.Run("41 to 44 environment", func(t *testing.T) {
		ann.post("/apps/shop/env", `{"A":"1","B":2,"C":true}`).want(200).is("")
		got := ann.env("shop", "")
		if got["A"] != (shownVar{"A", "1", true}) || got["B"].Value != "2" || got["C"].Value != "true" {
			t.Errorf("got %v", got)
		}
		if one := ann.env("shop", `["A","unknown"]`); len(one) != 1 || one["A"].Value != "1" {
			t.Errorf("got %v for one name", one)
		}
		for _, none := range []string{"null", "[]"} {
			if all := ann.env("shop", none); len(all) != len(got) {
				t.Errorf("got %d variables for %s, want %d", len(all), none, len(got))
			}
		}
		ann.delete("/apps/shop/env", `["A"]`).want(200)
		if _, there := ann.env("shop", "")["A"]; there {
			t.Error("A is still there")
		}
		ann.delete("/apps/shop/env", `[]`).want(400)
		ann.delete("/apps/shop/env").want(400)
		ann.delete("/apps/shop/env?env=B").want(200)
		for _, body := range []string{`["A"]`, "", "{", `{"A":{}}`, `{"A":["x"]}`, `{"1A":"x"}`} {
			ann.post("/apps/shop/env", body).want(400)
		}
		ann.with(form).post("/apps/shop/env", `{"curl":"says it is a form"}`).want(200)
		before := ann.info("shop").Units[0].Name
		ann.post("/apps/shop/env?noRestart=true", `{"QUIET":"1"}`).want(200)
		ann.delete("/apps/shop/env?noRestart=true", `["QUIET"]`).want(200)
		if after := ann.info("shop").Units[0].Name; after != before {
			t.Errorf("got the unit %s after %s, though nobody asked for a restart", after, before)
		}
	})
	t.Run("45 the platform's variables", func(t *testing.T) {
		before := ann.env("shop", "")
		for _, name := range []string{"TSURU_APPNAME", "TSURU_HOST", "TSURU_APP_TOKEN", "TSURU_APPDIR", "TSURU_SERVICES"} {
			if v, ok := before[name]; !ok || v.Public || v.Value == "" {
				t.Errorf("got %s %+v", name, v)
			}
			ann.post("/apps/shop/env", fmt.Sprintf(`{%q:"changed"}`, name)).want(200)
			ann.delete("/apps/shop/env", fmt.Sprintf(`[%q]`, name)).want(200)
			if after := ann.env("shop", "")[name]; after != before[name] {
				t.Errorf("got %+v, want %+v", after, before[name])
			}
		}
		if before["TSURU_APPNAME"].Value != "shop" || before["TSURU_HOST"].Value != b.server.URL {
			t.Errorf("got %v", before)
		}
	})
	t.Run("46 to 48 swap", func(t *testing.T) {
		ann.create("blue").create("green")
		ann.deploy("blue", "app.py").has("\nOK\n")
		ann.deploy("green", "app.py").has("\nOK\n")
		ann.post("/apps/blue/cname", `{"cname":["www.blue.example.com"]}`).want(200)
		at := func(name string) string { return fmt.Sprint(b.world.backends(name)) }
		blue, green := ann.info("blue"), ann.info("green")
		toBlue, toGreen := at("blue.apps.test"), at("green.apps.test")
		ann.put("/swap?app1=blue&app2=green&force=false").want(200).is("")
		if one, two := ann.info("blue"), ann.info("green"); one.IP != green.IP || two.IP != blue.IP || fmt.Sprint(two.CName) != fmt.Sprint(blue.CName) || len(one.CName) != 0 {
			t.Errorf("got %+v and %+v", one, two)
		}
		if at("blue.apps.test") != toGreen || at("green.apps.test") != toBlue || at("www.blue.example.com") != toGreen {
			t.Errorf("requests go to %s and %s", at("blue.apps.test"), at("green.apps.test"))
		}
		ann.put("/swap?app1=blue&app2=green").want(200)
		if one := ann.info("blue"); one.IP != blue.IP || fmt.Sprint(one.CName) != fmt.Sprint(blue.CName) {
			t.Errorf("got %+v after two swaps", one)
		}
		ann.put("/swap?app1=blue&app2=mem-1").want(412).is("Apps are not equal.\n")
		ann.put("/swap?app1=blue&app2=mem-1&force=true").want(200)
		ann.put("/swap?app1=blue&app2=mem-1&force=true").want(200)
		ann.post("/apps", `{"name":"odd","platform":"go"}`).want(200)
		ann.deploy("odd", "main.go").has("\nOK\n")
		ann.put("/swap?app1=blue&app2=odd").want(412).is("Apps are not equal.\n") // another platform, as many units
		ann.put("/swap?app1=blue&app2=nope").want(404)
		modern := ann.with(form)
		modern.post("/1.0/swap", "app1=blue&app2=mem-1&force=false&cnameOnly=false").want(412).is("Apps are not equal.\n")
		modern.post("/1.0/swap", "app1=blue&app2=green&cnameOnly=true").want(400)
		for range 2 {
			modern.post("/1.0/swap", "app1=blue&app2=mem-1&force=true&cnameOnly=false").want(200).is("")
		}
		bob.put("/swap?app1=blue&app2=green").want(403)
	})
	t.Run("49 and 50 units", func(t *testing.T) {
		ann.put("/apps/shop/units", "2").want(200).is("")
		if got := ann.info("shop").Units; len(got) != 3 {
			t.Errorf("got %d units, want 3", len(got))
		}
		ann.with(form).put("/apps/shop/units", "1").want(200) // curl -d
		for _, body := range []string{"x", "0", "", "-1", "1.5", "+1"} {
			ann.put("/apps/shop/units", body).want(400)
			ann.delete("/apps/shop/units", body).want(400)
		}
		root.with(form).post("/apps/shop/quota", "limit=4").want(200)
		ann.put("/apps/shop/units", "1").want(403).has("Available: 0. Requested: 1.")
		root.get("/apps/shop/quota").want(200).has(`"InUse":4`)
		ann.get("/apps/shop/quota").want(403)
		ann.delete("/apps/shop/units", "4").want(400)
		ann.delete("/apps/shop/units", "9").want(400)
		ann.delete("/apps/shop/units", "2").want(200)
		if got := ann.info("shop").Units; len(got) != 2 {
			t.Errorf("got %d units, want 2", len(got))
		}
		ann.put("/apps/mem-1/units", "1").want(412)
	})
	t.Run("51 cnames", func(t *testing.T) {
		ann.post("/apps/shop/cname", `{"cname":"one.example.com"}`).want(200).is("")
		ann.post("/apps/shop/cname", `{"cname":["two.example.com","*.x.com"]}`).want(200)
		if got := ann.info("shop").CName; len(got) != 3 {
			t.Errorf("got the cnames %v", got)
		}
		for _, name := range []string{"_x.y", "http://x", "a b.org", ""} {
			ann.post("/apps/shop/cname", fmt.Sprintf(`{"cname":[%q]}`, name)).want(400).is("Invalid cname\n")
		}
		ann.post("/apps/shop/cname", `{}`).want(400)
		ann.post("/apps/shop/cname", `{`).want(400)
		bob.create("thief").post("/apps/thief/cname", `{"cname":["one.example.com"]}`).want(409)
		bob.post("/apps/thief/cname", `{"cname":["later.apps.test"]}`).want(409) // an address that an app may get
		if to := b.world.backends("one.example.com"); len(to) != 2 {
			t.Errorf("requests go to %v, want both units", to)
		}
		ann.delete("/apps/shop/cname", `{"cname":["one.example.com"]}`).want(200)
		if to := b.world.backends("one.example.com"); to != nil {
			t.Errorf("requests go to %v after the name was removed", to)
		}
		ann.delete("/apps/shop/cname", `{"cname":["one.example.com"]}`).want(400)
		ann.delete("/apps/shop/cname").want(200)
		if got := ann.info("shop"); len(got.CName) != 0 || got.IP != "shop.apps.test" {
			t.Errorf("got %v after all were removed", got.CName)
		}
	})
	t.Run("52 access of teams", func(t *testing.T) {
		ann.put("/apps/shop/teams/blue").want(200).is("")
		ann.put("/apps/shop/teams/blue").want(409)
		ann.put("/apps/shop/blue").want(409)
		ann.put("/apps/shop/teams/nope").want(404)
		bob.get("/apps/shop").want(200)
		bob.delete("/apps/shop/red").want(200) // red owned it
		if got := bob.info("shop"); got.TeamOwner != "blue" {
			t.Errorf("got the owner %q after it left", got.TeamOwner)
		}
		bob.delete("/apps/shop/teams/blue").want(403)
		bob.delete("/apps/shop/teams/red").want(404)
		ann.get("/apps/shop").want(403)
		bob.put("/apps/shop/red").want(200)
		ann.post("/apps/shop/team-owner", "blue").want(403)
		ann.post("/apps/shop/team-owner", "nope").want(404)
		ann.post("/apps/shop/team-owner", "red").want(200)
		bob.delete("/teams/blue").want(403) // 26: it has access to an app
	})
	t.Run("53 names of units", func(t *testing.T) {
		seen := map[string]bool{}
		for _, app := range []string{"shop", "blue", "green"} {
			for _, u := range ann.info(app).Units {
				if strings.Contains(u.Name, "/") || seen[u.Name[:10]] || u.ID != u.Name {
					t.Errorf("got the unit %+v", u)
				}
				seen[u.Name[:10]] = true
			}
		}
		root.get("/docker/node/apps/shop/containers").want(200).has(ann.info("shop").Units[0].Name)
		ann.get("/docker/node/apps/shop/containers").want(403)
	})
	t.Run("an administrator takes a lock away", func(t *testing.T) {
		release := b.world.hold()
		defer release()
		done := make(chan answer)
		go func() { done <- ann.deploy("blue", "app.py") }()
		b.until("the lock", func() bool { return b.working("blue") })
		ann.delete("/apps/blue/lock").want(403)
		root.delete("/apps/blue/lock").want(204)
		release()
		(<-done).lacks("\nOK\n")
		b.until("the end of the deploy", func() bool { return ann.post("/apps/blue/env", `{"A":"1"}`).code == 200 })
	})
}

func TestDeployRunLog(t *testing.T) {
	b := newBed(t, func(o *tsuru.Options, _ *core.Options) { o.Silence = 50 * time.Millisecond }).work()
	ann, bob, root := b.as(b.ann), b.as(b.bob), b.as(b.admin)
	ann.create("shop")
	t.Run("54 what is deployed", func(t *testing.T) {
		ann.with(form).post("/apps/shop/deploy", "commit=abc").want(400)
		ann.post("/apps/shop/deploy").want(400)
		ann.with(form).post("/apps/shop/deploy", "version=master&archive-url=http://127.0.0.1/a.tar.gz").want(400)
		kind, body := upload("other", "x")
		ann.with("Content-Type: "+kind).post("/apps/shop/deploy", body).want(400)
		ann.with(form).post("/apps/nope/deploy", "version=master").want(404)
		ann.with(form).post("/apps/shop/deploy", "archive-url=file:///etc/passwd").want(400)
		ann.with(form).post("/apps/shop/deploy", "archive-url=http://169.254.169.254/latest/meta-data").want(400)
	})
	t.Run("55 a deploy", func(t *testing.T) {
		a := ann.deploy("shop", "app.py", "Procfile").want(200)
		if !strings.HasSuffix(a.body, "\nOK\n") || !strings.Contains(a.body, "building app.py Procfile\n") || a.header.Get("Content-Type") != "text" {
			t.Errorf("got %q %v", a.body, a.header)
		}
		if got := ann.info("shop"); got.Deploys != 1 || len(got.Units) != 1 || got.Units[0].Status != "started" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("55 a deploy from an address", func(t *testing.T) {
		l, stop := serveFile(t, archive("app.py", "from-url"))
		defer stop()
		ann.with(form).post("/apps/shop/deploy", "commit=abc&archive-url="+l).want(200).has("building app.py from-url").has("\nOK\n")
	})
	t.Run("56 and 61 a failing build", func(t *testing.T) {
		before := ann.info("shop")
		a := ann.deploy("shop", "fail").want(200).has("the build failed: exit status 7")
		if strings.HasSuffix(a.body, "\nOK\n") {
			t.Errorf("got %q", a.body)
		}
		if after := ann.info("shop"); after.Deploys != before.Deploys || fmt.Sprint(after.Units) != fmt.Sprint(before.Units) {
			t.Errorf("got %+v, want %+v", after, before)
		}
		ann.with("Content-Type: application/octet-stream").deploy("shop").lacks("\nOK!\n")
	})
	t.Run("57 a silent deploy", func(t *testing.T) {
		release := b.world.hold()
		defer release()
		kind, body := upload("file", archive("app.py"))
		r := ann.with("Content-Type: "+kind).request(t.Context(), "POST", "/apps/shop/deploy", strings.NewReader(body))
		resp, err := http.DefaultClient.Do(r)
		b.must(err)
		defer resp.Body.Close()
		waits := 0
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			if in.Text() == "please wait..." {
				if waits++; waits == 2 {
					release()
				}
			}
		}
		if waits < 2 {
			t.Errorf("got %d signs of life", waits)
		}
	})
	t.Run("58 the other path", func(t *testing.T) {
		kind, body := upload("file", archive("app.py"))
		ann.with("Content-Type: "+kind).post("/apps/shop/repository/clone", body).want(200).has("\nOK\n")
	})
	t.Run("59 what a process sees", func(t *testing.T) {
		ann.post("/apps/shop/env", `{"SEEN":"yes"}`).want(200)
		units := b.world.started()
		if len(units) == 0 {
			t.Error("no unit is started")
		}
		for _, u := range units {
			if u.Env["SEEN"] != "yes" || u.Env["TSURU_APPNAME"] != "shop" || u.Port < 1024 {
				t.Errorf("got %d variables on port %d, SEEN is %q", len(u.Env), u.Port, u.Env["SEEN"])
			}
		}
	})
	t.Run("60 a release that fails its check", func(t *testing.T) {
		before := ann.info("shop")
		to := fmt.Sprint(b.world.backends("shop.apps.test"))
		ann.deploy("shop", "sick").want(200).has("GET /sick is 500").lacks("\nOK\n")
		if after := ann.info("shop"); fmt.Sprint(after.Units) != fmt.Sprint(before.Units) || fmt.Sprint(b.world.backends("shop.apps.test")) != to {
			t.Errorf("got the units %v, want %v", after.Units, before.Units)
		}
	})
	t.Run("deploys are listed and gone back to", func(t *testing.T) {
		var all []struct {
			ID, App, Commit, Error, Image string
			CanRollback                   bool
		}
		ann.get("/deploys?app=shop").want(200).into(&all)
		if len(all) < 4 || all[0].App != "shop" || all[0].Error == "" {
			t.Errorf("got %+v", all)
		}
		ann.get("/deploys").want(403)
		root.get("/deploys").want(200).has("shop")
		if !regexp.MustCompile(`^[0-9a-f]{24}$`).MatchString(all[0].ID) { // the modern client fails on others
			t.Errorf("got the ID %q", all[0].ID)
		}
		ann.get("/deploys/" + all[0].ID).want(200).has(`"Id"`)
		ann.get("/deploys/999999").want(404)
		bob.get("/deploys/" + all[0].ID).want(404)
		back := ann.with(form).post("/1.0/apps/shop/deploy/rollback", "origin=rollback&image=v1").want(200)
		if text, failure := back.messages(); failure != "" || strings.Contains(text, "OK") || back.header.Get("X-Tsuru-Eventid") == "" {
			t.Errorf("got %q and the failure %q", text, failure)
		}
		if a := ann.with(form).post("/apps/shop/deploy/rollback", "image=v1").want(200); !strings.HasSuffix(a.body, "\nOK\n") {
			t.Errorf("got %q on a path without a version", a.body)
		}
		ann.with(form).post("/apps/shop/deploy/rollback", "image=v77").want(404)
		ann.with(form).post("/apps/shop/deploy/rollback", "image=x").want(400)
	})
	t.Run("62 run", func(t *testing.T) {
		ann.post("/apps/shop/run?once=true").want(400)
		a := ann.post("/apps/shop/run?once=true", "ls -l").want(200)
		if !strings.HasSuffix(a.body, "\nOK!\n") || !strings.HasPrefix(a.body, "ran ls -l\n") {
			t.Errorf("got %q", a.body)
		}
		ann.post("/apps/shop/run?once=false", "false").want(200).has("exit status 1").lacks("OK!")
		ann.create("empty").post("/apps/empty/run?once=true", "ls").want(412)
	})
	t.Run("63 and 64 the log", func(t *testing.T) {
		ann.get("/apps/shop/log").want(400)
		ann.get("/apps/shop/log?lines=x").want(400)
		b.world.say("hello")
		b.world.say("world")
		var got []struct {
			Date                           time.Time
			Message, Source, AppName, Unit string
		}
		ann.get("/apps/shop/log?lines=2").want(200).into(&got)
		if len(got) != 2 || got[0].Message != "hello" || got[1].Message != "world" || got[1].Source != "app" || got[1].AppName != "shop" || got[1].Date.IsZero() {
			t.Errorf("got %+v", got)
		}
		unit := got[0].Unit
		ann.get("/apps/shop/log?lines=100&source=tsuru").want(200).into(&got)
		for _, l := range got {
			if l.Source != "tsuru" || l.Unit != "api" {
				t.Errorf("got %+v among the platform's", l)
			}
		}
		if len(got) == 0 {
			t.Error("got nothing of the platform")
		}
		ann.get("/apps/shop/log?lines=100&unit=" + unit[:5]).want(200).is("[]\n") // exact, not a prefix
		ann.get("/apps/shop/log?lines=100&unit=" + unit).want(200).into(&got)
		if len(got) != 2 {
			t.Errorf("got %+v of the unit", got)
		}
	})
	t.Run("65 a log that is followed", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		resp, err := http.DefaultClient.Do(ann.request(ctx, "GET", "/apps/shop/log?lines=1&follow=1", nil))
		b.must(err)
		defer resp.Body.Close()
		in := bufio.NewScanner(resp.Body)
		in.Scan() // what there was
		b.world.say("news")
		for in.Scan() {
			var lines []struct{ Message string }
			if err := json.Unmarshal(in.Bytes(), &lines); err != nil {
				t.Fatalf("got the line %q: %v", in.Text(), err)
			}
			if len(lines) == 1 && lines[0].Message == "news" {
				return
			}
		}
		t.Error("the news never came")
	})
	t.Run("66 lines from inside", func(t *testing.T) {
		token := ann.env("shop", "")["TSURU_APP_TOKEN"].Value
		ann.create("other")
		other := ann.env("other", "")["TSURU_APP_TOKEN"].Value
		b.as(token).post("/apps/shop/log?source=worker&unit=u1", `["one\ntwo","","three"]`).want(200)
		ann.get("/apps/shop/log?lines=10&source=worker").want(200).has(`"Message":"three"`).has(`"Message":"two"`)
		b.as(other).post("/apps/shop/log", `["x"]`).want(401)
		b.as(token).get("/apps/shop/env").want(200)
		b.as(token).get("/apps/other/env").want(401)
		b.as(token).post("/apps/shop/env", `{"A":"1"}`).want(403)
		b.as(token).get("/apps").want(403)
		b.as(token).post("/apps/shop/units/register", "hostname="+ann.info("shop").Units[0].Name[:8]).want(400) // no form
		b.as(token).with(form).post("/apps/shop/units/register", "hostname="+ann.info("shop").Units[0].Name[:8]).want(200).has("TSURU_APPNAME")
		b.as(token).with(form).post("/apps/shop/units/"+ann.info("shop").Units[0].Name, "status=started").want(200)
		b.as(token).with(form).post("/apps/shop/units/nope", "status=started").want(404)
		b.as(token).with(form).post("/apps/shop/units/nope", "status=nope").want(400)
		b.as(token).post("/apps/shop/customdata", `{"hooks":{}}`).want(200)
		b.as(token).get("/apps/shop/available").want(200)
		kind, body := upload("file", archive("app.py"))
		b.as(token).with("Content-Type: "+kind).post("/apps/shop/deploy", body).want(200).has("\nOK\n")
		b.as(other).with("Content-Type: "+kind).post("/apps/shop/deploy", body).want(401)
	})
	t.Run("91 tokens for apps", func(t *testing.T) {
		var got struct{ Token string }
		root.post("/tokens", `{"client":"shop","export":false}`).want(200).has(`"Token":"`).has(`"AppName":"shop"`).into(&got)
		ann.post("/tokens", `{"client":"shop"}`).want(403)
		root.post("/tokens", `{}`).want(400)
		root.post("/tokens", `{"client":"nope"}`).want(404)
		b.as(got.Token).get("/apps/shop/env").want(200)
		b.as(got.Token).get("/apps/other/env").want(401)
		b.now.advance(366 * 24 * time.Hour)
		b.as(got.Token).get("/apps/shop/env").want(401)
	})
}

// serveFile serves one content at an address of this machine.
func serveFile(t *testing.T, content string) (url string, stop func()) {
	t.Helper()
	s := newServer(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, content) })
	return s.URL + "/a.tar.gz", s.Close
}

func TestRest(t *testing.T) {
	b := newBed(t).work()
	ann, root := b.as(b.ann), b.as(b.admin)
	t.Run("89 healers", func(t *testing.T) {
		var paths map[string]string
		ann.with("Accept: ").do("GET", "/healers").want(200).into(&paths)
		for name, path := range paths {
			if path != "/healers/"+name {
				t.Errorf("got %s at %s", name, path)
			}
			ann.get(path).want(200)
		}
		if len(paths) == 0 {
			t.Error("got no healer")
		}
		var urls []map[string]string
		ann.with("Accept: */*").get("/healers").want(200).into(&urls)
		if len(urls) != len(paths) {
			t.Errorf("got %v for the document's readers", urls)
		}
		ann.get("/healers/nope").want(404)
	})
	t.Run("90 platforms", func(t *testing.T) {
		var all []struct{ Name string }
		ann.get("/platforms").want(200).into(&all)
		if len(all) != 6 || all[0].Name != "go" {
			t.Errorf("got %v", all)
		}
		ann.create("uses-python")
		root.delete("/platforms/python").want(412)
		root.delete("/platforms/nope").want(404)
		ann.delete("/platforms/python").want(403)
		root.with(form).post("/platforms", "name=python&dockerfile=x").want(409)
		root.with(form).post("/platforms", "dockerfile=x").want(400)
		root.with(form).post("/platforms", "name=cobol&dockerfile=x").want(400)
		if a := root.put("/platforms/python").want(200); !strings.HasSuffix(a.body, "\nOK!\n") {
			t.Errorf("got %q", a.body)
		}
	})
	t.Run("machines and logs", func(t *testing.T) {
		var machines []struct{ ID, Status string }
		root.get("/iaas/machines").want(200).into(&machines)
		if len(machines) != 3 || machines[0].Status != "running" {
			t.Errorf("got %v", machines)
		}
		ann.get("/iaas/machines").want(403)
		root.delete("/iaas/machines/nope").want(404)
		root.delete("/iaas/machines/" + machines[2].ID).want(200)
		root.delete("/logs?app=uses-python").want(200)
		root.delete("/logs?app=nope").want(404)
		ann.delete("/logs").want(403)
	})
	t.Run("an app of another dialect is there too", func(t *testing.T) {
		p := b.principal("ann@example.test")
		_, _, err := b.core.CreateApp(t.Context(), p, core.AppSpec{Name: "My PaaS", Type: "phpmysql", SizeID: "s", LocationID: "here", Months: 1,
			Password: password, Routes: []string{"php.hosted.test"}})
		b.must(err)
		got := ann.info("My%20PaaS")
		if got.Platform != "php" || got.IP != "php.hosted.test" || len(got.Units) != 1 {
			t.Errorf("got %+v", got)
		}
		b.as(b.bob).get("/apps/My%20PaaS").want(404)
		ann.get("/apps").want(200).has("My PaaS")
		apps, err := b.core.Apps(t.Context(), p)
		b.must(err)
		if len(apps) != 2 {
			t.Errorf("got %d apps of the account for the other dialects, want 2", len(apps))
		}
	})
}
