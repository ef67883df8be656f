package orchestrator

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	nodesBody = `{"nodes":[{"cloud_type":"Dummy Node Provider","extra":{"foo":"bar"},"id":"1","name":"dummy-1","private_ips":[],"provider":"dummy","public_ips":["127.0.0.1"],"state":0,"uuid":"2c183c20f71eb5732512d6cfe1f75ebc9d9bb4dd"},{"cloud_type":"Dummy Node Provider","extra":{"foo":"bar"},"id":"2","name":"dummy-2","private_ips":[],"provider":"dummy","public_ips":["127.0.0.1"],"state":0,"uuid":"46ff62f5eafc7837de6ec1450b8e0e608db06d7a"}],"status":"ok"}`
	wrongBody = `{"message":"Cloud not valid or wrong path","status":"error","status_code":500,"status_long_message":"Server got itself in trouble","status_short_message":"Internal Server Error"}`
	emulated  = `{"id":42,"id_vm":"-fake_id-","result":"Node -fake_id- assigned","status":"ok"}`
	passed    = `{"authenticated":"yes","status":"ok","test":"passed"}`
	schema    = "Some key doesn't validate the schema - …"
	v         = "/api/v1"
)

// Run checks the statements of spec orchestrator 6; the numbers are theirs. start gives a fresh Target each time.
func Run(t *testing.T, start func(t *testing.T) Target) {
	for name, check := range map[string]func(c client){
		"01-10 lists":                  lists,
		"11-16 start and stop":         startAndStop,
		"17-23 refused stops":          refusedStops,
		"24-29 refused starts":         refusedStarts,
		"30 start without a cloud":     startInDefault,
		"31-37 assign and emulate":     assignAndEmulate,
		"38-39 assign and release":     assignAndRelease,
		"40-44 routing":                routing,
		"45-51 tokens":                 tokens,
		"52-54 clouds, pool, tenants":  clouds,
		"55-57 HEAD, format, v2":       variants,
		"58 every error has five keys": everyError,
		"59 fifty starts at once":      fiftyStarts,
		"60 states are numbers":        statesAreNumbers,
		"ids repeat after deletions":   idsRepeat,
	} {
		t.Run(name, func(t *testing.T) { check(client{t, start(t)}) })
	}
}

func lists(c client) {
	first := c.get(v + "/nodes/fake_driver")
	c.wantBody(first, 200, nodesBody)
	if len(first.body) != 683 || first.header.Get("Content-Length") != "683" {
		c.t.Errorf("got %d bytes, Content-Length %s, want 683", len(first.body), first.header.Get("Content-Length"))
	}
	if ct := first.header["Content-Type"]; len(ct) != 1 || ct[0] != "application/json" {
		c.t.Errorf("got Content-Type %q", ct)
	}
	for _, again := range []reply{
		c.do("GET", v+"/nodes/fake_driver", "{}"),
		c.do("GET", v+"/nodes/fake_driver", "{"), // the body of a GET is ignored
		c.do("GET", v+"/nodes/fake_driver", "", "Content-Type: application/json; charset=utf-8"),
		c.do("GET", v+"/nodes/fake_driver", "", "Content-Type: "),
	} {
		c.wantBody(again, 200, nodesBody)
	}
	images := c.get(v + "/images/fake_driver")
	c.wantBody(images, 200, `{"images":[{"cloud_type":"Dummy Node Provider","id":"1","name":"Ubuntu 9.10","provider":"dummy"},{"cloud_type":"Dummy Node Provider","id":"2","name":"Ubuntu 9.04","provider":"dummy"},{"cloud_type":"Dummy Node Provider","id":"3","name":"Slackware 4","provider":"dummy"}],"status":"ok"}`)
	sizes := c.get(v + "/sizes/fake_driver")
	c.wantBody(sizes, 200, `{"flavors":[{"cloud_type":"Dummy Node Provider","cpu":0,"disk":4,"id":"1","name":"Small","provider":"dummy","ram":128},{"cloud_type":"Dummy Node Provider","cpu":0,"disk":16,"id":"2","name":"Medium","provider":"dummy","ram":512},{"cloud_type":"Dummy Node Provider","cpu":0,"disk":32,"id":"3","name":"Big","provider":"dummy","ram":4096},{"cloud_type":"Dummy Node Provider","cpu":0,"disk":128,"id":"4","name":"XXL Big","provider":"dummy","ram":8192}],"status":"ok"}`)
	if len(images.body) != 422 || len(sizes.body) != 738 {
		c.t.Errorf("got %d and %d bytes, want 422 and 738", len(images.body), len(sizes.body))
	}
	if flavors := c.get(v + "/flavors/fake_driver"); flavors.body != sizes.body {
		c.t.Errorf("flavors: got %s, want the body of sizes", flavors.body)
	}
	for _, noun := range []string{"nodes", "images", "sizes", "flavors"} {
		wrong := c.get(v + "/" + noun + "/wrong_driver")
		c.wantBody(wrong, 500, wrongBody)
		if len(wrong.body) != 199 {
			c.t.Errorf("%s: got %d bytes, want 199", noun, len(wrong.body))
		}
		if short, long := c.get(v+"/"+noun), c.get(v+"/"+noun+"/default"); short.status != 200 || short.body != long.body {
			c.t.Errorf("%s without a cloud: got %d %s, want what default has", noun, short.status, short.body)
		}
	}
}

