package core_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

var (
	temporary = core.Errorf(core.Unavailable, core.ObjNode, "no answer")
	permanent = core.Wrap(core.Invalid, core.ObjNode, fmt.Errorf("open /var/lib/x: SELECT secret"), "it cannot be")
)

// clean is the calls that creating and deleting an app make when nothing fails.
func (b *bed) clean(s core.AppSpec) (creating, deleting []string) {
	b.Helper()
	b.world.arm(nil)
	app, ops := b.create(s)
	b.wantStatuses(b.ends(ops...), "completed", "completed", "completed")
	creating = b.world.made()
	b.world.arm(nil)
	b.wantStatuses(b.delete(app), "completed")
	deleting = b.world.made()
	b.wantTraces(0, 0, 0)
	return creating, deleting
}

func TestBreakEachCallOnce(t *testing.T) {
	t.Parallel()
	units := spec()
	units.Type = "pythonpgsql"
	breakEachCall(t, spec())
	breakEachCall(t, units)
}

func breakEachCall(t *testing.T, s core.AppSpec) {
	const shares = 4 // beds at once: most of the time goes by in pauses before another attempt
	for share := range shares {
		t.Run(fmt.Sprintf("%s share %d", s.Type, share), func(t *testing.T) {
			t.Parallel()
			b := newBed(t).work()
			b.router()
			b.secondRouter()
			creating, deleting := b.clean(s)
			if len(creating) < 18 || len(deleting) < 6 {
				t.Fatalf("got only the calls %v and %v", creating, deleting)
			}
			// Every case takes the same name and routes, so it also proves that the one before left none of them taken.
			for n := 1 + share; n <= len(creating); n += shares {
				b.breakCreation(s, n, creating[n-1])
			}
			for n := 1 + share; n <= len(deleting); n += shares {
				b.breakDeletion(s, n, deleting[n-1])
			}
		})
	}
}

func (b *bed) breakCreation(s core.AppSpec, n int, call string) {
	b.T.Run(fmt.Sprintf("%s (%d) fails for a while and creation goes on", call, n), func(t *testing.T) {
		b := b.in(t)
		b.world.arm(map[int]error{n: temporary})
		app, ops := b.create(s)
		b.wantStatuses(b.ends(ops...), "completed", "completed", "completed")
		b.wantTraces(1, 1, 4)
		b.world.arm(nil)
		b.wantStatuses(b.delete(app), "completed")
		b.wantTraces(0, 0, 0)
		b.wantNothingOf(app)
	})
	b.T.Run(fmt.Sprintf("%s (%d) fails for good and all is taken back", call, n), func(t *testing.T) {
		b := b.in(t)
		b.world.arm(map[int]error{n: permanent, n + 1: temporary}) // the first call of the undo has to be repeated, too
		app, ops := b.create(s)
		b.wantFailed(b.ends(ops...))
		b.wantTraces(0, 0, 0)
		if got, err := b.App(t.Context(), b.alice, app.Num); err != nil || got.State != core.AppFailed || len(got.Nodes) > 0 || got.Routes[0].State != core.RouteFailed {
			t.Errorf("got the app %+v, %v, want it failed and without a node", got, err)
		}
		b.world.arm(nil)
		b.wantStatuses(b.delete(app), "completed")
		b.wantNothingOf(app)
	})
}

func (b *bed) breakDeletion(s core.AppSpec, n int, call string) {
	b.T.Run(fmt.Sprintf("%s (%d) of a deletion fails", call, n), func(t *testing.T) {
		b := b.in(t)
		b.world.arm(nil)
		app, ops := b.create(s)
		b.ends(ops...)
		b.world.arm(map[int]error{n: permanent})
		b.wantFailed(b.delete(app))
		if got, err := b.App(t.Context(), b.alice, app.Num); err != nil || got.State != core.AppDeleting {
			t.Errorf("got the app %+v, %v, want it still there and deleting", got, err)
		}
		b.world.arm(map[int]error{1: temporary})
		b.wantStatuses(b.delete(app), "completed")
		b.wantTraces(0, 0, 0)
		b.wantNothingOf(app)
	})
}

