package core_test

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// publicKey is an OpenSSH public key of this seed. Nobody has the private one.
func publicKey(seed byte) string {
	blob := binary.BigEndian.AppendUint32(nil, 11)
	blob = append(blob, "ssh-ed25519"...)
	blob = binary.BigEndian.AppendUint32(blob, 32)
	for range 32 {
		blob = append(blob, seed)
	}
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(blob)
}

func TestKeysLetOntoANode(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	add := func(name string, seed byte) core.SSHKey {
		k, err := b.AddSSHKey(t.Context(), b.alice, name, publicKey(seed))
		b.must(err)
		return k
	}
	one, two := add("one", 1), add("two", 2)
	s := spec()
	s.Password, s.KeyNums, s.Keys = "", []int64{one.Num}, []string{publicKey(3) + " ann@example"}
	app := b.running(s)
	keysOf := func() []string {
		b.world.mu.Lock()
		defer b.world.mu.Unlock()
		h := b.world.hosts[app.Nodes[0].Address]
		if h.login.Login != nil {
			return h.login.Login.Keys
		}
		for _, a := range h.apps {
			if a.Login.PasswordHash != "" {
				t.Error("a password was made up")
			}
			return a.Login.Keys
		}
		return nil
	}
	if got := keysOf(); !slices.Equal(got, []string{publicKey(1), publicKey(3) + " ann@example"}) {
		t.Errorf("got the keys %q", got)
	}
	b.wantStatuses(b.update(app, core.AppUpdate{Keys: &[]int64{one.Num, two.Num}}), "completed")
	if got := keysOf(); !slices.Equal(got, []string{publicKey(1), publicKey(2)}) {
		t.Errorf("got the keys %q, want those of the account", got)
	}
	b.wantStatuses(b.update(app, core.AppUpdate{NewKeys: []string{publicKey(4)}}), "completed")
	if got := keysOf(); len(got) != 3 {
		t.Errorf("got the keys %q, want one more", got)
	}
	t.Run("a deleted key lets nobody in any more", func(t *testing.T) {
		b := b.in(t)
		b.world.always("SetLogin", temporary)
		op, err := b.DeleteSSHKey(t.Context(), b.alice, one.Num)
		b.must(err)
		_, err = b.DeleteSSHKey(t.Context(), b.alice, one.Num)
		b.wantKind(err, core.Busy)
		b.wantKind(b.CancelOperation(t.Context(), b.alice, op.Num), core.Busy)
		b.world.always("SetLogin", nil)
		b.wantStatuses(b.ends(op), "completed")
		if got := keysOf(); !slices.Equal(got, []string{publicKey(2), publicKey(4)}) {
			t.Errorf("got the keys %q", got)
		}
		if keys, err := b.AccountSSHKeys(t.Context(), b.alice); err != nil || len(keys) != 1 {
			t.Errorf("got %v, %v, want one key left", keys, err)
		}
		_, err = b.DeleteSSHKey(t.Context(), b.alice, one.Num)
		b.wantKind(err, core.NotFound)
		_, err = b.DeleteSSHKey(t.Context(), b.bob, two.Num)
		b.wantKind(err, core.NotFound)
	})
	t.Run("what is refused", func(t *testing.T) {
		b := b.in(t)
		for _, u := range []core.AppUpdate{{Keys: &[]int64{one.Num}}, {NewKeys: []string{"no key"}}, {NewKeys: []string{publicKey(5) + "\n" + publicKey(6)}}} {
			_, err := b.UpdateApp(t.Context(), b.alice, app.Num, u)
			b.wantKind(err, core.Invalid)
		}
		s := spec()
		s.Name, s.Routes, s.Password = "none", nil, ""
		_, _, err := b.CreateApp(t.Context(), b.alice, s)
		b.wantKind(err, core.Invalid)
		s.KeyNums = []int64{two.Num}
		_, _, err = b.CreateApp(t.Context(), b.bob, s) // another account's key
		b.wantKind(err, core.Invalid)
	})
}
