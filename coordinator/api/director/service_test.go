package director_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func names(t *testing.T, a answer) []string {
	t.Helper()
	var all []string
	for _, v := range a.json(t).([]any) {
		all = append(all, v.(string))
	}
	return all
}

func TestServices(t *testing.T) {
	b := newBed(t)
	u := b.user("ann", "50")
	t.Run("30. a new user has no services", func(t *testing.T) {
		b.wantBody("GET", b.get(u.cert, "/list"), 200, "[]")
		b.wantBody("POST", b.post(u.cert, "/list"), 200, "[]")
	})
	aid := b.get(u.cert, "/listapp").list(t)[0]["aid"]
	first := b.start(u, "php")
	t.Run("31. start answers with the record of the service", func(t *testing.T) {
		want := []string{"application_id", "cloud", "created", "manager", "name", "sid", "state", "subnet", "type", "user_id", "vmid"}
		if got := slices.Sorted(maps.Keys(first)); !slices.Equal(got, want) {
			t.Errorf("got the keys %q, want %q", got, want)
		}
		for _, k := range []string{"manager", "vmid"} {
			if s, ok := first[k].(string); !ok || s == "" {
				t.Errorf("%s: got %v, want a text", k, first[k])
			}
		}
	})
	t.Run("32. with the values that clients expect", func(t *testing.T) {
		for k, want := range map[string]any{"name": "New php service", "type": "php", "state": "INIT", "user_id": float64(u.uid), "application_id": aid, "cloud": "iaas", "subnet": nil} {
			b.want(k, first[k], want)
		}
	})
	t.Run("33. on the default cloud by name, and on no cloud that is not there", func(t *testing.T) {
		second := b.post(u.cert, "/start/php/default").object(t)
		b.want("cloud", second["cloud"], "iaas")
		before := b.credit(u)
		b.wantFailure("nosuchcloud", b.post(u.cert, "/start/php/nosuchcloud"), "Error upon service creation: There is no cloud named nosuchcloud.")
		b.want("services", len(b.get(u.cert, "/list").list(t)), 2)
		b.want("credit", b.credit(u), before)
	})
	t.Run("34. of no type that is not there", func(t *testing.T) {
		b.wantFailure("nosuchtype", b.post(u.cert, "/start/nosuchtype"), "Unknown service type: nosuchtype")
	})
	t.Run("35. in an application of one's own", func(t *testing.T) {
		app := b.post(u.cert, "/createapp", "name", "second").object(t)
		got := b.start(u, "php", "appid", itoa(int64(app["aid"].(float64))))
		b.want("application", got["application_id"], app["aid"])
		b.want("its list", len(b.get(u.cert, "/list/"+itoa(int64(app["aid"].(float64)))).list(t)), 1)
		for _, id := range []string{"99999", "abc", "0", "-1"} {
			b.wantFailure(id, b.post(u.cert, "/start/php", "appid", id), "Application not found")
		}
	})
	t.Run("36. numbers grow and never come again", func(t *testing.T) {
		a := sidOf(b.start(u, "php"))
		b.wantBody("stop", b.post(u.cert, "/stop/"+itoa(a)), 200, "true")
		if again := sidOf(b.start(u, "php")); again <= a || a <= sidOf(first) {
			t.Errorf("got %d, %d, %d", sidOf(first), a, again)
		}
	})
	t.Run("37. all rows of a list have the same keys", func(t *testing.T) {
		rows := b.get(u.cert, "/list").list(t)
		found := false
		for _, r := range rows {
			if !slices.Equal(slices.Sorted(maps.Keys(r)), slices.Sorted(maps.Keys(first))) {
				t.Errorf("got %v", r)
			}
			found = found || sidOf(r) == sidOf(first)
		}
		if !found {
			t.Error("the first service is not listed")
		}
	})
	t.Run("38. what is offered can be started, and nothing else", func(t *testing.T) {
		for _, name := range names(t, b.get(nil, "/available_services")) {
			b.want(name, b.start(u, name)["type"], name)
		}
		for _, name := range []string{"scalaris", "selenium", "hadoop", "xtreemfs", "taskfarm", "htc", "helloworld", "PHP"} {
			b.wantFailure(name, b.post(u.cert, "/start/"+name), "Unknown service type: "+name)
		}
	})
	t.Run("38. without an image for nodes nothing is offered", func(t *testing.T) {
		b.cloud.fail("Images", core.Errorf(core.Unavailable, core.ObjImage, "no"))
		b.wantBody("available", b.get(nil, "/available_services"), 200, "[]")
		b.cloud.fail("Images", nil)
	})
	t.Run("39. mysql is also called galera", func(t *testing.T) {
		all := names(t, b.get(nil, "/available_services"))
		if !slices.Contains(all, "mysql") || !slices.Contains(all, "galera") {
			t.Fatalf("got %q", all)
		}
		got := b.start(u, "galera")
		b.want("type", got["type"], "galera")
		b.want("name", got["name"], "New MySQL service")
	})
	t.Run("40. rename needs a name and a service", func(t *testing.T) {
		sid := itoa(sidOf(first))
		b.wantBody("rename", b.post(u.cert, "/rename/"+sid, "name", "X"), 200, "true")
		b.want("name", b.get(u.cert, "/list").list(t)[0]["name"], "X")
		b.wantBody("no name", b.post(u.cert, "/rename/"+sid), 200, "false")
		b.wantBody("an empty name", b.post(u.cert, "/rename/"+sid, "name", ""), 200, "false")
		b.wantBody("unknown", b.post(u.cert, "/rename/99999", "name", "X"), 200, "false")
		b.want("not a number", b.post(u.cert, "/rename/abc", "name", "X").status, 404)
	})
	t.Run("41. stop ends a service and its nodes", func(t *testing.T) {
		nodes, addresses := b.cloud.count()
		sid := itoa(sidOf(first))
		b.wantBody("stop", b.post(u.cert, "/stop/"+sid), 200, "true")
		b.until("the end of the service", func() bool {
			return !slices.ContainsFunc(b.get(u.cert, "/list").list(t), func(r map[string]any) bool { return sidOf(r) == sidOf(first) })
		})
		if n, a := b.cloud.count(); n != nodes-1 || a != addresses-1 {
			t.Errorf("got %d nodes and %d addresses, want one less than %d and %d", n, a, nodes, addresses)
		}
		b.wantBody("again", b.post(u.cert, "/stop/"+sid), 200, "false")
		b.want("not a number", b.post(u.cert, "/stop/abc").status, 404)
		got := b.get(u.cert, "/stop/"+sid)
		b.want("GET", got.status, 405)
		b.want("Allow", got.header.Get("Allow"), "POST")
	})
	t.Run("42. user names of others change nothing", func(t *testing.T) {
		other := b.user("bob", "5")
		b.wantBody("list", b.get(other.cert, "/list?username="+u.name+"&password=wrong"), 200, "[]")
	})
	t.Run("two services of one name are told apart in the other dialects", func(t *testing.T) {
		apps, err := b.core.Apps(t.Context(), core.Principal{Account: u.account})
		b.must(err)
		seen := map[string]bool{}
		for _, a := range apps {
			if seen[a.Name] || a.Name == "" {
				t.Errorf("the name %q is there twice", a.Name)
			}
			seen[a.Name] = true
		}
	})
	t.Run("deleting an application ends its services", func(t *testing.T) {
		app := b.post(u.cert, "/createapp", "name", "third").object(t)
		id := itoa(int64(app["aid"].(float64)))
		b.start(u, "php", "appid", id)
		b.wantBody("rename", b.post(u.cert, "/renameapp/"+id, "name", "3rd"), 200, "true")
		b.wantBody("rename without a name", b.post(u.cert, "/renameapp/"+id), 200, "false")
		b.wantFailure("taken", b.post(u.cert, "/createapp", "name", "3rd"), `Application name "3rd" already taken`)
		b.wantBody("no name", b.post(u.cert, "/createapp"), 200, "false")
		b.wantBody("delete", b.post(u.cert, "/delete/"+id), 200, "true")
		b.wantBody("its list", b.get(u.cert, "/list/"+id), 200, "[]")
		for _, a := range b.get(u.cert, "/listapp").list(t) {
			if a["name"] == "3rd" {
				t.Error("the application is still there")
			}
		}
	})
}

