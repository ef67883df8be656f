//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// hosted is a virtual host; its key is the name of its file.
type hosted struct {
	name string
	port int
	text string
}

func (s hosted) file() string { return fmt.Sprintf("%s-%d.vhost.conf", s.name, s.port) }

// apacheCalls makes random calls to Apache.
type apacheCalls struct{ *randomCaller[hosted] }

var (
	siteNames  = []string{"s0.test", "s1.test", "s2.test", "s3.test"}
	plainPorts = []int{80, 8081} // Apache listens on the first anyhow
)

const tlsPort = 443

func (a *apacheCalls) site(t *rapid.T) hosted {
	s := hosted{name: a.pick(t, siteNames), port: rapid.SampledFrom(append([]int{tlsPort}, plainPorts...)).Draw(t, "port"), text: a.text()}
	return s
}

// body is the template of a site; extra goes into its virtual host.
func (s hosted) body(extra string) string {
	if s.port == tlsPort {
		extra += "SSLEngine on\nSSLCertificateFile /etc/aws/keys/ssl/https.crt\nSSLCertificateKeyFile /etc/aws/keys/ssl/https.key\n"
	}
	return fmt.Sprintf("<VirtualHost *:%d>\nServerName %s\nDocumentRoot /srv/sites/%s\nErrorDocument 404 \"%s\"\n%s</VirtualHost>\n", s.port, s.name, s.name, s.text, extra)
}

func (s hosted) params(template string, reload bool) agentapi.CreateVHostParams {
	p := agentapi.CreateVHostParams{Hostname: s.name, Port: textOf(s.port), Template: template, Reload: boolean(reload)}
	if s.port == tlsPort {
		p.SSL, p.SSLCertificateID = true, agentapi.Ptr(agentapi.Text(goodPair))
	}
	return p
}

func (s hosted) element(template string) agentapi.VHost {
	p := s.params(template, false)
	return agentapi.VHost{Hostname: p.Hostname, Port: p.Port, Template: p.Template, SSL: p.SSL, SSLCertificateID: p.SSLCertificateID}
}

func (a *apacheCalls) sequence(t *rapid.T) {
	a.disk = map[string]hosted{}
	a.did(t, a.client.Call(a.ctx, "apache.reconfigure", agentapi.ReconfigureVHostsParams{VHosts: []agentapi.VHost{}, Async: boolean(false)}, nil), true, func(map[string]hosted) {})
	t.Repeat(map[string]func(*rapid.T){
		"": a.check, "create_vhost": a.create, "create_vhost again": a.create, "create_vhost refused": a.createBad, "update_vhost": a.update,
		"delete_vhosts": a.remove, "reconfigure": a.reconfigure, "reload_service": a.reload,
	})
}

