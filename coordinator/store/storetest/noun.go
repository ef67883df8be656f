package storetest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

func containsText(data []byte, text string) bool { return bytes.Contains(data, []byte(text)) }

func same[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, diff)
	}
}

func testAccounts(t *testing.T, s *suite) {
	a := account(t, s, "Ann@Example.com")
	b := account(t, s, "bob@example.com")
	if a.Num == 0 || b.Num <= a.Num {
		t.Errorf("got numbers %d and %d, want them to grow", a.Num, b.Num)
	}
	same(t, "account", get(t, s, func(r core.Reader) (core.Account, error) { return r.Account(a.ID) }), a)
	same(t, "account by e-mail", get(t, s, func(r core.Reader) (core.Account, error) { return r.AccountByEmail("ANN@example.COM") }), a)

	a.Admin, a.PasswordHash = true, "other"
	s.update(t, func(tx core.Tx) error { return tx.PutAccount(&a) })
	same(t, "accounts", get(t, s, core.Reader.Accounts), []core.Account{a, b})

	c := core.Credential{Hash: [32]byte{1, 2, 31: 3}, Kind: core.CredentialToken, AccountID: a.ID, CreatedAt: at(1), ExpiresAt: at(2)}
	read := func(r core.Reader) (core.Credential, error) { return r.Credential(c.Hash) }
	s.update(t, func(tx core.Tx) error { return tx.PutCredential(c) })
	same(t, "credential", get(t, s, read), c)
	c.Revoked = true
	s.update(t, func(tx core.Tx) error { return tx.PutCredential(c) })
	same(t, "revoked credential", get(t, s, read), c)
}

func testAppLogins(t *testing.T, s *suite) {
	owner := account(t, s, "a")
	a := app(t, s, owner.ID, "shop")
	read := func(r core.Reader) (core.AppLogin, error) { return r.AppLogin(a.ID) }
	missing := func(r core.Reader) error { _, err := read(r); return err }
	wantKind(t, s.View(t.Context(), missing), core.NotFound, core.ObjApp)
	l := core.AppLogin{AppID: a.ID, PasswordHash: []byte("$6$hash"), Console: true, Keys: []string{"ssh-ed25519 AAAA a", "ssh-rsa BBBB"}}
	for range 2 {
		s.update(t, func(tx core.Tx) error { return tx.PutAppLogin(l) })
		same(t, "login", get(t, s, read), l)
		l.PasswordHash, l.Console, l.Keys = nil, false, nil
	}
	s.update(t, func(tx core.Tx) error { return tx.DeleteApp(a.ID) })
	wantKind(t, s.View(t.Context(), missing), core.NotFound, core.ObjApp)
}

func testApps(t *testing.T, s *suite) {
	owner := account(t, s, "a")
	a := app(t, s, owner.ID, "shop")
	b := app(t, s, owner.ID, "blog")
	for i := range 3 { // of both apps in turn, so that order and owner are not given by chance
		for _, x := range []*core.App{&b, &a} {
			n := put(t, s, core.Node{AccountID: owner.ID, AppID: x.ID, Cloud: "c", CloudID: "i", Key: x.Name + name(i), Name: "n",
				ImageID: "im", SizeID: "s", Roles: []core.Role{core.RoleApp, core.RoleDB}, State: core.NodeRunning, Error: "e",
				Address: "10.0.0.1", AgentKey: []byte("key of " + x.Name), CreatedAt: at(1), SeenAt: at(2)}, core.Tx.PutNode)
			r := put(t, s, core.Route{AppID: x.ID, Hostname: x.Name + name(i), State: core.RouteRunning, CreatedAt: at(3)}, core.Tx.PutRoute)
			x.Nodes, x.Routes = append(x.Nodes, n), append(x.Routes, r)
		}
	}
	for range 2 { // the second time from what the store remembers, if it does
		same(t, "app", get(t, s, func(r core.Reader) (core.App, error) { return r.App(a.ID) }), a)
		same(t, "app by number", get(t, s, func(r core.Reader) (core.App, error) { return r.AppByNum(b.Num) }), b)
		same(t, "app by name", get(t, s, func(r core.Reader) (core.App, error) { return r.AppNamed(owner.ID, "shop") }), a)
		same(t, "apps", get(t, s, func(r core.Reader) ([]core.App, error) { return r.Apps(owner.ID, 0, 0) }), []core.App{a, b})
	}
	s.update(t, func(tx core.Tx) error {
		apps, err := tx.Apps("", 0, 0)
		same(t, "apps in a transaction that writes", apps, []core.App{a, b})
		return err
	})
}

