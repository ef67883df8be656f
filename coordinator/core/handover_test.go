package core_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

const aliceKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0m0b4m0b4m0b4m0b4m0b4m0b4m0b4m0b4m0b4m0b4m alice@laptop"

// callMethod is what hosts do for methods that core has no typed call for.
func (a agentOf) callMethod(ctx context.Context, method string, params, result any) error {
	return a.do(ctx, method, func(h *host) error {
		service, verb, _ := strings.Cut(method, ".")
		switch p := params.(type) {
		case agentapi.EnableServiceParams:
			delete(h.enabled, p.Service)
		default:
			switch verb {
			case "get_service_status":
				if *result.(*int) = 3; h.started[service] {
					*result.(*int) = 0
				}
			case "stop_service":
				delete(h.started, service)
			}
		}
		return nil
	})
}

// host is what the only node's agent keeps.
func (b *bed) host() *host {
	b.Helper()
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	if len(b.world.hosts) != 1 {
		b.Fatalf("got %d hosts, want one", len(b.world.hosts))
	}
	return slices.Collect(maps.Values(b.world.hosts))[0]
}

// traces is everything that handing over makes on a host.
func (h *host) traces() string {
	return fmt.Sprint(h.databases, h.users, slices.Sorted(maps.Keys(h.apps)), h.vhosts, h.enabled, h.started)
}

// started is a bed with one node that runs, in a cloud whose machines stay or not.
func started(t *testing.T, permanent bool) (*bed, core.CloudNode) {
	b := newBed(t)
	b.world.info.Permanent = permanent
	b.work()
	_, err := b.AddSSHKey(t.Context(), b.alice, "laptop", aliceKey)
	b.must(err)
	spec := node("one")
	spec.KeyName = "laptop"
	n, err := b.StartNode(t.Context(), b.alice, "mem", spec)
	b.must(err)
	b.until("the node's agent", func() bool { return len(b.unfinished()) == 0 })
	return b, n
}

func TestAnAssignedNodeServesItsUser(t *testing.T) {
	t.Parallel()
	b, n := started(t, true)
	clean := b.host().traces()
	a, err := b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "Alice@example.test", "phpmysql")
	if err != nil || a.State != core.AllocationAssigned || a.Login != "alice" {
		t.Fatalf("got %+v, %v", a, err)
	}
	h := b.host()
	for name, app := range h.apps {
		if app.Platform != "php" || app.Login.User != "alice" || !app.Login.Shell || !slices.Equal(app.Login.Keys, []string{aliceKey}) {
			t.Errorf("got the app %s %+v, want PHP with alice's key", name, app)
		}
		if app.Env["MYSQL_PASSWORD"] == "" || string(app.Env["MYSQL_PASSWORD"]) != h.users["n1"] {
			t.Errorf("the app does not know its database's password")
		}
	}
	if len(h.apps) != 1 || !h.databases["n1"] || !h.started["apache"] || !h.enabled["mysql"] || !strings.Contains(h.vhosts["one"], "<VirtualHost *:80 10.0.0.1:80>\n") {
		t.Errorf("got %s and the virtual host %s", h.traces(), h.vhosts["one"])
	}
	_, err = b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "bob", "php")
	b.wantKind(err, core.Busy)
	a, destroyed, err := b.ReleaseNode(t.Context(), b.alice, "mem", "", "one")
	if err != nil || destroyed || a.User != "" {
		t.Fatalf("got %+v, destroyed %t, %v", a, destroyed, err)
	}
	if got := b.host().traces(); got != clean {
		t.Errorf("got %s after the release, want %s", got, clean)
	}
	b.wantPool("one ")
	_, err = b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "carol", "static") // and again, for somebody without an account
	b.must(err)
	if app := b.host().apps["n1"]; app.Platform != "static" || app.Login.User != "carol" || !slices.Equal(app.Login.Keys, []string{aliceKey}) {
		t.Errorf("got %+v, want carol with the key that the node was started with", app)
	}
}

func TestServicesThatRanBeforeGoOnRunning(t *testing.T) {
	t.Parallel()
	b, n := started(t, true)
	b.host().started["apache"] = true
	_, err := b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "alice", "php")
	b.must(err)
	_, _, err = b.ReleaseNode(t.Context(), b.alice, "mem", n.ID, "")
	b.must(err)
	if !b.host().started["apache"] {
		t.Error("the machine's own web server was stopped")
	}
}

