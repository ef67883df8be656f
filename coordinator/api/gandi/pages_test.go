package gandi

import (
	"fmt"
	"slices"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestPages(t *testing.T) {
	here := []core.Location{{ID: "a", Num: 1}}
	key := pageKey{account: "alice", size: 100}
	t.Run("are found while nothing they depend on changed", func(t *testing.T) {
		var p pages
		p.put(key, 7, here, []byte("x"))
		if xml, ok := p.get(key, 7, slices.Clone(here)); !ok || string(xml) != "x" {
			t.Errorf("got %q, %v, want x", xml, ok)
		}
		for name, found := range map[string]bool{
			"another version":  second(p.get(key, 8, here)),
			"another location": second(p.get(key, 7, []core.Location{{ID: "a", Num: 2}})),
			"no location":      second(p.get(key, 7, nil)),
			"another account":  second(p.get(pageKey{account: "bob", size: 100}, 7, here)),
			"another page":     second(p.get(pageKey{account: "alice", size: 100, page: 1}, 7, here)),
			"another size":     second(p.get(pageKey{account: "alice", size: 10}, 7, here)),
			"no nil":           second(p.get(pageKey{account: "alice", size: 100, nilAsString: true}, 7, here)),
		} {
			if found {
				t.Errorf("%s: got a page, want none", name)
			}
		}
	})
	t.Run("take a bounded room", func(t *testing.T) {
		var p pages
		p.put(key, 1, here, make([]byte, maxPage+1))
		if _, ok := p.get(key, 1, here); ok {
			t.Error("got a page that is too large to be kept")
		}
		for i := range 50 {
			k := pageKey{account: core.AccountID(fmt.Sprint(i % 25)), size: 1}
			p.put(k, int64(i), here, make([]byte, 1<<20))
			if _, ok := p.get(k, int64(i), here); !ok {
				t.Errorf("page %d is not kept", i)
			}
			sum := 0
			for _, one := range p.known {
				sum += len(one.xml)
			}
			if sum != p.bytes || sum > maxPages {
				t.Fatalf("got %d bytes, counted as %d, want at most %d", sum, p.bytes, maxPages)
			}
		}
	})
}

func second(_ []byte, ok bool) bool { return ok }