// testAppsFollow changes an app in every way and lists it after each: a store that remembers must not remember too long.
func testAppsFollow(t *testing.T, s *suite) {
	owner := account(t, s, "a")
	a := app(t, s, owner.ID, "shop")
	other := app(t, s, owner.ID, "other")
	node := core.Node{AppID: a.ID, Key: "k"}
	route := core.Route{AppID: a.ID, Hostname: "h"}
	check := func(doing string, fn func(tx core.Tx) error) {
		t.Helper()
		s.update(t, fn)
		got := get(t, s, func(r core.Reader) ([]core.App, error) { return r.Apps(owner.ID, 0, 0) })
		var want []core.App
		s.update(t, func(tx core.Tx) (err error) { // reads the tables
			want, err = tx.Apps(owner.ID, 0, 0)
			return err
		})
		same(t, "after "+doing+": the list", got, want)
	}
	check("nothing", func(core.Tx) error { return nil })
	check("a new node", func(tx core.Tx) error { return tx.PutNode(&node) })
	check("a changed node", func(tx core.Tx) error { node.State = core.NodeRunning; return tx.PutNode(&node) })
	check("a moved node", func(tx core.Tx) error { node.AppID = other.ID; return tx.PutNode(&node) })
	check("a new route", func(tx core.Tx) error { return tx.PutRoute(&route) })
	check("a changed route", func(tx core.Tx) error { route.State = core.RouteRunning; return tx.PutRoute(&route) })
	check("a moved route", func(tx core.Tx) error { route.AppID = other.ID; return tx.PutRoute(&route) })
	check("a changed app", func(tx core.Tx) error { a.State = core.AppRunning; return tx.PutApp(&a) })
	check("a deleted route", func(tx core.Tx) error { return tx.DeleteRoute(route.ID) })
	check("a deleted node", func(tx core.Tx) error { return tx.DeleteNode(node.ID) })
	check("a deleted app", func(tx core.Tx) error { return tx.DeleteApp(a.ID) })

	got := get(t, s, func(r core.Reader) ([]core.App, error) { return r.Apps(owner.ID, 0, 0) })
	got[0].Name, got[0].Nodes = "changed by the caller", append(got[0].Nodes, core.Node{})
	again := get(t, s, func(r core.Reader) ([]core.App, error) { return r.Apps(owner.ID, 0, 0) })
	same(t, "the list after a caller changed its own", again, []core.App{other})

	changed := other
	changed.Name = "never written"
	fails := core.Errorf(core.Invalid, core.ObjApp, "no")
	if err := s.Update(t.Context(), func(tx core.Tx) error {
		if err := tx.PutApp(&changed); err != nil {
			return err
		}
		if _, err := tx.Apps(owner.ID, 0, 0); err != nil {
			return err
		}
		return fails
	}); err != fails {
		t.Errorf("got error %v, want fn's own", err)
	}
	s.update(t, func(tx core.Tx) error { other.Name = "written"; return tx.PutApp(&other) })
	again = get(t, s, func(r core.Reader) ([]core.App, error) { return r.Apps(owner.ID, 0, 0) })
	same(t, "the list after a change that was taken back", again, []core.App{other})
}

func testPages(t *testing.T, s *suite) {
	a, b := account(t, s, "a"), account(t, s, "b")
	for i := range 5 {
		app(t, s, a.ID, "a"+name(i))
		app(t, s, b.ID, "b"+name(i))
	}
	for _, c := range []struct {
		account       core.AccountID
		offset, limit int
		want          []string
	}{
		{a.ID, 0, 0, []string{"a000", "a001", "a002", "a003", "a004"}},
		{a.ID, 1, 2, []string{"a001", "a002"}},
		{a.ID, 4, 2, []string{"a004"}},
		{a.ID, 5, 2, nil},
		{b.ID, 3, 0, []string{"b003", "b004"}},
		{"", 1, 3, []string{"b000", "a001", "b001"}},
	} {
		var names []string
		for _, x := range get(t, s, func(r core.Reader) ([]core.App, error) { return r.Apps(c.account, c.offset, c.limit) }) {
			names = append(names, x.Name)
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("Apps(%q, %d, %d): got %v, want %v", c.account, c.offset, c.limit, names, c.want)
		}
	}
	for owner, want := range map[core.AccountID]int{a.ID: 5, "": 10, "nobody": 0} {
		if n := get(t, s, func(r core.Reader) (int, error) { return r.CountApps(owner) }); n != want {
			t.Errorf("CountApps(%q): got %d, want %d", owner, n, want)
		}
	}
}

