package tsuru_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

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
	if text, failure := me.post("/1.0/apps/shop/run", "command=ls+-l&once=true&isolated=false").want(200).messages(); failure != "" || text != "ran ls -l\n" {
		t.Errorf("got %q, %q", text, failure)
	}
	if _, failure := me.post("/1.0/apps/shop/run", "command=false&once=true").want(200).messages(); failure != "exit status 1" {
		t.Errorf("got the failure %q", failure)
	}
	me.post("/1.0/apps/shop/cname", "cname=a.example.com&cname=b.example.com").want(200)
	me.delete("/1.0/apps/shop/cname?cname=a.example.com").want(200)
	me.delete("/1.0/apps/shop/cname").want(400) // only clients before 0.12 mean all
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
	bind := "/services/%s/instances/data/apps/shop"
	unit := func() string { return me.info("shop").Units[0].ID }
	for _, skip := range []bool{true, false} {
		before := unit()
		for _, a := range []answer{
			me.put(fmt.Sprintf("/1.13"+bind, "postgresql"), fmt.Sprintf("noRestart=%t", skip)),
			me.delete(fmt.Sprintf("/1.13"+bind+"?noRestart=%t&force=false", "postgres", skip)),
		} {
			if _, failure := a.want(200).messages(); failure != "" || skip != (unit() == before) {
				t.Errorf("%s: got the failure %q, and the unit %s after %s", a.asked, failure, unit(), before)
			}
		}
	}
	for _, call := range []struct{ method, path string }{ // another service's instance of this name
		{"GET", ""}, {"GET", "/status"}, {"PUT", "/apps/shop"}, {"PUT", "/shop"}, {"DELETE", "/apps/shop"}, {"DELETE", "?unbindall=true"},
	} {
		me.do(call.method, "/1.0/services/mysql/instances/data"+call.path).want(404)
	}
	me.get("/1.0/services/mysql/proxy/data?callback=/").want(404)
	me.put(fmt.Sprintf("/1.13"+bind, "postgresql"), "noRestart=false").want(200)
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

// TestFormsOfSeveralParts does what curl -F does.
func TestFormsOfSeveralParts(t *testing.T) {
	b := newBed(t)
	send := func(who caller, method, path string, pairs ...string) answer {
		t.Helper()
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		for i := 0; i < len(pairs); i += 2 {
			b.must(w.WriteField(pairs[i], pairs[i+1]))
		}
		b.must(w.Close())
		return who.with("Content-Type: "+w.FormDataContentType()).do(method, path, body.String())
	}
	send(b.as(""), "POST", "/users", "email", "parts@example.test", "password", `a=b&"c"{}`).want(200)
	b.as("").post("/users/parts@example.test/tokens", `{"password":"a=b&\"c\"{}"}`).want(200)
	ann := b.as(b.ann).create("shop")
	send(ann, "POST", "/1.0/apps/shop/env", "Envs.0.Name", "A", "Envs.0.Value", "[1]", "noRestart", "true").want(200)
	if got := ann.env("shop", "")["A"].Value; got != "[1]" {
		t.Errorf("got A=%q", got)
	}
	send(ann, "PUT", "/apps/shop/units", "units", "x").want(400)
	send(ann, "PUT", "/apps/shop/units", "units", "1").want(412) // understood: nothing is deployed yet
	send(ann, "POST", "/teams", "name", strings.Repeat("x", 2<<20)).want(413)
	ann.with("Content-Type: multipart/form-data").post("/teams", "name=x").want(400)
}

func TestClientsInBetweenGetStreamsWhenAskedFor(t *testing.T) {
	b := newBed(t, func(o *tsuru.Options, _ *core.Options) { o.JSONStreams = true }).work()
	ann := b.as(b.ann).create("shop")
	ann.deploy("shop", "app.py").has("\nOK\n")
	for _, a := range []answer{ann.post("/apps/shop/restart"), ann.put("/apps/shop/units", "1"), ann.post("/apps/shop/env", `{"A":"1"}`),
		ann.with(form).post("/apps/shop/deploy/rollback", "image=v1"), ann.delete("/apps/shop")} {
		if _, failure := a.want(200).messages(); failure != "" {
			t.Errorf("%s: got the failure %q", a.asked, failure)
		}
	}
}

