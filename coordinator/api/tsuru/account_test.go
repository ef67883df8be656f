package tsuru_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api/tsuru"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// The names of these subtests begin with their number in the checklist of the fact sheet.

func TestUsersAndTokens(t *testing.T) {
	b := newBed(t)
	nobody := b.as("")
	t.Run("1 a new user can log in", func(t *testing.T) {
		nobody.post("/users", `{"email":"new@example.test","password":"secret-1"}`).want(200).is("")
		b.login("new@example.test", "secret-1")
		nobody.with("Content-Type: application/x-www-form-urlencoded").post("/users", "email=form@example.test&password=secret-1").want(200)
		b.login("form@example.test", "secret-1")
		nobody.with("Content-Type: application/x-www-form-urlencoded").post("/users", `{"email":"curl@example.test","password":"a=b&c=d"}`).want(200)
		b.login("curl@example.test", "a=b&c=d")
	})
	t.Run("2 broken JSON", func(t *testing.T) { nobody.post("/users", `{"email":`).want(400) })
	t.Run("3 bad addresses", func(t *testing.T) {
		for _, email := range []string{"nobody", "a@b", "a@b.c", "a@B.org", "a b@c.org", ""} {
			nobody.post("/users", fmt.Sprintf(`{"email":%q,"password":"secret-1"}`, email)).want(400).is("Invalid email.\n")
		}
	})
	t.Run("4 passwords have 6 to 50 bytes", func(t *testing.T) {
		for n, want := range map[int]int{5: 400, 6: 200, 50: 200, 51: 400} {
			nobody.post("/users", fmt.Sprintf(`{"email":"n%d@example.test","password":%q}`, n, strings.Repeat("x", n))).want(want)
		}
		b.login("n50@example.test", strings.Repeat("x", 50))
	})
	t.Run("5 an address once", func(t *testing.T) {
		nobody.post("/users", `{"email":"ANN@example.test","password":"secret-1"}`).want(409).is("This email is already registered.\n")
	})
	t.Run("6 never 404 or 405", func(t *testing.T) {
		for _, body := range []string{"", "null", "[]", "x", `{"email":1}`, `{}`} {
			nobody.post("/users", body).want(400)
		}
	})
	t.Run("7 registration off", func(t *testing.T) {
		b := newBed(t, func(o *tsuru.Options, _ *core.Options) { o.NoRegistration = true })
		body := `{"email":"new@example.test","password":"secret-1"}`
		b.as("").post("/users", body).want(401)
		b.as(b.ann).post("/users", body).want(401)
		b.as(b.admin).post("/users", body).want(200)
	})
	t.Run("8 login", func(t *testing.T) {
		var got map[string]any
		nobody.post("/users/ann@example.test/tokens", `{"password":"`+password+`"}`).want(200).into(&got)
		if token, _ := got["token"].(string); len(token) != 40 || got["is_admin"] != false {
			t.Errorf("got %v", got)
		}
		nobody.post("/users/root%40example.test/tokens", `{"password":"`+password+`"}`).want(200).into(&got)
		if got["is_admin"] != true {
			t.Errorf("got %v of an administrator", got)
		}
	})
	t.Run("9 login without a password", func(t *testing.T) {
		nobody.post("/users/ann@example.test/tokens", `{`).want(400).is("Invalid JSON\n")
		for _, body := range []string{`{}`, `{"password":""}`, `{"password":null}`, ""} {
			nobody.post("/users/ann@example.test/tokens", body).want(400)
		}
		nobody.post("/users/nobody/tokens", `{"password":"secret-1"}`).want(400)
	})
	t.Run("10 login of nobody", func(t *testing.T) {
		nobody.post("/users/ghost@example.test/tokens", `{"password":"x"}`).want(404).is("User not found\n")
	})
	t.Run("11 wrong password", func(t *testing.T) {
		nobody.post("/users/ann@example.test/tokens", `{"password":"wrong-one"}`).want(401)
		nobody.post("/users/ann@example.test/tokens", `{"password":"x"}`).want(400)
		guessed := b.account("guess@example.test", "")
		for i := range 10 {
			if a := nobody.post("/users/guess@example.test/tokens", `{"password":"wrong-one"}`).want(401, 429); i == 9 && a.code != 429 {
				t.Errorf("got %d at the tenth guess, want attempts to be slowed down", a.code)
			}
		}
		b.as(guessed).get("/teams").want(200) // who is logged in is not shut out
	})
	t.Run("12 spellings of the header", func(t *testing.T) {
		for header, want := range map[string]int{"bearer " + b.ann: 200, "Bearer " + b.ann: 200, b.ann: 200, "token " + b.ann: 200,
			"a b " + b.ann: 401, b.ann + " bearer": 401, "bearer  " + b.ann: 401} {
			b.as("").with("Authorization: " + header).get("/teams").want(want)
		}
	})
	t.Run("13 no token", func(t *testing.T) {
		a := nobody.get("/teams").want(401).is("You must provide a valid Authorization header\n")
		if kind := a.header.Get("Content-Type"); kind != "text/plain; charset=utf-8" {
			t.Errorf("got the type %q", kind)
		}
	})
	t.Run("14 logout", func(t *testing.T) {
		other := b.login("ann@example.test", password)
		b.as(other).get("/teams").want(200)
		b.as(other).delete("/users/tokens").want(200).is("")
		b.as(other).get("/teams").want(401)
		b.as(b.ann).get("/teams").want(200)
	})
	t.Run("15 change of password", func(t *testing.T) {
		token := b.account("change@example.test", "")
		other := b.login("change@example.test", password)
		me := b.as(token)
		me.put("/users/password", `{"old":"wrong","new":"secret-22"}`).want(403)
		me.put("/users/password", `{"old":"","new":"secret-22"}`).want(400)
		me.put("/users/password", `{"old":"`+password+`","new":""}`).want(400)
		me.put("/users/password", `{"old":"`+password+`","new":"short"}`).want(400)
		me.put("/users/password", `{`).want(400)
		me.put("/users/password", `{"old":"`+password+`","new":"secret-22"}`).want(200).is("")
		nobody.post("/users/change@example.test/tokens", `{"password":"`+password+`"}`).want(401)
		b.login("change@example.test", "secret-22")
		me.get("/teams").want(200)
		b.as(other).get("/teams").want(401) // whoever else was logged in is not any more
	})
	var reset string
	t.Run("16 forgotten password", func(t *testing.T) {
		b.account("forgot@example.test", "")
		nobody.post("/users/forgot@example.test/password").want(200).is("")
		reset = b.mail.last(t, "forgot@example.test", `-t ([0-9a-f]{64})\n`)
		nobody.post("/users/ghost@example.test/password").want(404)
		nobody.post("/users/nobody/password").want(400)
	})
	t.Run("17 new password for a token", func(t *testing.T) {
		nobody.post("/users/ann@example.test/password?token=" + reset).want(400) // another's
		nobody.post("/users/forgot@example.test/password?token=" + reset[1:] + "0").want(400)
		nobody.post("/users/forgot@example.test/password?token=" + reset).want(200).is("")
		fresh := b.mail.last(t, "forgot@example.test", `is: (\S{12})\n`)
		nobody.post("/users/forgot@example.test/tokens", `{"password":"`+password+`"}`).want(401)
		b.login("forgot@example.test", fresh)
		nobody.post("/users/forgot@example.test/password?token=" + reset).want(400) // used
		nobody.post("/users/forgot@example.test/password").want(200)
		reset = b.mail.last(t, "forgot@example.test", `-t ([0-9a-f]{64})\n`)
		b.now.advance(25 * time.Hour)
		nobody.post("/users/forgot@example.test/password?token=" + reset).want(400) // expired
	})
	t.Run("18 removing oneself", func(t *testing.T) {
		token := b.account("leaver@example.test", "leaving")
		b.as(token).delete("/users").want(403)
		b.as(token).put("/teams/leaving/ann@example.test").want(200)
		b.as(token).delete("/users").want(200).is("")
		b.as(token).get("/teams").want(401)
		b.as(b.ann).get("/teams/leaving").want(200).lacks("leaver")
		nobody.post("/users/leaver@example.test/tokens", `{"password":"`+password+`"}`).want(404)
		nobody.post("/users", `{"email":"leaver@example.test","password":"secret-1"}`).want(200) // the address is free again
	})
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4ZOXxEnvAHoGFbpiUJNgJyN+YqqhCR9Ojp1DhZVKv1 ann@laptop"
	t.Run("19 keys", func(t *testing.T) {
		me := b.as(b.ann)
		me.post("/users/keys", `{"key":"`+key+`"}`).want(200).is("")
		me.post("/users/keys", `{"key":"`+key+`"}`).want(409)
		b.as(b.bob).post("/users/keys", `{"key":"`+key+`"}`).want(409) // a key decides who pushes
		for _, body := range []string{`{}`, `{"key":""}`} {
			me.post("/users/keys", body).want(400).is("Missing key\n")
		}
		me.post("/users/keys", `{`).want(400)
		me.post("/users/keys", `{"key":"my-key"}`).want(200) // the document's own example
		var keys map[string]string
		me.get("/users/ann@example.test/keys").want(200).into(&keys)
		if keys["ann@example.test-1"] != key || keys["ann@example.test-2"] != "my-key" {
			t.Errorf("got the keys %v", keys)
		}
	})
	t.Run("20 removing keys", func(t *testing.T) {
		me := b.as(b.ann)
		me.delete("/users/keys", `{"key":"unknown"}`).want(404)
		me.delete("/users/keys", `{}`).want(400)
		me.delete("/users/keys", `{"key":"`+key+`"}`).want(200)
		me.delete("/users/keys", `{"key":"`+key+`"}`).want(404)
	})
	t.Run("20 keys with names, of clients from 0.13 on", func(t *testing.T) {
		me, other := b.as(b.ann), strings.Replace(key, "IJ4Z", "IJ4Y", 1)
		form := me.with("Content-Type: application/x-www-form-urlencoded")
		named := func(prefix string) (keys map[string]string) {
			me.get(prefix + "/users/keys").want(200).into(&keys)
			delete(keys, "ann@example.test-2")
			return keys
		}
		me.post("/users/keys", fmt.Sprintf(`{"key":%q,"name":"my laptop","force":false}`, key)).want(200)
		form.post("/1.0/users/keys", url.Values{"name": {"my laptop"}, "key": {other}, "force": {"false"}}.Encode()).want(409)
		if got := named(""); len(got) != 1 || got["my laptop"] != key {
			t.Errorf("got the keys %v", got)
		}
		form.post("/1.0/users/keys", url.Values{"name": {"my laptop"}, "key": {other}, "force": {"true"}}.Encode()).want(201)
		if got := named("/1.0"); len(got) != 1 || got["my laptop"] != other {
			t.Errorf("got the keys %v after one was replaced", got)
		}
		b.as(b.bob).post("/users/keys", fmt.Sprintf(`{"key":%q,"name":"mine"}`, key)).want(200) // free again
		form.post("/1.0/users/keys", url.Values{"name": {"my laptop"}, "key": {key}, "force": {"true"}}.Encode()).want(409)
		if got := named(""); got["my laptop"] != other {
			t.Errorf("got the keys %v after a replacement that is another's", got)
		}
		b.as(b.bob).delete("/1.0/users/keys/my%20laptop").want(404)
		me.delete("/1.0/users/keys/my%20laptop").want(200)
		me.delete("/1.0/users/keys/my%20laptop").want(404)
		b.as(b.bob).delete("/users/keys", `{"name":"mine"}`).want(200)
		b.as(b.bob).get("/users/keys").want(200).is("{}\n")
	})
	t.Run("tokens expire after seven days", func(t *testing.T) {
		token := b.login("ann@example.test", password)
		b.now.advance(7*24*time.Hour - time.Minute)
		b.as(token).get("/teams").want(200)
		b.now.advance(2 * time.Minute)
		b.as(token).get("/teams").want(401)
	})
	for _, secret := range []string{password, reset, b.ann} {
		if strings.Contains(b.log.String(), secret) {
			t.Errorf("the log contains the secret %.4q…", secret)
		}
	}
}

