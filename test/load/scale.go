package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store/sqlite"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

// The rows of this file are about growth: what is measured stands beside the same with less of it, and the cost of one piece
// may not grow with their number.
const growthBar = 1.25

// perRow is how long one row of a listing takes with n instances, by the requests that list them all. Before each listing
// something else is written, as others do all the time, so that no answer is one of before.
func perRow(ctx context.Context, n int, list func(url, key string) ([]request, error)) (time.Duration, error) {
	dir, err := os.MkdirTemp("", "reeve-load-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	agents := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer agents.Close()
	key, err := fill(ctx, dir, n, agents.Listener.Addr().String())
	if err != nil {
		return 0, fmt.Errorf("fill the database: %w", err)
	}
	p, url, err := startCoordinator(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	touch, done, err := toucher(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer done()
	round, err := list(url, key)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var took []float64
	for begun := time.Now(); (time.Since(begun) < span || len(took) < 10) && ctx.Err() == nil; {
		if err := touch(); err != nil {
			return 0, err
		}
		start := time.Now()
		for _, r := range round {
			if _, err := r.send(client); err != nil {
				return 0, err
			}
		}
		took = append(took, float64(time.Since(start)))
	}
	return time.Duration(median(took) / float64(n)), ctx.Err()
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
	cost := map[int]time.Duration{}
	for _, n := range []int{10, 1000, 10000} {
		var err error
		cost[n], err = perRow(ctx, n, func(url, key string) ([]request, error) {
			round := pages(url+"/xmlrpc/", key, n)
			_, err := listedMembers(round, n)
			return round, err
		})
		if err != nil {
			return nil, err
		}
	}
	return []row{
		growth("`paas.list`, one row of 1,000 after a change, against one of 10", cost[1000], cost[10]),
		growth("`paas.list`, one row of 10,000 after a change, against one of 1,000", cost[10000], cost[1000]),
	}, nil
}

func measureAppsGrowth(ctx context.Context) ([]row, error) {
	list := func(n int) func(url, key string) ([]request, error) {
		return func(url, _ string) ([]request, error) {
			token, err := login(url)
			if err != nil {
				return nil, err
			}
			r := request{method: "GET", url: url + "/apps", token: token}
			return []request{r}, listedApps(r, n)
		}
	}
	few, err := perRow(ctx, 10, list(10))
	if err != nil {
		return nil, err
	}
	many, err := perRow(ctx, 5000, list(5000))
	return []row{growth("`GET /apps` (tsuru), one app of 5,000 after a change, against one of 10", many, few)}, err
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
	m, err := goBench(ctx, "./coordinator/store/sqlite", "^BenchmarkOperation$")
	if err != nil {
		return nil, err
	}
	before, after := m["Operation/finished/0 ns/operation"], m["Operation/finished/100000 ns/operation"]
	if before == 0 || after == 0 {
		return nil, fmt.Errorf("the benchmark of operations did not report: %v", m)
	}
	perSecond := func(ns float64) string { return fmt.Sprintf("%.0f /s", 1e9/ns) }
	return []row{{what: "operations of one step on SQLite with 100,000 finished ones behind them, against none", ours: perSecond(after), floor: perSecond(before),
		ratio: fmt.Sprintf("%.0f %%", 100*before/after), bar: fmt.Sprintf("≥ %.0f %%", 100/growthBar), met: after <= growthBar*before}}, nil
}
