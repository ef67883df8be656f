package tsuru_test

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api/tsuru"
	"github.com/reeve-paas/reeve/coordinator/broker"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// provider is a small HTTP service in Python's standard library that answers the contract of spec 4.2, and keeps what it was
// asked. Its mood is set over /mood.
type provider struct {
	testing.TB
	url string
}

//go:embed testdata/provider.py
var providerProgram string

func newProvider(t testing.TB) *provider {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	path := filepath.Join(t.TempDir(), "provider.py")
	if err := os.WriteFile(path, []byte(providerProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &provider{TB: t, url: strings.TrimSpace(line)}
}

// mood says how the provider answers a path from now on: a status, and a body or "slow".
func (p *provider) mood(path string, code int, body string) {
	p.Helper()
	data, _ := json.Marshal(map[string]any{"path": path, "code": code, "body": body})
	resp, err := http.Post(p.url+"/mood", "application/json", strings.NewReader(string(data)))
	if err != nil || resp.StatusCode != 200 {
		p.Fatalf("set the mood: %v", err)
	}
	resp.Body.Close()
}

type asked struct {
	Method, Path, Auth string
	Form               map[string]string
}

// calls are what the provider was asked since the last time.
func (p *provider) calls() (all []asked) {
	p.Helper()
	resp, err := http.Get(p.url + "/calls")
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		p.Fatal(err)
	}
	return all
}

func (p *provider) wantCall(calls []asked, method, path string, form map[string]string) {
	p.Helper()
	for _, c := range calls {
		if c.Method == method && c.Path == path {
			if c.Auth != "mysvc:secret" {
				p.Errorf("%s %s came with the credentials %q", method, path, c.Auth)
			}
			for k, v := range form {
				if c.Form[k] != v {
					p.Errorf("%s %s came with %s=%q, want %q", method, path, k, c.Form[k], v)
				}
			}
			return
		}
	}
	p.Errorf("got the calls %+v, want %s %s among them", calls, method, path)
}

func TestServices(t *testing.T) {
	broker := broker.New(broker.Options{Timeout: 2 * time.Second})
	b := newBed(t, func(o *tsuru.Options, co *core.Options) { co.Broker, o.Proxy = broker, broker }).work()
	ann, bob, root := b.as(b.ann), b.as(b.bob), b.as(b.admin)
	p := newProvider(t)
	manifest := "id: mysvc\npassword: secret\nendpoint:\n  production: " + p.url + "\n  test: localhost\nunknown: 7\n"
	t.Run("67 a new service", func(t *testing.T) {
		ann.post("/services", manifest).want(200).is("success")
		ann.post("/services", "id: nopass\nendpoint:\n  production: somewhere.test\n").want(200).is("success")
	})
	t.Run("68 what cannot be a service", func(t *testing.T) {
		ann.post("/services", "id: [\n").want(500)
		ann.post("/services", "id: x\n").want(400)
		ann.post("/services", "endpoint:\n  production: x\n").want(400)
		ann.post("/services", "id: instances\nendpoint:\n  production: x\n").want(400)
		b.as(b.account("lonely@example.test", "")).post("/services", strings.Replace(manifest, "mysvc", "other", 1)).want(403)
		ann.post("/services", manifest).want(500)
		ann.post("/services", strings.Replace(manifest, "mysvc", "postgresql", 1)).want(500)
	})
	t.Run("69 updates", func(t *testing.T) {
		ann.put("/services", strings.Replace(manifest, "mysvc", "ghost", 1)).want(404)
		bob.put("/services", manifest).want(403)
		ann.put("/services", "id: [\n").want(500)
		ann.put("/services", manifest).want(204)
		ann.with("Accept: */*").put("/services", manifest).want(200)
	})
	t.Run("69 as the modern client does it", func(t *testing.T) {
		me := ann.with(form)
		fields := url.Values{"username": {"mysvc"}, "password": {"secret"}, "endpoint": {p.url}, "team": {"red"}, "multi-cluster": {"false"}}
		me.post("/1.0/services", "id=modern&"+fields.Encode()).want(201)
		me.post("/1.0/services", "id=modern&"+fields.Encode()).want(409)
		me.put("/1.0/services/modern", fields.Encode()).want(200)
		me.put("/1.0/services/modern", "username=x&password=y&endpoint=&team=").want(400)
		me.put("/1.0/services/ghost", fields.Encode()).want(404)
		bob.with(form).put("/1.0/services/modern", fields.Encode()).want(403)
		me.put("/1.0/services/modern/doc", "doc=how+to+use+it%0A").want(200)
		bob.get("/1.0/services/modern/doc").want(200).is("how to use it\n")
		ann.put("/1.0/services/modern/team/blue").want(200)
		ann.put("/1.0/services/modern/team/red").want(200)
		ann.delete("/1.0/services/modern/team/blue").want(200)
		ann.delete("/1.0/services/modern").want(204)
	})
	t.Run("71 services of an owner", func(t *testing.T) {
		ann.get("/services").want(200).has(`"service":"mysvc"`).has(`"instances":[]`)
		bob.get("/services").want(200).is("[]\n")
	})
	t.Run("72 documentation", func(t *testing.T) {
		doc := "Use <it> like\x00 this\nand that: é\n"
		ann.put("/services/mysvc/doc", doc).want(200)
		bob.get("/services/mysvc/doc").want(200).is(doc)
		bob.put("/services/mysvc/doc", "x").want(403)
		ann.get("/services/ghost/doc").want(404)
	})
	t.Run("access of teams", func(t *testing.T) {
		ann.put("/services/mysvc/blue").want(200)
		ann.put("/services/mysvc/blue").want(409)
		ann.put("/services/mysvc/ghost").want(404)
		bob.put("/services/mysvc/red").want(403)
		ann.delete("/services/mysvc/red").want(404)
		ann.delete("/services/mysvc/blue").want(403)
		ann.put("/services/mysvc/red").want(200)
		ann.delete("/services/mysvc/blue").want(200)
	})
	t.Run("73 a new instance", func(t *testing.T) {
		p.calls()
		ann.post("/services/instances", `{"name":"inst","service_name":"mysvc","plan":"big","owner":""}`).want(200).is("")
		p.wantCall(p.calls(), "POST", "/resources", map[string]string{"name": "inst", "user": "ann@example.test", "team": "red", "plan": "big"})
	})
	t.Run("74 a provider that refuses", func(t *testing.T) {
		p.mood("POST /resources", 500, "no room left")
		ann.post("/services/instances", `{"name":"full","service_name":"mysvc"}`).want(500).has("no room left")
		ann.get("/services/instances/full").want(404)
		p.mood("POST /resources", 201, "")
		ann.post("/services/instances", `{"name":"full","service_name":"mysvc"}`).want(200) // the name is free
	})
	t.Run("75 and 76 names of instances", func(t *testing.T) {
		ann.post("/services/instances", `{"name":"x1","service_name":"ghost"}`).want(404)
		ann.post("/services/instances", `{"name":"inst","service_name":"mysvc"}`).want(409)
		ann.post("/services/instances", `{"name": "mymysql": "service_name": "mysql"}`).want(400) // the document's example is broken
		for _, name := range []string{"1x", "x", "a b", ""} {
			ann.post("/services/instances", fmt.Sprintf(`{"name":%q,"service_name":"mysvc"}`, name)).want(400)
		}
		ann.post("/services/instances", `{"name":"x1","service_name":"mysvc","owner":"blue"}`).want(403)
		var list []struct {
			Service          string
			Instances, Plans []string
		}
		ann.get("/services/instances").want(200).into(&list)
		got := fmt.Sprint(list)
		if got != "[{mongodb [] []} {mysql [] []} {mysvc [full inst] [ big]} {nopass [] []} {postgresql [] []}]" {
			t.Errorf("got %s", got)
		}
		bob.get("/services/instances").want(200).lacks("inst\"")
	})
	t.Run("77 one instance", func(t *testing.T) {
		p.mood("GET /resources/inst", 200, `[{"label":"key","value":"val"},{"label":"n","value":7}]`)
		var got map[string]any
		ann.get("/services/instances/inst").want(200).into(&got)
		for _, key := range []string{"name", "Name", "servicename", "ServiceName", "teams", "Teams", "apps", "Apps", "Id"} {
			if _, ok := got[key]; !ok {
				t.Errorf("%s is missing", key)
			}
		}
		if info, _ := got["Info"].(map[string]any); info["key"] != "val" || info["n"] != "7" {
			t.Errorf("got the info %v", got["Info"])
		}
		ann.get("/services/instances/ghost").want(404)
		bob.get("/services/instances/inst").want(403)
		ann.get("/services/mysvc").want(200).has(`"Name":"inst"`)
		p.mood("GET /resources/plans", 200, `[{"name":"big","description":"much"}]`)
		ann.get("/services/mysvc/plans").want(200).is(`[{"Name":"big","Description":"much"}]` + "\n")
		ann.get("/services/ghost/plans").want(404)
		p.mood("GET /resources/plans", 404, "")
		ann.get("/services/mysvc/plans").want(200).is("[]\n")
	})
	t.Run("78 status", func(t *testing.T) {
		for code, want := range map[int]string{204: "up", 202: "pending", 500: "down"} {
			p.mood("GET /resources/inst/status", code, "")
			ann.get("/services/instances/inst/status").want(200).is(`Service instance "inst" is ` + want)
		}
		p.mood("GET /resources/inst/status", 418, "teapot")
		ann.get("/services/instances/inst/status").want(500).has("teapot")
	})
	ann.create("shop")
	ann.deploy("shop", "app.py").has("\nOK\n")
	t.Run("79 to 81 binding", func(t *testing.T) {
		p.calls()
		p.mood("POST /resources/inst", 201, `{"SVC_HOST":"db","PORT_X":3306,"SVC_ON":true}`)
		at := ann.info("shop").Units[0].IP
		ann.put("/services/instances/inst/shop").want(200).is(`["PORT_X","SVC_HOST","SVC_ON"]` + "\n")
		calls := p.calls()
		p.wantCall(calls, "POST", "/resources/inst/bind-app", map[string]string{"app-host": "shop.apps.test"})
		p.wantCall(calls, "POST", "/resources/inst", map[string]string{"app-host": "shop.apps.test", "unit-host": at})
		got := ann.env("shop", "")
		if got["PORT_X"] != (shownVar{"PORT_X", "3306", false}) || got["SVC_HOST"].Value != "db" {
			t.Errorf("got %v", got)
		}
		if !strings.Contains(got["TSURU_SERVICES"].Value, `"mysvc":[{"instance_name":"inst","envs":{"PORT_X":"3306"`) {
			t.Errorf("got TSURU_SERVICES %s", got["TSURU_SERVICES"].Value)
		}
		if units := b.world.started(); len(units) != 1 || units[0].Env["SVC_HOST"] != "db" {
			t.Errorf("the unit does not see what was bound: %v", units)
		}
		ann.put("/services/instances/inst/shop").want(409)
		bob.put("/services/instances/inst/shop").want(403)
		ann.put("/services/instances/ghost/shop").want(404)
		ann.put("/services/instances/inst/ghost").want(404)
		ann.get("/services/instances/inst").want(200).has(`"Apps":["shop"]`)
		ann.get("/services/instances?app=shop").want(200).has(`"instances":["inst"]`)
		ann.create("doc")
		ann.with("Accept: */*").put("/services/instances/inst/doc").want(200).is(`{"PORT_X":"3306","SVC_HOST":"db","SVC_ON":"true"}` + "\n")
	})
	t.Run("82 a provider that is not ready", func(t *testing.T) {
		ann.create("early")
		p.mood("POST /resources/inst", 412, "wait")
		ann.put("/services/instances/inst/early").want(412).has("not ready")
		ann.delete("/services/instances/inst/early").want(412)
		p.mood("POST /resources/inst", 500, "broken thing")
		ann.put("/services/instances/inst/early").want(500).has("broken thing")
		if got := ann.env("early", ""); got["SVC_HOST"].Name != "" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("82 providers that lie or are slow", func(t *testing.T) {
		for _, body := range []string{"no json", `["A"]`, `{"A":{"b":1}}`, `{"A":"two\nlines"}`} {
			p.mood("POST /resources/inst", 200, body)
			ann.put("/services/instances/inst/early").want(500)
		}
		p.mood("POST /resources/inst", 200, "slow")
		ann.put("/services/instances/inst/early").want(500).has("mysvc api is down.")
		p.mood("POST /resources/inst", 200, "huge")
		ann.put("/services/instances/inst/early").want(500)
		if got := ann.env("early", ""); len(got) != 5 {
			t.Errorf("got %v", got)
		}
		p.mood("POST /resources/inst", 200, `{"TSURU_APPNAME":"stolen","GOOD":"1"}`)
		ann.put("/services/instances/inst/early").want(200)
		if got := ann.env("early", ""); got["TSURU_APPNAME"].Value != "early" || got["GOOD"].Value != "1" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("83 an app without units", func(t *testing.T) {
		ann.create("later")
		p.mood("POST /resources/inst", 201, `{"SVC_HOST":"db"}`)
		ann.put("/services/instances/inst/later").want(200).is(`["SVC_HOST"]` + "\n")
		if got := ann.env("later", "")["SVC_HOST"]; got.Value != "db" || got.Public {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("86 a new unit", func(t *testing.T) {
		p.calls()
		ann.put("/apps/shop/units", "1").want(200)
		binds := 0
		for _, c := range p.calls() {
			if c.Method == "POST" && c.Path == "/resources/inst" && c.Form["unit-host"] != "" {
				binds++
			}
		}
		if binds != 1 {
			t.Errorf("the provider was told of %d units, want 1", binds)
		}
	})
	t.Run("84 unbinding", func(t *testing.T) {
		ann.post("/apps/shop/env", `{"OWN":"1"}`).want(200)
		at := ann.info("shop").Units[0].IP
		p.calls()
		ann.delete("/services/instances/inst/shop").want(200).is("")
		got := ann.env("shop", "")
		if _, there := got["SVC_HOST"]; there || got["OWN"].Value != "1" || got["TSURU_APPNAME"].Value != "shop" {
			t.Errorf("got %v", got)
		}
		p.wantCall(p.calls(), "DELETE", "/resources/inst/hostname/"+at, nil)
		ann.delete("/services/instances/inst/shop").want(412)
	})
	t.Run("later providers know apps", func(t *testing.T) {
		p.mood("POST /resources/inst/bind-app", 201, `{"WHOLE":"1"}`)
		p.calls()
		ann.put("/services/instances/inst/shop").want(200).is(`["WHOLE"]` + "\n")
		ann.delete("/services/instances/inst/shop").want(200)
		calls := p.calls()
		p.wantCall(calls, "POST", "/resources/inst/bind", nil)
		p.wantCall(calls, "DELETE", "/resources/inst/bind-app", map[string]string{"app-host": "shop.apps.test"})
	})
	t.Run("the proxy", func(t *testing.T) {
		p.mood("POST /resources/inst/special", 203, "hi there")
		p.calls()
		ann.post("/services/proxy/inst?callback=/resources/inst/special", "data=1").want(203).is("hi there")
		for _, c := range p.calls() {
			if c.Auth != "mysvc:secret" {
				t.Errorf("got the credentials %q", c.Auth)
			}
		}
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			for _, path := range []string{"/services/proxy/inst", "/1.0/services/mysvc/proxy/inst"} {
				p.mood(method+" /resources/inst/verb", 203, method)
				ann.do(method, path+"?callback=/resources/inst/verb").want(203).is(method)
			}
		}
		bob.post("/services/proxy/inst?callback=/x").want(403)
		ann.post("/services/proxy/ghost?callback=/x").want(404)
	})
	t.Run("85 and 70 removal", func(t *testing.T) {
		ann.delete("/services/instances/inst").want(412)
		for _, app := range []string{"doc", "early", "later"} {
			ann.delete("/services/instances/inst/" + app).want(200)
		}
		ann.delete("/services/ghost").want(404)
		bob.delete("/services/mysvc").want(403)
		ann.delete("/services/mysvc").want(403)
		p.calls()
		ann.delete("/services/instances/inst").want(200)
		p.wantCall(p.calls(), "DELETE", "/resources/inst", nil)
		p.mood("DELETE /resources/full", 500, "never")
		ann.delete("/services/instances/full").want(200) // what it says does not matter
		ann.delete("/services/mysvc").want(204).is("")
		ann.get("/services/mysvc").want(404)
	})
	t.Run("38 removal of an app lets go of instances", func(t *testing.T) {
		ann.post("/services", manifest).want(200)
		ann.post("/services/instances", `{"name":"inst","service_name":"mysvc"}`).want(200)
		p.mood("POST /resources/inst/bind-app", 404, "")
		ann.put("/services/instances/inst/shop").want(200)
		p.calls()
		ann.delete("/apps/shop").want(200)
		b.until("the app's end", func() bool { return ann.get("/apps/shop").code == 404 })
		ann.get("/services/instances/inst").want(200).has(`"Apps":[]`)
	})
	t.Run("87 databases of our own", func(t *testing.T) {
		ann.create("data").deploy("data", "app.py").has("\nOK\n")
		ann.post("/services/instances", `{"name":"mongo","service_name":"mongodb"}`).want(500).has("no host for databases has a mongodb server")
		ann.get("/services/instances/mongo").want(404)
		b.world.installMongo()
		for engine, names := range map[string][]string{
			"postgres": {"PG_HOST", "PG_PORT", "PG_DATABASE", "PG_USER", "PG_PASSWORD", "DATABASE_URL"},
			"mysql":    {"MYSQL_HOST", "MYSQL_USER", "MYSQL_PASSWORD"},
			"mongodb":  {"MONGO_URI", "MONGO_USER", "MONGO_PASSWORD", "MONGO_DATABASE_NAME", "DATABASE_HOST", "DATABASE_URL"},
		} {
			name := "db-" + engine
			ann.post("/services/instances", fmt.Sprintf(`{"name":%q,"service_name":%q}`, name, engine)).want(200)
			b.until("the database", func() bool {
				return ann.get("/services/instances/"+name+"/status").body == fmt.Sprintf("Service instance %q is up", name)
			})
			ann.post("/services/instances", fmt.Sprintf(`{"name":%q,"service_name":%q}`, name, engine)).want(409)
			bob.get("/services/instances/" + name).want(403)
			one := ann.get("/services/instances/" + name).want(200).has(fmt.Sprintf(`"ServiceName":%q`, core.OfferName(engine))).has(fmt.Sprintf(`"name":%q`, name))
			one.has(`"Teams":["red"]`).has(`"Apps":[]`).has(`"Plan":"shared"`).has(`"Address":"10.0.0.`)
			ann.get("/services/instances").want(200).has(fmt.Sprintf(`"instances":[%q]`, name))
			ann.put("/services/instances/" + name + "/data").want(200)
			ann.put("/services/instances/" + name + "/data").want(409)
			env := ann.env("data", "")
			for _, v := range names {
				if env[v].Value == "" || env[v].Public {
					t.Errorf("%s: got %s %+v", engine, v, env[v])
				}
			}
			if _, _, _, databases, users := b.world.traces(); databases != 1 || users != 1 {
				t.Errorf("%s: got %d databases and %d users on hosts", engine, databases, users)
			}
			ann.delete("/services/instances/" + name).want(412)
			ann.delete("/services/instances/" + name + "/data").want(200)
			ann.delete("/services/instances/" + name + "/data").want(412)
			if v := ann.env("data", "")[names[0]]; v.Name != "" {
				t.Errorf("%s: got %+v after unbinding", engine, v)
			}
			ann.delete("/services/instances/" + name).want(200)
			if _, _, _, databases, users := b.world.traces(); databases+users != 0 {
				t.Errorf("%s: got %d databases and %d users left on hosts", engine, databases, users)
			}
		}
		release := b.world.hold()
		ann.post("/services/instances", `{"name":"early","service_name":"mongo"}`).want(200) // which is another name of it
		ann.get("/services/instances/early/status").want(200).is(`Service instance "early" is pending`)
		ann.put("/services/instances/early/data").want(412).has("not ready")
		release()
		b.until("the database", func() bool { return strings.HasSuffix(ann.get("/services/instances/early/status").body, "is up") })
		ann.delete("/services/instances/early").want(200)
		ann.get("/services/postgresql/plans").want(200).has("shared")
		ann.get("/services/mongodb/doc").want(200).has("MONGO_URI")
		ann.put("/services/postgresql/doc", "x").want(403)
		root.put("/services/postgresql/doc", "x").want(403)
		root.delete("/services/postgresql").want(403)
	})
	if strings.Contains(b.log.String(), "secret\"") || strings.Contains(b.log.String(), "=secret ") {
		t.Error("the log contains the provider's password")
	}
}
