package system

import (
	"net/netip"
	"strings"
	"testing"
)

func FuzzMapHost(f *testing.F) {
	f.Add("127.0.0.1 localhost\n10.0.0.8 web alias # c\n", "web")
	f.Add("10.0.0.8 web", "web")
	f.Add("# 1.2.3.4 web\n\n", "web")
	f.Fuzz(func(t *testing.T, hosts, name string) {
		if !hostnameForm.MatchString(name) {
			t.Skip()
		}
		ip := netip.MustParseAddr("10.0.0.5")
		once := string(mapHost([]byte(hosts), ip, name))
		if n := strings.Count("\n"+once, "\n10.0.0.5\t"+name+"\n"); n < 1 {
			t.Errorf("got %q, want a line for %s", once, name)
		}
		if twice := string(mapHost([]byte(once), ip, name)); twice != once {
			t.Errorf("done again it changes: got %q, want %q", twice, once)
		}
	})
}

func FuzzParsers(f *testing.F) {
	f.Add("processor : 0\nflags: a:b\n\nprocessor: 1\n")
	f.Add(`a\040b\9\`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, cpu := range parseCPUInfo(text) {
			if len(cpu) == 0 {
				t.Error("got a CPU without any key")
			}
		}
		if got := unescape(text); len(got) > len(text) || !strings.Contains(text, `\`) && got != text {
			t.Errorf("unescape(%q): got %q", text, got)
		}
		if name := fileName(text); strings.ContainsAny(name, "/\x00\n") || len(name) > 80 || strings.HasPrefix(name, ".") {
			t.Errorf("fileName(%q): got %q", text, name)
		}
		if v, err := parseMetric(text); err == nil {
			if _, err := v.MarshalJSON(); err != nil {
				t.Errorf("parseMetric(%q): got %v, which is no JSON", text, v)
			}
		}
		if s := shorten(text, 5); len([]rune(s)) > 5 {
			t.Errorf("shorten(%q): got %q", text, s)
		}
	})
}