func TestAReleasedNodeOfACloudIsDestroyed(t *testing.T) {
	t.Parallel()
	b, n := started(t, false)
	_, err := b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "alice", "php")
	b.must(err)
	_, destroyed, err := b.ReleaseNode(t.Context(), b.alice, "mem", n.ID, "")
	if err != nil || !destroyed {
		t.Errorf("got destroyed %t, %v", destroyed, err)
	}
	b.wantPool()
	b.wantTraces(0, 0, 0)
}

// TestAssignmentsThatFailLeaveTheNodeFree breaks every call of an assignment once, for good and for a while.
func TestAssignmentsThatFailLeaveTheNodeFree(t *testing.T) {
	t.Parallel()
	b, n := started(t, true)
	clean := b.host().traces()
	b.world.arm(nil)
	_, err := b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "alice", "phpmysql")
	b.must(err)
	calls := b.world.made()
	_, _, err = b.ReleaseNode(t.Context(), b.alice, "mem", n.ID, "")
	b.must(err)
	for i, name := range calls {
		b.world.arm(map[int]error{i + 1: permanent})
		_, err := b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "alice", "phpmysql")
		if err == nil {
			t.Errorf("call %d, %s: got no failure", i+1, name)
			b.world.arm(nil)
			_, _, err = b.ReleaseNode(t.Context(), b.alice, "mem", n.ID, "")
			b.must(err)
			continue
		}
		if got := b.host().traces(); got != clean {
			t.Errorf("call %d, %s failed: got %s on the host, want %s", i+1, name, got, clean)
		}
		b.wantPool("one ")
		b.world.arm(map[int]error{i + 1: temporary})
		_, err = b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "alice", "phpmysql")
		if i > 1 && err != nil { // the first two are the request's own look at the cloud
			t.Errorf("call %d, %s failed for a moment: got %v", i+1, name, err)
		}
		b.world.arm(nil)
		if err == nil {
			_, _, err = b.ReleaseNode(t.Context(), b.alice, "mem", n.ID, "")
			b.must(err)
		}
	}
}

// TestAnswersThatAreLostChangeNothing loses the answer to every call of assigning and releasing once: what was done is done
// again.
func TestAnswersThatAreLostChangeNothing(t *testing.T) {
	t.Parallel()
	b, n := started(t, true)
	clean := b.host().traces()
	assign := func() {
		b.Helper()
		_, err := b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "alice", "phpmysql")
		b.must(err)
	}
	release := func() {
		b.Helper()
		_, _, err := b.ReleaseNode(t.Context(), b.alice, "mem", n.ID, "")
		b.must(err)
	}
	b.world.arm(nil)
	assign()
	assigning := len(b.world.made())
	b.world.arm(nil)
	release()
	releasing := len(b.world.made())
	for i := 3; i <= max(assigning, releasing); i++ { // the first two are the request's own look at the cloud
		b.world.arm(nil)
		b.world.lose(i)
		assign()
		if h := b.host(); len(h.apps) != 1 || !h.databases["n1"] || !h.started["apache"] {
			t.Errorf("answer %d lost: got %s", i, h.traces())
		}
		b.world.arm(nil)
		b.world.lose(i)
		release()
		if got := b.host().traces(); got != clean {
			t.Errorf("answer %d lost: got %s after the release, want %s", i, got, clean)
		}
	}
}

// lose lets the answer to a call be lost, once.
func (w *world) lose(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loses = map[int]error{n: temporary}
}

func TestANodeThatCannotBeCleanedIsNotFree(t *testing.T) {
	t.Parallel()
	b, n := started(t, true)
	_, err := b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "alice", "php")
	b.must(err)
	b.world.always("DeleteApp", core.Wrap(core.Internal, core.ObjNode, agentapi.Errorf(agentapi.KindInternal, "LinuxError", "No space left on device"), "deploy.delete_app on one"))
	_, _, err = b.ReleaseNode(t.Context(), b.alice, "mem", n.ID, "")
	b.wantKind(err, core.Invalid)
	if err == nil || !strings.Contains(err.Error(), "No space left on device") {
		t.Errorf("got %v, want the node's own reason", err)
	}
	b.wantPool("one alice")
	_, err = b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", "bob", "php")
	b.wantKind(err, core.Busy)
	b.world.always("DeleteApp", nil)
	_, _, err = b.ReleaseNode(t.Context(), b.alice, "mem", n.ID, "")
	b.must(err)
	b.wantPool("one ")
}