func startAndStop(c client) {
	first := c.start()
	c.wantBody(first, 200, `{"nodes":{"cloud_type":"Dummy Node Provider","extra":{"foo":"bar"},"id":"3","name":"dummy-3","private_ips":[],"provider":"dummy","public_ips":["127.0.0.3"],"state":0,"uuid":"aef321fde331680846014b121ff377dcb8477731"},"status":"ok"}`)
	if len(first.body) != 322 {
		c.t.Errorf("got %d bytes, want 322", len(first.body))
	}
	second := c.object(c.start())["nodes"].(map[string]any)
	if second["id"] != "4" || second["name"] != "dummy-4" || fmt.Sprint(second["public_ips"]) != "[127.0.0.4]" || second["uuid"] != "f0f0f81f0a63ccd2c5e0c5244beebeafd0f2429c" {
		c.t.Errorf("got second node %v", second)
	}
	c.wantIDs("fake_driver", "1,2,3,4")
	stopped := c.stop(`{"node":"3"}`)
	c.wantBody(stopped, 200, `{"result":"Node 3 deleted","status":"ok"}`)
	if len(stopped.body) != 50 {
		c.t.Errorf("got %d bytes, want 50", len(stopped.body))
	}
	c.wantBody(c.stop(`{"node":"4"}`), 200, `{"result":"Node 4 deleted","status":"ok"}`)
	c.wantIDs("fake_driver", "1,2")
	if again := c.object(c.start())["nodes"].(map[string]any); again["id"] != "3" {
		c.t.Errorf("got id %v, want 3: the list's length and one", again["id"])
	}
	c.wantIDs("default", "1,2")
}

func refusedStops(c client) {
	c.wantError(c.stop(`{"node":"3"}`), 400, "no useful node id here")
	c.wantError(c.stop(`{}`), 400, "no valid node id nor hostname here")
	c.wantError(c.stop(``), 400, "no valid node id nor hostname here")
	c.start()
	c.wantBody(c.stop(`{"hostname":"dummy-3"}`), 200, `{"result":"Node 3 deleted","status":"ok"}`)
	for _, body := range []string{`{"node":3}`, `{"node":"1","x":1}`, `{"node":""}`, `{"node":null}`, `[]`, `"1"`, `null`} {
		c.wantError(c.stop(body), 400, schema)
	}
	c.wantIDs("fake_driver", "1,2")
	c.wantError(c.put(v+"/vm/stop/wrong_driver", `{"node":"1"}`), 500, "Cloud not valid or wrong path")
	for _, body := range []string{`{`, ` `, `{}{}`, `{"node":"1",}`, "{\"node\":\"\xff\"}"} {
		c.wantError(c.stop(body), 400, "Malformed JSON stream")
	}
	c.wantIDs("fake_driver", "1,2")
}

