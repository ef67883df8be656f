package core_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestEveryProblemOfASpec(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *core.Options) { o.MaxDiskGB = 100 })
	b.must(firstErr(b.CreateApp(t.Context(), b.bob, core.AppSpec{Name: "theirs", Type: "phpmysql", SizeID: "s", LocationID: "here", Months: 1,
		Password: password, Routes: []string{"taken.hosted.test"}})))
	accept := func(change func(*core.AppSpec)) (func(*core.AppSpec), string) { return change, "" }
	for name, tc := range map[string]struct {
		change func(*core.AppSpec)
		want   string // field and code of every problem
	}{
		"name empty":               {func(s *core.AppSpec) { s.Name = "" }, "name too_short"},
		"name of 64":               pack(accept(func(s *core.AppSpec) { s.Name = strings.Repeat("ü", 64) })),
		"name of 65":               {func(s *core.AppSpec) { s.Name = strings.Repeat("x", 65) }, "name too_long"},
		"name with a newline":      {func(s *core.AppSpec) { s.Name = "a\nb" }, "name pattern"},
		"name that is no text":     {func(s *core.AppSpec) { s.Name = "a\xff" }, "name pattern"},
		"name with a space":        pack(accept(func(s *core.AppSpec) { s.Name = "my shop" })),
		"size unknown":             {func(s *core.AppSpec) { s.SizeID = "huge" }, "size not_in_list [s m]"},
		"type unknown":             {func(s *core.AppSpec) { s.Type = "cobol" }, "type not_in_list [phpmysql phppgsql nodejspgsql nodejsmysql pythonmysql pythonpgsql rubymysql rubypgsql]"},
		"location unknown":         {func(s *core.AppSpec) { s.LocationID = "nowhere" }, "location not_found"},
		"location number":          pack(accept(func(s *core.AppSpec) { s.LocationID, s.LocationNo = "", 2 })),
		"location number unknown":  {func(s *core.AppSpec) { s.LocationID, s.LocationNo = "", 3 }, "location not_found"},
		"no month":                 {func(s *core.AppSpec) { s.Months = 0 }, "duration too_small"},
		"120 months":               pack(accept(func(s *core.AppSpec) { s.Months = 120 })),
		"121 months":               {func(s *core.AppSpec) { s.Months = 121 }, "duration too_big"},
		"less than no disk":        {func(s *core.AppSpec) { s.ExtraGB = -1 }, "quantity too_small"},
		"as much disk as allowed":  pack(accept(func(s *core.AppSpec) { s.ExtraGB = 90 })),
		"more disk than allowed":   {func(s *core.AppSpec) { s.ExtraGB = 91 }, "quantity too_big"},
		"as much disk as numbers":  {func(s *core.AppSpec) { s.ExtraGB = math.MaxInt }, "quantity too_big"},
		"password of 7":            {func(s *core.AppSpec) { s.Password = "1234567" }, "password password"},
		"password of 8":            pack(accept(func(s *core.AppSpec) { s.Password = "12345678" })),
		"password of 64":           pack(accept(func(s *core.AppSpec) { s.Password = core.Secret(strings.Repeat("ü", 64)) })),
		"password of 65":           {func(s *core.AppSpec) { s.Password = core.Secret(strings.Repeat("x", 65)) }, "password password"},
		"password with a colon":    {func(s *core.AppSpec) { s.Password = "root:root:root" }, "password password"},
		"password with a newline":  {func(s *core.AppSpec) { s.Password = "12345678\n" }, "password password"},
		"password with a NUL":      {func(s *core.AppSpec) { s.Password = "12345678\x00" }, "password password"},
		"no routes":                pack(accept(func(s *core.AppSpec) { s.Routes = nil })),
		"a route that is no name":  {func(s *core.AppSpec) { s.Routes = []string{"../x"} }, "vhosts pattern"},
		"a route twice":            {func(s *core.AppSpec) { s.Routes = []string{"a.hosted.test", "A.hosted.test."} }, "vhosts duplicate"},
		"a route that is taken":    {func(s *core.AppSpec) { s.Routes = []string{"TAKEN.hosted.test"} }, "vhosts taken"},
		"a route without proof":    {func(s *core.AppSpec) { s.Routes = []string{"unhosted.test"} }, "vhosts unproven"},
		"a zone's name at the end": {func(s *core.AppSpec) { s.Routes = []string{"nothosted.test"} }, "vhosts unproven"},
		"101 routes":               {func(s *core.AppSpec) { s.Routes = slices.Repeat([]string{"a.hosted.test"}, 101) }, "vhosts too_big"},
		"all of it, in order": {func(s *core.AppSpec) {
			*s = core.AppSpec{ExtraGB: -1, Routes: []string{"x"}}
		}, "name too_short, size not_in_list [s m], type not_in_list [phpmysql phppgsql nodejspgsql nodejsmysql pythonmysql pythonpgsql rubymysql rubypgsql], location not_found, duration too_small, quantity too_small, password password, vhosts pattern"},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			s := spec()
			tc.change(&s)
			problems, err := b.CheckApp(t.Context(), b.alice, s)
			b.must(err)
			var got []string
			for _, p := range problems {
				line := p.Field + " " + string(p.Code)
				if p.Code == core.ProblemNotInList {
					line += fmt.Sprint(" ", p.Allowed)
				}
				got = append(got, line)
				if strings.Contains(p.Msg, string(s.Password)) && s.Password != "" || strings.ContainsAny(p.Msg, "\n\x00") {
					t.Errorf("the problem tells %q", p.Msg)
				}
			}
			if text := strings.Join(got, ", "); text != tc.want {
				t.Errorf("got %q, want %q", text, tc.want)
			}
			if tc.want == "" {
				return
			}
			before := len(b.operations(core.OperationFilter{}))
			_, _, err = b.CreateApp(t.Context(), b.alice, s)
			want := map[core.ProblemCode]core.Kind{core.ProblemTaken: core.Exists, core.ProblemUnproven: core.Unproven}[problems[0].Code]
			if want == "" {
				want = core.Invalid
			}
			b.wantKind(err, want)
			if n := len(b.operations(core.OperationFilter{})); n != before {
				t.Errorf("got %d operations after a refusal, want %d", n, before)
			}
		})
	}
}

