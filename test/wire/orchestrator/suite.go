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

// item is one statement of the list, by its number, on the target as earlier ones left it.
func (c client) item(name string, check func(c client)) {
	c.t.Helper()
	c.t.(*testing.T).Run(name, func(t *testing.T) { check(client{t, c.target}) })
}

func lists(c client) {
	c.item("01 nodes are the document's, byte by byte", func(c client) {
		r := c.get(v + "/nodes/fake_driver")
		c.wantBody(r, 200, nodesBody)
		if len(r.body) != 683 || r.header.Get("Content-Length") != "683" {
			c.t.Errorf("got %d bytes, Content-Length %s, want 683", len(r.body), r.header.Get("Content-Length"))
		}
	})
	c.item("02 the type is application/json and no more", func(c client) {
		if ct := c.get(v + "/nodes/fake_driver").header["Content-Type"]; len(ct) != 1 || ct[0] != "application/json" {
			c.t.Errorf("got Content-Type %q", ct)
		}
	})
	c.item("03 a body or a charset changes nothing", func(c client) {
		for _, again := range []reply{
			c.do("GET", v+"/nodes/fake_driver", "{}"),
			c.do("GET", v+"/nodes/fake_driver", "{"), // the body of a GET is ignored
			c.do("GET", v+"/nodes/fake_driver", "", "Content-Type: application/json; charset=utf-8"),
			c.do("GET", v+"/nodes/fake_driver", "", "Content-Type: "),
		} {
			c.wantBody(again, 200, nodesBody)
		}
	})
	wrong := func(c client, noun string) {
		r := c.get(v + "/" + noun + "/wrong_driver")
		c.wantBody(r, 500, wrongBody)
		if len(r.body) != 199 {
			c.t.Errorf("%s: got %d bytes, want 199", noun, len(r.body))
		}
	}
	c.item("04 nodes of an unknown cloud", func(c client) { wrong(c, "nodes") })
	c.item("05 images", func(c client) {
		r := c.get(v + "/images/fake_driver")
		c.wantBody(r, 200, `{"images":[{"cloud_type":"Dummy Node Provider","id":"1","name":"Ubuntu 9.10","provider":"dummy"},{"cloud_type":"Dummy Node Provider","id":"2","name":"Ubuntu 9.04","provider":"dummy"},{"cloud_type":"Dummy Node Provider","id":"3","name":"Slackware 4","provider":"dummy"}],"status":"ok"}`)
		if len(r.body) != 422 {
			c.t.Errorf("got %d bytes, want 422", len(r.body))
		}
	})
	c.item("06 images of an unknown cloud", func(c client) { wrong(c, "images") })
	sizes := c.get(v + "/sizes/fake_driver")
	c.item("07 sizes", func(c client) {
		c.wantBody(sizes, 200, `{"flavors":[{"cloud_type":"Dummy Node Provider","cpu":0,"disk":4,"id":"1","name":"Small","provider":"dummy","ram":128},{"cloud_type":"Dummy Node Provider","cpu":0,"disk":16,"id":"2","name":"Medium","provider":"dummy","ram":512},{"cloud_type":"Dummy Node Provider","cpu":0,"disk":32,"id":"3","name":"Big","provider":"dummy","ram":4096},{"cloud_type":"Dummy Node Provider","cpu":0,"disk":128,"id":"4","name":"XXL Big","provider":"dummy","ram":8192}],"status":"ok"}`)
		if len(sizes.body) != 738 {
			c.t.Errorf("got %d bytes, want 738", len(sizes.body))
		}
	})
	c.item("08 flavors are the sizes", func(c client) {
		if flavors := c.get(v + "/flavors/fake_driver"); flavors.body != sizes.body {
			c.t.Errorf("got %s, want the body of sizes", flavors.body)
		}
	})
	c.item("09 sizes and flavors of an unknown cloud", func(c client) { wrong(c, "sizes"); wrong(c, "flavors") })
	c.item("10 without a cloud it is default", func(c client) {
		for _, noun := range []string{"nodes", "images", "sizes", "flavors"} {
			if short, long := c.get(v+"/"+noun), c.get(v+"/"+noun+"/default"); short.status != 200 || short.body != long.body {
				c.t.Errorf("%s: got %d %s, want what default has", noun, short.status, short.body)
			}
		}
	})
}