func refusedStarts(c client) {
	start := func(body string) reply { return c.post(v+"/vm/start/fake_driver", body) }
	for _, body := range []string{
		``, `{}`, `{"name":"a","image":"1"}`, `{"name":"","image":"1","size":"1"}`, `{"name":"a","image":1,"size":"1"}`,
		`{"name":"a","image":"1","size":"1","metadata":"x"}`, `{"name":"a","image":"1","size":"1","keyname":""}`,
		`{"name":"a","image":"1","size":"1","extra":"x"}`, `[]`,
	} {
		c.wantError(start(body), 400, schema)
	}
	c.wantError(start(`{"name"`), 400, "Malformed JSON stream")
	c.wantError(start(`{"name":"a","image":"99","size":"1"}`), 500, "Something went wrong no useful image id here")
	c.wantError(start(`{"name":"a","image":"1","size":"99"}`), 500, "Something went wrong no useful size id here")
	c.wantError(c.post(v+"/vm/start/wrong_driver", startBody), 500, "Something went wrong Cloud not valid or wrong path")
	c.wantIDs("fake_driver", "1,2")
	c.wantStatus(start(`{"name":"a","image":"1","size":"1","keyname":"k","metadata":{"a":"b"}}`), 200)
	c.wantStatus(start(`{"name":"a","image":"1","size":"1","metadata":{"n":1,"deep":{"a":[true,null]}}}`), 200)
	c.wantStatus(c.do("POST", v+"/vm/start/fake_driver", startBody, "Content-Type: text/plain"), 200)
	c.wantIDs("fake_driver", "1,2,3,4,5")
}

func startInDefault(c client) {
	c.wantStatus(c.post(v+"/vm/start", startBody), 200)
	c.wantIDs("default", "1,2,3")
	c.wantIDs("fake_driver", "1,2")
	c.wantBody(c.put(v+"/vm/stop", `{"node":"3"}`), 200, `{"result":"Node 3 deleted","status":"ok"}`)
}

func assignAndEmulate(c client) {
	for _, body := range []string{
		`{"emulate":"True","node":"fake_id","user":"fake_user","vm_type":"app_name"}`, `{"emulate":true,"node":"fake_id"}`,
		`{"emulate":"False"}`, `{"emulate":true}`, `{"emulate":1}`, `{"emulate":[0]}`, `{"emulate":{"a":0},"x":1}`, `{"emulate":0.5}`,
	} {
		for _, r := range []reply{c.assign(body), c.release(body), c.put(v+"/vm/action/assign/no_such_cloud", body), c.put(v+"/vm/action/release", body)} {
			c.wantBody(r, 200, emulated)
			if len(r.body) != 95 {
				c.t.Errorf("got %d bytes, want 95", len(r.body))
			}
		}
	}
	for _, body := range []string{
		`{"node":"1","vm_type":"t"}`, `{"node":"1","user":"u"}`, `{"emulate":"","node":"1","user":"u","vm_type":"t"}`,
		`{"emulate":0,"node":"1","user":"u","vm_type":"t"}`, `{"emulate":null,"node":"1","user":"u","vm_type":"t"}`,
		`{"node":"1","user":"u","vm_type":"t","x":"y"}`, `{"node":1,"user":"u","vm_type":"t"}`,
	} {
		c.wantError(c.assign(body), 400, schema)
	}
	for _, body := range []string{`{"node":"no-such","user":"u","vm_type":"t"}`, `{"user":"u","vm_type":"t"}`, `{"node":"no-such","user":"u","vm_type":"t","emulate":false}`} {
		c.wantError(c.assign(body), 400, "Node not found")
	}
	c.wantError(c.release(`{"node":"no-such"}`), 400, "Node not found")
	c.wantError(c.release(`{}`), 400, "Node not found")
	c.wantError(c.assign(`{`), 400, "Malformed JSON stream")
	c.wantError(c.put(v+"/vm/action/assign/wrong_driver", `{"node":"1","user":"u","vm_type":"t"}`), 500, "Cloud not valid or wrong path")
	c.wantError(c.put(v+"/vm/action/release/wrong_driver", `{"node":"1"}`), 500, "Cloud not valid or wrong path")
}

