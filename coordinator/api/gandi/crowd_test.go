package gandi_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// TestFiftyClientsAtOnce lets 50 clients of five accounts create, change and delete instances on nodes in memory. Names,
// vhosts and the quota are contested.
func TestFiftyClientsAtOnce(t *testing.T) {
	const accounts, clients, quota, rounds = 5, 50, 6, 4
	b := newBed(t, func(_ *gandi.Options, co *core.Options) { co.MaxApps = quota }).work()
	keys := make([]string, accounts)
	for i := range keys {
		keys[i] = b.account(fmt.Sprintf("crowd%d@example.test", i))
	}
	refusals := []int{537541, 537535, 537560, 537542, 537641, 537642, 537660, 530495, 500041} // what losing a race may be answered with
	var mu sync.Mutex                                                                         // protects the fields below
	ids := map[int]string{}                                                                   // every instance that ever was, and whose
	created, refused := 0, map[int]int{}
	call := func(key, method string, params ...any) (any, bool) {
		v, err := xmlrpctest.Call(b.url, method, append([]any{key}, params...)...)
		if err == nil {
			return v, true
		}
		code := xmlrpctest.CodeOf(err)
		if !slices.Contains(refusals, code) {
			t.Errorf("%s %v: %v", method, params, err)
		}
		mu.Lock()
		refused[code]++
		mu.Unlock()
		return nil, false
	}
	ends := func(key string, op any) string {
		id, step := op.(map[string]any)["id"], ""
		b.until(func() bool {
			v, err := xmlrpctest.Call(b.url, "operation.info", key, id)
			if err != nil {
				t.Errorf("operation.info: %v", err)
				return true
			}
			step = v.(map[string]any)["step"].(string)
			return slices.Contains([]string{"DONE", "ERROR", "CANCEL"}, step)
		})
		return step
	}
	check := func(key string) {
		if n, ok := call(key, "paas.count"); ok && n.(int) > quota {
			t.Errorf("an account has %d instances, more than its quota of %d", n, quota)
		}
	}
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			key, chance := keys[n%accounts], rand.New(rand.NewPCG(uint64(n), 7))
			for round := range rounds {
				name := fmt.Sprintf("shop %d", chance.IntN(quota+2)) // contested within the account
				v, ok := call(key, "paas.create", spec("name", name, "vhosts", []string{fmt.Sprintf("s%d.hosted.test", chance.IntN(300))}))
				check(key)
				if !ok {
					continue
				}
				ops := structs(v)
				id := ops[0]["paas_id"].(int)
				mu.Lock()
				if whose, twice := ids[id]; twice {
					t.Errorf("instance %d of %s was given out again to %s", id, whose, key)
				}
				ids[id] = key
				created++
				mu.Unlock()
				if chance.IntN(4) > 0 { // else it is deleted while it is created
					for _, op := range ops {
						ends(key, op)
					}
					size, quantity := []string{"s", "m", "l"}[chance.IntN(3)], chance.IntN(5)+1
					if v, ok := call(key, "paas.update", id, map[string]any{"size": size, "quantity": quantity}); ok {
						done := true
						for _, op := range structs(v) {
							done = ends(key, op) == "DONE" && done
						}
						if info, err := xmlrpctest.Call(b.url, "paas.info", key, id); err == nil && done {
							if got := info.(map[string]any); got["size"] != size || got["data_disk_additional_size"] != quantity {
								t.Errorf("a lost update: got %v with %v, want %s with %d", got["size"], got["data_disk_additional_size"], size, quantity)
							}
						}
					}
					if v, ok := call(key, "paas.vhost.create", map[string]any{"paas_id": id, "vhost": fmt.Sprintf("v%d.hosted.test", chance.IntN(20))}); ok && chance.IntN(2) > 0 {
						ends(key, v)
					}
					if chance.IntN(3) == 0 {
						call(key, "paas.restart", id)
					}
				}
				if round < rounds-1 || chance.IntN(2) > 0 {
					if v, ok := call(key, "paas.delete", id); ok && chance.IntN(2) > 0 {
						if step := ends(key, v); step != "DONE" {
							t.Errorf("deletion of %d ended %s", id, step)
						}
					}
				}
				check(key)
			}
		})
	}
	wg.Wait()
	left, vhosts := 0, map[any]bool{}
	for _, key := range keys {
		b.until(func() bool {
			v, _ := xmlrpctest.Call(b.url, "operation.count", key, map[string]any{"step": []any{"BILL", "WAIT", "RUN"}})
			return v == 0
		})
		list, err := xmlrpctest.Call(b.url, "paas.list", key)
		b.must(err)
		left += len(list.([]any))
		names := map[any]bool{}
		for _, p := range structs(list) {
			if names[p["name"]] || p["state"] != "running" {
				t.Errorf("got %v twice, or %v", p["name"], p["state"])
			}
			names[p["name"]] = true
			if ids[p["id"].(int)] != key {
				t.Errorf("instance %v belongs to somebody else", p["id"])
			}
		}
		list, err = xmlrpctest.Call(b.url, "paas.vhost.list", key)
		b.must(err)
		for _, v := range structs(list) {
			if vhosts[v["name"]] || v["state"] != "running" {
				t.Errorf("got the vhost %v twice, or %v", v["name"], v["state"])
			}
			vhosts[v["name"]] = true
		}
	}
	b.cloud.mu.Lock()
	defer b.cloud.mu.Unlock()
	if len(b.cloud.volumes) != left || len(b.cloud.nodes) != left+1 { // and the router's
		t.Errorf("got %d volumes and %d nodes for %d instances", len(b.cloud.volumes), len(b.cloud.nodes), left)
	}
	if created < clients {
		t.Errorf("only %d instances were created", created)
	}
	t.Logf("%d instances created, %d left, refusals %v", created, left, refused)
}
