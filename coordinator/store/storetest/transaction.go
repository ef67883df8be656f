package storetest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// writeAll writes something of everything.
func writeAll(tx core.Tx, i int) error {
	a := core.Account{ID: core.AccountID("acc" + name(i)), Handle: name(i), Email: name(i)}
	p := core.App{ID: core.AppID("app" + name(i)), AccountID: a.ID, Name: name(i)}
	for _, write := range []func() error{
		func() error { return tx.PutAccount(&a) },
		func() error {
			return tx.PutCredential(core.Credential{Hash: [32]byte{byte(i), byte(i >> 8)}, AccountID: a.ID})
		},
		func() error { return tx.PutApp(&p) },
		func() error { return tx.PutNode(&core.Node{AppID: p.ID, Key: name(i), AgentKey: []byte("key")}) },
		func() error { return tx.PutRoute(&core.Route{AppID: p.ID, Hostname: "a" + name(i)}) },
		func() error { return tx.PutRoute(&core.Route{AppID: p.ID, Hostname: "b" + name(i)}) },
		func() error { return tx.PutVolume(&core.Volume{AppID: p.ID, Key: name(i)}) },
		func() error { return tx.PutServiceInstance(&core.ServiceInstance{AppID: p.ID, Password: []byte("p")}) },
		func() error { return tx.PutAllocation(&core.Allocation{Cloud: "c", NodeID: name(i)}) },
		func() error {
			return tx.Enqueue(&operation.Group{ID: "group" + name(i), Operations: []operation.Record{
				{Kind: "k", Subject: string(p.ID), Steps: 2}, {Kind: "l", Subject: string(p.ID), Steps: 1}}})
		},
		func() error { return tx.Audit(core.AuditRecord{Action: "test", Subject: string(p.ID)}) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

// whole says what is wrong with the state that n calls of writeAll leave; they may have been done in any order.
func whole(t testing.TB, s *suite, n int) {
	t.Helper()
	s.view(t, func(r core.Reader) error {
		accounts, err1 := r.Accounts()
		apps, err2 := r.Apps("", 0, 0)
		nodes, err3 := r.Nodes(core.NodeFilter{})
		allocations, err4 := r.Allocations("c")
		ops, err5 := r.Operations(core.OperationFilter{})
		if len(accounts) != n || len(apps) != n || len(nodes) != n || len(allocations) != n || len(ops) != 2*n {
			t.Errorf("got %d accounts, %d apps, %d nodes, %d allocations, %d operations, want %d of each and twice the operations",
				len(accounts), len(apps), len(nodes), len(allocations), len(ops), n)
		}
		for _, a := range apps {
			volumes, err := r.Volumes(a.ID)
			instances, err2 := r.ServiceInstances(a.ID)
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			if len(a.Nodes) != 1 || len(a.Routes) != 2 || len(volumes) != 1 || len(instances) != 1 {
				t.Errorf("app %s: got %d nodes, %d routes, %d volumes, %d service instances, want 1, 2, 1, 1",
					a.Name, len(a.Nodes), len(a.Routes), len(volumes), len(instances))
			}
		}
		return errors.Join(err1, err2, err3, err4, err5)
	})
	if groups, err := s.Requeue(t.Context()); err != nil || groups != n {
		t.Errorf("got %d groups in line, error %v, want %d", groups, err, n)
	}
}

func testAtomic(t *testing.T, s *suite) {
	s.update(t, func(tx core.Tx) error { return writeAll(tx, 0) })
	fails := errors.New("changed my mind")
	err := s.Update(t.Context(), func(tx core.Tx) error {
		if err := writeAll(tx, 1); err != nil {
			return err
		}
		if err := tx.DeleteApp("app000"); err != nil {
			return err
		}
		return fails
	})
	if !errors.Is(err, fails) {
		t.Errorf("got error %v, want fn's own", err)
	}
	whole(t, s, 1)
	s.reopen(t)
	whole(t, s, 1)
}

func testPanic(t *testing.T, s *suite) {
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic of fn was swallowed")
			}
		}()
		s.Update(t.Context(), func(tx core.Tx) error {
			if err := writeAll(tx, 0); err != nil {
				t.Error(err)
			}
			panic("bug")
		})
	}()
	whole(t, s, 0) // and the store still works
}

func testSnapshot(t *testing.T, s *suite) {
	s.update(t, func(tx core.Tx) error { return writeAll(tx, 0) })
	s.view(t, func(r core.Reader) error {
		before, err := r.Accounts()
		if err != nil {
			return err
		}
		s.update(t, func(tx core.Tx) error { return writeAll(tx, 1) }) // does not wait for the reader
		after, err := r.Accounts()
		apps, err2 := r.Apps("", 0, 0)
		if len(before) != 1 || len(after) != 1 || len(apps) != 1 {
			t.Errorf("got %d, then %d accounts and %d apps in one view, want 1 each time", len(before), len(after), len(apps))
		}
		return errors.Join(err, err2)
	})
	whole(t, s, 2)
}

func testConcurrent(t *testing.T, s *suite) {
	counter := account(t, s, "counter")
	const writers, times = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range times {
				err := s.Update(t.Context(), func(tx core.Tx) error {
					a, err := tx.Account(counter.ID)
					if err != nil {
						return err
					}
					a.PasswordHash += "x"
					return tx.PutAccount(&a)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range times {
				err := s.View(t.Context(), func(r core.Reader) error {
					if _, err := r.Apps("", 0, 0); err != nil {
						return err
					}
					_, err := r.Account(counter.ID)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := get(t, s, func(r core.Reader) (core.Account, error) { return r.Account(counter.ID) })
	if len(got.PasswordHash) != len("hash")+writers*times {
		t.Errorf("got %d increments, want %d: an update was lost", len(got.PasswordHash)-len("hash"), writers*times)
	}
}

// writeUntilKilled is the other process of testKill.
func writeUntilKilled(t testing.TB, s Store) {
	for i := 0; ; i++ {
		if err := s.Update(t.Context(), func(tx core.Tx) error { return writeAll(tx, i) }); err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("written", i)
	}
}

// testKill kills a process that writes as fast as it can, between the report of one commit and wherever it is by then.
func testKill(t *testing.T, open Open) {
	for round := range 6 {
		dir := t.TempDir()
		root, _, _ := strings.Cut(t.Name(), "/")
		cmd := exec.Command(os.Args[0], "-test.run=^"+root+"$", "-test.v=false")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		written := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if !strings.HasPrefix(lines.Text(), "written ") {
				t.Errorf("the writing process says %q", lines.Text())
				break
			}
			written++
			if written == 3+4*round {
				cmd.Process.Kill() // what it reports from here on counts too
			}
		}
		cmd.Wait()
		s := &suite{Store: open(t, dir)}
		n := len(get(t, s, core.Reader.Accounts))
		if n < written {
			t.Errorf("got %d transactions after the kill, but %d were reported as committed", n, written)
		}
		whole(t, s, n)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
