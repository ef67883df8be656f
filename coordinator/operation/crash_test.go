package operation_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// The tests below run an engine in a process of its own that kills itself with SIGKILL at a boundary, and let another
// engine go on from what is left.
const (
	crashDir      = "REEVE_CRASH_DIR"
	crashScenario = "REEVE_CRASH_SCENARIO"
	crashAt       = "REEVE_CRASH_AT"
)

// world is what steps have effects on: files that outlive the process. A step's effect is a file of its name.
type world string

func (w world) note(line string) error {
	f, err := os.OpenFile(filepath.Join(string(w), "journal"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}

func (w world) journal(t testing.TB) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(string(w), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

func (w world) effects(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(string(w), "effect.*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func (w world) step(kind, name string) operation.Step {
	effect := filepath.Join(string(w), "effect."+kind+"."+name)
	return operation.Step{
		Name: name,
		Do: func(_ context.Context, run *operation.Run) error {
			if string(run.Secret()) != "s3cret" {
				return fmt.Errorf("the secret is %q", run.Secret())
			}
			if err := w.note("do:" + kind + "." + name); err != nil {
				return err
			}
			return errors.Join(run.SetOutput(kind+"."+name), os.WriteFile(effect, nil, 0o600))
		},
		Undo: func(_ context.Context, run *operation.Run) error {
			if err := w.note("undo:" + kind + "." + name); err != nil {
				return err
			}
			if err := os.Remove(effect); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		},
	}
}

// definitions of a scenario: "completes", "fails" in two.b, or "is canceled" there.
func (w world) definitions(scenario string, r *rig) []operation.Definition {
	var defs []operation.Definition
	for _, kind := range []string{"one", "two", "three"} {
		defs = append(defs, operation.Definition{Kind: kind, Steps: []operation.Step{w.step(kind, "a"), w.step(kind, "b")}})
	}
	b := &defs[1].Steps[1]
	done := b.Do
	b.Do = func(ctx context.Context, run *operation.Run) error {
		var before string
		if found, err := run.Output("one", "b", &before); !found || err != nil || before != "one.b" {
			return fmt.Errorf("the output of an earlier step is %q (found %v, error %v)", before, found, err)
		}
		if err := done(ctx, run); err != nil {
			return err
		}
		switch scenario {
		case "fails":
			return errors.New("no room")
		case "is canceled":
			return r.cancel(ctx)
		}
		return nil
	}
	return defs
}

// crashEnds are the ends that a scenario may have. Cancel is honoured at the boundary after two.b; when a crash comes
// before two.b is recorded, the one before it comes once more.
var crashEnds = map[string][][]string{
	"completes":   {allCompleted},
	"fails":       {{"one: completed", "two: failed no room", "three: canceled not started: two ended failed"}},
	"is canceled": {{"one: completed", "two: completed", "three: canceled canceled on request"}, allCanceled},
}

// TestCrashChild is the other process; on its own it does nothing.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("it runs only as a part of the crash tests")
	}
	at, err := strconv.Atoi(os.Getenv(crashAt))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Store: openStore(t, dir), ended: make(chan operation.Record, 10)}
	points := 0
	r.start(t, world(dir).definitions(os.Getenv(crashScenario), r), func(operation.Point) {
		if points++; points == at {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	<-r.ended
	os.Exit(3) // it came to the end before
}

// crash starts an engine on dir that is killed at its boundary number at, and says whether there was one.
func crash(t *testing.T, dir, scenario string, at int) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashScenario+"="+scenario, crashAt+"="+strconv.Itoa(at))
	out, err := cmd.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatalf("the other process was not killed: %v\n%s", err, out)
	}
	status := exit.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled() && status.Signal() == syscall.SIGKILL:
		return true
	case status.ExitStatus() == 3:
		return false
	}
	t.Fatalf("the other process failed: %v\n%s", err, out)
	return false
}

// template is a store in which one group waits.
func template(t *testing.T) (dir, group string) {
	t.Helper()
	dir = t.TempDir()
	r := &rig{Store: openStore(t, dir)}
	group = r.enqueue(t, "one", "two", "three").ID
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, group
}

// copyOf spares making all tables again.
func copyOf(t *testing.T, template string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"reeve.db", "master"} {
		data, err := os.ReadFile(filepath.Join(template, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// finish lets an engine go on and checks that nothing tells the end from one without a crash.
func finish(t *testing.T, dir, group, scenario string) {
	t.Helper()
	r := &rig{Store: openStore(t, dir), ended: make(chan operation.Record, 10)}
	stop := r.start(t, world(dir).definitions(scenario, r), nil)
	got := ends(t, r.await(t, group))
	if !slices.ContainsFunc(crashEnds[scenario], func(want []string) bool { return slices.Equal(got, want) }) {
		t.Errorf("got the end %q, want %q", got, crashEnds[scenario])
	}
	stop()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	want := 0
	if scenario == "completes" {
		want = 6
	}
	if left := world(dir).effects(t); len(left) != want {
		t.Errorf("got the effects %v, want %d", left, want)
	}
}

// wantFewRepeats checks that every step was done and undone at most once more than there were crashes, in order.
func wantFewRepeats(t *testing.T, dir string, crashes int) {
	t.Helper()
	lines := world(dir).journal(t)
	unique := slices.Clone(lines)
	slices.Sort(unique)
	unique = slices.Compact(unique)
	if repeats := len(lines) - len(unique); repeats > crashes {
		t.Errorf("got %d steps repeated after %d crashes:\n\t%s", repeats, crashes, strings.Join(lines, "\n\t"))
	}
	if at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "undo:") }); at >= 0 {
		for _, line := range lines[at:] {
			if strings.HasPrefix(line, "do:") {
				t.Errorf("%s was done after undoing had begun", line)
			}
		}
	}
}

func TestAKillAtAnyBoundaryEndsAsWithoutIt(t *testing.T) {
	for scenario, least := range map[string]int{"completes": 18, "fails": 14, "is canceled": 16} {
		t.Run(scenario, func(t *testing.T) {
			waiting, group := template(t)
			n := 1
			for ; ; n++ {
				dir := copyOf(t, waiting)
				killed := crash(t, dir, scenario, n)
				finish(t, dir, group, scenario)
				wantFewRepeats(t, dir, 1)
				if !killed || t.Failed() {
					break
				}
			}
			if n < least {
				t.Errorf("got only %d boundaries, want at least %d", n-1, least)
			}
		})
	}
}

func TestKillsAgainAndAgainEndAsWithoutThem(t *testing.T) {
	for scenario := range crashEnds {
		t.Run(scenario, func(t *testing.T) {
			dir, group := template(t)
			crashes := 0
			for crash(t, dir, scenario, 3) {
				if crashes++; crashes > 40 {
					t.Fatal("the group does not come to its end")
				}
			}
			if crashes < 3 {
				t.Errorf("got only %d crashes", crashes)
			}
			finish(t, dir, group, scenario)
			wantFewRepeats(t, dir, crashes)
		})
	}
}
