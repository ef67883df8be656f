package apache

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reeve-paas/reeve/handlers/web/webtest"
)

// sentinel stands behind a rendered virtual host. httpd refuses it, so that a test which passes did not see it.
const sentinel = "ReeveSentinel"

// oddText draws text of what is special to httpd, and of a little that is not.
func oddText(label string) *rapid.Generator[string] {
	piece := rapid.SampledFrom([]string{`"`, `'`, `\`, "\\\n", "<", ">", "</", "#", " ", "\n", "\t", "a", "b c", "${X}", "/", `\"`, `\\`, "é", "\r", "\f", "VirtualHost", "Directory"})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, label), "")
	})
}

// oddTemplate draws a virtual host of directives that httpd knows, spelled oddly.
func oddTemplate() *rapid.Generator[string] {
	line := rapid.OneOf(
		rapid.Map(oddText("value"), func(s string) string { return "ServerAdmin " + s }),
		rapid.Map(oddText("value"), func(s string) string { return "ErrorDocument 404 \"" + s + "\"" }),
		rapid.Map(oddText("comment"), func(s string) string { return "#" + s }),
		rapid.Map(oddText("inside"), func(s string) string { return "<Directory /srv>\n" + s + "\n</Directory>" }),
		rapid.Map(oddText("argument"), func(s string) string { return "<Location " + s + ">\n</Location>" }),
		rapid.Map(oddText("argument"), func(s string) string { return "<IfDefine " + s + ">\nServerSignature Off\n</IfDefine>" }),
		rapid.Map(oddText("spelling"), func(s string) string { return "Lis\\\nten" + s + " 81" }),
		oddText("anything"),
	)
	return rapid.Map(rapid.SliceOfN(line, 1, 4), func(lines []string) string {
		return "<VirtualHost *:8>\n" + strings.Join(lines, "\n") + "\n</VirtualHost>\n"
	})
}

// structural are complaints about how a text is put together.
var structural = []string{"was not closed", "without matching", "but saw", "missing closing '>'", "directive missing", "Line too long"}

// readAsWeDo checks that what our parser takes for a complete template httpd does too: it reads on to the sentinel behind
// the virtual host, or complains of a directive before, but never of how sections are nested; and that it never listens
// where the template says.
func readAsWeDo(tb testing.TB) func(*rapid.T) {
	webtest.NeedBinary(tb, apacheBinary)
	dir := tb.TempDir()
	conf, site := filepath.Join(dir, "main.conf"), filepath.Join(dir, "site.conf")
	main := "ServerRoot " + dir + "\nServerName localhost\nErrorLog " + dir + "/error.log\nPidFile " + dir + "/pid\nListen 127.0.0.1:8\n" +
		"LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so\nInclude " + site + "\n" + sentinel + " on\n"
	if err := os.WriteFile(conf, []byte(main), 0o600); err != nil {
		tb.Fatal(err)
	}
	return func(t *rapid.T) {
		text := oddTemplate().Draw(t, "template")
		lines, err := parseTemplate(text)
		if err != nil {
			t.Skip("refused: it goes no further")
		}
		out, err := render(lines, rendering{listen: []int{9}, grant: []string{"/srv/x"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(site, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		answer, err := exec.Command(apacheBinary, "-t", "-f", conf).CombinedOutput()
		said := string(answer)
		if err == nil {
			t.Fatalf("the template %q swallows what is behind it:\n%s", text, out)
		}
		for _, complaint := range structural {
			if strings.Contains(said, complaint) {
				t.Fatalf("%q: httpd reads something else: %s\n%s", text, said, out)
			}
		}
		if strings.Contains(strings.ToLower(said), "listen") {
			t.Fatalf("%q: httpd listens: %s", text, said)
		}
	}
}

func TestRealApacheReadsTemplatesAsWeDo(t *testing.T) { rapid.Check(t, readAsWeDo(t)) }

func FuzzRealTest(f *testing.F) { f.Fuzz(rapid.MakeFuzz(readAsWeDo(f))) }