func assignAndRelease(c client) {
	c.start()
	assigned := c.assign(`{"node":"3","user":"fake_test","vm_type":"test"}`)
	c.wantStatus(assigned, 200)
	o := c.object(assigned)
	if keys := fmt.Sprint(slices.Sorted(maps.Keys(o))); keys != "[id id_vm result status]" || o["status"] != "ok" || o["id_vm"] != "3" || o["result"] != "Node dummy-3 assigned" {
		c.t.Errorf("got %s", assigned.body)
	}
	if id, ok := o["id"].(float64); !ok || id != float64(int64(id)) || id < 1 {
		c.t.Errorf("got id %v, want an integer", o["id"])
	}
	c.wantStatus(c.assign(`{"node":"3","user":"other","vm_type":"test"}`), 400) // it has a user
	status := c.object(c.get(v + "/vm/status/fake_driver"))
	row := status["nodes"].([]any)[0].(map[string]any)
	if keys := fmt.Sprint(slices.Sorted(maps.Keys(row))); keys != "[cloud hostname id id_vm recipe recipe_id status status_desc user]" ||
		row["cloud"] != "fake_driver" || row["user"] != "fake_test" || row["recipe"] != "test" || row["hostname"] != "dummy-3" || row["id_vm"] != "3" {
		c.t.Errorf("got row %v", row)
	}
	begun := time.Now()
	released := c.release(`{"node":"3"}`)
	c.wantStatus(released, 200)
	if result, _ := c.object(released)["result"].(string); !strings.HasSuffix(result, " and deleted") {
		c.t.Errorf("got %s", released.body)
	}
	if took := time.Since(begun); took > 5*time.Second {
		c.t.Errorf("release took %v", took)
	}
	c.wantIDs("fake_driver", "1,2")
	c.start()
	c.wantStatus(c.assign(`{"hostname":"dummy-3","user":"u","vm_type":"t"}`), 200)
	c.wantStatus(c.release(`{"hostname":"dummy-3"}`), 200)
	c.wantIDs("fake_driver", "1,2")
}

func routing(c client) {
	foo := c.put(v+"/vm/action/foo/fake_driver", `{}`)
	c.wantError(foo, 501, "Not implemented")
	if o := c.object(foo); o["status_short_message"] != "Not Implemented" || o["status_long_message"] != "Server does not support this operation" {
		c.t.Errorf("got %s", foo.body)
	}
	for _, method := range []string{"POST", "DELETE", "PATCH", "PUT", "OPTIONS"} {
		c.wantError(c.do(method, v+"/nodes/fake_driver", ""), 501, "Not implemented")
		c.wantError(c.do(method, v+"/foo", ""), 501, "Not implemented")
	}
	for _, path := range []string{"/auth", "/vm/start", "/vm/stop/fake_driver", "/vm/action/assign", "/test/start", "/fw/open", "/fw/close"} {
		c.wantError(c.get(v+path), 501, "Not implemented")
	}
	c.wantError(c.put(v+"/fw/open", `{}`), 501, "Not implemented")
	for _, path := range []string{"/foo", "/foo/fake_driver", "/vm/foo", "/vm", "/test/foo", "/vm/action", "/cloud/x"} {
		r := c.get(v + path)
		c.wantError(r, 400, "Unrecognized action found")
		if o := c.object(r); o["status_short_message"] != "Bad Request" {
			c.t.Errorf("got %s", r.body)
		}
	}
	for _, path := range []string{"/api/v1/nodes/fake_driver/", "/api/v1/nodes/", "/api/v9/nodes", "/api/", "/api/v1/a/b/c", "/api/v1/vm/start/a/b", "/api/v1/test/x/kill", "/api/v2/"} {
		for _, method := range []string{"GET", "PUT"} {
			c.wantBody(c.do(method, path, ""), 404, `{"message":"Page not found","status":"error"}`)
		}
	}
	c.wantBody(c.get("/api/v1/"), 200, `{"status":"ok"}`)
	c.wantBody(c.post("/api/v1/", `{"any":["thing"]}`), 200, `{"status":"ok"}`)
	c.wantBody(c.post("/api/v1/", `[1]`), 200, `{"status":"ok"}`)
	c.wantError(c.post("/api/v1/", `{`), 400, "Malformed JSON stream")
	if r := c.get("/api/v1"); r.status != 301 || !strings.HasSuffix(r.header.Get("Location"), "/api/v1/") {
		c.t.Errorf("GET /api/v1: got %d to %q", r.status, r.header.Get("Location"))
	}
}