func testNodes(t *testing.T, s *suite) {
	owner := account(t, s, "a")
	a := app(t, s, owner.ID, "shop")
	router := put(t, s, core.Node{Cloud: "c1", Key: "k1", Roles: []core.Role{core.RoleRouter}}, core.Tx.PutNode)
	mine := put(t, s, core.Node{Cloud: "c2", Key: "k2", AccountID: owner.ID, AppID: a.ID, Roles: []core.Role{core.RoleApp, core.RoleDB}}, core.Tx.PutNode)
	bare := put(t, s, core.Node{Cloud: "c2", AccountID: owner.ID}, core.Tx.PutNode)
	for _, c := range []struct {
		filter core.NodeFilter
		want   []core.Node
	}{
		{core.NodeFilter{}, []core.Node{router, mine, bare}},
		{core.NodeFilter{Cloud: "c2"}, []core.Node{mine, bare}},
		{core.NodeFilter{AppID: a.ID}, []core.Node{mine}},
		{core.NodeFilter{Account: owner.ID}, []core.Node{mine, bare}},
		{core.NodeFilter{Role: core.RoleDB}, []core.Node{mine}},
		{core.NodeFilter{Key: "k1"}, []core.Node{router}},
		{core.NodeFilter{Cloud: "c1", Key: "k2"}, nil},
	} {
		same(t, "nodes", get(t, s, func(r core.Reader) ([]core.Node, error) { return r.Nodes(c.filter) }), c.want)
	}
	same(t, "node", get(t, s, func(r core.Reader) (core.Node, error) { return r.Node(router.ID) }), router)
}