// appOfModern decodes what app-info of the modern client decodes, with its types.
type appOfModern struct {
	Name, IP, Platform, Owner, TeamOwner, Pool, Provisioner, Description string
	Deploys                                                              uint
	CName, Teams, Tags                                                   []string
	Units                                                                []struct {
		ID, IP, Status, ProcessName string
		Address                     *url.URL
		Version                     int
		Routable                    *bool
	}
	Lock struct {
		Locked        bool
		Reason, Owner string
		AcquireDate   time.Time
	}
	Quota   struct{ Limit, InUse int }
	Plan    struct{ Memory int64 }
	Routers []struct {
		Name, Type, Address string
		Addresses           []string
		Opts                map[string]string
	}
	ServiceInstanceBinds []struct{ Service, Instance, Plan string }
}

func TestModernClientSeesWhereAppsRun(t *testing.T) {
	b := newBed(t).work()
	ann := b.as(b.ann).create("shop", `,"memory":"64"`).create("idle")
	ann.deploy("shop", "app.py").has("\nOK\n")
	ann.post("/services/instances", `{"name":"rows","service_name":"postgresql"}`).want(200)
	b.until("the database", func() bool { return strings.HasSuffix(ann.get("/services/instances/rows/status").body, "is up") })
	ann.put("/services/instances/rows/shop").want(200)
	var app appOfModern
	ann.get("/1.0/apps/shop").want(200).into(&app)
	if len(app.Units) != 1 || app.Units[0].Address == nil || app.Units[0].Address.Hostname() != app.Units[0].IP || app.Units[0].Address.Port() == "" ||
		app.Units[0].Version != 1 || app.Units[0].Routable == nil || !*app.Units[0].Routable {
		t.Errorf("got the units %+v", app.Units)
	}
	if len(app.ServiceInstanceBinds) != 1 || app.ServiceInstanceBinds[0].Service != "postgresql" || app.ServiceInstanceBinds[0].Instance != "rows" {
		t.Errorf("got the binds %+v", app.ServiceInstanceBinds)
	}
	if app.Pool != "shared" || len(app.Routers) != 1 || app.Routers[0].Address != "shop.apps.test" || app.Quota.InUse != 1 || app.Quota.Limit != -1 || app.Plan.Memory != 64<<20 || app.Lock.Locked {
		t.Errorf("got %+v", app)
	}
	ann.get("/apps/shop").lacks("Routable").lacks("Address").lacks("provisioner") // the client of the time gets what it knows

	var plans []struct {
		Name    string
		Memory  int64
		Default bool
	}
	if ann.get("/1.0/plans").want(200).into(&plans); len(plans) != 1 || plans[0].Name != "default" || !plans[0].Default {
		t.Errorf("got the plans %+v", plans)
	}
	var pools []struct {
		Name            string
		Public, Default bool
		Provisioner     string
		Allowed         map[string][]string
	}
	if ann.get("/1.0/pools").want(200).into(&pools); len(pools) != 1 || pools[0].Name != app.Pool || !slices.Equal(pools[0].Allowed["team"], []string{"red"}) {
		t.Errorf("got the pools %+v", pools)
	}
	for _, path := range []string{"/1.3/routers", "/1.5/apps/shop/routers"} {
		var routers []struct{ Name, Type, Address string }
		if ann.get(path).want(200).into(&routers); len(routers) != 1 || routers[0].Name != app.Routers[0].Name {
			t.Errorf("%s: got %+v", path, routers)
		}
	}
	var team struct {
		Users []struct{ Email string }
		Pools []struct{ Name string }
		Apps  []appOfModern
	}
	if ann.get("/1.4/teams/red").want(200).into(&team); len(team.Users) != 1 || len(team.Pools) != 1 || len(team.Apps) != 2 || team.Apps[1].Name != "shop" {
		t.Errorf("got the team %+v", team)
	}
	ann.get("/1.0/apps?name=%5B").want(400)
	for query, want := range map[string]string{"status=started": "shop", "status=error,stopped": "", "pool=shared&name=idl": "idle", "pool=other": "", "tag=x": "", "locked=true": "", "owner=ann@example.test&name=sh": "shop",
		"name=%5Eidle%24": "idle", "name=%5Edle": "", "teamOwner=red&name=sh": "shop", "teamowner=blue": "", "teamOwner=blue": ""} {
		var apps []appOfModern
		ann.get("/1.0/apps?" + query).want(200).into(&apps)
		if got := len(apps); (want == "") != (got == 0) || got > 0 && (got > 1 || apps[0].Name != want) {
			t.Errorf("%s: got %+v, want %q", query, apps, want)
		}
	}
}

