package director_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func (b *bed) decrement(cert tlsCert, sid int64, n string) answer {
	b.Helper()
	return b.post(cert, "/callback/decrementUserCredit.php", "sid", itoa(sid), "decrement", n)
}

const (
	enough = `{"error":false}`
	broke  = `{"error":true}`
)

func TestCredit(t *testing.T) {
	b := newBed(t)
	u := b.user("ann", "5")
	sid := sidOf(b.start(u, "php"))
	manager := b.manager(u, sid)
	t.Run("43. a service costs one", func(t *testing.T) {
		b.want("credit", b.credit(u), 4)
		b.want("login says the same", b.post(nil, "/login", "username", "ann", "password", u.password).object(t)["credit"], 4)
		b.want("user_config, too", b.get(u.cert, "/user_config").object(t)["credit"], 4)
	})
	t.Run("44. without credit nothing starts", func(t *testing.T) {
		poor := b.user("poor", "0")
		b.wantFailure("start", b.post(poor.cert, "/start/php"), "Error upon service creation: Could not add nodes. Not enough credits.")
		b.wantBody("list", b.get(poor.cert, "/list"), 200, "[]")
		b.want("credit", b.credit(poor), 0)
	})
	t.Run("45. a start that fails gives its credit back and leaves nothing", func(t *testing.T) {
		nodes, addresses := b.cloud.count()
		for _, call := range []string{"CreateNode", "Hostname"} {
			b.cloud.fail(call, core.Errorf(core.Invalid, core.ObjNode, "not today"))
			b.wantFailure(call, b.post(u.cert, "/start/php"), "")
			b.cloud.fail(call, nil)
			b.until("the credit to be back", func() bool { return b.credit(u) == 4 })
			b.until("nothing to be left", func() bool { n, a := b.cloud.count(); return n == nodes && a == addresses })
			b.want("services", len(b.get(u.cert, "/list").list(t)), 1)
		}
	})
	t.Run("46. a manager takes credit", func(t *testing.T) {
		b.wantBody("one", b.decrement(manager, sid, "1"), 200, enough)
		b.want("credit", b.credit(u), 3)
	})
	t.Run("47. down to nothing, and no further", func(t *testing.T) {
		b.wantBody("all", b.decrement(manager, sid, "3"), 200, enough)
		b.want("credit", b.credit(u), 0)
		b.wantBody("one more", b.decrement(manager, sid, "1"), 200, broke)
		b.want("credit", b.credit(u), 0)
	})
	b.must(b.store.Update(t.Context(), func(tx core.Tx) error { return tx.GiveCredit(u.account.ID, 6) }))
	t.Run("48. more than there is takes nothing", func(t *testing.T) {
		b.wantBody("seven", b.decrement(manager, sid, "7"), 200, broke)
		b.want("credit", b.credit(u), 6)
	})
	t.Run("49. nor does what is no positive number", func(t *testing.T) {
		for _, n := range []string{"0", "-5", "abc", "1.5", "", "99999999999999999999", "10001"} {
			b.wantBody(n, b.decrement(manager, sid, n), 200, broke)
		}
		b.wantBody("missing", b.post(manager, "/callback/decrementUserCredit.php", "sid", itoa(sid)), 200, broke)
		b.want("credit", b.credit(u), 6)
	})
	t.Run("50. nor for another service", func(t *testing.T) {
		other := sidOf(b.start(u, "php"))
		b.wantBody("another", b.decrement(manager, other, "1"), 200, broke)
		b.wantBody("missing", b.post(manager, "/callback/decrementUserCredit.php", "decrement", "1"), 200, broke)
		b.want("credit", b.credit(u), 5)
	})
	t.Run("53. multipart and query do as urlencoded", func(t *testing.T) {
		b.wantBody("multipart", b.upload(manager, "/callback/decrementUserCredit.php", nil, "sid", itoa(sid), "decrement", "1"), 200, enough)
		b.wantBody("query", b.upload(manager, "/callback/decrementUserCredit.php?decrement=1&sid="+itoa(sid), nil), 200, enough)
		b.want("credit", b.credit(u), 3)
	})
	t.Run("54. a manager whose service ended takes none", func(t *testing.T) {
		b.wantBody("stop", b.post(u.cert, "/stop/"+itoa(sid)), 200, "true")
		if got := b.decrement(manager, sid, "1"); string(got.body) != "false" {
			t.Errorf("got %d %q", got.status, got.body)
		}
		b.want("credit", b.credit(u), 3)
	})
	t.Run("a manager ends its own service and no other", func(t *testing.T) {
		sid := sidOf(b.start(u, "php"))
		manager := b.manager(u, sid)
		b.wantBody("another", b.post(manager, "/callback/terminateService.php", "sid", itoa(sid-1)), 200, broke)
		b.wantBody("its own", b.post(manager, "/callback/terminateService.php", "sid", itoa(sid)), 200, enough)
		b.want("services", len(b.get(u.cert, "/list").list(t)), 1)
	})
}

func TestCreditAtOnce(t *testing.T) {
	b := newBed(t)
	t.Run("51. fifty decrements of twenty", func(t *testing.T) {
		u := b.user("ann", "21")
		sid := sidOf(b.start(u, "php"))
		manager := b.manager(u, sid)
		answers := inParallel(50, func(int) string { return string(b.decrement(manager, sid, "1").body) })
		good := len(slices.DeleteFunc(answers, func(s string) bool { return s != enough }))
		b.want("accepted", good, 20)
		b.want("credit", b.credit(u), 0)
	})
	t.Run("52. ten starts of three", func(t *testing.T) {
		u := b.user("bob", "3")
		inParallel(10, func(int) string { return string(b.post(u.cert, "/start/php").body) })
		services := int64(len(b.get(u.cert, "/list").list(t)))
		b.want("services", services, 3)
		b.want("credit", b.credit(u), 0)
	})
}

