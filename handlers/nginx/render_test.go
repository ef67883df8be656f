package nginx

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/agent/agentapi"
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

func printed(nodes []*node) string {
	var b strings.Builder
	for _, n := range nodes {
		n.print(&b, 0)
	}
	return b.String()
}

func TestRender(t *testing.T) {
	five := 5
	template, err := parseTemplate("server { # ours\n  proxy_set_header Host $host; if ($http_x = \"a;b{\") { return 403; } }")
	if err != nil {
		t.Fatal(err)
	}
	servers := []upstreamServer{{addr: "192.0.2.11", port: 8000}, {addr: "[2001:db8::1]", port: 81, backup: true, weight: &five}}
	locations := []location{
		{match: []string{"/api"}, upstream: "h_api__123", servers: servers},
		{match: []string{"/"}, upstream: "h", servers: []upstreamServer{placeholder(0)}, leastConn: true},
	}
	for name, p := range map[string]proxy{
		"plain":      {hostname: "test.com", port: 80, locations: locations, errors: "/etc/nginx/error-pages.include"},
		"https-only": {hostname: "test.com", redirect: 80, sslPort: 443, cert: "/k/https_77.crt", key: "/k/https_77.key", locations: locations, errors: "/etc/nginx/error-pages.include"},
		"template":   {hostname: "test.com", port: 80, template: template, locations: locations[:1], errors: "/etc/nginx/error-pages.include"},
		"ip-hash":    {hostname: "*.test.com", port: 8080, locations: []location{{match: []string{"~", `"^/x{2}"`}, upstream: "h", servers: servers[:1], ipHash: true}}, errors: "/e"},
	} {
		t.Run(name, func(t *testing.T) {
			upstreams := &file{items: items(upstreamBlocks(p.locations))}
			proxies := withNoApp(upstreams, &file{items: items(p.serverBlocks())})
			golden(t, name, upstreams.text()+"# --- proxies.include\n"+proxies.text())
		})
	}
	golden(t, "error-pages", errorPages("/usr/share/nginx/html"))
}

func TestUpstreamNames(t *testing.T) {
	const h = "5f543afdb6ba8aeef955c6c951d3bd70c1de8361"
	if got := hashName("test.com"); got != h {
		t.Fatalf("got %s, want %s", got, h)
	}
	roles := func(ids ...agentapi.Text) (list []agentapi.Destination) {
		for _, id := range ids {
			list = append(list, agentapi.Destination{FarmRoleID: id})
		}
		return append(list, agentapi.Destination{Host: "x"})
	}
	for _, c := range []struct {
		prefix, uri string
		group       []agentapi.Destination
		want        string
	}{
		{h, "/", roles(), h},
		{h, "/", roles("123"), h + "__123"},
		{h, "/admin/", roles(), h + "_admin"},
		{h, "/admin/", roles("123", "456", "123"), h + "_admin__123_456"},
		{h, "/a/b", roles(), h + "_a_b"},
		{"test.com", "/x", roles("7"), "test.com_x__7"},
		{h, "~ ^/x", roles("7"), h + "_" + hashName("~ ^/x")[:12] + "__7"},
	} {
		if got := upstreamName(c.prefix, c.uri, c.group, map[string]bool{}); got != c.want {
			t.Errorf("%s: got %s, want %s", c.uri, got, c.want)
		}
	}
	taken := map[string]bool{}
	first, second := upstreamName(h, "/a/b", roles(), taken), upstreamName(h, "/a_b", roles(), taken)
	if first == second {
		t.Errorf("/a/b and /a_b are both %s", first)
	}
}

func TestParseKeepsWhatNginxWouldRead(t *testing.T) {
	const text = "a b;c \"x;{}#\" 'y\\'z' $v${w}q{ # c\n d ${e;} f \\;g\\{ ; \\${ x; }\n"
	nodes, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := "a   b;\nc \"x;{}#\" 'y\\'z' $v${w}q {\n   # c\n   d   ${e;\n}\n"
	// A brace after "$" belongs to the word, and the semicolon still ends it: so the block closes here, as in nginx.
	if got := printed(nodes[:2]); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := printed(nodes[2:]), "f   \\;g\\{;\n\\$ {\n   x;\n}\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"}", "a", "a {", "a { b }", ";", "{ }", "a \"b", "a 'b", `a "b"c;`, "a; } server {", "a { b; } }", strings.Repeat("a {", 100) + strings.Repeat("}", 100)} {
		if _, err := parse(text); err == nil || !strings.HasPrefix(err.Error(), "ParseError: line ") {
			t.Errorf("%.40q: got %v, want a ParseError", text, err)
		}
	}
}

