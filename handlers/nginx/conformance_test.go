package nginx

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/nginx/nginxtest"
	"github.com/reeve-paas/reeve/handlers/web"
	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// TestConformance is the checklist of spec agent-web 7 with a private nginx.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, s := range nginxtest.Suites {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			s.Run(t, newRealNginx(t).start().Rig)
		})
	}
}

func TestInternalsAreNoMethods(t *testing.T) { // 2
	if _, ok := newRealNginx(t).Methods()["add_proxy"]; ok {
		t.Error("add_proxy is offered")
	}
}

func TestRolesWithoutASource(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	n.Service.roles = nil
	n.Refuses("this agent knows no roles", "make_proxy", `{"hostname": "r.test", "backends": [{"farm_role_id": 1}]}`)
}

func TestASetCostsOneReload(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	b1 := n.Backend("B1")
	n.make(n.params("old.test", b1))
	n.units.Calls()
	n.OK("recreate_proxying", `{"proxy_list": [{"hostname": "p1.test", "port": %d, "backends": [{%s}]}, {"hostname": "p2.test", "port": %d, "backends": [{%s}]}]}`, n.Port, nginxtest.Wire(b1), n.Port, nginxtest.Wire(b1))
	if calls := n.units.Calls(); len(calls) != 1 {
		t.Errorf("got %q, want one reload", calls)
	}
}

func TestTwoProxiesOfOneHostNameShareTheServersOfBoth(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	b1, b2, other := n.Backend("B1"), n.Backend("B2"), webtest.FreePort(t)
	n.OK("recreate_proxying", `{"proxy_list": [{"hostname": "u.test", "port": %d, "backends": [{%s}]}, {"hostname": "u.test", "port": %d, "backends": [{%s}, {%s}]}]}`,
		n.Port, nginxtest.Wire(b1), other, nginxtest.Wire(b2), nginxtest.Wire(b1))
	for _, port := range []int{n.Port, other} {
		seen := ""
		for range 4 {
			seen += webtest.Get(t, port, "http://u.test/").Body
		}
		if !strings.Contains(seen, "B1") || !strings.Contains(seen, "B2") {
			t.Errorf("port %d: got %q, want both", port, seen)
		}
	}
	if got := n.Read("app-servers.include"); strings.Count(got, "upstream ") != 1 || strings.Count(got, "server ") != 2 {
		t.Errorf("got %s", got)
	}
	if got := n.table()[hashName("u.test")].Destinations; len(got) != 3 {
		t.Errorf("the table has %+v", got)
	}
}