// check is Apache's own test and what visitors see. list_served_virtual_hosts parses the whole configuration, as the
// test does, and says of which files it consists.
func (a *apacheCalls) check(t *rapid.T) {
	listed, err := a.apache.ListServedVirtualHosts(a.ctx)
	if want := slices.Sorted(maps.Keys(a.disk)); err != nil || !slices.Equal(listed, want) {
		t.Fatalf("listed are %q, %v, want %q", listed, err, want)
	}
	if a.calls%8 == 0 {
		if err := a.apache.ConfigTest(a.ctx); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range siteNames {
		for j, port := range append([]int{tlsPort}, plainPorts...) {
			if a.looked && (i != a.calls%len(siteNames) || j != a.calls%3) {
				continue // nothing was loaded since: one of them is enough
			}
			a.look(t, name, port)
		}
	}
	a.looked = true
}

// look asks for one name on one port. A name without a site gets the first one of the port, which on port 80 is Debian's
// own.
func (a *apacheCalls) look(t *rapid.T, name string, port int) {
	scheme, want := "http", ""
	if port == tlsPort {
		scheme = "https"
	}
	if port == 80 {
		want = "something else"
	}
	for _, file := range slices.Backward(slices.Sorted(maps.Keys(a.loaded))) {
		if s := a.loaded[file]; s.port == port && (s.name == name || port != 80) {
			if want = s.text; s.name == name {
				break
			}
		}
	}
	if s, there := a.loaded[hosted{name: name, port: port}.file()]; there {
		want = s.text
	}
	got := ""
	if !a.shows(func() bool { got = a.says(a.ctx, scheme, name, port); return got == want }) {
		t.Fatalf("%s://%s:%d says %q, want %q", scheme, name, port, got, want)
	}
}

func (a *apacheCalls) create(t *rapid.T) {
	s, reload := a.site(t), seldom(t, "reload")
	path, err := a.apache.CreateVHost(a.ctx, s.params(s.body(""), reload))
	if err == nil && !strings.HasSuffix(path, "/"+s.file()) {
		t.Errorf("got %s, want %s", path, s.file())
	}
	a.did(t, err, reload, func(disk map[string]hosted) { disk[s.file()] = s })
}

// badSites are templates and parameters that must be refused, whatever Apache's test says of them.
var badSites = map[string]func(*agentapi.CreateVHostParams){
	"directive": func(p *agentapi.CreateVHostParams) { p.Template += "NoSuchDirective on\n" },
	"in a block": func(p *agentapi.CreateVHostParams) {
		p.Template = strings.Replace(p.Template, "\n", "\nNoSuchDirective on\n", 1)
	},
	"unclosed": func(p *agentapi.CreateVHostParams) { p.Template = strings.Replace(p.Template, "</VirtualHost>", "", 1) },
	"global":   func(p *agentapi.CreateVHostParams) { p.Template += "LoadModule x_module /tmp/x.so\n" },
	"busy port": func(p *agentapi.CreateVHostParams) {
		p.Port = textOf(busyPort)
		p.Template = hosted{p.Hostname, busyPort, "x"}.body("")
	},
	"no certificate of its own": func(p *agentapi.CreateVHostParams) {
		p.SSL, p.Template = false, strings.Replace(hosted{p.Hostname, 80, "x"}.body(""), "ServerName", "SSLEngine on\nServerName", 1)
	},
	"a key of another certificate": func(p *agentapi.CreateVHostParams) {
		const keys = "/etc/reeve/private.d/keys/https_"
		p.SSL, p.Template = false, hosted{p.Hostname, 80, "x"}.body("SSLEngine on\nSSLCertificateFile "+keys+wrongPair+".crt\nSSLCertificateKeyFile "+keys+goodPair+".key\n")
	},
	"wrong pair": func(p *agentapi.CreateVHostParams) {
		p.SSL, p.SSLCertificateID = true, agentapi.Ptr(agentapi.Text(wrongPair))
	},
	"no pair": func(p *agentapi.CreateVHostParams) {
		p.SSL, p.SSLCertificateID = true, agentapi.Ptr(agentapi.Text(noPair))
	},
	"closed root": func(p *agentapi.CreateVHostParams) { p.Template = strings.Replace(p.Template, "/srv/sites", "/etc", 1) },
	"no log place": func(p *agentapi.CreateVHostParams) {
		p.Template = strings.Replace(p.Template, "ServerName", "ErrorLog /proc/x/y\nServerName", 1)
	},
	"port": func(p *agentapi.CreateVHostParams) { p.Port = "70000" },
	"name": func(p *agentapi.CreateVHostParams) { p.Hostname = "../" + p.Hostname },
	"line": func(p *agentapi.CreateVHostParams) { p.Hostname += "\nx" },
}

func (a *apacheCalls) createBad(t *rapid.T) {
	s := a.site(t)
	p := s.params(s.body(""), flip(t, "reload"))
	badSites[rapid.SampledFrom(slices.Sorted(maps.Keys(badSites))).Draw(t, "fault")](&p)
	_, err := a.apache.CreateVHost(a.ctx, p)
	a.refuses(t, err)
}

func (a *apacheCalls) update(t *rapid.T) {
	old := hosted{name: a.pick(t, siteNames), port: rapid.SampledFrom(plainPorts).Draw(t, "port")}
	now, there := a.disk[old.file()]
	p := agentapi.UpdateVHostParams{Signature: agentapi.VHostRef{Hostname: old.name, Port: textOf(old.port)}}
	if !there {
		now = old
	}
	if flip(t, "rename") {
		now.name = a.pick(t, siteNames)
		p.Hostname = agentapi.Ptr(agentapi.Text(now.name))
	}
	if flip(t, "move") {
		now.port = rapid.SampledFrom(plainPorts).Draw(t, "to")
		p.Port = agentapi.Ptr(textOf(now.port))
	}
	reload := seldom(t, "reload")
	p.Reload = boolean(reload)
	fresh := flip(t, "template")
	if fresh {
		now.text = a.text()
		p.Template = agentapi.Ptr(agentapi.Text(now.body("")))
	}
	err := a.client.Call(a.ctx, "apache.update_vhost", p, nil)
	if !there && !fresh {
		a.refuses(t, err)
		return
	}
	a.did(t, err, reload, func(disk map[string]hosted) {
		delete(disk, old.file())
		disk[now.file()] = now
	})
}

func (a *apacheCalls) remove(t *rapid.T) {
	p := agentapi.DeleteVHostsParams{Reload: boolean(seldom(t, "reload")), VHosts: []agentapi.VHostRef{}}
	var gone []hosted
	for range rapid.IntRange(0, 2).Draw(t, "how many") {
		s := a.site(t)
		gone = append(gone, s)
		p.VHosts = append(p.VHosts, agentapi.VHostRef{Hostname: s.name, Port: textOf(s.port)})
	}
	a.did(t, a.apache.DeleteVHosts(a.ctx, p), bool(*p.Reload), func(disk map[string]hosted) {
		for _, s := range gone {
			delete(disk, s.file())
		}
	})
}

func (a *apacheCalls) reconfigure(t *rapid.T) {
	p := agentapi.ReconfigureVHostsParams{VHosts: []agentapi.VHost{}, Reload: boolean(seldom(t, "reload")), Async: boolean(false)}
	want := map[string]hosted{}
	for range rapid.IntRange(0, 4).Draw(t, "how many") {
		s := a.site(t)
		if _, twice := want[s.file()]; !twice {
			want[s.file()] = s
			p.VHosts = append(p.VHosts, s.element(s.body("")))
		}
	}
	bad := flip(t, "with a bad one")
	if bad {
		p.VHosts = append(p.VHosts, hosted{"last.test", 80, "x"}.element(hosted{"last.test", 80, "x"}.body("NoSuchDirective on\n")))
	}
	err := a.client.Call(a.ctx, "apache.reconfigure", p, nil)
	if bad {
		a.refuses(t, err)
		return
	}
	a.did(t, err, bool(*p.Reload), func(disk map[string]hosted) {
		clear(disk)
		maps.Copy(disk, want)
	})
}

func (a *apacheCalls) reload(t *rapid.T) {
	if !seldom(t, "now") {
		t.Skip("reloads take long")
	}
	a.did(t, a.apache.Reload(a.ctx, ""), true, func(map[string]hosted) {})
}
