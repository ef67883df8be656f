package director_test

import (
	"net/http"
	"strings"
	"testing"
)

// The tools need Python 2, which is nowhere any more: their requests are sent as section 6 of the specification has them, and
// what they read of the answers is looked at.

// credentialed are the parameters that cpsclient 1.x sends with every call, even when it shows a certificate.
func credentialed(u *someone, pairs ...string) []string {
	return append([]string{"username", u.name, "password", u.password}, pairs...)
}

// modernGet asks as the client of 2.0 does: with service_id, and a content type without content.
func (b *bed) modernGet(u *someone, path string) answer {
	b.Helper()
	r, err := http.NewRequest("GET", b.url(path+"?service_id=0"), nil)
	b.must(err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept-Encoding", "identity")
	return b.do(u.cert, r)
}

func TestTools(t *testing.T) {
	b := newBed(t)
	u := b.user("ann", "20")
	t.Run("71. cpsclient's credentials, available, listapp, list, create, rename and terminate", func(t *testing.T) {
		if types := b.get(nil, "/available_services?username=&password=").json(t).([]any); len(types) == 0 {
			t.Error("credentials: there are no types")
		}
		b.want("login", b.post(nil, "/login", credentialed(u)...).object(t)["uid"], u.uid)
		if len(unzip(t, b.post(nil, "/getcerts", credentialed(u)...).body)) != 3 {
			t.Error("credentials: got no certificates")
		}
		app := b.post(u.cert, "/listapp", credentialed(u)...).list(t)[0]
		record := b.post(u.cert, "/start/php", credentialed(u, "appid", itoa(int64(app["aid"].(float64))))...).object(t)
		rows := b.post(u.cert, "/list", credentialed(u)...).list(t)
		if len(rows) != 1 || rows[0]["manager"] != record["manager"] || b.state(u, record) != "INIT" {
			t.Errorf("create: got %v", rows)
		}
		for _, key := range []string{"type", "sid", "application_id", "vmid", "name", "manager"} { // columns of its table
			if rows[0][key] == nil {
				t.Errorf("list: there is no %s", key)
			}
		}
		sid := itoa(sidOf(record))
		b.wantBody("rename", b.post(u.cert, "/rename/"+sid, credentialed(u, "name", "n")...), 200, "true")
		b.wantBody("terminate", b.post(u.cert, "/stop/"+sid, credentialed(u)...), 200, "true")
	})
	t.Run("71. cpsclient's manifest shows why not", func(t *testing.T) {
		b.wantFailure("manifest", b.post(u.cert, "/upload_manifest", credentialed(u, "manifest", "{}")...), "")
	})
	t.Run("71. cpsclient's download_manifest tells what there is", func(t *testing.T) {
		app := b.post(u.cert, "/createapp", "name", "shop").object(t)
		path := "/download_manifest/" + itoa(int64(app["aid"].(float64)))
		b.wantBody("empty", b.post(u.cert, path, credentialed(u)...), 200, `{"Application":"shop","Services":[]}`)
		record := b.start(u, "php", "appid", itoa(int64(app["aid"].(float64))))
		b.wantBody("rename", b.post(u.cert, "/rename/"+itoa(sidOf(record)), "name", "front"), 200, "true")
		b.wantBody("not started", b.post(u.cert, path), 200,
			`{"Application":"shop","Services":[{"Type":"php","ServiceName":"front","Cloud":"iaas","Start":0}]}`)
		b.result(b.manage(u.cert, record, "POST", "startup", map[string]any{"cloud": "default"}))
		b.until("RUNNING", func() bool { return b.state(u, record) == "RUNNING" })
		b.wantBody("running, to the web frontend", b.upload(u.cert, path, nil), 200,
			`{"Application":"shop","Services":[{"Type":"php","ServiceName":"front","Cloud":"iaas","Start":1,"StartupInstances":{"backend":1,"proxy":1,"web":1}}]}`)
		b.wantBody("of nobody", b.post(u.cert, "/download_manifest/9999"), 200, "false")
		other := b.user("eve", "3")
		b.wantBody("of another user", b.post(other.cert, path), 200, "false")
		b.want("of another user, to 2.x", b.post(other.cert, path, "service_id", "0").object(t)["error"], "Application not found")
		b.wantBody("delete", b.post(u.cert, "/delete/"+itoa(int64(app["aid"].(float64)))), 200, "true")
		b.until("its end", func() bool { return len(b.get(u.cert, "/list").list(t)) == 0 })
	})
	t.Run("72. cps-user, cps-service, cps-application and cps-cloud of 1.5", func(t *testing.T) {
		if got := b.get(u.cert, "/user_config").object(t); got["password"] != nil || got["username"] != "ann" {
			t.Errorf("get_config: got %v", got)
		}
		b.want("get_credit", b.credit(u), 18)
		b.want("cps-cloud list", names(t, b.get(nil, "/available_clouds"))[0], "default")
		app := b.post(u.cert, "/createapp", "name", "tools").object(t)
		if app["error"] != nil || app["msg"] != nil || app["name"] != "tools" {
			t.Errorf("create: got %v", app)
		}
		id := itoa(int64(app["aid"].(float64)))
		b.wantBody("rename", b.post(u.cert, "/renameapp/"+id, "name", "tools2"), 200, "true")
		b.wantBody("delete", b.post(u.cert, "/delete/"+id), 200, "true")
		b.want("list", len(b.get(u.cert, "/listapp").list(t)), 1)
	})
	t.Run("73. the Director's commands of cps-tools 2.0", func(t *testing.T) {
		b.want("version", strings.Count(string(b.modernGet(u, "/version").body), "."), 2)
		for _, app := range b.modernGet(u, "/listapp").list(t) {
			for _, key := range []string{"aid", "name", "manager", "cloud", "status"} {
				if _, ok := app[key]; !ok {
					t.Errorf("cps-application list: there is no %s", key)
				}
			}
		}
		b.want("get_credit", string(b.modernGet(u, "/user_credit").body), "18")
		b.want("get_types", len(b.modernGet(u, "/available_services").json(t).([]any)) > 0, true)
		b.wantBody("cps-service list", b.modernGet(u, "/list"), 200, "[]")
		if got := b.upload(u.cert, "/createapp", nil, "name", "modern", "service_id", "0").object(t); got["aid"] == nil {
			t.Errorf("cps-application create: got %v", got)
		}
		if got := b.upload(u.cert, "/add/nosuch", nil, "service_id", "0").object(t); got["error"] != "Unknown service type: nosuch" {
			t.Errorf("an error: got %v", got)
		}
	})
	t.Run("74. a taken name is told to both generations", func(t *testing.T) {
		b.wantFailure("1.5", b.post(u.cert, "/createapp", "name", "modern"), `Application name "modern" already taken`)
		b.want("2.0", b.post(u.cert, "/createapp", "name", "modern", "service_id", "0").object(t)["error"], `Application name "modern" already taken`)
	})
}
