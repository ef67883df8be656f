package storetest

import (
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func testCredit(t *testing.T, s *suite) {
	a := account(t, s, "a@example.org")
	credit := func() int64 {
		return get(t, s, func(r core.Reader) (core.Account, error) { return r.Account(a.ID) }).Credit
	}
	take := func(n int) (ok bool) {
		s.update(t, func(tx core.Tx) (err error) { ok, err = tx.TakeCredit(a.ID, n); return err })
		return ok
	}
	s.update(t, func(tx core.Tx) error { return tx.GiveCredit(a.ID, 5) })
	same(t, "credit", credit(), a.Credit+5)
	had := credit()
	if take(int(had)+1) || credit() != had {
		t.Error("more was taken than there is")
	}
	// An account that was read before keeps its hands off the credit.
	if !take(2) {
		t.Error("credit that is there was not taken")
	}
	a.Affiliation = "VU"
	s.update(t, func(tx core.Tx) error { return tx.PutAccount(&a) })
	same(t, "credit", credit(), had-2)
}

func testUsernames(t *testing.T, s *suite) {
	a := account(t, s, "a@example.org")
	a.Username, a.FirstName, a.LastName, a.Affiliation, a.UUID, a.OpenID = "Ann", "A", "N", "VU", "u-1", "o-1"
	s.update(t, func(tx core.Tx) error { return tx.PutAccount(&a) })
	same(t, "by user name", get(t, s, func(r core.Reader) (core.Account, error) { return r.AccountByUsername("Ann") }), a)
	s.view(t, func(r core.Reader) error {
		if _, err := r.AccountByUsername("ann"); core.KindOf(err) != core.NotFound {
			t.Errorf("another case: got %v, want not found", err)
		}
		return nil
	})
	b := account(t, s, "b@example.org")
	b.Username = "Ann"
	wantKind(t, s.Update(t.Context(), func(tx core.Tx) error { return tx.PutAccount(&b) }), core.Exists, core.ObjAccount)
}

func testManagedServices(t *testing.T, s *suite) {
	owner, other := account(t, s, "a@example.org"), account(t, s, "b@example.org")
	group := core.Application{AccountID: owner.ID, Name: "first", CreatedAt: at(1)}
	s.update(t, func(tx core.Tx) error { return tx.PutApplication(&group) })
	wantKind(t, s.Update(t.Context(), func(tx core.Tx) error {
		return tx.PutApplication(&core.Application{AccountID: owner.ID, Name: "first"})
	}), core.Exists, core.ObjApplication)
	same(t, "applications", get(t, s, func(r core.Reader) ([]core.Application, error) { return r.Applications(owner.ID) }), []core.Application{group})

	a := app(t, s, owner.ID, "shop")
	theirs := app(t, s, other.ID, "theirs")
	n := put(t, s, core.Node{AccountID: owner.ID, AppID: a.ID, Cloud: "c", Key: "k", Name: "n"}, core.Tx.PutNode)
	service := core.ManagedService{AppID: a.ID, Application: group.Num, Type: "php", Label: "New php service", State: core.ServiceInit,
		Address: "10.0.0.9", Version: 3, Release: 2, Settings: map[string]string{"phpconf.memory_limit": "64M"}}
	event := core.ServiceEvent{At: at(5), State: core.ServiceInit, Reason: "why"}
	code := core.CodeVersion{AppID: a.ID, Filename: "x.tar.gz", Description: "d", CreatedAt: at(6), File: "aa", SizeBytes: 7}
	inside := core.CodeVersion{AppID: a.ID, Filename: "y.tar.gz", CreatedAt: at(7), Archive: []byte("archive")}
	lease := core.Lease{NodeID: n.ID, AppID: a.ID, PaidUntil: time.Hour}
	s.update(t, func(tx core.Tx) error {
		for _, err := range []error{tx.PutManagedService(service), tx.AddServiceEvent(a.ID, event), tx.PutCodeVersion(&code), tx.PutCodeVersion(&inside), tx.PutLease(lease)} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	same(t, "service", get(t, s, func(r core.Reader) (core.ManagedService, error) { return r.ManagedService(a.ID) }), service)
	same(t, "services", get(t, s, func(r core.Reader) ([]core.ManagedService, error) { return r.ManagedServices("") }), []core.ManagedService{service})
	same(t, "services of others", get(t, s, func(r core.Reader) ([]core.ManagedService, error) { return r.ManagedServices(other.ID) }), nil)
	same(t, "events", get(t, s, func(r core.Reader) ([]core.ServiceEvent, error) { return r.ServiceEvents(a.ID) }), []core.ServiceEvent{event})
	same(t, "code", get(t, s, func(r core.Reader) (core.CodeVersion, error) { return r.CodeVersion(a.ID, code.Num) }), code)
	same(t, "code inside", get(t, s, func(r core.Reader) (core.CodeVersion, error) { return r.CodeVersion(a.ID, inside.Num) }), inside)
	inside.Archive = nil
	same(t, "codes", get(t, s, func(r core.Reader) ([]core.CodeVersion, error) { return r.CodeVersions(a.ID) }), []core.CodeVersion{inside, code})
	for file, want := range map[string]bool{"aa": true, "": false, "bb": false} {
		same(t, "file used", get(t, s, func(r core.Reader) (bool, error) { return r.FileUsed(file) }), want)
	}
	inside.File, inside.SizeBytes = "bb", 9
	s.update(t, func(tx core.Tx) error { return tx.PutCodeVersion(&inside) })
	same(t, "code moved out", get(t, s, func(r core.Reader) (core.CodeVersion, error) { return r.CodeVersion(a.ID, inside.Num) }), inside)
	s.view(t, func(r core.Reader) error {
		_, err := r.CodeVersion(theirs.ID, code.Num)
		wantKind(t, err, core.NotFound, core.ObjCode)
		return nil
	})
	same(t, "leases", get(t, s, func(r core.Reader) ([]core.Lease, error) { return r.Leases(a.ID) }), []core.Lease{lease})
	for until, want := range map[time.Duration][]int64{time.Hour - time.Microsecond: nil, time.Hour: {a.Num}} {
		same(t, "owing apps", get(t, s, func(r core.Reader) ([]int64, error) { return r.OwingApps(until) }), want)
	}
	s.update(t, func(tx core.Tx) error { return tx.DeleteNode(n.ID) })
	same(t, "leases without their node", get(t, s, func(r core.Reader) ([]core.Lease, error) { return r.Leases(a.ID) }), nil)
	s.update(t, func(tx core.Tx) error { return tx.DeleteApp(a.ID) })
	same(t, "services without their app", get(t, s, func(r core.Reader) ([]core.ManagedService, error) { return r.ManagedServices("") }), nil)
	same(t, "code without its app", get(t, s, func(r core.Reader) ([]core.CodeVersion, error) { return r.CodeVersions(a.ID) }), nil)
	s.update(t, func(tx core.Tx) error { return tx.DeleteApplication(group.Num) })
}

func testBillingClock(t *testing.T, s *suite) {
	want := core.BillingClock{Counted: 90 * time.Minute, Boot: "b", Uptime: 3 * time.Second, Wall: at(7)}
	s.update(t, func(tx core.Tx) error { return tx.PutBillingClock(core.BillingClock{Boot: "a"}) })
	s.update(t, func(tx core.Tx) error { return tx.PutBillingClock(want) })
	same(t, "billing clock", get(t, s, core.Reader.BillingClock), want)
}

func testCertificates(t *testing.T, s *suite) {
	a := account(t, s, "a@example.org")
	own := core.Certificate{Serial: "0a", AccountID: a.ID, Role: "user", CreatedAt: at(1), EndsAt: at(2)}
	service := core.Certificate{Serial: "0b", AccountID: a.ID, Role: "manager", Service: 7, CreatedAt: at(1), EndsAt: at(2)}
	s.update(t, func(tx core.Tx) error {
		if err := tx.AddCertificate(own); err != nil {
			return err
		}
		return tx.AddCertificate(service)
	})
	wantKind(t, s.Update(t.Context(), func(tx core.Tx) error { return tx.AddCertificate(own) }), core.Exists, core.ObjCertificate)
	s.update(t, func(tx core.Tx) error { return tx.RevokeCertificates(a.ID, 7, at(3)) })
	read := func(serial string) core.Certificate {
		return get(t, s, func(r core.Reader) (core.Certificate, error) { return r.Certificate(serial) })
	}
	service.RevokedAt = at(3)
	same(t, "the service's", read("0b"), service)
	same(t, "the account's own", read("0a"), own)
}