// TestModernClientIsToldWhatThereIsNot wants an error where the choice cannot be followed, and nothing made.
func TestModernClientIsToldWhatThereIsNot(t *testing.T) {
	b := newBed(t)
	ann := b.as(b.ann).create("shop")
	me := ann.with(form)
	for _, choice := range []string{"plan=large", "pool=other", "router=traefik"} {
		me.post("/1.0/apps", "name=more&platform=python&"+choice).want(400).has("not found; there is ")
		me.put("/1.0/apps/shop", choice).want(400).has("not found; there is ")
	}
	for _, prefix := range []string{"", "/1.0"} { // as clients from 0.13 on write it
		ann.post(prefix+"/apps", `{"name":"more","platform":"python","plan":{"name":"large"},"teamOwner":"","pool":""}`).want(400).has("Plan not found")
	}
	ann.post("/apps", `{"name":"plain","platform":"python","plan":{"name":""},"teamOwner":"","pool":""}`).want(200)
	ann.get("/1.0/apps/more").want(404)
	me.post("/1.0/apps", "name=more&platform=python&plan=default&pool=shared&router=nginx").want(201)
	ann.put("/1.0/apps/shop", `{"description":"d"}`).want(400)
	ann.put("/1.0/apps/shop", `{"tags":["a"]}`).want(400)
	ann.put("/1.0/apps/shop", `{"platform":"go"}`).want(400)
	ann.put("/1.0/apps/shop", `{}`).want(400)
	ann.put("/1.0/apps/shop", `{"teamOwner":"blue"}`).want(403)
	ann.post("/teams", `{"name":"greens"}`).want(200)
	if _, failure := ann.put("/1.0/apps/shop", `{"teamOwner":"greens","plan":"","tags":[]}`).want(200).messages(); failure != "" || ann.info("shop").TeamOwner != "greens" {
		t.Errorf("got the failure %q and %+v", failure, ann.info("shop"))
	}
	me.post("/1.0/apps/shop/deploy", "image=nginx%3Alatest&origin=image").want(400).has("image")
	for field, value := range map[string]string{"dockerfile": "FROM scratch", "new-version": "true"} {
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		b.must(w.WriteField("origin", "app-deploy"))
		b.must(w.WriteField(field, value))
		f, err := w.CreateFormFile("file", "archive.tar.gz")
		b.must(err)
		_, err = io.WriteString(f, archive("app.py"))
		b.must(errors.Join(err, w.Close()))
		ann.with("Content-Type: "+w.FormDataContentType()).post("/1.0/apps/shop/deploy", body.String()).want(400)
	}
	if got := ann.info("shop").Deploys; got != 0 {
		t.Errorf("got %d deploys, want none", got)
	}
}

