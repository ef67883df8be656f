package deploy

import (
	"strings"
	"testing"
)

func TestExecLine(t *testing.T) {
	for line, want := range map[string]string{
		"python app.py":                   `/usr/bin/env -- "python" "app.py"`,
		"  ./web\t--port   $PORT ":        `/usr/bin/env -- "./web" "--port" $PORT`,
		"gunicorn -b 0.0.0.0:$PORT app:a": `/usr/bin/env -- "gunicorn" "-b" "0.0.0.0:${PORT}" "app:a"`,
		`a "$B c" '$B' \$B "\$B" ${B}`:    `/usr/bin/env -- "a" "${B} c" "$$B" "$$B" "$$B" $B`,
		`a "${B}"x"y z" ''`:               `/usr/bin/env -- "a" "${B}xy z" ""`,
		`a 100% "q\"q" b\ c d~ e#f 'q"\'`: `/usr/bin/env -- "a" "100%%" "q\"q" "b c" "d~" "e#f" "q\"\\"`,
		`A=1 B=$C run {} ! $`:             `/usr/bin/env -- "A=1" "B=${C}" "run" "{}" "!" "$$"`,
		`echo ü {1,2}`:                    `/usr/bin/env -- "echo" "ü" "{1,2}"`,
		`"exec" x`:                        `/usr/bin/env -- "exec" "x"`,
		"exec python app.py":              `/bin/sh -c "exec python app.py"`,
		"cd web && ./run":                 `/bin/sh -c "cd web && ./run"`,
		"a | b":                           `/bin/sh -c "a | b"`,
		"while sleep 1; do echo $X; done": `/bin/sh -c "while sleep 1; do echo $$X; done"`,
		"a > /tmp/x":                      `/bin/sh -c "a > /tmp/x"`,
		"a *.py":                          `/bin/sh -c "a *.py"`,
		"a $(date +%s)":                   `/bin/sh -c "a $$(date +%%s)"`,
		"a `date`":                        "/bin/sh -c \"a `date`\"",
		`a "${B:-x}" "$(b)"`:              `/bin/sh -c "a \"$${B:-x}\" \"$$(b)\""`,
		"a $1":                            `/bin/sh -c "a $$1"`,
		"a $$":                            `/bin/sh -c "a $$$$"`,
		"a $?":                            `/bin/sh -c "a $$?"`,
		"a # comment":                     `/bin/sh -c "a # comment"`,
		"cat ~/x":                         `/bin/sh -c "cat ~/x"`,
		". ./env":                         `/bin/sh -c ". ./env"`,
		strings.Repeat("x", maxCommand-1): `/usr/bin/env -- "` + strings.Repeat("x", maxCommand-1) + `"`,
	} {
		if got, err := execLine(line); got != want || err != nil {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", line, got, err, want)
		}
	}
	for _, line := range []string{"", "  \t", "a 'b", `a "b`, `a \`, "a\nb", "a\x00b", "a\x1bb", "a\xffb", strings.Repeat("x", maxCommand+1), `a "b\"`} {
		if got, err := execLine(line); err == nil {
			t.Errorf("%q: got %s, want an error", line, got)
		}
	}
}

func FuzzExecLine(f *testing.F) {
	for _, line := range []string{"python app.py", `a "$B c" '$B' \$B`, "a | b", `"`, "${", "$"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, err := execLine(line)
		if err != nil {
			return
		}
		if strings.ContainsAny(got, "\n\r\x00") || !strings.HasPrefix(got, "/usr/bin/env -- ") && !strings.HasPrefix(got, `/bin/sh -c "`) {
			t.Errorf("%q: got %q", line, got)
		}
		// Outside of doubled signs, a percent sign begins a specifier of systemd.
		if strings.Contains(strings.ReplaceAll(got, "%%", ""), "%") {
			t.Errorf("%q: got a specifier in %q", line, got)
		}
	})
}
