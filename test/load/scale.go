package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store/sqlite"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

// The rows of this file are about growth: what is measured stands beside the same with less of it, and the cost of one piece
// may not grow with their number.
const growthBar = 1.25

// crowd is a coordinator with n instances, and the requests that list them all.
type crowd struct {
	n       int
	touch   func() error
	round   []request
	client  *http.Client
	took    []float64 // nanoseconds of each round
	closers []func()
}

// startCrowd fills a database and starts a coordinator on it.
func startCrowd(ctx context.Context, n int, list func(url, key string) ([]request, error)) (l *crowd, err error) {
	dir, err := os.MkdirTemp("", "reeve-load-")
	if err != nil {
		return nil, err
	}
	l = &crowd{n: n, client: &http.Client{Timeout: time.Minute}}
	l.closers = append(l.closers, func() { os.RemoveAll(dir) }, l.client.CloseIdleConnections)
	defer func() {
		if err != nil {
			l.stop()
		}
	}()
	// Nodes without an address are not watched, and their cloud is not asked for those without an id: that has costs of its own.
	key, err := fill(ctx, dir, n, false, func(_ int, node *core.Node) { node.CloudID = "" })
	if err != nil {
		return l, fmt.Errorf("fill the database: %w", err)
	}
	p, url, err := startCoordinator(ctx, dir)
	if err != nil {
		return l, err
	}
	l.closers = append(l.closers, p.stop)
	touch, done, err := toucher(ctx, dir)
	if err != nil {
		return l, err
	}
	l.touch = touch
	l.closers = append(l.closers, func() { done() })
	l.round, err = list(url, key)
	return l, err
}

func (l *crowd) stop() {
	for _, c := range slices.Backward(l.closers) {
		c()
	}
}

// once lists everything, after something else was written, as others do all the time: so that no answer is one of before.
func (l *crowd) once() error {
	if err := l.touch(); err != nil {
		return err
	}
	start := time.Now()
	for _, r := range l.round {
		if _, err := r.send(l.client); err != nil {
			return err
		}
	}
	l.took = append(l.took, float64(time.Since(start)))
	return nil
}

func (l *crowd) perRow() time.Duration { return time.Duration(median(l.took) / float64(l.n)) }

// grown lists few and many by turns, so that both see the same machine, and compares what one row takes.
func grown(ctx context.Context, what string, few, many int, list func(n int) func(url, key string) ([]request, error)) (row, error) {
	var both [2]*crowd
	for i, n := range []int{few, many} {
		l, err := startCrowd(ctx, n, list(n))
		if err != nil {
			return row{}, err
		}
		defer l.stop()
		both[i] = l
	}
	for begun := time.Now(); (time.Since(begun) < 2*span || len(both[1].took) < 20) && ctx.Err() == nil; {
		for _, l := range both {
			if err := l.once(); err != nil {
				return row{}, err
			}
		}
	}
	return growth(what, both[1].perRow(), both[0].perRow()), ctx.Err()
}

// toucher opens the database beside the coordinator and returns a small write.
func toucher(ctx context.Context, dir string) (touch func() error, done func() error, err error) {
	sealer, err := keyring.OpenSealer(filepath.Join(dir, "master.key"))
	if err != nil {
		return nil, nil, err
	}
	store, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(dir, "reeve.db"), Sealer: sealer, Beside: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	touch = func() error {
		return store.Update(ctx, func(tx core.Tx) error { return tx.Audit(core.AuditRecord{At: time.Now(), Action: "load"}) })
	}
	return touch, store.Close, nil
}

// growth is a row for "one costs no more among many than among few".
func growth(what string, many, few time.Duration) row {
	return atMost(what, float64(many), float64(few), func(ns float64) string { return time.Duration(ns).Round(10 * time.Nanosecond).String() }, growthBar)
}

func measureListGrowth(ctx context.Context) ([]row, error) {
	list := func(n int) func(url, key string) ([]request, error) {
		return func(url, key string) ([]request, error) {
			round := pages(url+"/xmlrpc/", key, n)
			_, err := listedMembers(round, n)
			return round, err
		}
	}
	first, err := grown(ctx, "`paas.list`, one row of 1,000 after a change, against one of 10", 10, 1000, list)
	if err != nil {
		return nil, err
	}
	second, err := grown(ctx, "`paas.list`, one row of 10,000 after a change, against one of 1,000", 1000, 10000, list)
	return []row{first, second}, err
}

func measureAppsGrowth(ctx context.Context) ([]row, error) {
	r, err := grown(ctx, "`GET /apps` (tsuru), one app of 5,000 after a change, against one of 10", 10, 5000, func(n int) func(url, key string) ([]request, error) {
		return func(url, _ string) ([]request, error) {
			token, err := login(url)
			if err != nil {
				return nil, err
			}
			r := request{method: "GET", url: url + "/apps", token: token}
			return []request{r}, listedApps(r, n)
		}
	})
	return []row{r}, err
}

// login gets a token for the account that fill made.
func login(url string) (string, error) {
	answer, err := http.Post(url+"/users/"+loadEmail+"/tokens", "application/json", strings.NewReader(`{"password":"`+loadPassword+`"}`))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var t struct{ Token string }
	if err := json.NewDecoder(answer.Body).Decode(&t); err != nil || t.Token == "" {
		return "", fmt.Errorf("log in: %s, %v", answer.Status, err)
	}
	return t.Token, nil
}

// listedApps checks that a listing has n different names.
func listedApps(r request, n int) error {
	req, err := r.http()
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	var apps []struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(data, &apps); err != nil {
		return fmt.Errorf("GET /apps: %s %.200s: %w", answer.Status, data, err)
	}
	names := map[string]bool{}
	for _, a := range apps {
		names[a.Name] = true
	}
	if len(names) != n {
		return fmt.Errorf("GET /apps: got %d different names, want %d", len(names), n)
	}
	return nil
}

func measureOperations(ctx context.Context) ([]row, error) {
	m, err := goBench(ctx, "./coordinator/store/sqlite", "^BenchmarkOperationGrowth$")
	if err != nil {
		return nil, err
	}
	before, after := m["OperationGrowth ns/operation-after-0"], m["OperationGrowth ns/operation-after-100000"]
	if before == 0 || after == 0 {
		return nil, fmt.Errorf("the benchmark of operations did not report: %v", m)
	}
	perSecond := func(ns float64) string { return fmt.Sprintf("%.0f /s", 1e9/ns) }
	return []row{{what: "operations of one step on SQLite with 100,000 finished ones behind them, against none", ours: perSecond(after), floor: perSecond(before),
		ratio: fmt.Sprintf("%.0f %%", 100*before/after), bar: fmt.Sprintf("≥ %.0f %%", 100/growthBar), met: after <= growthBar*before}}, nil
}