func TestModernClientReadsRoles(t *testing.T) {
	b := newBed(t)
	ann, root := b.as(b.ann), b.as(b.admin)
	type role struct {
		Name, Context string
		SchemeNames   []string `json:"scheme_names"`
		Events        []string
	}
	var all, defaults []role
	ann.get("/1.0/roles").want(200).into(&all)
	ann.get("/1.0/role/default").want(200).into(&defaults)
	if len(all) != 2 || len(defaults) != 1 || len(defaults[0].Events) == 0 {
		t.Errorf("got the roles %+v, by default %+v", all, defaults)
	}
	for _, r := range all {
		var one role
		if ann.get("/1.0/roles/" + r.Name).want(200).into(&one); one.Name != r.Name || len(one.SchemeNames) == 0 {
			t.Errorf("got %+v, want %+v", one, r)
		}
	}
	ann.get("/1.0/roles/other").want(404)
	var permissions []struct {
		Name     string
		Contexts []string
	}
	if ann.get("/1.0/permissions").want(200).into(&permissions); len(permissions) < 2 || permissions[0].Name != "" { // the client renames the first one
		t.Errorf("got the permissions %+v", permissions)
	}
	known := map[string]bool{"*": true}
	for _, p := range permissions {
		known[p.Name] = len(p.Contexts) > 0
	}
	for _, r := range all {
		for _, name := range r.SchemeNames {
			if !known[name] {
				t.Errorf("the permission %q of %s is not listed", name, r.Name)
			}
		}
	}
	type listed struct {
		Email              string
		Roles, Permissions []struct{ Name, ContextType, ContextValue string }
	}
	var users, own []listed
	root.get("/1.0/users").want(200).into(&users)
	ann.get("/1.0/users").want(200).into(&own)
	if len(users) != 3 || len(own) != 1 || own[0].Email != "ann@example.test" || len(own[0].Roles) != 1 || own[0].Roles[0].ContextValue != "red" {
		t.Errorf("an administrator got %+v, a user %+v", users, own)
	}
	root.get("/1.0/users?userEmail=bob@example.test").want(200).into(&users)
	if len(users) != 1 || users[0].Email != "bob@example.test" {
		t.Errorf("got %+v, want one", users)
	}
	var me listed
	if root.get("/1.0/users/info").want(200).into(&me); len(me.Roles) != 2 || me.Roles[0].Name != "AllowAll" || me.Roles[0].ContextType != "global" {
		t.Errorf("got %+v", me)
	}
}

// TestModernClientCancelsADeployment does what the client does when it is interrupted.
func TestModernClientCancelsADeployment(t *testing.T) {
	b := newBed(t).work()
	ann := b.as(b.ann).create("shop")
	release := b.world.hold()
	defer release()
	kind, body := upload("file", archive("app.py"))
	r := ann.with("Content-Type: "+kind).request(t.Context(), "POST", "/1.0/apps/shop/deploy", strings.NewReader(body))
	resp, err := http.DefaultClient.Do(r)
	b.must(err)
	defer resp.Body.Close()
	id := resp.Header.Get("X-Tsuru-Eventid")
	var app appOfModern
	ann.get("/1.0/apps/shop").want(200).into(&app)
	var locked []appOfModern
	ann.get("/1.0/apps?locked=true").want(200).into(&locked)
	if !app.Lock.Locked || app.Lock.Owner != "ann@example.test" || app.Lock.AcquireDate.IsZero() || len(locked) != 1 {
		t.Errorf("got the lock %+v and %d locked apps while it deploys", app.Lock, len(locked))
	}
	b.as(b.bob).post("/1.1/events/"+id+"/cancel", `{"reason":"mine"}`).want(404)
	ann.post("/1.1/events/none/cancel", `{"reason":"x"}`).want(404)
	ann.post("/1.1/events/"+id+"/cancel", `{"reason":"Canceled on client."}`).want(204)
	release()
	out, err := io.ReadAll(resp.Body)
	b.must(err)
	if strings.HasSuffix(string(out), "\nOK\n") || ann.info("shop").Deploys != 0 {
		t.Errorf("got %q and %d deploys, want neither success nor a release", out, ann.info("shop").Deploys)
	}
	ann.post("/1.1/events/"+id+"/cancel", `{"reason":"again"}`).want(404)
}