func tokens(c client) {
	r := c.auth(c.target.Username, c.target.Password)
	c.wantStatus(r, 200)
	o := c.object(r)
	first, _ := o["token"].(string)
	if keys := fmt.Sprint(slices.Sorted(maps.Keys(o))); keys != "[status status_code token]" || o["status"] != "ok" || o["status_code"] != 200.0 || first == "" {
		c.t.Errorf("got %s", r.body)
	}
	second := c.token()
	if second == first {
		c.t.Error("two logins gave the same token")
	}
	for _, body := range []string{`{"username":"` + c.target.Username + `","password":"wrong"}`, `{"username":"nobody","password":"password"}`, `{}`, ``, `[]`, `{"username":1,"password":null}`} {
		refused := c.post(v+"/auth", body)
		c.wantError(refused, 403, "Forbidden")
		if c.object(refused)["status_long_message"] != "Request forbidden -- authorization will not help" {
			c.t.Errorf("got %s", refused.body)
		}
	}
	inBody := func(token string) string { return `{"auth_token":"` + token + `"}` }
	for _, path := range []string{"/test/start", "/test/7/kill"} {
		for _, ok := range []reply{
			c.put(v+path, inBody(first)), c.put(v+path, inBody(second)),
			c.do("PUT", v+path, "", "X-Auth-Token: "+first), c.do("PUT", v+path+"?auth_token="+first, ""),
			c.do("PUT", v+path, "", "Authorization: Bearer "+first),
			c.do("PUT", v+path, inBody(first), "X-Auth-Token: bad"), c.do("PUT", v+path+"?auth_token="+first, "{}", "X-Auth-Token: bad"),
		} {
			c.wantBody(ok, 200, passed)
		}
		for _, bad := range []reply{
			c.put(v+path, `{}`), c.put(v+path, ``), c.put(v+path, inBody(first+"x")), c.put(v+path, inBody("x"+first)), c.put(v+path, `{"auth_token":7}`),
			c.do("PUT", v+path, inBody("bad"), "X-Auth-Token: "+first), c.do("PUT", v+path+"?auth_token=bad", "", "X-Auth-Token: "+first),
		} {
			c.wantError(bad, 403, "Forbidden")
		}
	}
	c.wantBody(c.put(v+"/test/x/kill", inBody(first)), 404, `{"message":"Page not found","status":"error"}`)
	withToken := strings.Replace(startBody, "{", `{"auth_token":"`+first+`",`, 1) // does not break the closed schema
	c.wantStatus(c.post(v+"/vm/start/fake_driver", withToken), 200)
}

func clouds(c client) {
	r := c.get(v + "/cloud")
	c.wantStatus(r, 200)
	var list struct {
		Served []map[string]string `json:"served_cloud"`
		Status string
	}
	if err := json.Unmarshal([]byte(r.body), &list); err != nil {
		c.t.Fatal(err)
	}
	if list.Status != "ok" || len(list.Served) < 2 || list.Served[0]["name"] != "default" {
		c.t.Fatalf("got %s", r.body)
	}
	if !slices.ContainsFunc(list.Served, func(m map[string]string) bool {
		return maps.Equal(m, map[string]string{"host": "127.0.0.1", "name": "fake_driver", "type": "dummy"})
	}) {
		c.t.Errorf("got %s, want fake_driver in it", r.body)
	}
	c.wantBody(c.get(v+"/vm/status"), 200, `{"nodes":{},"status":"ok"}`)
	c.wantError(c.get(v+"/vm/status/wrong_driver"), 500, "Cloud not valid or wrong path")
	c.wantBody(c.get(v+"/tenants/fake_driver"), 200, `{"status":"ok","tenants":[{}]}`)
	c.wantBody(c.get(v+"/tenants"), 200, `{"status":"ok","tenants":[{"cloud_type":"Dummy Node Provider","id":"default","name":"default","provider":"dummy"}]}`)
}