func TestTeams(t *testing.T) {
	b := newBed(t)
	ann, bob := b.as(b.ann), b.as(b.bob)
	t.Run("21 a new team", func(t *testing.T) {
		ann.post("/teams", `{"name":"  green "}`).want(200).is("")
		ann.get("/teams/green").want(200).has("ann@example.test")
		bob.post("/teams", `{"name":"green"}`).want(409)
		for _, name := range []string{"a b", "1abc", "a", "", "ä-team"} {
			ann.post("/teams", fmt.Sprintf(`{"name":%q}`, name)).want(400)
		}
		ann.post("/teams", `{`).want(400)
		ann.post("/teams", `{"name":"admin"}`).want(409)
	})
	t.Run("22 the caller's teams", func(t *testing.T) {
		var got []map[string]any
		ann.get("/teams").want(200).into(&got)
		if len(got) != 2 || got[0]["name"] != "green" || got[1]["name"] != "red" {
			t.Errorf("got %v", got)
		}
		b.as(b.account("lonely@example.test", "")).get("/teams").want(200).is("[]\n")
	})
	t.Run("23 one team", func(t *testing.T) {
		ann.get("/teams/red").want(200).is(`{"name":"red","users":["ann@example.test"]}` + "\n")
		bob.get("/teams/red").want(403)
		ann.get("/teams/nope").want(404).is("Team not found\n")
	})
	t.Run("24 new members", func(t *testing.T) {
		ann.put("/teams/red/bob@example.test").want(200).is("")
		ann.put("/teams/red/bob@example.test").want(409)
		ann.put("/teams/red/ghost@example.test").want(404)
		ann.put("/teams/nope/bob@example.test").want(404)
		b.as(b.account("out@example.test", "")).put("/teams/red/out@example.test").want(403)
	})
	t.Run("25 the last member stays", func(t *testing.T) {
		bob.delete("/teams/red/ann@example.test").want(200)
		ann.get("/teams/red").want(403)
		bob.delete("/teams/red/bob@example.test").want(403)
		bob.delete("/teams/red/ann@example.test").want(404)
		bob.delete("/teams/red/ghost@example.test").want(404)
		ann.delete("/teams/red/bob@example.test").want(403)
	})
	t.Run("26 removing a team", func(t *testing.T) {
		ann.delete("/teams/red").want(404) // not a member
		ann.delete("/teams/nope").want(404)
		bob.delete("/teams/red").want(200).is("")
		bob.get("/teams/red").want(404)
	})
	t.Run("administrators are the members of their team", func(t *testing.T) {
		ann.post("/users/bob@example.test/quota", "limit=3").want(403)
		b.as(b.admin).put("/teams/admin/ann@example.test").want(200)
		ann.with("Content-Type: application/x-www-form-urlencoded").post("/users/bob@example.test/quota", "limit=3").want(200)
		b.as(b.admin).delete("/teams/admin/ann@example.test").want(200)
		ann.post("/users/bob@example.test/quota", "limit=3").want(403)
		b.as(b.admin).delete("/teams/admin").want(403)
		bob.put("/teams/admin/bob@example.test").want(403)
	})
}