// TestCreditSums is the sum of everything: two users, a hundred starts and stops side by side, some of which fail.
func TestCreditSums(t *testing.T) {
	b := newBed(t)
	users := []*someone{b.user("ann", "50"), b.user("bob", "30")}
	var mu sync.Mutex
	started := map[string]int64{}
	inParallel(100, func(i int) string {
		u := users[i%2]
		got := b.post(u.cert, "/start/php").object(t)
		sid, ok := got["sid"].(float64)
		if !ok {
			return "refused"
		}
		mu.Lock()
		started[u.name]++
		mu.Unlock()
		if i%3 == 0 {
			b.post(u.cert, "/stop/"+itoa(int64(sid)))
		}
		return "started"
	})
	for i, u := range users {
		have := []int64{50, 30}[i]
		b.want(u.name+" pays for each start once", b.credit(u), have-started[u.name])
	}
	b.want("bob starts as many as he can pay", started["bob"], 30)
	for _, u := range users {
		for _, row := range b.get(u.cert, "/list").list(t) {
			b.post(u.cert, "/stop/"+itoa(sidOf(row)))
		}
	}
	b.until("the end of every node and address", func() bool { n, a := b.cloud.count(); return n == 0 && a == 0 })
	for i, u := range users {
		b.want(u.name+" pays nothing for stopping", b.credit(u), []int64{50, 30}[i]-started[u.name])
	}
}

func inParallel(n int, do func(int) string) []string {
	answers := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { answers[i] = do(i) })
	}
	wg.Wait()
	return answers
}

func TestHours(t *testing.T) {
	charge := func(t *testing.T, b *bed) { t.Helper(); b.must(b.core.ChargeHours(t.Context())) }
	t.Run("each started hour of a node costs one, once", func(t *testing.T) {
		b := newBed(t)
		u := b.user("ann", "20")
		b.start(u, "php")
		b.start(u, "php")
		b.want("at the start", b.credit(u), 18)
		b.now.pass(59 * time.Minute)
		charge(t, b)
		b.want("within the hour", b.credit(u), 18)
		b.now.pass(2 * time.Minute)
		inParallel(5, func(int) string { return fmt.Sprint(b.core.ChargeHours(t.Context())) })
		b.want("in the second hour", b.credit(u), 16)
		b.now.pass(3 * time.Hour)
		charge(t, b)
		charge(t, b)
		b.want("three hours later, after a long pause", b.credit(u), 10)
	})
	t.Run("a wall clock that is set moves no hour", func(t *testing.T) {
		b := newBed(t)
		u := b.user("ann", "20")
		b.start(u, "php")
		for _, step := range []time.Duration{48 * time.Hour, -96 * time.Hour, 30 * time.Minute} {
			b.now.set(step)
			charge(t, b)
			b.want(fmt.Sprintf("after a step of %s", step), b.credit(u), 19)
		}
		b.now.pass(61 * time.Minute)
		charge(t, b)
		b.want("when an hour went by", b.credit(u), 18)
	})
	t.Run("over a restart of the machine the time counts that went by", func(t *testing.T) {
		b := newBed(t)
		u := b.user("ann", "20")
		b.start(u, "php")
		b.now.mu.Lock()
		b.now.boot, b.now.start = "boot-2", time.Now()
		b.now.mu.Unlock()
		charge(t, b)
		b.want("at once", b.credit(u), 19)
		b.now.pass(61 * time.Minute)
		charge(t, b)
		b.want("an hour later", b.credit(u), 18)
	})
	t.Run("a service that counts itself is not charged twice", func(t *testing.T) {
		b := newBed(t)
		u := b.user("ann", "20")
		sid := sidOf(b.start(u, "php"))
		manager := b.manager(u, sid)
		for hour := range 3 {
			b.now.pass(55 * time.Minute)
			b.wantBody("its manager pays", b.decrement(manager, sid, "1"), 200, enough)
			b.now.pass(5*time.Minute + time.Second)
			charge(t, b)
			b.want("credit", b.credit(u), 18-hour)
		}
		b.now.pass(2 * time.Hour)
		charge(t, b)
		b.want("when it stops paying, the hours are charged", b.credit(u), 14)
	})
	t.Run("when the credit ends the youngest services end, and the older stay", func(t *testing.T) {
		b := newBed(t)
		u, other := b.user("ann", "5"), b.user("bob", "5")
		first := sidOf(b.start(u, "php"))
		b.start(u, "php")
		b.start(u, "php")
		b.start(other, "php")
		b.want("credit", b.credit(u), 2)
		b.now.pass(61 * time.Minute)
		charge(t, b)
		b.until("the end of the third", func() bool { return len(b.get(u.cert, "/list").list(t)) == 2 })
		b.want("credit", b.credit(u), 0)
		b.now.pass(time.Hour)
		charge(t, b)
		b.until("the end of all", func() bool { n, _ := b.cloud.count(); return n == 1 && len(b.get(u.cert, "/list").list(t)) == 0 })
		b.want("credit is never negative", b.credit(u), 0)
		b.want("others pay and stay", b.credit(other), 2)
		_ = first
	})
}