func variants(c client) {
	head := c.do("HEAD", v+"/nodes/fake_driver", "")
	if head.status != 200 || head.body != "" || head.header.Get("Content-Type") != "application/json" || head.header.Get("Content-Length") != "683" {
		c.t.Errorf("got %+v", head)
	}
	c.wantBody(c.get(v+"/nodes/fake_driver?format=json"), 200, nodesBody)
	c.wantBody(c.get(v+"/nodes/fake_driver.json"), 500, wrongBody)
	for _, noun := range []string{"nodes", "images", "sizes", "flavors"} {
		if one, two := c.get(v+"/"+noun+"/fake_driver"), c.get("/api/v2/"+noun+"/fake_driver"); one.body != two.body || two.status != 200 {
			c.t.Errorf("v2 %s: got %d %s", noun, two.status, two.body)
		}
	}
	c.wantError(c.get("/api/v2/foo"), 400, "Unrecognized action found")
	c.wantError(c.do("PUT", "/api/v2/nodes", ""), 501, "Not implemented")
	plain := c.do("GET", v+"/images/wrong_driver", "", "X-Requested-With: XMLHttpRequest")
	if want := `{"message": "Cloud not valid or wrong path", "status": "error", "status_code": 500, `; !strings.HasPrefix(plain.body, want) {
		c.t.Errorf("XMLHttpRequest: got %q, want it on one line", plain.body)
	}
}

// everyError asks for one error of each sort there is; wantError checks their form.
func everyError(c client) {
	for _, one := range []struct {
		r      reply
		status int
	}{
		{c.get(v + "/nodes/x"), 500}, {c.get(v + "/x"), 400}, {c.put(v+"/nodes", ""), 501}, {c.post(v+"/auth", `{}`), 403},
		{c.do("GET", v+"/nodes/fake_driver", "", "X-Auth-Token: bad"), 401}, {c.stop(`{"x":1}`), 400},
		{c.stop(`{"node":"` + strings.Repeat("x", 2<<20) + `"}`), 413},
	} {
		c.wantError(one.r, one.status, "…")
	}
}

func fiftyStarts(c client) {
	seen := make([]bool, 53)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(c.t.Context(), "POST", c.target.URL+v+"/vm/start/fake_driver", strings.NewReader(startBody))
			resp, err := httpClient.Do(req)
			if err != nil {
				c.t.Error(err)
				return
			}
			defer resp.Body.Close()
			var answer struct{ Nodes struct{ ID string } }
			if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
				c.t.Error(err)
				return
			}
			var id int
			_, _ = fmt.Sscan(answer.Nodes.ID, &id)
			mu.Lock()
			defer mu.Unlock()
			if id < 3 || id > 52 || seen[id] {
				c.t.Errorf("got id %q a second time or out of 3…52", answer.Nodes.ID)
				return
			}
			seen[id] = true
		})
	}
	wg.Wait()
	var want []string
	for id := range 52 {
		want = append(want, fmt.Sprint(id+1))
	}
	c.wantIDs("fake_driver", strings.Join(want, ","))
	if n := len(c.object(c.get(v + "/vm/status/fake_driver"))["nodes"].([]any)); n != 50 {
		c.t.Errorf("got %d rows in the pool, want 50", n)
	}
}

func statesAreNumbers(c client) {
	for _, n := range c.object(c.get(v + "/nodes/fake_driver"))["nodes"].([]any) {
		if _, ok := n.(map[string]any)["state"].(float64); !ok {
			c.t.Errorf("got %v, want a number as state", n)
		}
	}
}

func idsRepeat(c client) {
	c.wantStatus(c.stop(`{"node":"1"}`), 200)
	c.wantStatus(c.start(), 200)
	c.wantIDs("fake_driver", "2,2")
	c.wantBody(c.stop(`{"node":"2"}`), 200, `{"result":"Node 2 deleted","status":"ok"}`)
	c.wantIDs("fake_driver", "2")
}
