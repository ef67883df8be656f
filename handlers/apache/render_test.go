package apache

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// oldTemplate is what the old control plane sends for TLS: dummy paths, an IfModule around, a continued line.
const oldTemplate = `# made by hand
<IfModule mod_ssl.c>
	<virtualhost *:443 [::1]:8443>
		ServerName   shop.example.net
		ServerAlias www.shop.example.net \
			shop
		DocumentRoot "/srv/shop"
		ErrorLog ${APACHE_LOG_DIR}/shop-error.log
		CustomLog /var/log/shop/access.log combined
		SSLEngine on
		sslcertificatefile /etc/aws/keys/ssl/https.crt
		SSLCertificateKeyFile /etc/aws/keys/ssl/https.key
		SSLCertificateChainFile /etc/aws/keys/ssl/https-ca.crt
		SSLCACertificateFile /etc/aws/keys/ssl/ca.crt
		<Directory "/srv/shop">
			Options FollowSymLinks
		</Directory>
	</virtualhost>
</IfModule>
`

func mustParse(t *testing.T, text string) []line {
	t.Helper()
	lines, err := parseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestRender(t *testing.T) {
	exists := func(string) bool { return false }
	with := &web.CertificateFiles{Cert: "/k/https_77.crt", Key: "/k/https_77.key", Chain: "/k/https_77-ca.crt"}
	without := &web.CertificateFiles{Cert: "/k/https_77.crt", Key: "/k/https_77.key"}
	noChainDirective := strings.Replace(oldTemplate, "\t\tSSLCertificateChainFile /etc/aws/keys/ssl/https-ca.crt\n", "", 1)
	for name, c := range map[string]struct {
		template string
		r        rendering
	}{
		"plain":             {fakeTemplate, rendering{exists: exists}},
		"listen-and-grant":  {fakeTemplate, rendering{listen: []int{8080, 8443}, grant: []string{"/srv/a", "/srv/with space"}, exists: exists}},
		"tls-no-chain":      {oldTemplate, rendering{cert: without, exists: exists}},
		"tls-chain":         {oldTemplate, rendering{cert: with, exists: exists}},
		"tls-chain-added":   {noChainDirective, rendering{cert: with, exists: exists}},
		"tls-client-ca":     {oldTemplate, rendering{cert: without, exists: func(string) bool { return true }}},
		"tls-several-hosts": {oldTemplate + strings.ReplaceAll(oldTemplate, "shop", "other"), rendering{cert: without, exists: exists}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := render(mustParse(t, c.template), c.r)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, got)
		})
	}
}

func TestWithNames(t *testing.T) {
	lines, err := withNames(mustParse(t, oldTemplate), "new.test", 9443)
	if err != nil {
		t.Fatal(err)
	}
	got, err := render(lines, rendering{})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "renamed", got)
}

func TestStripOursGivesTheTemplateBack(t *testing.T) {
	text, err := render(mustParse(t, fakeTemplate), rendering{listen: []int{81}, grant: []string{"/srv/a"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := stripOurs(text); got != fakeTemplate {
		t.Errorf("got %q, want %q", got, fakeTemplate)
	}
}

func TestDescribe(t *testing.T) {
	s := &Service{layout: fakeHost(t).Layout()}
	got := describe(mustParse(t, oldTemplate), s.expand)
	want := site{ports: []int{443, 8443}, roots: []string{"/srv/shop"}, logs: []string{"/var/log/apache2/shop-error.log", "/var/log/shop/access.log"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(site{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	odd := "<VirtualHost *>\nDocumentRoot ${UNKNOWN}/x\nErrorLog syslog:local1\nCustomLog logs/rel.log common\n</VirtualHost>"
	if got := describe(mustParse(t, odd), s.expand); len(got.ports)+len(got.roots)+len(got.logs) != 0 {
		t.Errorf("got %+v, want nothing the agent could make", got)
	}
}

func TestParseTemplateRefuses(t *testing.T) {
	host := func(body string) string { return "<VirtualHost *:80>\n" + body + "\n</VirtualHost>\n" }
	for name, text := range map[string]string{
		"an unclosed section":              "<VirtualHost *:80>\n<Directory /x>\n</VirtualHost>",
		"a close without open":             host("</Directory>"),
		"text after the vhost":             host("") + "ServerTokens Full\n",
		"a close of another section":       host("<Location /x>\n</Directory>"),
		"no VirtualHost":                   "<Directory /x>\n</Directory>",
		"nothing":                          "",
		"a nested VirtualHost":             host(host("")),
		"LoadModule":                       host("loadmodule x y"),
		"User":                             host("User root"),
		"Listen":                           host("Listen 81"),
		"Listen hidden by a continuation":  host("Lis\\\nten 81"),
		"Listen behind a form feed":        host("Listen\f81"),
		"Listen in quotes":                 host("'Listen' 81"),
		"a close in quotes":                host("\"</VirtualHost>\"\nServerTokens Full"),
		"an open in quotes":                host("'<Directory' /x>"),
		"a piped log":                      host(`CustomLog "|/bin/sh -c id" common`),
		"a NUL":                            host("ServerName a\x00b"),
		"more than 256 KiB":                host(strings.Repeat("#", maxTemplate)),
		"a section without an end":         "<VirtualHost *:80\n</VirtualHost>",
		"a section that only vhosts have":  "<Macro x>\n</Macro>\n" + host(""),
		"a vhost without address":          "<VirtualHost>\n</VirtualHost>",
		"a directive in a bare IfModule":   "<IfModule x>\nServerTokens Full\n</IfModule>\n" + host(""),
		"a section without a name":         host("< >\n</ >"),
		"a vhost in another vhost's block": host("<IfModule x>\n" + host("") + "</IfModule>"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseTemplate(text)
			e, ok := errors.AsType[*agentapi.Error](err)
			if !ok || e.Class != "ParseError" || e.Kind != agentapi.KindInvalid {
				t.Errorf("got %v, want a ParseError", err)
			}
		})
	}
}

// FuzzTemplate checks on any text that what parseTemplate accepts stays what it was when it is rendered: it parses again
// with the same sections and directives, and nothing forbidden appears.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{oldTemplate, fakeTemplate, "<VirtualHost *:80>\nServerName \"a\\\"b\" 'c'\\\n d\n</VirtualHost>", "<VirtualHost a>\n\\\n</VirtualHost>"} {
		f.Add(seed)
	}
	cert := &web.CertificateFiles{Cert: "/k/a b.crt", Key: "/k/a.key", Chain: "/k/ca.crt"}
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := parseTemplate(text)
		if err != nil {
			return
		}
		describe(lines, func(s string) (string, bool) { return s, true })
		for _, r := range []rendering{{}, {listen: []int{81}, grant: []string{"/srv/x"}}, {cert: cert, exists: func(string) bool { return false }}} {
			out, err := render(lines, r)
			if err != nil {
				continue // no certificate directives
			}
			if _, err := parseTemplate(stripOurs(out)); err != nil {
				t.Fatalf("%q became %q: %v", text, out, err)
			}
		}
		if renamed, err := withNames(lines, "x.test", 81); err == nil {
			out, err := render(renamed, rendering{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parseTemplate(out); err != nil {
				t.Fatalf("%q became %q: %v", text, out, err)
			}
		}
	})
}
