package nginx

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// sentinel stands behind a rendered server. nginx refuses it, so that a test which passes did not see it.
const sentinel = "reeve_sentinel"

// oddText draws text of what is special to nginx, and of a little that is not.
func oddText(label string) *rapid.Generator[string] {
	piece := rapid.SampledFrom([]string{`"`, `'`, `\`, ";", "{", "}", "$", "${", "#", " ", "\n", "\t", "a", "b c", "$host", "/", `\"`, `\\`, "é", "\r", "()", "~"})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, label), "")
	})
}

// oddTemplate draws a template of directives that nginx knows, spelled oddly.
func oddTemplate() *rapid.Generator[string] {
	line := rapid.OneOf(
		rapid.Map(oddText("value"), func(s string) string { return "add_header X " + s + ";" }),
		rapid.Map(oddText("value"), func(s string) string { return "set $v \"" + s + "\";" }),
		rapid.Map(oddText("value"), func(s string) string { return "return 200 '" + s + "';" }),
		rapid.Map(oddText("comment"), func(s string) string { return "#" + s }),
		rapid.Map(oddText("inside"), func(s string) string { return "if ($host) { " + s + " }" }),
		rapid.Map(oddText("condition"), func(s string) string { return "if ($host ~ " + s + ") { return 404; }" }),
		oddText("anything"),
	)
	return rapid.Map(rapid.SliceOfN(line, 1, 4), func(lines []string) string { return strings.Join(lines, "\n") })
}

// readAsWeDo checks that what our parser takes for a complete template nginx does too: it reads on to the sentinel behind
// the server, or complains of a directive before, but never of quotes or braces.
func readAsWeDo(tb testing.TB) func(*rapid.T) {
	webtest.NeedBinary(tb, nginxBinary)
	dir := tb.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	return func(t *rapid.T) {
		text := oddTemplate().Draw(t, "template")
		nodes, err := parseTemplate(text)
		if err != nil {
			t.Skip("refused: it goes no further")
		}
		p := proxy{hostname: "a.test", port: 8, template: nodes, errors: os.DevNull,
			locations: []location{{match: []string{"/"}, upstream: "u", template: nodes}}}
		main := "pid " + dir + "/pid;\nerror_log stderr;\nevents {}\nhttp {\nupstream u { server 192.0.2.1; }\n" + printed(p.serverBlocks()) + sentinel + ";\n}\n"
		if err := os.WriteFile(conf, []byte(main), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(nginxBinary, "-t", "-c", conf).CombinedOutput()
		said := string(out)
		if err == nil {
			t.Fatalf("the template %q swallows what is behind it:\n%s", text, main)
		}
		if strings.Contains(said, "unexpected") || strings.Contains(said, "too long parameter") {
			t.Fatalf("%q: nginx reads something else: %s\n%s", text, said, main)
		}
		if !strings.Contains(said, "[emerg]") {
			t.Fatalf("nginx did not get to the template: %s", said)
		}
	}
}

func TestRealNginxReadsTemplatesAsWeDo(t *testing.T) { rapid.Check(t, readAsWeDo(t)) }

func FuzzRealTest(f *testing.F) { f.Fuzz(rapid.MakeFuzz(readAsWeDo(f))) }
