package core_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func keyBlob(t *testing.T, line string) []byte {
	t.Helper()
	blob, err := base64.StdEncoding.DecodeString(strings.Fields(line)[1])
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func TestWhomALoginLetsIn(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	line := publicKey(1) + " ann@desk"
	blob, stranger := keyBlob(t, line), keyBlob(t, publicKey(2))
	s := spec()
	s.Keys, s.Routes = []string{line}, append(s.Routes, "*.hosted.test")
	php, ops := b.create(s)
	b.ends(ops...)
	s = unitSpec("pythonmysql")
	s.Name, s.Routes = "units", []string{"units.hosted.test"}
	units, ops := b.create(s)
	b.ends(ops...)

	p, err := b.LoginByKey(t.Context(), fmt.Sprint(php.Login), blob)
	b.must(err)
	if p.App != php.ID || p.Account.ID != b.alice.Account.ID || p.Account.Admin || p.Via != core.ViaLogin {
		t.Errorf("got %+v", p)
	}
	for name, key := range map[string][]byte{fmt.Sprint(php.Login): stranger, fmt.Sprint(units.Login): blob, "2099": blob, "alice": blob, "": blob} {
		_, err := b.LoginByKey(t.Context(), name, key)
		b.wantKind(err, core.NotFound)
	}
	if _, _, err := b.Deploy(t.Context(), p, units.ID, core.DeploySpec{Source: b.source("x")}); core.KindOf(err) != core.Forbidden {
		t.Errorf("another app: got %v, want it forbidden", err)
	}

	other := core.Principal{Account: b.alice.Account, App: units.ID, Via: core.ViaLogin}
	for _, c := range []struct {
		p     core.Principal
		name  string
		route string
		ok    bool
	}{
		{p, "default", "", true},
		{p, "shop.hosted.test", "shop.hosted.test", true},
		{p, "WWW.Shop.Hosted.Test", "www.shop.hosted.test", true},
		{p, "*.hosted.test", "", false},
		{p, "units.hosted.test", "", false},
		{p, "../default", "", false},
		{p, "", "", false},
		{other, "default", "", true},
		{other, "units.hosted.test", "", false},
	} {
		got, err := b.RepositoryOf(t.Context(), c.p, c.name)
		if (err == nil) != c.ok || c.ok && (got.App.ID != c.p.App || got.Route != c.route) || err != nil && core.KindOf(err) != core.NotFound {
			t.Errorf("%q: got %+v, %v", c.name, got.Route, err)
		}
	}
}
