package storetest

import (
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func testTeams(t *testing.T, s *suite) {
	ann, bob := account(t, s, "ann"), account(t, s, "bob")
	red := put(t, s, core.Team{Name: "red", Members: []core.AccountID{ann.ID, bob.ID}, CreatedAt: at(1)}, core.Tx.PutTeam)
	blue := put(t, s, core.Team{Name: "blue", Members: []core.AccountID{bob.ID}, CreatedAt: at(2)}, core.Tx.PutTeam)
	same(t, "teams", get(t, s, func(r core.Reader) ([]core.Team, error) { return r.Teams("") }), []core.Team{blue, red})
	same(t, "teams of an account", get(t, s, func(r core.Reader) ([]core.Team, error) { return r.Teams(ann.ID) }), []core.Team{red})
	red.Members = []core.AccountID{bob.ID}
	s.update(t, func(tx core.Tx) error { return tx.PutTeam(&red) })
	same(t, "team after a member left", get(t, s, func(r core.Reader) (core.Team, error) { return r.Team("red") }), red)
	err := s.View(t.Context(), func(r core.Reader) error { _, err := r.Team("green"); return err })
	wantKind(t, err, core.NotFound, core.ObjTeam)

	shop, blog := app(t, s, ann.ID, "shop"), app(t, s, ann.ID, "blog")
	usable := func(who core.AccountID) []core.App {
		return get(t, s, func(r core.Reader) ([]core.App, error) { return r.UsableApps(who) })
	}
	same(t, "apps that no team shares are their owner's", usable(ann.ID), []core.App{shop, blog})
	same(t, "and nobody else's", usable(bob.ID), nil)
	s.update(t, func(tx core.Tx) error {
		if err := tx.PutAppTeam(shop.ID, "red", false); err != nil {
			return err
		}
		return tx.PutAppTeam(shop.ID, "blue", true)
	})
	shop.Teams, shop.TeamOwner = []string{"blue", "red"}, "blue"
	same(t, "what bob's teams share", usable(bob.ID), []core.App{shop})
	same(t, "what the one who made it is in no team of", usable(ann.ID), []core.App{blog})
	same(t, "apps of a team", get(t, s, func(r core.Reader) ([]core.App, error) { return r.TeamApps("red") }), []core.App{shop})
	s.update(t, func(tx core.Tx) error { return tx.DeleteAppTeam(shop.ID, "red") })
	shop.Teams = []string{"blue"}
	same(t, "app after a team left", get(t, s, func(r core.Reader) (core.App, error) { return r.App(shop.ID) }), shop)
	s.update(t, func(tx core.Tx) error { return tx.DeleteApp(shop.ID) })
	s.update(t, func(tx core.Tx) error { return tx.DeleteTeam("blue") }) // nothing refers to it any more
	same(t, "teams after one was deleted", get(t, s, func(r core.Reader) ([]core.Team, error) { return r.Teams("") }), []core.Team{red})
}

func testKeys(t *testing.T, s *suite) {
	ann, bob := account(t, s, "ann"), account(t, s, "bob")
	first := put(t, s, core.SSHKey{AccountID: ann.ID, Name: "a", Key: "ssh-ed25519 AAAA a", Fingerprint: "f1", CreatedAt: at(1)}, core.Tx.PutSSHKey)
	second := put(t, s, core.SSHKey{AccountID: ann.ID, Name: "b", Key: "k", Fingerprint: "f2", CreatedAt: at(2)}, core.Tx.PutSSHKey)
	same(t, "keys", get(t, s, func(r core.Reader) ([]core.SSHKey, error) { return r.SSHKeys(ann.ID) }), []core.SSHKey{first, second})
	same(t, "key", get(t, s, func(r core.Reader) (core.SSHKey, error) { return r.SSHKeyByFingerprint("f2") }), second)
	wantKind(t, s.Update(t.Context(), func(tx core.Tx) error {
		return tx.PutSSHKey(&core.SSHKey{AccountID: bob.ID, Name: "c", Fingerprint: "f1"})
	}), core.Exists, core.ObjKey)
	s.update(t, func(tx core.Tx) error { return tx.DeleteSSHKey(first.Num) })
	same(t, "keys after one was deleted", get(t, s, func(r core.Reader) ([]core.SSHKey, error) { return r.SSHKeys(ann.ID) }), []core.SSHKey{second})
}

func testLimits(t *testing.T, s *suite) {
	owner := account(t, s, "a")
	a := app(t, s, owner.ID, "shop")
	limit := func(subject string) (most int, own bool) {
		s.view(t, func(r core.Reader) (err error) { most, own, err = r.Limit(subject); return err })
		return most, own
	}
	if most, own := limit(string(a.ID)); own {
		t.Errorf("got the limit %d of an app that has none", most)
	}
	for _, want := range []int{3, core.Unlimited} {
		s.update(t, func(tx core.Tx) error { return tx.PutLimit(string(a.ID), want) })
		if most, own := limit(string(a.ID)); !own || most != want {
			t.Errorf("got %d, %t, want %d", most, own, want)
		}
	}
	c := core.Credential{Hash: [32]byte{1}, Kind: core.CredentialApp, AccountID: owner.ID, AppID: a.ID, CreatedAt: at(1)}
	other := core.Credential{Hash: [32]byte{2}, Kind: core.CredentialToken, AccountID: owner.ID, CreatedAt: at(2)}
	s.update(t, func(tx core.Tx) error {
		if err := tx.PutCredential(c); err != nil {
			return err
		}
		return tx.PutCredential(other)
	})
	all := func(r core.Reader) ([]core.Credential, error) { return r.Credentials(owner.ID) }
	same(t, "credentials", get(t, s, all), []core.Credential{c, other})
	s.update(t, func(tx core.Tx) error { return tx.DeleteApp(a.ID) })
	if most, own := limit(string(a.ID)); own {
		t.Errorf("got the limit %d of an app that is gone", most)
	}
	same(t, "credentials after the app is gone", get(t, s, all), []core.Credential{other})
	s.update(t, func(tx core.Tx) error { return tx.DeleteCredential(other.Hash) })
	same(t, "credentials after the last was deleted", get(t, s, all), nil)
}
