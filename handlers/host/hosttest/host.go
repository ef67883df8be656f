package hosttest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/reeve-paas/reeve/handlers/host"
)

// ErrInjected is the cause of a failure asked for with FailCall.
var ErrInjected = errors.New("failure injected by the test")

// Host is a fake host. Its embedded Host is what a handler gets.
type Host struct {
	*host.Host
	Root   string // directory that holds the host's files
	Runner *Runner
	Units  *Units

	tb  testing.TB
	log *callLog
}

// New makes an empty host of the Debian family.
func New(tb testing.TB) *Host { return NewWithLayout(tb, &host.Debian) }

// NewWithLayout makes an empty host with the given layout. The units the layout names are installed, and stopped.
func NewWithLayout(tb testing.TB, layout *host.Layout) *Host {
	tb.Helper()
	root := tb.TempDir()
	log := &callLog{}
	h := &Host{Root: root, tb: tb, log: log}
	h.Runner = &Runner{log: log, programs: map[string]func(host.Cmd) (host.Output, error){}}
	h.Units = newUnits(root, log)
	for _, unit := range []string{layout.ApacheUnit, layout.NginxUnit, layout.MySQLUnit, layout.SSHUnit} {
		h.Units.Install(unit)
	}
	h.Host = host.New(host.Options{Root: root, Runner: h.Runner, Units: h.Units, Layout: layout})
	return h
}

// WriteText puts a file on the host, mode 0644, with the directories above it.
func (h *Host) WriteText(path, text string) {
	h.tb.Helper()
	full := h.Path(path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(text), 0o644)); err != nil {
		h.tb.Fatal(err)
	}
}

// Text is the content of a file of the host; the test ends when there is none.
func (h *Host) Text(path string) string {
	h.tb.Helper()
	data, err := h.ReadFile(path)
	if err != nil {
		h.tb.Fatal(err)
	}
	return string(data)
}

// Tree describes every file below path, one line each: mode, path, link target or content. Two equal trees mean that
// nothing changed, so comparing before and after proves an undo.
func (h *Host) Tree(path string) string {
	h.tb.Helper()
	var b strings.Builder
	top := h.Path(path)
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, h.Root)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			fmt.Fprintf(&b, "%s %s -> %s\n", info.Mode(), name, target)
			return err
		case d.Type().IsRegular():
			data, err := os.ReadFile(p)
			fmt.Fprintf(&b, "%s %s %q\n", info.Mode(), name, data)
			return err
		}
		fmt.Fprintf(&b, "%s %s\n", info.Mode(), name)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.tb.Fatal(err)
	}
	return b.String()
}

// Calls lists the commands and unit calls so far, in order: "run apache2ctl -t", "reload apache2.service",
// "state apache2.service".
func (h *Host) Calls() []string {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	return slices.Clone(h.log.calls)
}

// ClearCalls forgets the calls so far, and any failure that was asked for and did not happen yet.
func (h *Host) ClearCalls() {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	h.log.calls, h.log.fail = nil, nil
}

// FailCall makes the nth command or unit call from now on (1 is the next one) fail with ErrInjected.
func (h *Host) FailCall(n int) { h.failNth("", n) }

// FailCommand makes the nth command from now on fail: it exits with code 1 and ErrInjected's text on stderr.
func (h *Host) FailCommand(n int) { h.failNth("run ", n) }

// FailUnit makes the nth unit call of one verb from now on fail: FailUnit("reload", 1).
func (h *Host) FailUnit(verb string, n int) { h.failNth(verb+" ", n) }

func (h *Host) failNth(prefix string, n int) {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	h.log.fail = append(h.log.fail, &failure{prefix: prefix, left: n})
}

// BreakEachCall proves that a change undoes itself whichever step fails. start makes a fresh host with everything the
// change needs; do performs the change and must succeed on a host where nothing fails; check is called once for each
// command and unit call that do makes, with the error do returned (never nil) after that call failed.
//
// A call whose failure do tolerates on purpose is named in tolerate, as in Calls; with a "*" at its end, by its beginning.
func BreakEachCall(t *testing.T, start func(tb testing.TB) *Host, do func(h *Host) error, check func(t *testing.T, h *Host, err error), tolerate ...string) {
	t.Helper()
	h := start(t)
	h.ClearCalls()
	if err := do(h); err != nil {
		t.Fatalf("without any failure: %v", err)
	}
	for i, call := range h.Calls() {
		t.Run(fmt.Sprintf("call %d fails: %s", i+1, call), func(t *testing.T) {
			h := start(t)
			h.ClearCalls()
			h.FailCall(i + 1)
			err := do(h)
			if err == nil && slices.ContainsFunc(tolerate, func(name string) bool {
				beginning, any := strings.CutSuffix(name, "*")
				return name == call || any && strings.HasPrefix(call, beginning)
			}) {
				return
			}
			if err == nil {
				t.Fatal("got no error")
			}
			check(t, h, err)
		})
	}
}

type failure struct {
	prefix string
	left   int
}

// callLog is the record that commands and unit calls share, so that their order is kept.
type callLog struct {
	mu    sync.Mutex
	calls []string
	fail  []*failure
}

// add records a call and says whether it is to fail.
func (l *callLog) add(call string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, call)
	fails := false
	for _, f := range l.fail {
		if strings.HasPrefix(call, f.prefix) {
			f.left--
			fails = fails || f.left == 0
		}
	}
	return fails
}
