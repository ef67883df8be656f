//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestOneInstanceThroughBothDialects changes through either API and looks through the other.
func TestOneInstanceThroughBothDialects(t *testing.T) {
	t.Parallel()
	s := newSite(t, 44)
	s.start(0)
	router := s.nodeWith("router")
	o := s.orchestrator(t)
	listed := func(name string) map[string]any {
		rows, _ := o.must(t, "GET", "/nodes/nspawn", "")["nodes"].([]any)
		for _, r := range rows {
			if m, _ := r.(map[string]any); m["name"] == name {
				return m
			}
		}
		return nil
	}
	refused := func(t *testing.T, id any) {
		t.Helper()
		for path, body := range map[string]string{
			"/vm/stop/nspawn":           fmt.Sprintf(`{"node": %q}`, id),
			"/vm/action/assign/nspawn":  fmt.Sprintf(`{"node": %q, "user": "eve", "vm_type": "php"}`, id),
			"/vm/action/release/nspawn": fmt.Sprintf(`{"node": %q}`, id),
		} {
			if status, answer := o.try(t, "PUT", path, body); status != 400 || answer["status"] != "error" || answer["message"] == "" {
				t.Errorf("%s %s: got %d %v, want a refusal", path, body, status, answer)
			}
		}
	}

	w := s.watch(t, o, "shop", router.Name, "plain")
	defer w.stop()
	var ops []gandiOperation
	s.mustGandi(&ops, "paas.create", map[string]any{"name": "shop", "size": "s", "type": "phpmysql", "datacenter_id": 1,
		"vhosts": []string{"shop.test"}, "duration": "1m", "password": "correct-horse-42"})
	s.done(ops...)
	var instances []struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
	}
	s.mustGandi(&instances, "paas.list")
	if len(instances) != 1 {
		t.Fatalf("got %+v", instances)
	}
	id := instances[0].ID
	app := s.nodeWith("app")

	t.Run("the node of an instance is listed by the other API, as it is", func(t *testing.T) {
		row := listed(app.Name)
		if row == nil || row["state"] != 0.0 || fmt.Sprint(row["private_ips"]) != "["+app.Address+"]" {
			t.Fatalf("got %v, want %+v running", row, app)
		}
		refused(t, row["id"])
		if r := listed(router.Name); r == nil {
			t.Error("the router is not listed")
		} else {
			refused(t, r["id"])
		}
		if status, _ := s.fetch(router.Address, "shop.test", "/"); status != 200 {
			t.Errorf("after the refusals the page answers %d", status)
		}
	})
	t.Run("a node of the other API is no instance", func(t *testing.T) {
		o.must(t, "POST", "/vm/start/nspawn", `{"name": "plain", "image": "debian-12-reeve", "size": "s"}`)
		s.mustGandi(&instances, "paas.list")
		if len(instances) != 1 {
			t.Errorf("got %+v, want the one instance", instances)
		}
		if status, answer := o.try(t, "POST", "/vm/start/nspawn", `{"name": "plain", "image": "debian-12-reeve", "size": "s"}`); status != 500 || !strings.Contains(fmt.Sprint(answer["message"]), "a node of this name exists") {
			t.Errorf("the same name again: got %d %v", status, answer)
		}
		o.must(t, "PUT", "/vm/stop/nspawn", `{"hostname": "plain"}`)
	})
	t.Run("it is changed through one and watched through all", func(t *testing.T) {
		s.mustGandi(&ops, "paas.update", id, map[string]any{"size": "m", "console": true})
		s.done(ops...)
		w.restarting(true)
		s.mustGandi(&ops, "paas.restart", id)
		s.done(ops...)
		s.await(time.Minute, "it to run again", func() (bool, string) {
			row := listed(app.Name)
			return row != nil && row["state"] == 0.0, fmt.Sprint(row)
		})
		w.restarting(false)
	})
	t.Run("what one API deletes is gone from the other", func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), "DELETE", s.url+"/apps/shop", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "bearer "+w.token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("tsuru's API deletes with %s", answer.Status)
		}
		s.await(time.Minute, "the instance to be gone", func() (bool, string) {
			var n int
			s.mustGandi(&n, "paas.count")
			return n == 0, fmt.Sprint(n)
		})
		s.t = t
		s.await(time.Minute, "the node to be gone", func() (bool, string) { row := listed(app.Name); return row == nil, fmt.Sprint(row) })
		if listed(router.Name) == nil {
			t.Error("the router is gone, too")
		}
		seen := w.stop()
		if w.compared == 0 { // how often depends on how long all of it takes
			t.Error("nothing was compared")
		}
		if got, want := strings.Join(seen, " "), "being_created running being_deleted"; strings.TrimSpace(got) != want && strings.TrimSpace(got) != strings.Replace(want, " running ", " running halted running ", 1) {
			t.Errorf("got the states %q, want %q", got, want)
		}
	})
	s.t = t
}