func startAndStop(c client) {
	c.item("11 a started node is answered as one object", func(c client) {
		r := c.start()
		c.wantBody(r, 200, `{"nodes":{"cloud_type":"Dummy Node Provider","extra":{"foo":"bar"},"id":"3","name":"dummy-3","private_ips":[],"provider":"dummy","public_ips":["127.0.0.3"],"state":0,"uuid":"aef321fde331680846014b121ff377dcb8477731"},"status":"ok"}`)
		if len(r.body) != 322 {
			c.t.Errorf("got %d bytes, want 322", len(r.body))
		}
	})
	c.item("12 the second one is 4", func(c client) {
		n := c.object(c.start())["nodes"].(map[string]any)
		if n["id"] != "4" || n["name"] != "dummy-4" || fmt.Sprint(n["public_ips"]) != "[127.0.0.4]" || n["uuid"] != "f0f0f81f0a63ccd2c5e0c5244beebeafd0f2429c" {
			c.t.Errorf("got second node %v", n)
		}
	})
	c.item("13 both are listed", func(c client) { c.wantIDs("fake_driver", "1,2,3,4") })
	c.item("14 stopping deletes", func(c client) {
		r := c.stop(`{"node":"3"}`)
		c.wantBody(r, 200, `{"result":"Node 3 deleted","status":"ok"}`)
		if len(r.body) != 50 {
			c.t.Errorf("got %d bytes, want 50", len(r.body))
		}
	})
	c.item("15 and the list is as before", func(c client) {
		c.wantBody(c.stop(`{"node":"4"}`), 200, `{"result":"Node 4 deleted","status":"ok"}`)
		c.wantIDs("fake_driver", "1,2")
	})
	c.item("16 numbers are the list's length and one", func(c client) {
		if n := c.object(c.start())["nodes"].(map[string]any); n["id"] != "3" {
			c.t.Errorf("got id %v, want 3", n["id"])
		}
		c.wantIDs("default", "1,2")
	})
}

func refusedStops(c client) {
	c.item("17 a node that is gone", func(c client) { c.wantError(c.stop(`{"node":"3"}`), 400, "no useful node id here") })
	c.item("18 neither node nor hostname", func(c client) {
		c.wantError(c.stop(`{}`), 400, "no valid node id nor hostname here")
		c.wantError(c.stop(``), 400, "no valid node id nor hostname here")
	})
	c.item("19 by its hostname", func(c client) {
		c.start()
		c.wantBody(c.stop(`{"hostname":"dummy-3"}`), 200, `{"result":"Node 3 deleted","status":"ok"}`)
	})
	c.item("20 a number is no id", func(c client) { c.wantError(c.stop(`{"node":3}`), 400, schema) })
	c.item("21 the schema is closed", func(c client) {
		for _, body := range []string{`{"node":"1","x":1}`, `{"node":""}`, `{"node":null}`, `[]`, `"1"`, `null`} {
			c.wantError(c.stop(body), 400, schema)
		}
		c.wantIDs("fake_driver", "1,2")
	})
	c.item("22 an unknown cloud", func(c client) {
		c.wantError(c.put(v+"/vm/stop/wrong_driver", `{"node":"1"}`), 500, "Cloud not valid or wrong path")
	})
	c.item("23 no JSON", func(c client) {
		for _, body := range []string{`{`, ` `, `{}{}`, `{"node":"1",}`, "{\"node\":\"\xff\"}"} {
			c.wantError(c.stop(body), 400, "Malformed JSON stream")
		}
		c.wantIDs("fake_driver", "1,2")
	})
}