func TestQuotaOfUsers(t *testing.T) {
	b := newBed(t)
	form := b.as(b.admin).with("Content-Type: application/x-www-form-urlencoded")
	t.Run("88 the document's view", func(t *testing.T) {
		b.as(b.ann).get("/quota/ann@example.test").want(200).is(`{"available":-1,"items":0}` + "\n")
		form.post("/users/ann@example.test/quota", "limit=3").want(200).is("")
		b.as(b.ann).get("/quota/ann@example.test").want(200).is(`{"available":3,"items":0}` + "\n")
		b.as(b.admin).get("/quota/ghost@example.test").want(404).is("Quota not found\n")
		b.as(b.ann).get("/quota/ghost@example.test").want(404)
		b.as(b.ann).get("/quota/bob@example.test").want(403)
	})
	t.Run("the administrators' view", func(t *testing.T) {
		var got struct{ Limit, InUse int }
		b.as(b.admin).get("/users/ann@example.test/quota").want(200).into(&got)
		if got.Limit != 3 || got.InUse != 0 {
			t.Errorf("got %+v", got)
		}
		b.as(b.ann).get("/users/ann@example.test/quota").want(403)
		b.as(b.ann).get("/1.0/users/ann@example.test/quota").want(200) // the modern client asks about itself
		form.post("/users/ghost@example.test/quota", "limit=3").want(404)
		form.post("/users/ann@example.test/quota", "limit=x").want(400).is("Invalid limit\n")
		form.post("/users/ann@example.test/quota", "limit=-7").want(200)
		b.as(b.admin).get("/users/ann@example.test/quota").want(200).has(`"Limit":-1`)
	})
}

