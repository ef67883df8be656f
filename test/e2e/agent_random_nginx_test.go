//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// proxied is a proxy; its key is its host name.
type proxied struct {
	port     int
	text     string
	tls      bool
	redirect bool   // the plain port only redirects
	servers  string // beside the first one, each with a blank after it
}

// nginxCalls makes random calls to nginx.
type nginxCalls struct{ *randomCaller[proxied] }

var (
	proxyNames = []string{"p0.test", "p1.test", "p2.test", "p3.test"}
	proxyPorts = []int{8080, 9090}
)

const proxyTLSPort = 8443

func (n *nginxCalls) proxy(t *rapid.T) (string, proxied) {
	p := proxied{port: rapid.SampledFrom(proxyPorts).Draw(t, "port"), text: n.text(), tls: flip(t, "tls")}
	p.redirect = p.tls && flip(t, "redirect")
	return n.pick(t, proxyNames), p
}

func (p proxied) params(name string) agentapi.ProxyParams {
	out := agentapi.ProxyParams{
		Hostname: name, Port: agentapi.Ptr(textOf(p.port)), HashBackendName: boolean(false),
		Backends:  []agentapi.Destination{{Host: "127.0.0.1", Port: "80"}, {Host: "127.0.0.1", Port: "80", Location: "/version"}},
		Templates: []agentapi.Template{{Location: "/version", Content: fmt.Sprintf("return 200 %q;", p.text)}},
	}
	if p.tls {
		out.SSL, out.SSLPort, out.SSLCertificateID = boolean(true), agentapi.Ptr(textOf(proxyTLSPort)), agentapi.Ptr(agentapi.Text(goodPair))
		out.HTTP = boolean(!p.redirect)
	}
	return out
}

func (n *nginxCalls) sequence(t *rapid.T) {
	n.disk = map[string]proxied{}
	n.did(t, n.nginx.RecreateProxying(n.ctx, nil), true, func(map[string]proxied) {})
	t.Repeat(map[string]func(*rapid.T){
		"": n.check, "make_proxy": n.make, "make_proxy again": n.make, "make_proxy refused": n.makeBad, "remove_proxy": n.remove, "add_server": n.add,
		"remove_server": n.drop, "recreate_proxying": n.recreate, "reconfigure": n.reconfigure, "enable_ssl": n.enable, "disable_ssl": n.disable,
		"reload_service": n.reload,
	})
	n.wantUpstreams(t)
}

// check is nginx's own test and what visitors see.
func (n *nginxCalls) check(t *rapid.T) {
	if err := n.nginx.ConfigTest(n.ctx); err != nil {
		t.Fatal(err)
	}
	for i, name := range proxyNames {
		for j, port := range append([]int{proxyTLSPort}, proxyPorts...) {
			if n.looked && (i != n.calls%len(proxyNames) || j != n.calls%3) {
				continue // nothing was loaded since: one of them is enough
			}
			n.look(t, name, port)
		}
	}
	n.looked = true
}

// look asks for one name on one port. A name without a proxy there gets what another one says, or no answer.
func (n *nginxCalls) look(t *rapid.T, name string, port int) {
	p, there := n.loaded[name]
	scheme, want := "http", p.text
	switch {
	case port == proxyTLSPort:
		scheme, there = "https", there && p.tls
	case p.redirect:
		want = "redirect"
	}
	there = there && (port == p.port || port == proxyTLSPort)
	got := ""
	if !n.shows(func() bool {
		got = n.says(n.ctx, scheme, name, port)
		return !(there && got != want || !there && p.text != "" && got == p.text || len(n.loaded) == 0 && got != "")
	}) {
		t.Fatalf("%s://%s:%d says %q, want %q (%v); on disk is %+v", scheme, name, port, got, want, there, n.disk[name])
	}
}

