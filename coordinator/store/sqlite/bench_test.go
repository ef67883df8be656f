package sqlite

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// seedApps stores an account with n apps, each with one node and two routes.
func seedApps(b *testing.B, s *Store, n int) core.AccountID {
	b.Helper()
	acc := core.Account{Email: fmt.Sprintf("a%d@example.com", n)}
	err := s.Update(b.Context(), func(tx core.Tx) error {
		if err := tx.PutAccount(&acc); err != nil {
			return err
		}
		for i := range n {
			if err := seedApp(tx, acc.ID, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return acc.ID
}

func seedApp(tx core.Tx, account core.AccountID, i int) error {
	now := time.Now().UTC()
	app := core.App{AccountID: account, Name: fmt.Sprintf("app-%d", i), Platform: "php", Engine: "mysql", SizeID: "s",
		LocationID: "local", Cloud: "default", State: core.AppRunning, BaseDiskGB: 3, StartsAt: now, EndsAt: now, CreatedAt: now}
	if err := tx.PutApp(&app); err != nil {
		return err
	}
	node := core.Node{AccountID: account, AppID: app.ID, Cloud: "default", CloudID: fmt.Sprint("reeve-", i),
		Key: string(app.ID), Name: app.Name, ImageID: "debian", SizeID: "s", Roles: []core.Role{core.RoleApp, core.RoleDB},
		State: core.NodeRunning, Address: "10.0.0.1", AgentKey: make([]byte, 40), CreatedAt: now, SeenAt: now}
	if err := tx.PutNode(&node); err != nil {
		return err
	}
	for r := range 2 {
		route := core.Route{AppID: app.ID, Hostname: fmt.Sprintf("%s-%d.example.com", app.ID, r), State: core.RouteRunning, CreatedAt: now}
		if err := tx.PutRoute(&route); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkApps lists all apps of an account: read before ("again"), or for the first time ("first"). ns/app shows that
// the cost of one does not grow with their number.
func BenchmarkApps(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		s := openAt(b, b.TempDir())
		b.Cleanup(func() { s.Close() })
		account := seedApps(b, s, n)
		for _, forget := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/%d", map[bool]string{false: "again", true: "first"}[forget], n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if forget {
						s.apps.forget()
					}
					err := s.View(b.Context(), func(r core.Reader) error {
						apps, err := r.Apps(account, 0, 0)
						if len(apps) != n || len(apps[n-1].Nodes) != 1 || len(apps[n-1].Routes) != 2 {
							b.Fatalf("got %d apps, want %d with a node and two routes each", len(apps), n)
						}
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/app")
			})
		}
	}
}

func (c *appCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.apps)
}

const operationBatch = 100

// startOperations returns a function that runs operations of one step from Enqueue to their end, many at once, on a store
// where others have finished before.
func startOperations(b *testing.B, finished int) (round func()) {
	b.Helper()
	s := openAt(b, b.TempDir())
	b.Cleanup(func() { s.Close() })
	seedOperations(b, s, finished)
	ended := make(chan struct{}, operationBatch)
	engine, err := operation.New(operation.Options{Driver: s.Driver(), Store: s, Poll: 2 * time.Millisecond, Workers: 16,
		Definitions: []operation.Definition{{Kind: "k", Steps: []operation.Step{{Name: "s",
			Do: func(context.Context, *operation.Run) error { return nil }}}}},
		OnEnd: func(operation.Record) { ended <- struct{}{} }})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := engine.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(func() { cancel(); wg.Wait() })
	round = func() {
		for range operationBatch {
			g := operation.Group{Operations: []operation.Record{{Kind: "k", Account: "acc", Subject: "app1", Steps: 1}}}
			if err := s.Update(b.Context(), func(tx core.Tx) error { return tx.Enqueue(&g) }); err != nil {
				b.Fatal(err)
			}
		}
		for range operationBatch {
			<-ended
		}
	}
	round() // until the engine has started
	return round
}

// BenchmarkOperation is the cost of one operation, by how many have finished before.
func BenchmarkOperation(b *testing.B) {
	for _, finished := range []int{0, 1000, 100000} {
		b.Run(fmt.Sprintf("finished/%d", finished), func(b *testing.B) {
			round := startOperations(b, finished)
			for b.Loop() {
				round()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/operationBatch, "ns/operation")
		})
	}
}

// BenchmarkOperationGrowth runs both by turns, so that both see the same disk.
func BenchmarkOperationGrowth(b *testing.B) {
	counts := []int{0, 100000}
	rounds := []func(){startOperations(b, counts[0]), startOperations(b, counts[1])}
	took := make([]time.Duration, len(rounds))
	for b.Loop() {
		for i, round := range rounds {
			start := time.Now()
			round()
			took[i] += time.Since(start)
		}
	}
	for i, n := range counts {
		b.ReportMetric(float64(took[i].Nanoseconds())/float64(b.N)/operationBatch, fmt.Sprintf("ns/operation-after-%d", n))
	}
}
