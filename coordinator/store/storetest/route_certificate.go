package storetest

import (
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func testRouteCertificates(t *testing.T, s *suite) {
	account := put(t, s, core.Account{Email: "certificates@example.test", Handle: "certificates"}, core.Tx.PutAccount)
	app := put(t, s, core.App{ID: "app-c", AccountID: account.ID, Name: "c"}, core.Tx.PutApp)
	route := put(t, s, core.Route{ID: "rt-c", AppID: app.ID, Hostname: "c.test", State: core.RouteRunning, Certificate: "route-1"}, core.Tx.PutRoute)
	same(t, "route", get(t, s, func(r core.Reader) (core.Route, error) { return r.Route("c.test") }), route)
	certificate := func(id string) core.RouteCertificate {
		return core.RouteCertificate{ID: id, Names: []string{"c.test", "*.d.test"}, Chain: []byte("chain"), Key: []byte("c3rtk3y of " + id), StartsAt: midnight,
			EndsAt: midnight.Add(time.Hour), CreatedAt: midnight}
	}
	issued, uploaded, twin := certificate("route-1"), certificate("route-2"), certificate("route-2")
	issued.RouteID, uploaded.AccountID, twin.AccountID = route.ID, account.ID, "somebody else"
	for _, c := range []*core.RouteCertificate{&issued, &uploaded, &twin} {
		*c = put(t, s, *c, core.Tx.PutRouteCertificate)
	}
	uploaded.Deleting = true
	uploaded = put(t, s, uploaded, core.Tx.PutRouteCertificate)
	same(t, "issued", get(t, s, func(r core.Reader) (core.RouteCertificate, error) { return r.IssuedCertificate(route.ID) }), issued)
	same(t, "uploaded", get(t, s, func(r core.Reader) (core.RouteCertificate, error) { return r.RouteCertificate(uploaded.Num) }), uploaded)
	same(t, "by id", get(t, s, func(r core.Reader) ([]core.RouteCertificate, error) { return r.RouteCertificatesWithID("route-2") }), []core.RouteCertificate{uploaded, twin})
	listed := uploaded
	listed.Key = nil
	same(t, "an account's", get(t, s, func(r core.Reader) ([]core.RouteCertificate, error) { return r.RouteCertificates(account.ID) }), []core.RouteCertificate{listed})
	same(t, "nobody's", get(t, s, func(r core.Reader) ([]core.RouteCertificate, error) { return r.RouteCertificates("") }), nil)
	again := certificate("route-2")
	again.AccountID = account.ID
	wantKind(t, s.Update(t.Context(), func(tx core.Tx) error { return tx.PutRouteCertificate(&again) }), core.Exists, core.ObjCertificate)
	if file := fileWith(t, s.dir, "c3rtk3y"); file != "" {
		t.Errorf("a key can be read in %s", file)
	}
	s.update(t, func(tx core.Tx) error { return tx.DeleteRoute(route.ID) })
	wantKind(t, s.View(t.Context(), func(r core.Reader) error { _, err := r.IssuedCertificate(route.ID); return err }), core.NotFound, core.ObjCertificate)
	for range 2 {
		s.update(t, func(tx core.Tx) error { return tx.DeleteRouteCertificate(uploaded.Num) })
	}
	wantKind(t, s.View(t.Context(), func(r core.Reader) error { _, err := r.RouteCertificate(uploaded.Num); return err }), core.NotFound, core.ObjCertificate)
}