// wantUpstreams compares the upstreams on disk: those of every proxy, with their servers, and no others.
func (n *nginxCalls) wantUpstreams(t *rapid.T) {
	var want []string
	for name, p := range n.disk {
		want = append(want, strings.TrimSpace(name+" 127.0.0.1 "+p.servers), name+"_version 127.0.0.1")
	}
	var got []string
	for line := range strings.Lines(string(n.ReadFile(n.t, "/etc/nginx/app-servers.include"))) {
		words := strings.Fields(strings.TrimRight(strings.TrimSpace(line), ";{ "))
		switch {
		case len(words) == 2 && words[0] == "upstream":
			got = append(got, words[1])
		case len(words) > 1 && words[0] == "server":
			addr, _, _ := strings.Cut(words[1], ":")
			got[len(got)-1] += " " + addr
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("got upstreams %q, want %q", got, want)
	}
}

func (n *nginxCalls) make(t *rapid.T) {
	name, p := n.proxy(t)
	params, reload := p.params(name), seldom(t, "reload")
	params.ReloadService = boolean(reload)
	n.did(t, n.nginx.MakeProxy(n.ctx, params), reload, func(disk map[string]proxied) { disk[name] = p })
}

// badProxies are parameters that must be refused.
var badProxies = map[string]func(*agentapi.ProxyParams){
	"no destination":  func(p *agentapi.ProxyParams) { p.Backends = nil },
	"directive":       func(p *agentapi.ProxyParams) { p.Templates[0].Content = "no_such_directive on;" },
	"injection":       func(p *agentapi.ProxyParams) { p.Templates[0].Content = "} } server { listen 99;" },
	"twice":           func(p *agentapi.ProxyParams) { p.Templates[0].Content = "proxy_pass http://127.0.0.1;" },
	"lua":             func(p *agentapi.ProxyParams) { p.Templates[0].Content = `content_by_lua "x";` },
	"ip_hash, backup": func(p *agentapi.ProxyParams) { p.BackendIPHash, p.Backends[0].Backup = boolean(true), true },
	"weight":          func(p *agentapi.ProxyParams) { p.Backends[0].Weight = "0" },
	"port":            func(p *agentapi.ProxyParams) { p.Port = agentapi.Ptr(agentapi.Text("70000")) },
	"equal ports": func(p *agentapi.ProxyParams) {
		p.SSL, p.SSLPort, p.SSLCertificateID = boolean(true), p.Port, agentapi.Ptr(agentapi.Text(goodPair))
	},
	"wrong pair": func(p *agentapi.ProxyParams) {
		p.SSL, p.SSLPort, p.SSLCertificateID = boolean(true), nil, agentapi.Ptr(agentapi.Text(wrongPair))
	},
	"no pair": func(p *agentapi.ProxyParams) {
		p.SSL, p.SSLPort, p.SSLCertificateID = boolean(true), nil, agentapi.Ptr(agentapi.Text(noPair))
	},
	"name":     func(p *agentapi.ProxyParams) { p.Hostname += "; }" },
	"location": func(p *agentapi.ProxyParams) { p.Backends[0].Location = "/{" },
	"server":   func(p *agentapi.ProxyParams) { p.Backends[0].Host = "192.0.2.1 backup; server 192.0.2.2" },
}

func (n *nginxCalls) makeBad(t *rapid.T) {
	name, p := n.proxy(t)
	params := p.params(name)
	if seldom(t, "busy") && seldom(t, "port") { // nginx tries for seconds
		n.did(t, n.nginx.Reload(n.ctx, ""), true, func(map[string]proxied) {}) // what is taken back is read again
		params.Port = agentapi.Ptr(textOf(busyPort))
		n.refuses(t, n.nginx.MakeProxy(n.ctx, params))
		return
	}
	params.ReloadService = boolean(flip(t, "reload"))
	badProxies[rapid.SampledFrom(slices.Sorted(maps.Keys(badProxies))).Draw(t, "fault")](&params)
	n.refuses(t, n.nginx.MakeProxy(n.ctx, params))
}

func (n *nginxCalls) remove(t *rapid.T) {
	name, reload := n.pick(t, proxyNames), seldom(t, "reload")
	err := n.nginx.RemoveProxy(n.ctx, agentapi.RemoveProxyParams{Hostname: name, ReloadService: boolean(reload)})
	n.did(t, err, reload, func(disk map[string]proxied) { delete(disk, name) })
}

func (n *nginxCalls) server(t *rapid.T) (name, addr string, reload bool, p agentapi.UpstreamServerParams) {
	name, reload = n.pick(t, proxyNames), seldom(t, "reload")
	addr = fmt.Sprintf("127.0.1.%d", rapid.IntRange(1, 3).Draw(t, "server"))
	return name, addr, reload, agentapi.UpstreamServerParams{Backend: name, Server: addr, ReloadService: boolean(reload)}
}

func (n *nginxCalls) add(t *rapid.T) {
	name, addr, reload, params := n.server(t)
	err := n.nginx.AddServer(n.ctx, params)
	if _, there := n.disk[name]; !there {
		n.refuses(t, err)
		return
	}
	n.did(t, err, reload, func(disk map[string]proxied) {
		if p := disk[name]; !strings.Contains(p.servers, addr+" ") {
			p.servers += addr + " "
			disk[name] = p
		}
	})
}

func (n *nginxCalls) drop(t *rapid.T) {
	name, addr, reload, params := n.server(t)
	err := n.nginx.RemoveServer(n.ctx, params)
	if _, there := n.disk[name]; !there {
		n.refuses(t, err)
		return
	}
	n.did(t, err, reload, func(disk map[string]proxied) {
		p := disk[name]
		p.servers = strings.Replace(p.servers, addr+" ", "", 1)
		disk[name] = p
	})
}

// set is a list of proxies, as JSON, with a bad one or without.
func (n *nginxCalls) set(t *rapid.T) (list []json.RawMessage, want map[string]proxied, bad bool) {
	list, want = []json.RawMessage{}, map[string]proxied{}
	var all []agentapi.ProxyParams
	for range rapid.IntRange(0, 4).Draw(t, "how many") {
		name, p := n.proxy(t)
		if _, twice := want[name]; !twice {
			want[name] = p
			all = append(all, p.params(name))
		}
	}
	if bad = flip(t, "with a bad one"); bad {
		p := proxied{port: proxyPorts[0], text: "x"}.params("last.test")
		badProxies["directive"](&p)
		all = append(all, p)
	}
	for _, p := range all {
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, raw)
	}
	return list, want, bad
}