func TestServicesOfOtherDialects(t *testing.T) {
	b := newBed(t)
	u := b.user("ann", "5")
	p := core.Principal{Account: u.account}
	var app core.App
	b.must(b.store.Update(t.Context(), func(tx core.Tx) error {
		app = core.App{ID: "app-gandi", AccountID: u.account.ID, Name: "shop", Platform: "php", Engine: "mysql", State: core.AppRunning, Cloud: "mem", CreatedAt: b.now.Now()}
		if err := tx.PutApp(&app); err != nil {
			return err
		}
		return tx.PutNode(&core.Node{ID: "node-g", AppID: app.ID, AccountID: u.account.ID, Cloud: "mem", CloudID: "n-g", Key: "g", Name: "rv-g", State: core.NodeRunning, Address: "10.1.1.1"})
	}))
	mine := b.start(u, "php")
	rows := b.get(u.cert, "/list").list(t)
	if len(rows) != 2 || rows[0]["name"] != "shop" || rows[0]["state"] != "RUNNING" || rows[0]["type"] != "php" || rows[0]["vmid"] != "n-g" {
		t.Errorf("got %v", rows)
	}
	apps, err := b.core.Apps(t.Context(), p)
	b.must(err)
	if len(apps) != 2 || apps[1].Num != sidOf(mine) || apps[1].Platform != "php" {
		t.Errorf("got %v", apps)
	}
	b.wantBody("rename", b.post(u.cert, "/rename/"+itoa(app.Num), "name", "store"), 200, "true")
	b.wantBody("stop theirs here", b.post(u.cert, "/stop/"+itoa(app.Num)), 200, "true")
	if _, err := b.core.DeleteApp(t.Context(), p, sidOf(mine)); err != nil {
		t.Errorf("stop ours there: %v", err)
	}
	b.until("the end of all", func() bool {
		n, a := b.cloud.count()
		return n == 0 && a == 0 && len(b.get(u.cert, "/list").list(t)) == 0
	})
	b.want("nothing of theirs costs credit", b.credit(u), 4)
}