func testParts(t *testing.T, s *suite) {
	a := app(t, s, account(t, s, "a").ID, "shop")
	r := put(t, s, core.Route{ID: "r", AppID: a.ID, Hostname: "*.example.com", State: core.RouteCreating, CreatedAt: at(1)}, core.Tx.PutRoute)
	same(t, "route", get(t, s, func(rd core.Reader) (core.Route, error) { return rd.Route("*.example.com") }), r)

	v := put(t, s, core.Volume{ID: "v", AppID: a.ID, Cloud: "c", CloudID: "i", Key: "k", SizeBytes: 5 << 40, NodeID: "n", Device: "/dev/vdb", CreatedAt: at(1)}, core.Tx.PutVolume)
	v.NodeID, v.Device = "", ""
	s.update(t, func(tx core.Tx) error { return tx.PutVolume(&v) })
	made := put(t, s, core.Volume{ID: "m", AccountID: "a", MadeBy: "n", Cloud: "c", Key: "k2"}, core.Tx.PutVolume)
	same(t, "volumes of agents", get(t, s, func(rd core.Reader) ([]core.Volume, error) { return rd.VolumesMade("c") }), []core.Volume{made})
	same(t, "volume", get(t, s, func(rd core.Reader) (core.Volume, error) { return rd.Volume("v") }), v)
	same(t, "volumes", get(t, s, func(rd core.Reader) ([]core.Volume, error) { return rd.Volumes(a.ID) }), []core.Volume{v})

	si := put(t, s, core.ServiceInstance{ID: "si", AppID: a.ID, Engine: "mysql", Database: "d", User: "u", Password: []byte("p"), CreatedAt: at(1)}, core.Tx.PutServiceInstance)
	si.Password = []byte("q")
	s.update(t, func(tx core.Tx) error { return tx.PutServiceInstance(&si) })
	same(t, "service instances", get(t, s, func(rd core.Reader) ([]core.ServiceInstance, error) { return rd.ServiceInstances(a.ID) }), []core.ServiceInstance{si})

	s.update(t, func(tx core.Tx) error {
		for _, err := range []error{tx.DeleteApp(a.ID), tx.DeleteRoute("r"), tx.DeleteVolume("v"), tx.DeleteServiceInstance("si")} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	if n := get(t, s, func(rd core.Reader) (int, error) { return rd.CountApps("") }); n != 0 {
		t.Errorf("got %d apps after deleting the only one", n)
	}
	err := s.Update(t.Context(), func(tx core.Tx) error { return tx.PutRoute(&core.Route{AppID: a.ID, Hostname: "h"}) })
	if core.KindOf(err) != core.Internal {
		t.Errorf("route of an app that is gone: got error %v, want an internal one", err)
	}
}

func testEnrollments(t *testing.T, s *suite) {
	e := core.Enrollment{Hash: [32]byte{7, 31: 9}, Cloud: "static", Name: "web-1", AccountID: "acc", CreatedAt: at(1), ExpiresAt: at(3)}
	s.update(t, func(tx core.Tx) error { return tx.PutEnrollment(e) })
	read := func(hash [32]byte) func(core.Reader) (core.Enrollment, error) {
		return func(r core.Reader) (core.Enrollment, error) { return r.Enrollment(hash) }
	}
	same(t, "enrolment token", get(t, s, read(e.Hash)), e)
	later := core.Enrollment{Hash: [32]byte{8}, Cloud: "static", Name: "web-2", CreatedAt: at(4), ExpiresAt: at(5)}
	s.update(t, func(tx core.Tx) error { return tx.PutEnrollment(later) })
	gone := func(what string, hash [32]byte) {
		t.Helper()
		err := s.View(t.Context(), func(r core.Reader) error { _, err := r.Enrollment(hash); return err })
		if core.KindOf(err) != core.NotFound || err == nil {
			t.Errorf("%s: got %v, want not found", what, err)
		}
	}
	gone("an expired token, once another was made", e.Hash)
	s.update(t, func(tx core.Tx) error { return tx.DeleteEnrollment(later.Hash) })
	gone("a deleted token", later.Hash)
}

func testAllocations(t *testing.T, s *suite) {
	a := put(t, s, core.Allocation{Cloud: "fake", Hostname: "h1", NodeID: "1"}, core.Tx.PutAllocation)
	b := put(t, s, core.Allocation{Cloud: "fake", Hostname: "h2", NodeID: "2", User: "u", VMType: "lamp", State: core.AllocationAssigned,
		Login: "l", PublicKey: "ssh-ed25519 AAAA", Services: []string{"apache", "mysql"}}, core.Tx.PutAllocation)
	put(t, s, core.Allocation{Cloud: "other", Hostname: "h1", NodeID: "1"}, core.Tx.PutAllocation)
	a.User = "taken"
	s.update(t, func(tx core.Tx) error { return tx.PutAllocation(&a) })
	read := func(r core.Reader) ([]core.Allocation, error) { return r.Allocations("fake") }
	same(t, "allocations", get(t, s, read), []core.Allocation{a, b})

	again := put(t, s, core.Allocation{Cloud: "fake", Hostname: "h3", NodeID: "1"}, core.Tx.PutAllocation)
	if again.Num <= b.Num {
		t.Errorf("registered again: got number %d, want one above %d", again.Num, b.Num)
	}
	same(t, "allocations after the id was given out again", get(t, s, read), []core.Allocation{b, again})
	s.update(t, func(tx core.Tx) error { return tx.DeleteAllocation(b.Num) })
	same(t, "allocations after one was deleted", get(t, s, read), []core.Allocation{again})
}

func testExists(t *testing.T, s *suite) {
	a, b := account(t, s, "a"), account(t, s, "b")
	shop := app(t, s, a.ID, "shop")
	blog := app(t, s, a.ID, "blog")
	app(t, s, b.ID, "blog2")
	put(t, s, core.Route{AppID: shop.ID, Hostname: "h"}, core.Tx.PutRoute)
	put(t, s, core.Node{Key: "k"}, core.Tx.PutNode)
	put(t, s, core.Volume{AppID: shop.ID, Key: "k"}, core.Tx.PutVolume)
	for _, c := range []struct {
		what   string
		object core.Object
		fn     func(core.Tx) error
	}{
		{"e-mail in other case", core.ObjAccount, func(tx core.Tx) error { return tx.PutAccount(&core.Account{Handle: "new", Email: "A"}) }},
		{"handle", core.ObjAccount, func(tx core.Tx) error { return tx.PutAccount(&core.Account{Handle: a.Handle, Email: "new"}) }},
		{"app name", core.ObjApp, func(tx core.Tx) error { return tx.PutApp(&core.App{AccountID: a.ID, Name: "shop"}) }},
		{"app name by change", core.ObjApp, func(tx core.Tx) error { blog.Name = "shop"; return tx.PutApp(&blog) }},
		{"hostname", core.ObjRoute, func(tx core.Tx) error { return tx.PutRoute(&core.Route{AppID: blog.ID, Hostname: "h"}) }},
		{"node key", core.ObjNode, func(tx core.Tx) error { return tx.PutNode(&core.Node{Key: "k"}) }},
		{"volume key", core.ObjVolume, func(tx core.Tx) error { return tx.PutVolume(&core.Volume{AppID: blog.ID, Key: "k"}) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			wantKind(t, s.Update(t.Context(), c.fn), core.Exists, c.object)
		})
	}
	s.update(t, func(tx core.Tx) error { return tx.PutApp(&core.App{AccountID: b.ID, Name: "shop"}) }) // another account's
}

func testNotFound(t *testing.T, s *suite) {
	for what, c := range map[string]struct {
		object core.Object
		fn     func(core.Reader) error
	}{
		"account":    {core.ObjAccount, func(r core.Reader) error { _, err := r.Account("x"); return err }},
		"e-mail":     {core.ObjAccount, func(r core.Reader) error { _, err := r.AccountByEmail("x"); return err }},
		"credential": {core.ObjAccount, func(r core.Reader) error { _, err := r.Credential([32]byte{}); return err }},
		"app":        {core.ObjApp, func(r core.Reader) error { _, err := r.App("x"); return err }},
		"number":     {core.ObjApp, func(r core.Reader) error { _, err := r.AppByNum(7); return err }},
		"name":       {core.ObjApp, func(r core.Reader) error { _, err := r.AppNamed("x", "y"); return err }},
		"node":       {core.ObjNode, func(r core.Reader) error { _, err := r.Node("x"); return err }},
		"route":      {core.ObjRoute, func(r core.Reader) error { _, err := r.Route("x"); return err }},
		"volume":     {core.ObjVolume, func(r core.Reader) error { _, err := r.Volume("x"); return err }},
		"operation":  {core.ObjOperation, func(r core.Reader) error { _, err := r.Operation(7); return err }},
	} {
		t.Run(what, func(t *testing.T) { wantKind(t, s.View(t.Context(), c.fn), core.NotFound, c.object) })
	}
	_, err := s.Group(t.Context(), "x")
	wantKind(t, err, core.NotFound, core.ObjOperation)
	err = s.Update(t.Context(), func(tx core.Tx) error { return tx.PutNode(&core.Node{ID: "x", Num: 7}) })
	wantKind(t, err, core.NotFound, core.ObjNode) // deleted meanwhile: it does not come back
}

func testDeleteTwice(t *testing.T, s *suite) {
	s.update(t, func(tx core.Tx) error {
		for what, err := range map[string]error{"app": tx.DeleteApp("x"), "node": tx.DeleteNode("x"), "route": tx.DeleteRoute("x"),
			"volume": tx.DeleteVolume("x"), "service instance": tx.DeleteServiceInstance("x"), "allocation": tx.DeleteAllocation(7)} {
			if err != nil {
				t.Errorf("delete a missing %s: got %v, want success", what, err)
			}
		}
		return nil
	})
}

func testNumbers(t *testing.T, s *suite) {
	owner := account(t, s, "a")
	last := int64(0)
	for i := range 3 {
		a := app(t, s, owner.ID, name(i))
		if a.Num <= last {
			t.Errorf("got number %d after %d was given out and deleted", a.Num, last)
		}
		last = a.Num
		s.update(t, func(tx core.Tx) error { return tx.DeleteApp(a.ID) })
		s.reopen(t)
	}
	g := put(t, s, operation.Group{Operations: []operation.Record{{Kind: "k"}, {Kind: "l"}}}, core.Tx.Enqueue)
	if g.Operations[1].Num <= g.Operations[0].Num {
		t.Errorf("got operation numbers %d, %d, want them in the order of the group", g.Operations[0].Num, g.Operations[1].Num)
	}
}