func pack(change func(*core.AppSpec), want string) struct {
	change func(*core.AppSpec)
	want   string
} {
	return struct {
		change func(*core.AppSpec)
		want   string
	}{change, want}
}

func firstErr(_ core.App, _ any, err error) error { return err }

func TestATakenNameIsAProblemAndAFailure(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.create(spec())
	s := spec()
	s.Routes = nil
	problems, err := b.CheckApp(t.Context(), b.alice, s)
	if err != nil || len(problems) != 1 || problems[0].Code != core.ProblemTaken || problems[0].Field != "name" {
		t.Errorf("got %v, %v, want the name taken", problems, err)
	}
	_, _, err = b.CreateApp(t.Context(), b.alice, s)
	b.wantKind(err, core.Exists)
	if problems, err := b.CheckApp(t.Context(), b.bob, s); err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v, want the name free for another account", problems, err)
	}
	b.wantAudit("app.create accepted", "app.create exists")
}

func TestAProvenNameIsAccepted(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := spec()
	s.Routes = []string{"www.mine.example"}
	problems, err := b.CheckApp(t.Context(), b.alice, s)
	if err != nil || len(problems) != 1 || len(problems[0].Allowed) != 2 || problems[0].Allowed[0] != "www.mine.example" {
		t.Fatalf("got %v, %v, want the name and what proves it", problems, err)
	}
	b.zone.publish("www.mine.example", problems[0].Allowed[1])
	if problems, err := b.CheckApp(t.Context(), b.bob, s); err != nil || len(problems) != 1 {
		t.Errorf("got %v, %v, want the proof of one account to be none for another", problems, err)
	}
	b.create(s)
}

func TestAppsNeedAnImageAndAbleClouds(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.world.images = nil
	_, _, err := b.CreateApp(t.Context(), b.alice, spec())
	b.wantKind(err, core.Unavailable)
	if !strings.Contains(err.Error(), "reeve-coordinator image build") {
		t.Errorf("got %q, want what to do", err)
	}
	b.must(b.EnsureRouter(t.Context())) // nothing to make it from is no error
	b.world.info.Volumes = false
	_, _, err = b.CreateApp(t.Context(), b.alice, spec())
	b.wantKind(err, core.Unsupported)
}