func refusedStarts(c client) {
	start := func(c client, body string) reply { return c.post(v+"/vm/start/fake_driver", body) }
	c.item("24 name, image and size are needed", func(c client) {
		for _, body := range []string{``, `{}`, `{"name":"a","image":"1"}`, `[]`} {
			c.wantError(start(c, body), 400, schema)
		}
		c.wantError(start(c, `{"name"`), 400, "Malformed JSON stream")
	})
	c.item("25 they have to be text that is not empty", func(c client) {
		for _, body := range []string{
			`{"name":"","image":"1","size":"1"}`, `{"name":"a","image":1,"size":"1"}`, `{"name":"a","image":"1","size":"1","metadata":"x"}`,
			`{"name":"a","image":"1","size":"1","keyname":""}`, `{"name":"a","image":"1","size":"1","extra":"x"}`,
		} {
			c.wantError(start(c, body), 400, schema)
		}
	})
	c.item("27 an unknown image", func(c client) {
		c.wantError(start(c, `{"name":"a","image":"99","size":"1"}`), 500, "Something went wrong no useful image id here")
		c.wantIDs("fake_driver", "1,2")
	})
	c.item("28 an unknown size", func(c client) {
		c.wantError(start(c, `{"name":"a","image":"1","size":"99"}`), 500, "Something went wrong no useful size id here")
	})
	c.item("29 an unknown cloud", func(c client) {
		c.wantError(c.post(v+"/vm/start/wrong_driver", startBody), 500, "Something went wrong Cloud not valid or wrong path")
		c.wantIDs("fake_driver", "1,2")
	})
	c.item("26 keyname and metadata are taken", func(c client) {
		c.wantStatus(start(c, `{"name":"a","image":"1","size":"1","keyname":"k","metadata":{"a":"b"}}`), 200)
		c.wantStatus(start(c, `{"name":"a","image":"1","size":"1","metadata":{"n":1,"deep":{"a":[true,null]}}}`), 200)
		c.wantStatus(c.do("POST", v+"/vm/start/fake_driver", startBody, "Content-Type: text/plain"), 200)
		c.wantIDs("fake_driver", "1,2,3,4,5")
	})
}

func startInDefault(c client) {
	c.item("30 a start without a cloud is in default", func(c client) {
		c.wantStatus(c.post(v+"/vm/start", startBody), 200)
		c.wantIDs("default", "1,2,3")
		c.wantIDs("fake_driver", "1,2")
		c.wantBody(c.put(v+"/vm/stop", `{"node":"3"}`), 200, `{"result":"Node 3 deleted","status":"ok"}`)
	})
}

func assignAndEmulate(c client) {
	constant := func(c client, r reply) {
		c.t.Helper()
		c.wantBody(r, 200, emulated)
		if len(r.body) != 95 {
			c.t.Errorf("got %d bytes, want 95", len(r.body))
		}
	}
	c.item("31 an emulated assignment is the document's", func(c client) {
		constant(c, c.assign(`{"emulate":"True","node":"fake_id","user":"fake_user","vm_type":"app_name"}`))
	})
	c.item("32 an emulated release says assigned, too", func(c client) { constant(c, c.release(`{"emulate":"True","node":"fake_id"}`)) })
	c.item("33 whatever is truthy emulates, on any cloud", func(c client) {
		for _, body := range []string{
			`{"emulate":true,"node":"fake_id"}`, `{"emulate":"False"}`, `{"emulate":1}`, `{"emulate":[0]}`, `{"emulate":{"a":0},"x":1}`, `{"emulate":0.5}`,
		} {
			for _, r := range []reply{c.assign(body), c.release(body), c.put(v+"/vm/action/assign/no_such_cloud", body), c.put(v+"/vm/action/release", body)} {
				constant(c, r)
			}
		}
	})
	c.item("34 without a look at the schema", func(c client) { constant(c, c.assign(`{"emulate":true}`)) })
	c.item("35 user and vm_type are needed otherwise", func(c client) {
		for _, body := range []string{`{"node":"1","vm_type":"t"}`, `{"node":"1","user":"u"}`, `{"node":"1","user":"u","vm_type":"t","x":"y"}`, `{"node":1,"user":"u","vm_type":"t"}`} {
			c.wantError(c.assign(body), 400, schema)
		}
		c.wantError(c.assign(`{`), 400, "Malformed JSON stream")
	})
	c.item("36 an unknown node", func(c client) {
		for _, body := range []string{`{"node":"no-such","user":"u","vm_type":"t"}`, `{"user":"u","vm_type":"t"}`, `{"node":"no-such","user":"u","vm_type":"t","emulate":false}`} {
			c.wantError(c.assign(body), 400, "Node not found")
		}
		c.wantError(c.release(`{"node":"no-such"}`), 400, "Node not found")
		c.wantError(c.release(`{}`), 400, "Node not found")
		c.wantError(c.put(v+"/vm/action/assign/wrong_driver", `{"node":"1","user":"u","vm_type":"t"}`), 500, "Cloud not valid or wrong path")
		c.wantError(c.put(v+"/vm/action/release/wrong_driver", `{"node":"1"}`), 500, "Cloud not valid or wrong path")
	})
	c.item("37 what is falsy and no boolean is a violation", func(c client) {
		for _, value := range []string{`""`, `0`, `null`} {
			c.wantError(c.assign(`{"emulate":`+value+`,"node":"1","user":"u","vm_type":"t"}`), 400, schema)
		}
	})
}