func TestModern(t *testing.T) {
	b := newBed(t)
	u := b.user("ann", "9")
	b.start(u, "php")
	t.Run("65. callers of 2.x get the text where they look", func(t *testing.T) {
		got := b.post(u.cert, "/start/nosuch", "service_id", "0").object(t)
		b.want("error", got["error"], "Unknown service type: nosuch")
		got = b.post(nil, "/login", "username", "ann", "password", "wrong", "service_id", "0").object(t)
		b.want("error", got["error"], "User authentication failed")
		got = b.post(nil, "/new_user?service_id=0", full("email", "x@example.org")...).object(t)
		b.want("error", got["error"], "Username 'ann' is already taken")
		b.wantFailure("of 1.x", b.post(u.cert, "/start/nosuch"), "Unknown service type: nosuch")
	})
	t.Run("66. and records with objects", func(t *testing.T) {
		row := b.get(u.cert, "/list?service_id=0").list(t)[0]
		service, application := row["service"].(map[string]any), row["application"].(map[string]any)
		b.want("sid", service["sid"], row["sid"])
		b.want("rec_id", service["rec_id"], row["sid"])
		b.want("aid", application["aid"], row["application_id"])
		b.want("status", application["status"], "RUNNING")
	})
	t.Run("their endpoints", func(t *testing.T) {
		app := b.get(u.cert, "/listapp?service_id=0").list(t)[0]
		aid := itoa(int64(app["aid"].(float64)))
		for _, k := range []string{"aid", "name", "uid", "status", "manager", "vmid", "cloud"} {
			if _, ok := app[k]; !ok {
				t.Errorf("the application has no %s", k)
			}
		}
		b.wantBody("startapp", b.post(u.cert, "/startapp/"+aid, "service_id", "0"), 200, "{}")
		added := b.post(u.cert, "/add/php", "appid", aid, "service_id", "0").object(t)
		sid := itoa(int64(added["service"].(map[string]any)["sid"].(float64)))
		b.wantBody("rename", b.post(u.cert, "/rename", "app_id", aid, "service_id", sid, "name", "Y"), 200, "{}")
		if rows := b.get(u.cert, "/list_resources?service_id=0").list(t); len(rows) != 2 || rows[0]["app_name"] != "New Application" {
			t.Errorf("list_resources: got %v", rows)
		}
		b.wantBody("remove", b.post(u.cert, "/remove", "app_id", aid, "service_id", sid), 200, "{}")
		b.wantBody("stopapp", b.post(u.cert, "/stopapp/"+aid, "service_id", "0"), 200, "{}")
		b.wantBody("list", b.get(u.cert, "/list?service_id=0"), 200, "[]")
		b.wantBody("deleteapp", b.post(u.cert, "/deleteapp/"+aid, "service_id", "0"), 200, "{}")
		b.wantBody("listapp", b.get(u.cert, "/listapp?service_id=0"), 200, "[]")
		b.want("start without one", b.post(u.cert, "/start/php").object(t)["msg"], "No existing applications")
	})
}