// in is the bed in a subtest.
func (b *bed) in(t *testing.T) *bed {
	sub := *b
	sub.T = t
	return &sub
}

// wantFailed checks that one operation failed in words fit for callers, and that none came after it.
func (b *bed) wantFailed(ops []operation.Record) {
	b.Helper()
	got := statuses(ops)
	i := slices.Index(got, operation.StatusFailed)
	if i < 0 || slices.Contains(got[i+1:], operation.StatusCompleted) || slices.Contains(got[:i], operation.StatusCanceled) {
		b.Errorf("got the statuses %q, want one failed and none completed after it", got)
		return
	}
	if text := ops[i].Error; !strings.HasSuffix(text, "it cannot be") || strings.Contains(text, "/var") {
		b.Errorf("got the reason %q, want it to end in what callers may read", text)
	}
}

func TestAnUndoThatFailsIsMadeUpForByDeletion(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	b.world.arm(nil)
	b.world.always("MountVolume", permanent)
	b.world.always("DestroyNode", permanent)
	b.world.always("DestroyVolume", permanent)
	app, ops := b.create(spec())
	got := b.ends(ops...)
	b.wantStatuses(got, "completed", "failed", "canceled")
	if text := got[1].Error; !strings.Contains(text, "could not be undone") || strings.Contains(text, "/var") {
		t.Errorf("got the reason %q, want what was left behind, without paths", text)
	}
	b.wantTraces(1, 1, 0)
	if !strings.Contains(b.log.String(), "/var/lib/x") {
		t.Error("the log does not have the whole error")
	}
	for _, name := range []string{"MountVolume", "DestroyNode", "DestroyVolume"} {
		b.world.always(name, nil)
	}
	b.wantStatuses(b.delete(app), "completed")
	b.wantTraces(0, 0, 0)
	b.wantNothingOf(app)
}

func TestABusyCloudIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t).work()
	b.router()
	busy := core.Errorf(core.Busy, core.ObjVolume, "later")
	creating, _ := b.clean(spec())
	for _, call := range []string{"CreateNode", "CreateVolume", "AttachVolume"} {
		b.world.arm(map[int]error{slices.Index(creating, call) + 1: busy})
		app, ops := b.create(spec())
		b.wantStatuses(b.ends(ops...), "completed", "completed", "completed")
		b.world.arm(nil)
		b.delete(app)
	}
	b.wantTraces(0, 0, 0)
}

func TestCallersReadClassifiedMessagesOnly(t *testing.T) {
	t.Parallel()
	inner := fmt.Errorf("dial tcp 10.66.0.2:8010: refused")
	agent := agentapi.Errorf(agentapi.KindConfigTest, "InitdError", "syntax error in line 3")
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"an unclassified error is internal", inner, "internal error; the log says more about operation op-1"},
		{"a classified cause is told, what it wraps is not", core.Wrap(core.Internal, "", core.Wrap(core.Unavailable, "", inner, "no answer"), "mount"), "mount: no answer"},
		{"a plain wrapper in between says nothing", core.Wrap(core.Internal, "", fmt.Errorf("at /var: %w", core.Errorf(core.Quota, "", "full")), "mount"), "mount: full"},
		{"an internal error says where to read on", core.Wrap(core.Internal, "", inner, "mount"), "mount: internal error; the log says more about operation op-1"},
		{"one without a cause is all there is", core.Errorf(core.Internal, "", "the node did not boot"), "the node did not boot"},
		{"what an agent says is told", core.Wrap(core.Invalid, "", agent, "make the app"), "make the app: InitdError: syntax error in line 3"},
		{"a reason to wait is told", operation.RetryAfter(1, "no router yet"), "no router yet"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := core.PublicError("op-1", tc.err); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