func (n *nginxCalls) replaced(t *rapid.T, err error, reload bool, want map[string]proxied, bad bool) {
	if bad {
		n.refuses(t, err)
		return
	}
	n.did(t, err, reload, func(disk map[string]proxied) {
		clear(disk)
		maps.Copy(disk, want)
	})
}

func (n *nginxCalls) recreate(t *rapid.T) {
	list, want, bad := n.set(t)
	reload := seldom(t, "reload")
	err := n.client.Call(n.ctx, "nginx.recreate_proxying", agentapi.RecreateProxyingParams{ProxyList: list, ReloadService: boolean(reload)}, nil)
	n.replaced(t, err, reload, want, bad)
}

// reconfigure always reloads.
func (n *nginxCalls) reconfigure(t *rapid.T) {
	if !seldom(t, "now") {
		t.Skip("reloads take long")
	}
	list, want, bad := n.set(t)
	err := n.client.Call(n.ctx, "www.reconfigure", agentapi.ReconfigureProxiesParams{Proxies: list, Async: boolean(false)}, nil)
	n.replaced(t, err, true, want, bad)
}

// enable and disable do nothing, not even a reload, when there is nothing to change.
func (n *nginxCalls) enable(t *rapid.T) {
	name, reload := n.pick(t, proxyNames), seldom(t, "reload")
	p, there := n.disk[name]
	err := n.client.Call(n.ctx, "nginx.enable_ssl", agentapi.EnableSSLParams{Hostname: name, SSLPort: agentapi.Ptr(textOf(proxyTLSPort)),
		SSLCertificateID: agentapi.Ptr(agentapi.Text(goodPair)), ReloadService: boolean(reload)}, nil)
	n.did(t, err, reload && there && !p.tls, func(disk map[string]proxied) {
		if there {
			p.tls = true
			disk[name] = p
		}
	})
}

func (n *nginxCalls) disable(t *rapid.T) {
	name, reload := n.pick(t, proxyNames), seldom(t, "reload")
	p, there := n.disk[name]
	err := n.client.Call(n.ctx, "nginx.disable_ssl", agentapi.DisableSSLParams{Hostname: name, ReloadService: boolean(reload)}, nil)
	n.did(t, err, reload && p.tls, func(disk map[string]proxied) {
		if there {
			p.tls, p.redirect = false, false
			disk[name] = p
		}
	})
}

func (n *nginxCalls) reload(t *rapid.T) {
	if !seldom(t, "now") {
		t.Skip("reloads take long")
	}
	n.did(t, n.nginx.Reload(n.ctx, ""), true, func(map[string]proxied) {})
}