func TestAnswers(t *testing.T) {
	b := newBed(t)
	t.Run("92 versions of clients", func(t *testing.T) {
		for _, a := range []answer{b.as("").get("/healthcheck/"), b.as("").get("/teams"), b.as(b.ann).get("/teams/nope"), b.as(b.ann).get("/teams")} {
			for name, want := range map[string]string{"Supported-Tsuru": "0.12.0", "Supported-Crane": "0.5.1", "Supported-Tsuru-Admin": "0.6.0"} {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s: got %s %q, want %q", a.asked, name, got, want)
				}
			}
		}
	})
	t.Run("93 unknown paths and wrong methods", func(t *testing.T) {
		for _, asked := range []string{"GET /", "GET /nope", "PATCH /teams", "POST /teams/red", "GET /users", "DELETE /healthcheck", "GET /1.0/nope", "OPTIONS /teams"} {
			method, path, _ := strings.Cut(asked, " ")
			b.as(b.ann).do(method, path).want(404).is("404 page not found\n")
		}
	})
	t.Run("93 names of what an app and a service have are no teams", func(t *testing.T) {
		b.as(b.ann).create("shop").post("/teams", `{"name":"log"}`).want(200)
		b.as(b.ann).put("/apps/shop/teams/log").want(200)
		for _, path := range []string{"/apps/shop/log", "/apps/shop/run", "/services/postgresql/doc", "/services/instances", "/services/proxy", "/1.0/apps/shop/log"} {
			for _, who := range []string{b.ann, ""} {
				b.as(who).delete(path).want(404).is("404 page not found\n")
			}
		}
		if got := b.as(b.ann).info("shop").Teams; len(got) != 2 {
			t.Errorf("got the teams %v, want log to be among them still", got)
		}
	})
	t.Run("94 errors are text", func(t *testing.T) {
		for _, a := range []answer{b.as(b.ann).with("Accept: application/json").get("/teams/nope").want(404), b.as("").get("/nope"),
			b.as(b.ann).post("/teams", `{`).want(400), b.as(b.ann).post("/teams", strings.Repeat("x", 2<<20)).want(413)} {
			if kind := a.header.Get("Content-Type"); kind != "text/plain; charset=utf-8" || !strings.HasSuffix(a.body, "\n") || strings.Contains(a.body, "<") || strings.HasPrefix(a.body, "{") {
				t.Errorf("%s: got %q of the type %q", a.asked, a.body, kind)
			}
		}
	})
	t.Run("slashes at the end and versions in front", func(t *testing.T) {
		b.as(b.ann).get("/teams/").want(200)
		b.as(b.ann).get("/1.0/teams").want(200).has(`"permissions"`)
		b.as(b.ann).get("/1.13/teams/red").want(200).has(`"Email":"ann@example.test"`)
		b.as("").get("/healthcheck").want(200).is("WORKING")
		b.as("").get("/1.18/auth/schemes").want(200).has(`"default":true`)
		b.as("").get("/auth/scheme").want(200).is(`{"data":null,"name":"native"}` + "\n")
		b.as("").with("Content-Type: application/x-www-form-urlencoded").post("/1.0/users/ann@example.test/tokens", "password="+password).want(200).has("token")
		b.as(b.ann).get("/1.0/users/info").want(200).has(`"Email":"ann@example.test"`)
		b.as(b.ann).get("/schema/app").want(200).has("$schema")
		b.as(b.ann).get("/schema/nope").want(404)
	})
}

func TestTwoAtOnceCannotBothBeTheLast(t *testing.T) {
	b := newBed(t)
	b.as(b.ann).put("/teams/red/bob@example.test").want(200)
	var wg sync.WaitGroup
	var removed atomic.Int64
	for _, who := range []string{"ann", "bob"} {
		wg.Go(func() {
			if b.as(b.ann).delete("/teams/red/"+who+"@example.test").code == 200 {
				removed.Add(1)
			}
		})
	}
	wg.Wait()
	if removed.Load() != 1 {
		t.Errorf("got %d members removed of two, want one to stay", removed.Load())
	}
}