// FuzzParse checks on any text that printing what was parsed and parsing it again gives the same directives, and that a file
// that is parsed and put together again keeps its bytes.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"a b;", "server { listen 80; # x\n location / { proxy_pass http://u; } }", `a "x\"y" 'z' ${v};`, "# c\n\n a;\n#d", "a\\ b {}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := parse(text)
		if err != nil {
			return
		}
		again, err := parse(printed(nodes))
		if err != nil {
			t.Fatalf("%q is printed as %q: %v", text, printed(nodes), err)
		}
		if a, b := printed(nodes), printed(again); a != b {
			t.Fatalf("%q is printed as %q and then as %q", text, a, b)
		}
		file, err := parseFile(text)
		if err != nil {
			t.Fatal(err)
		}
		reparsed, err := parse(file.text())
		if err != nil || printed(reparsed) != printed(nodes) {
			t.Fatalf("%q is put together as %q", text, file.text())
		}
	})
}

// FuzzTemplate checks that no template reaches outside the block it is put into.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"add_header X y;", "\"server_name\" b.test;", "'location' / { }", "server { a; }", "location / { }", "set $a ${;", "# x", "a \\", "a '}'", "} server {"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := parseTemplate(text)
		if err != nil {
			return
		}
		p := proxy{hostname: "a.test", port: 80, template: nodes, errors: "/e",
			locations: []location{{match: []string{"/"}, upstream: "u", servers: []upstreamServer{placeholder(0)}, template: nodes}}}
		out, err := parse(printed(p.serverBlocks()))
		if err != nil || len(out) != 1 || out[0].name() != "server" {
			t.Fatalf("%q: got %d blocks, %v, want one server", text, len(out), err)
		}
		if got := out[0].children("server_name"); len(got) != 1 || got[0].arg(1) != "a.test" {
			t.Fatalf("%q changed the server's name", text)
		}
	})
}

func TestOrderStepsLeavesNoNameUndefined(t *testing.T) {
	up := func(names ...string) string {
		var b strings.Builder
		for _, n := range names {
			b.WriteString("upstream " + n + " { server 192.0.2.1; }\n")
		}
		return b.String()
	}
	pr := func(names ...string) string {
		var b strings.Builder
		for _, n := range names {
			b.WriteString("server { location / { proxy_pass http://" + n + "/x; } }\n")
		}
		return b.String()
	}
	for _, c := range []struct {
		oldUp, oldPr, newUp, newPr []string
		writes                     int
	}{
		{nil, nil, []string{"a"}, []string{"a"}, 2},
		{[]string{"a"}, []string{"a"}, nil, nil, 2},
		{[]string{"a"}, []string{"a"}, []string{"a", "b"}, []string{"a", "b"}, 2},
		{[]string{"a"}, []string{"a"}, []string{"b"}, []string{"b"}, 3},
		{[]string{"a", "c"}, []string{"a", "c"}, []string{"b", "c"}, []string{"b", "c"}, 3},
		{[]string{"a"}, []string{"a"}, []string{"a"}, []string{"a"}, 0},
		{[]string{"a", "b"}, []string{"a"}, []string{"a"}, []string{"a"}, 1},
	} {
		upstreams, proxies := up(c.oldUp...), pr(c.oldPr...)
		steps, err := orderSteps(upstreams, up(c.newUp...), proxies, pr(c.newPr...))
		if err != nil || len(steps) != c.writes {
			t.Errorf("%v: got %d writes, %v, want %d", c, len(steps), err, c.writes)
		}
		ups, prs := []string{upstreams}, []string{proxies} // after each step
		before, undo := []bool{false}, []bool{false}
		for _, s := range steps {
			if s.path == "upstreams" {
				upstreams = s.text
			} else {
				proxies = s.text
			}
			ups, prs, before, undo = append(ups, upstreams), append(prs, proxies), append(before, s.before), append(undo, s.undo)
		}
		// Who reads proxies after step i reads upstreams after a later one, or after an earlier one when the change is taken
		// back, unless a step in between waits for them. A server that starts reads both at once.
		for i := range prs {
			for j := i; j < len(ups) && (j == i || !before[j]); j++ {
				wantNamed(t, ups[j], prs[i])
			}
			for j := i; j > 0 && !undo[j]; j-- {
				wantNamed(t, ups[j-1], prs[i])
			}
		}
		if upstreams != up(c.newUp...) || proxies != pr(c.newPr...) {
			t.Errorf("%v: ends with %s and %s", c, upstreams, proxies)
		}
	}
}

// wantNamed fails the test when a proxy passes to an upstream that is not there.
func wantNamed(t *testing.T, upstreams, proxies string) {
	t.Helper()
	f, err := parseFile(upstreams)
	if err != nil {
		t.Fatal(err)
	}
	nodes, _ := parse(proxies)
	for _, n := range nodes {
		for _, name := range passes(n) {
			if !slices.Contains(upstreamNames(f), name) {
				t.Errorf("%s names no upstream of %s", proxies, upstreams)
			}
		}
	}
}
