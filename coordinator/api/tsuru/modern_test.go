package tsuru_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/api/tsuru"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// messages reads a stream of JSON the way the modern client does: a line that is none is fatal to it.
func (a answer) messages() (text string, failure string) {
	a.Helper()
	if kind := a.header.Get("Content-Type"); kind != "application/x-json-stream" {
		a.Errorf("%s: got the type %q", a.asked, kind)
	}
	for line := range strings.Lines(a.body) {
		var m struct{ Message, Error string }
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			a.Fatalf("%s: got the line %q: %v", a.asked, line, err)
		}
		text += m.Message
		if m.Error != "" {
			failure = m.Error
		}
	}
	return text, failure
}

// TestModernClient goes through the table of section 8: versioned paths, forms, streams of JSON.
func TestModernClient(t *testing.T) {
	b := newBed(t).work()
	b.as("").with(form).post("/1.0/users", "email=mod@example.test&password=secret-1").want(201)
	var login struct{ Token string }
	b.as("").with(form).post("/1.0/users/mod@example.test/tokens", "password=secret-1").want(200).into(&login)
	me := b.as(login.Token).with(form)
	b.as(login.Token).post("/1.0/teams", `{"name":"mods","tags":["x"]}`).want(201)
	me.get("/1.4/teams/mods").want(200).has(`"Email":"mod@example.test"`)
	me.with(form).put("/1.0/users/password", "old=secret-1&new=secret-2&confirm=secret-2").want(200)

	var created map[string]string
	me.post("/1.0/apps", "name=shop&platform=python&plan=&teamOwner=mods&pool=&description=d&tag=a&router=&routeropts.x=y").want(201).into(&created)
	if created["status"] != "success" {
		t.Errorf("got %v", created)
	}
	me.get("/1.0/apps?name=sho&platform=python").want(200).has(`"name":"shop"`).has(`"pool"`)
	me.get("/1.0/apps?platform=go").want(200).is("[]\n")
	me.get("/1.0/apps/shop").want(200).has(`"quota":{"inuse":0,"limit":-1}`).has(`"plan":{`)
	kind, body := upload("file", archive("app.py"))
	if a := me.with("Content-Type: "+kind).post("/1.0/apps/shop/deploy", body).want(200); !strings.HasSuffix(a.body, "\nOK\n") || strings.Contains(a.body, "{") || a.header.Get("X-Tsuru-Eventid") == "" {
		t.Errorf("got %q %v, want text in all generations", a.body, a.header)
	}
	for _, call := range []struct{ method, path, body string }{
		{"POST", "/1.0/apps/shop/env", "Envs.0.Name=A&Envs.0.Value=1&Envs.1.Name=B&Envs.1.Value=x%3Dy&NoRestart=false&Private=false"},
		{"POST", "/1.0/apps/shop/env", "Envs.0.Name=P&Envs.0.Value=hidden&NoRestart=true&Private=true"},
		{"DELETE", "/1.0/apps/shop/env?env=A&noRestart=true", ""},
		{"PUT", "/1.0/apps/shop/units", "units=2&process=web&version="},
		{"DELETE", "/1.0/apps/shop/units?units=1", ""},
		{"POST", "/1.0/apps/shop/restart", "process=&version="},
		{"POST", "/1.0/apps/shop/stop", "process=&version="},
		{"POST", "/1.0/apps/shop/start", "process=&version="},
	} {
		if _, failure := me.do(call.method, call.path, call.body).want(200).messages(); failure != "" {
			t.Errorf("%s %s: got the failure %q", call.method, call.path, failure)
		}
	}
	env := me.env("shop", "")
	if env["B"] != (shownVar{"B", "x=y", true}) || env["P"] != (shownVar{"P", "hidden", false}) || env["A"].Name != "" || len(me.info("shop").Units) != 2 {
		t.Errorf("got %v, %+v", env, me.info("shop").Units)
	}
	me.get("/1.0/apps/shop/env?env=B").want(200).is(`[{"name":"B","value":"x=y","public":true}]` + "\n")
	if text, failure := me.post("/1.0/apps/shop/run", "command=ls+-l&once=true&isolated=false").want(200).messages(); failure != "" || !strings.Contains(text, "ran ls -l") {
		t.Errorf("got %q, %q", text, failure)
	}
	if _, failure := me.post("/1.0/apps/shop/run", "command=false&once=true").want(200).messages(); failure != "exit status 1" {
		t.Errorf("got the failure %q", failure)
	}
	me.post("/1.0/apps/shop/cname", "cname=a.example.com&cname=b.example.com").want(200)
	me.delete("/1.0/apps/shop/cname?cname=a.example.com").want(200)
	if got := me.info("shop").CName; len(got) != 1 || got[0] != "b.example.com" {
		t.Errorf("got the cnames %v", got)
	}
	me.get("/1.0/deploys?app=shop&limit=10").want(200).has(`"Image":"v1"`)
	me.get("/1.0/apps/shop/log?lines=5").want(200)
	me.post("/1.0/services/postgresql/instances", "name=data&plan=&owner=mods&description=&tag=").want(201)
	b.until("the database", func() bool {
		return strings.HasSuffix(me.get("/1.0/services/postgresql/instances/data/status").body, "is up")
	})
	me.get("/1.0/services/instances").want(200).has(`"service_instances":[{"apps":[],`)
	if _, failure := me.put("/1.13/services/postgresql/instances/data/apps/shop", "noRestart=false").want(200).messages(); failure != "" {
		t.Errorf("bind: got the failure %q", failure)
	}
	if env := me.env("shop", ""); env["PG_HOST"].Value == "" {
		t.Errorf("got %v after binding", env)
	}
	if _, failure := me.delete("/1.0/services/postgresql/instances/data?unbindall=true").want(200).messages(); failure != "" {
		t.Errorf("remove: got the failure %q", failure)
	}
	if text, failure := me.delete("/1.0/apps/shop").want(200).messages(); failure != "" || !strings.Contains(text, "was removed") {
		t.Errorf("got %q, %q", text, failure)
	}
	me.get("/1.0/apps/shop").want(404)
	b.as(b.admin).delete("/1.0/users?user=mod@example.test").want(403) // the last of a team
	b.as(login.Token).delete("/1.0/teams/mods").want(200)
	b.as(b.admin).delete("/1.0/users?user=mod@example.test").want(200)
	me.get("/1.0/teams").want(401)
}

func TestClientsInBetweenGetStreamsWhenAskedFor(t *testing.T) {
	b := newBed(t, func(o *tsuru.Options, _ *core.Options) { o.JSONStreams = true }).work()
	ann := b.as(b.ann).create("shop")
	ann.deploy("shop", "app.py").has("\nOK\n")
	for _, a := range []answer{ann.post("/apps/shop/restart"), ann.put("/apps/shop/units", "1"), ann.post("/apps/shop/env", `{"A":"1"}`), ann.delete("/apps/shop")} {
		if _, failure := a.want(200).messages(); failure != "" {
			t.Errorf("%s: got the failure %q", a.asked, failure)
		}
	}
}