func TestNormalHostname(t *testing.T) {
	t.Parallel()
	label63 := strings.Repeat("a", 63)
	long := strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
	for name, want := range map[string]string{ // "" means refused
		"example.org": "example.org", "EXAMPLE.Org": "example.org", "example.org.": "example.org", "*.example.org": "*.example.org",
		"a-b.c3.test": "a-b.c3.test", "bücher.example": "xn--bcher-kva.example", "BÜCHER.example": "xn--bcher-kva.example",
		"xn--bcher-kva.example": "xn--bcher-kva.example", "*.bücher.example": "*.xn--bcher-kva.example",
		label63 + ".test": label63 + ".test", long: long,
		"": "", ".": "", "*": "", "*.": "", "localhost": "", "*.org": "", "example.org..": "", "..example.org": "", "a..b": "", ".a.b": "",
		"../x": "", "../../etc/passwd": "", "a/b.test": "", "a.test/..": "", "a\nb.test": "", "a.test\n": "", "\na.test": "", "a.test\r\nx: y": "",
		"a.test;": "", "a.test{": "", "a.test}": "", "a b.test": "", " a.test": "", "a.test ": "", "a\x00.test": "", "\"a\".test": "", "$host.test": "",
		"~a.test": "", "a.test\"": "", "-a.test": "", "a-.test": "", "a_b.test": "", "**.test.org": "", "a.*.test": "", "*a.test": "", "*.*.test": "",
		label63 + "a.test": "", long + "c": "", strings.Repeat("a.", 150) + "b": "", strings.Repeat("ü.", 10000) + "b": "",
		"a.test:80": "", "[::1]": "", "10.0.0.1": "", "*.0.1": "", "1.2.3": "", "a.b1": "a.b1", "1.2.xn--p1ai": "1.2.xn--p1ai", "\xff.test": "", "a\u2028b.test": "", "xn--\u00fc.test": "",
	} {
		got, ok := core.NormalHostname(name)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%.80q: got %q %v, want %q", name, got, ok, want)
		}
		if again, ok2 := core.NormalHostname(got); ok && (!ok2 || again != got) {
			t.Errorf("%q: normal form changes to %q", got, again)
		}
	}
}

func TestAddMonths(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		from   string
		months int
		want   string
	}{
		{"2011-09-14T14:36:30Z", 1, "2011-10-14T14:36:30Z"},
		{"2023-01-31T00:00:00Z", 1, "2023-02-28T00:00:00Z"},
		{"2024-01-31T23:59:59Z", 1, "2024-02-29T23:59:59Z"},
		{"2024-02-29T12:00:00Z", 12, "2025-02-28T12:00:00Z"},
		{"2024-02-29T12:00:00Z", 48, "2028-02-29T12:00:00Z"},
		{"2024-12-31T12:00:00Z", 2, "2025-02-28T12:00:00Z"},
		{"2024-03-31T12:00:00Z", 1, "2024-04-30T12:00:00Z"},
		{"2024-11-30T12:00:00Z", 120, "2034-11-30T12:00:00Z"},
		{"2024-05-31T12:00:00Z", 0, "2024-05-31T12:00:00Z"},
	} {
		from, err := time.Parse(time.RFC3339, tc.from)
		if err != nil {
			t.Fatal(err)
		}
		if got := core.AddMonths(from, tc.months).Format(time.RFC3339); got != tc.want {
			t.Errorf("%s and %d months: got %s, want %s", tc.from, tc.months, got, tc.want)
		}
	}
}

func TestOwnershipToken(t *testing.T) {
	t.Parallel()
	secret, other := []byte("one secret"), []byte("another secret")
	token := core.OwnershipToken(secret, "acc-1", "a.test")
	if len(token) != 32 || strings.Trim(token, "0123456789abcdef") != "" {
		t.Errorf("got %q, want 32 hex digits", token)
	}
	if again := core.OwnershipToken(secret, "acc-1", "a.test"); again != token {
		t.Errorf("got %q and %q for the same name", token, again)
	}
	for _, differs := range []string{core.OwnershipToken(other, "acc-1", "a.test"), core.OwnershipToken(secret, "acc-2", "a.test"),
		core.OwnershipToken(secret, "acc-1", "b.test"), core.OwnershipToken(secret, "acc-1a", ".test")} {
		if differs == token {
			t.Errorf("got %q for something else, too", differs)
		}
	}
}