func assignAndRelease(c client) {
	c.item("38 a started node is assigned", assigned)
	c.item("39 and released and deleted", released)
}

func assigned(c client) {
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
}

func released(c client) {
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
	c.item("40 an unknown action of vm", func(c client) {
		foo := c.put(v+"/vm/action/foo/fake_driver", `{}`)
		c.wantError(foo, 501, "Not implemented")
		if o := c.object(foo); o["status_short_message"] != "Not Implemented" || o["status_long_message"] != "Server does not support this operation" {
			c.t.Errorf("got %s", foo.body)
		}
	})
	c.item("41 methods that a path does not have", otherMethods)
	c.item("42 unknown words", unknownWords)
	c.item("43 paths that are not found", pathsNotFound)
	c.item("44 the root", root)
}

func otherMethods(c client) {
	for _, method := range []string{"POST", "DELETE", "PATCH", "PUT", "OPTIONS"} {
		c.wantError(c.do(method, v+"/nodes/fake_driver", ""), 501, "Not implemented")
		c.wantError(c.do(method, v+"/foo", ""), 501, "Not implemented")
	}
	for _, path := range []string{"/auth", "/vm/start", "/vm/stop/fake_driver", "/vm/action/assign", "/test/start", "/fw/open", "/fw/close"} {
		c.wantError(c.get(v+path), 501, "Not implemented")
	}
	c.wantError(c.put(v+"/fw/open", `{}`), 501, "Not implemented")
}

func unknownWords(c client) {
	for _, path := range []string{"/foo", "/foo/fake_driver", "/vm/foo", "/vm", "/test/foo", "/vm/action", "/cloud/x"} {
		r := c.get(v + path)
		c.wantError(r, 400, "Unrecognized action found")
		if o := c.object(r); o["status_short_message"] != "Bad Request" {
			c.t.Errorf("got %s", r.body)
		}
	}
}

func pathsNotFound(c client) {
	for _, path := range []string{"/api/v1/nodes/fake_driver/", "/api/v1/nodes/", "/api/v9/nodes", "/api/", "/api/v1/a/b/c", "/api/v1/vm/start/a/b", "/api/v1/test/x/kill", "/api/v2/"} {
		for _, method := range []string{"GET", "PUT"} {
			c.wantBody(c.do(method, path, ""), 404, `{"message":"Page not found","status":"error"}`)
		}
	}
}

func root(c client) {
	c.wantBody(c.get("/api/v1/"), 200, `{"status":"ok"}`)
	c.wantBody(c.post("/api/v1/", `{"any":["thing"]}`), 200, `{"status":"ok"}`)
	c.wantBody(c.post("/api/v1/", `[1]`), 200, `{"status":"ok"}`)
	c.wantError(c.post("/api/v1/", `{`), 400, "Malformed JSON stream")
	if r := c.get("/api/v1"); r.status != 301 || !strings.HasSuffix(r.header.Get("Location"), "/api/v1/") {
		c.t.Errorf("GET /api/v1: got %d to %q", r.status, r.header.Get("Location"))
	}
}