func TestReconfigureInTheBackground(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	n.make(n.params("p.test", n.Backend("B1")))
	reconfigure := func(params string) (any, error) {
		return n.Methods()["reconfigure"].Call(t.Context(), []byte(params))
	}
	t.Run("a second one while the first runs is refused", func(t *testing.T) {
		n.mu.Lock() // the first waits for its turn
		id, err := reconfigure(`{"proxies": []}`)
		if err != nil {
			t.Error(err)
		}
		_, err = reconfigure(`{"proxies": []}`)
		if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Class != "AlreadyInProgressError" || !strings.Contains(e.Text, fmt.Sprint(id)) || !strings.Contains(e.Text, "api.nginx.reconfigure") {
			t.Errorf("got %v", err)
		}
		n.mu.Unlock()
		err = web.Poll(t.Context(), func() (bool, error) {
			r, err := n.registry.Result(id.(string))
			return r.Status == agentapi.OperationCompleted, err
		})
		if err != nil {
			t.Fatal(err)
		}
		n.Wants("http://p.test/", "default site")
	})
	t.Run("an agent that runs nothing in the background says so", func(t *testing.T) {
		n.Service.operations = nil
		if _, err := reconfigure(`{"proxies": []}`); err == nil || !strings.Contains(err.Error(), "repeat the call with async false") {
			t.Errorf("got %v", err)
		}
		if got, err := reconfigure(`{"proxies": [], "async": 0}`); got != nil || err != nil {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

// delivered is a certificate as it comes with a proxy.
func delivered(t *testing.T, name string) (id string, pair agentapi.KeyPair) {
	t.Helper()
	cert, key, chain := webtest.Certificate(t, name, true)
	sum := sha256.Sum256(cert)
	return fmt.Sprintf("%s%x", agentapi.DeliveredPrefix, sum[:8]), agentapi.KeyPair{Cert: string(cert) + string(chain), Key: agentapi.Secret(key)}
}

func TestCertificatesThatComeWithAProxy(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t).start()
	b1, tlsPort := n.Backend("B1"), webtest.FreePort(t)
	proxy := func(name, id string, pair agentapi.KeyPair) agentapi.ProxyParams {
		p := n.params(name, b1)
		p.SSL, p.SSLPort, p.SSLCertificateID, p.SSLCertificate = agentapi.Ptr(agentapi.Bool(true)), agentapi.Ptr(text(tlsPort)), agentapi.Ptr(agentapi.Text(id)), &pair
		return p
	}
	presents := func(name string, pair agentapi.KeyPair) {
		t.Helper()
		r := webtest.Get(t, tlsPort, "https://"+name+"/")
		block, _ := pem.Decode([]byte(pair.Cert))
		if r.Status != 200 || !bytes.Equal(r.TLS.PeerCertificates[0].Raw, block.Bytes) || len(r.TLS.PeerCertificates) != 2 {
			t.Errorf("%s: got %d and another certificate", name, r.Status)
		}
	}
	keys := func() (names []string) {
		entries, _ := os.ReadDir(filepath.Join(n.Dir, "private.d/keys"))
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(e.Name(), ".key") {
				names = append(names, strings.TrimSuffix(strings.TrimPrefix(e.Name(), "https_"), ".key"))
				if info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v, want 0600", e.Name(), info.Mode())
				}
			}
		}
		return names
	}
	firstID, first := delivered(t, "a.test")
	secondID, second := delivered(t, "a.test")
	otherID, other := delivered(t, "b.test")
	n.make(proxy("a.test", firstID, first))
	n.make(proxy("b.test", otherID, other))
	presents("a.test", first)
	presents("b.test", other)
	n.Wants("http://a.test/", "B1")

	t.Run("bad ones are refused and change nothing", func(t *testing.T) {
		before := n.Tree()
		for want, p := range map[string]agentapi.ProxyParams{
			"do not fit together":           proxy("a.test", secondID, agentapi.KeyPair{Cert: second.Cert, Key: first.Key}),
			"another certificate is on":     proxy("a.test", firstID, second),
			"begins with route-":            proxy("a.test", "77", second),
			"the id of a certificate that ": proxy("a.test", "", second),
			"invalid certificate id":        proxy("a.test", "route-../x", second),
		} {
			if _, err := n.MakeProxy(t.Context(), p); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("got %v, want %q", err, want)
			}
		}
		if after := n.Tree(); after != before {
			t.Errorf("got\n%s\nwant\n%s", after, before)
		}
		presents("a.test", first)
	})
	t.Run("another replaces the one before, whose files go; again changes nothing", func(t *testing.T) {
		for range 2 {
			n.make(proxy("a.test", secondID, second))
			presents("a.test", second)
			presents("b.test", other)
			if got, want := keys(), slices.Sorted(slices.Values([]string{secondID, otherID})); !slices.Equal(got, want) {
				t.Errorf("got keys %q, want %q", got, want)
			}
		}
	})
	t.Run("files that did not come with a proxy stay", func(t *testing.T) {
		n.Write("private.d/keys/https_77.key", "x")
		n.Write("private.d/keys/https_route-left-by-a-kill.key", "x")
		n.OK("remove_proxy", `{"hostname": "b.test"}`)
		for name, want := range map[string]bool{"https_77.key": true, "https_route-left-by-a-kill.key": false, "https_" + otherID + ".key": false, "https_" + otherID + ".crt": false} {
			if _, err := os.Stat(filepath.Join(n.Dir, "private.d/keys", name)); (err == nil) != want {
				t.Errorf("%s: got %v, want it there: %v", name, err, want)
			}
		}
		presents("a.test", second)
	})
}
