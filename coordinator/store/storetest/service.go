package storetest

import (
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func testOffers(t *testing.T, s *suite) {
	ann := account(t, s, "ann")
	for _, name := range []string{"blue", "red"} {
		put(t, s, core.Team{Name: name, Members: []core.AccountID{ann.ID}, CreatedAt: at(1)}, core.Tx.PutTeam)
	}
	mail := put(t, s, core.Offer{Name: "mail", Endpoint: "http://m", Endpoints: map[string]string{"production": "http://m"}, Password: []byte("pr0v1der"),
		Doc: []byte("a\x00b"), Restricted: true, Owners: []string{"red"}, Granted: []string{"blue", "red"}, CreatedAt: at(1)}, core.Tx.PutOffer)
	queue := put(t, s, core.Offer{Name: "queue", Endpoint: "q", Endpoints: map[string]string{"production": "q"}, Owners: []string{"red"}, CreatedAt: at(2)}, core.Tx.PutOffer)
	read := func(r core.Reader) (core.Offer, error) { return r.Offer("mail") }
	same(t, "service", get(t, s, read), mail)
	same(t, "services", get(t, s, core.Reader.Offers), []core.Offer{mail, queue})
	mail.Granted, mail.Endpoint = nil, "http://n"
	s.update(t, func(tx core.Tx) error { return tx.PutOffer(&mail) })
	same(t, "changed service", get(t, s, read), mail)

	i := put(t, s, core.ServiceInstance{ID: "si", Name: "inst", Service: "mail", Plan: "big", TeamOwner: "red", AccountID: ann.ID, Teams: []string{"blue", "red"},
		NodeID: "n", State: core.InstancePending, Error: "e", Database: "d", Password: []byte("1nstance"), CreatedAt: at(3)}, core.Tx.PutServiceInstance)
	same(t, "instance by name", get(t, s, func(r core.Reader) (core.ServiceInstance, error) { return r.Instance("inst") }), i)
	same(t, "instance by id", get(t, s, func(r core.Reader) (core.ServiceInstance, error) { return r.InstanceByID("si") }), i)
	same(t, "instances", get(t, s, func(r core.Reader) ([]core.ServiceInstance, error) { return r.InstancesOf("mail") }), []core.ServiceInstance{i})
	same(t, "instances of another", get(t, s, func(r core.Reader) ([]core.ServiceInstance, error) { return r.InstancesOf("queue") }), nil)
	wantKind(t, s.Update(t.Context(), func(tx core.Tx) error {
		return tx.PutServiceInstance(&core.ServiceInstance{ID: "other", Name: "inst", Service: "queue"})
	}), core.Exists, core.ObjInstance)

	shop := app(t, s, ann.ID, "shop")
	b := put(t, s, core.Binding{ID: "b", InstanceID: "si", AppID: shop.ID, State: core.BindingBinding, User: "u", Password: []byte("b1nding"),
		Whole: true, Units: map[string]string{"unit": "10.0.0.1"}, CreatedAt: at(4)}, core.Tx.PutBinding)
	b.State = core.BindingBound
	s.update(t, func(tx core.Tx) error { return tx.PutBinding(&b) })
	same(t, "bindings of an app", get(t, s, func(r core.Reader) ([]core.Binding, error) { return r.Bindings(shop.ID) }), []core.Binding{b})
	same(t, "bindings of an instance", get(t, s, func(r core.Reader) ([]core.Binding, error) { return r.BindingsOf("si") }), []core.Binding{b})
	err := s.Update(t.Context(), func(tx core.Tx) error { return tx.DeleteServiceInstance("si") })
	if core.KindOf(err) != core.Internal {
		t.Errorf("an instance that an app is bound to: got error %v, want an internal one", err)
	}
	s.update(t, func(tx core.Tx) error {
		for _, err := range []error{tx.DeleteBinding("b"), tx.DeleteServiceInstance("si"), tx.DeleteOffer("mail"), tx.DeleteTeam("blue")} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	same(t, "services after one was deleted", get(t, s, core.Reader.Offers), []core.Offer{queue})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"pr0v1der", "1nstance", "b1nding"} {
		if file := fileWith(t, s.dir, secret); file != "" {
			t.Errorf("the secret %q can be read in %s", secret, file)
		}
	}
	s.Store = s.open(t, s.dir)
}