func tokens(c client) {
	c.item("45 a login gives a token", func(c client) {
		r := c.auth(c.target.Username, c.target.Password)
		c.wantStatus(r, 200)
		o := c.object(r)
		if keys := fmt.Sprint(slices.Sorted(maps.Keys(o))); keys != "[status status_code token]" || o["status"] != "ok" || o["status_code"] != 200.0 || o["token"] == "" {
			c.t.Errorf("got %s", r.body)
		}
	})
	first, second := c.token(), c.token()
	c.item("46 two logins give two tokens that both work", func(c client) {
		if second == first {
			c.t.Error("two logins gave the same token")
		}
		c.wantBody(c.put(v+"/test/start", inBody(first)), 200, passed)
		c.wantBody(c.put(v+"/test/start", inBody(second)), 200, passed)
	})
	c.item("47 what is no login", func(c client) {
		for _, body := range []string{`{"username":"` + c.target.Username + `","password":"wrong"}`, `{"username":"nobody","password":"password"}`, `{}`, ``, `[]`, `{"username":1,"password":null}`} {
			refused := c.post(v+"/auth", body)
			c.wantError(refused, 403, "Forbidden")
			if c.object(refused)["status_long_message"] != "Request forbidden -- authorization will not help" {
				c.t.Errorf("got %s", refused.body)
			}
		}
	})
	c.item("48 a token in the body", func(c client) { c.wantBody(c.put(v+"/test/start", inBody(first)), 200, passed) })
	c.item("49 in the header, in the query", func(c client) {
		for _, ok := range []reply{
			c.do("PUT", v+"/test/start", "", "X-Auth-Token: "+first), c.do("PUT", v+"/test/start?auth_token="+first, ""),
			c.do("PUT", v+"/test/start", "", "Authorization: Bearer "+first),
			c.do("PUT", v+"/test/start", inBody(first), "X-Auth-Token: bad"), c.do("PUT", v+"/test/start?auth_token="+first, "{}", "X-Auth-Token: bad"),
		} {
			c.wantBody(ok, 200, passed)
		}
	})
	badTokens := func(c client, path string) {
		for _, bad := range []reply{
			c.put(v+path, `{}`), c.put(v+path, ``), c.put(v+path, inBody(first+"x")), c.put(v+path, inBody("x"+first)), c.put(v+path, `{"auth_token":7}`),
			c.do("PUT", v+path, inBody("bad"), "X-Auth-Token: "+first), c.do("PUT", v+path+"?auth_token=bad", "", "X-Auth-Token: "+first),
		} {
			c.wantError(bad, 403, "Forbidden")
		}
	}
	c.item("50 no token, a bad one, a bad one in the body", func(c client) { badTokens(c, "/test/start") })
	c.item("51 kill is start, for numbers", func(c client) {
		c.wantBody(c.put(v+"/test/7/kill", inBody(first)), 200, passed)
		badTokens(c, "/test/7/kill")
		c.wantBody(c.put(v+"/test/x/kill", inBody(first)), 404, `{"message":"Page not found","status":"error"}`)
	})
	withToken := strings.Replace(startBody, "{", `{"auth_token":"`+first+`",`, 1) // does not break the closed schema
	c.wantStatus(c.post(v+"/vm/start/fake_driver", withToken), 200)
}

func inBody(token string) string { return `{"auth_token":"` + token + `"}` }

func clouds(c client) {
	c.item("52 the clouds, default first", servedClouds)
	c.item("53 an empty pool is an object", func(c client) {
		c.wantBody(c.get(v+"/vm/status"), 200, `{"nodes":{},"status":"ok"}`)
		c.wantError(c.get(v+"/vm/status/wrong_driver"), 500, "Cloud not valid or wrong path")
	})
	c.item("54 tenants", func(c client) {
		c.wantBody(c.get(v+"/tenants/fake_driver"), 200, `{"status":"ok","tenants":[{}]}`)
		c.wantBody(c.get(v+"/tenants"), 200, `{"status":"ok","tenants":[{"cloud_type":"Dummy Node Provider","id":"default","name":"default","provider":"dummy"}]}`)
	})
}

func servedClouds(c client) {
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
}

func variants(c client) {
	c.item("55 HEAD", func(c client) {
		head := c.do("HEAD", v+"/nodes/fake_driver", "")
		if head.status != 200 || head.body != "" || head.header.Get("Content-Type") != "application/json" || head.header.Get("Content-Length") != "683" {
			c.t.Errorf("got %+v", head)
		}
	})
	c.item("56 the format is a query and no suffix", func(c client) {
		c.wantBody(c.get(v+"/nodes/fake_driver?format=json"), 200, nodesBody)
		c.wantBody(c.get(v+"/nodes/fake_driver.json"), 500, wrongBody)
	})
	c.item("57 v2 is v1 to read", func(c client) {
		for _, noun := range []string{"nodes", "images", "sizes", "flavors"} {
			if one, two := c.get(v+"/"+noun+"/fake_driver"), c.get("/api/v2/"+noun+"/fake_driver"); one.body != two.body || two.status != 200 {
				c.t.Errorf("v2 %s: got %d %s", noun, two.status, two.body)
			}
		}
		c.wantError(c.get("/api/v2/foo"), 400, "Unrecognized action found")
		c.wantError(c.do("PUT", "/api/v2/nodes", ""), 501, "Not implemented")
	})
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