// TestAnAssignmentToANodeThatDoesNotAnswer is given up without waiting once more for what was never set up.
func TestAnAssignmentToANodeThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	b, n := started(t, true)
	b.world.always("Hostname", core.Errorf(core.Unavailable, core.ObjNode, "the agent of one gives no answer"))
	b.world.arm(nil)
	done := make(chan error)
	go func() {
		_, err := b.AssignNode(context.WithoutCancel(t.Context()), b.alice, "mem", n.ID, "", "alice", "php")
		done <- err
	}()
	b.until("the agent to be asked", func() bool { return slices.Contains(b.world.made(), "Hostname") })
	stored := b.nodes(core.NodeFilter{})[0]
	b.must(b.store.Update(t.Context(), func(tx core.Tx) error { _, err := tx.RequestCancel(string(stored.ID), ""); return err }))
	if err := <-done; err == nil {
		t.Error("got no failure")
	}
	if made := b.world.made(); slices.Contains(made, "DeleteApp") {
		t.Errorf("got the calls %q, want nothing taken back", made)
	}
	b.wantPool("one ")
}

func TestAssignmentsThatAreRefused(t *testing.T) {
	t.Parallel()
	b, n := started(t, true)
	for _, tc := range [][2]string{{"alice", "cobol"}, {"alice", "PHP"}, {"-x", "php"}, {"0day", "php"}, {"@x", "php"}, {strings.Repeat("a", 33), "php"}, {"é", "php"}} {
		_, err := b.AssignNode(t.Context(), b.alice, "mem", n.ID, "", tc[0], tc[1])
		if core.KindOf(err) != core.Invalid {
			t.Errorf("%q: got %v, want invalid", tc, err)
		}
	}
	b.wantPool("one ")
	if len(b.host().apps) > 0 {
		t.Error("something was set up nevertheless")
	}
}

func TestReleasingWhileANodeIsBeingAssigned(t *testing.T) {
	t.Parallel()
	b, n := started(t, true)
	clean := b.host().traces()
	waits, release := b.world.hold("CreateApp")
	done := make(chan error)
	go func() {
		_, err := b.AssignNode(context.WithoutCancel(t.Context()), b.alice, "mem", n.ID, "", "alice", "php")
		done <- err
	}()
	<-waits
	freed := make(chan error)
	go func() {
		_, _, err := b.ReleaseNode(context.WithoutCancel(t.Context()), b.alice, "mem", n.ID, "")
		freed <- err
	}()
	b.until("the release to wait", func() bool { return len(b.unfinished()) == 2 })
	release()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("got %v, want the assignment canceled", err)
	}
	b.must(<-freed)
	b.wantPool("one ")
	if got := b.host().traces(); got != clean {
		t.Errorf("got %s, want %s", got, clean)
	}
}

func TestKeysThatNodesLetIn(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for name, text := range map[string]string{"laptop": aliceKey, "odd": "my-key", "forced": `command="sh" ` + strings.Replace(aliceKey, "IB0m", "IB1m", 1),
		"other kind": "ssh-rsa " + strings.Fields(strings.Replace(aliceKey, "IB0m", "IB2m", 1))[1]} {
		_, err := b.AddSSHKey(t.Context(), b.alice, name, text)
		b.must(err)
	}
	for _, name := range []string{"desktop", "odd", "forced", "other kind"} {
		s := node("one")
		s.KeyName = name
		_, err := b.StartNode(t.Context(), b.alice, "mem", s)
		if e, ok := err.(*core.Error); !ok || e.Kind != core.NotFound || e.Object != core.ObjKey {
			t.Errorf("%s: got %v, want the key not found", name, err)
		}
	}
	s := node("one")
	s.KeyName = "laptop"
	_, err := b.StartNode(t.Context(), b.bob, "mem", s) // a name is one's own
	b.wantKind(err, core.NotFound)
	if len(b.nodes(core.NodeFilter{})) > 0 {
		t.Error("got a node nevertheless")
	}
}
