package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/agents"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/test/ports"
)

const (
	fleetSize = 1000
	// fleetCallers is how many agents are called at once.
	fleetCallers = 32
	fleetRounds  = 7
	// idleSpan is two rounds of everything that the coordinator does by itself.
	idleSpan = 2 * time.Minute
)

// fleet is many nodes with one real agent behind them: each node has a loopback address of its own, so that it costs its
// callers what a host does.
type fleet struct {
	agent *process
	dir   string
	raw   []byte // the agent's key
	port  int
}

func startFleet(ctx context.Context) (f *fleet, err error) {
	dir, err := os.MkdirTemp("", "reeve-load-")
	if err != nil {
		return nil, err
	}
	f = &fleet{dir: dir}
	defer func() {
		if err != nil {
			f.stop()
		}
	}()
	file := filepath.Join(dir, "key")
	if out, err := exec.CommandContext(ctx, "bin/reeve-agent", "keygen", "--out", file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("keygen: %w\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if f.raw, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(text))); err != nil {
		return nil, err
	}
	if f.port, err = ports.Next(); err != nil {
		return nil, err
	}
	metrics, err := ports.Next()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "agent.yaml")
	// one agent answers for all of them here, each on a connection of its own
	if err := os.WriteFile(config, fmt.Appendf(nil, "max_connections: %d\n", 4*fleetSize), 0o600); err != nil {
		return nil, err
	}
	f.agent, err = start(ctx, fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics), "bin/reeve-agent", "serve", "--config", config,
		"--listen", fmt.Sprintf("0.0.0.0:%d", f.port), "--metrics-listen", fmt.Sprintf("127.0.0.1:%d", metrics), "--key-file", file, "--state-dir", filepath.Join(dir, "state"))
	return f, err
}

func (f *fleet) stop() {
	if f.agent != nil {
		f.agent.stop()
	}
	os.RemoveAll(f.dir)
}

// address is the i-th node's.
func (f *fleet) address(i int) string { return loopback(i, f.port) }

func loopback(i, port int) string { return fmt.Sprintf("127.1.%d.%d:%d", i/250, i%250+1, port) }

// measureFleet calls a thousand agents once each, against as many bare HTTPS requests, and looks at what a coordinator with
// a thousand nodes takes while nobody asks anything of it.
func measureFleet(ctx context.Context) ([]row, error) {
	f, err := startFleet(ctx)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	ours, floor, err := callAll(ctx, f)
	if err != nil {
		return nil, err
	}
	kb, share, err := idle(ctx, f)
	if err != nil {
		return nil, err
	}
	show := func(s float64) string { return time.Duration(s * 1e9).Round(time.Millisecond).String() }
	mb := float64(kb) / 1024
	return []row{
		atMost("one call to each of 1,000 agents, against as many bare HTTPS requests", ours, floor, show, 3),
		{what: "coordinator, idle with 1,000 nodes: resident memory", ours: fmt.Sprintf("%.1f MB", mb), floor: "–", ratio: "–", bar: "≤ 80 MB", met: mb <= 80},
		{what: "coordinator, idle with 1,000 nodes: share of a core", ours: fmt.Sprintf("%.2f %%", share*100), floor: "–", ratio: "–", bar: "< 1 %", met: share < 0.01},
	}, nil
}

// callAll takes turns: all agents, all bare requests. Nobody has a connection yet when a turn begins.
func callAll(ctx context.Context, f *fleet) (ours, floor float64, err error) {
	bare := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }))
	if bare.Listener, err = net.Listen("tcp4", "0.0.0.0:0"); err != nil {
		return 0, 0, err
	}
	bare.StartTLS()
	defer bare.Close()
	port := bare.Listener.Addr().(*net.TCPAddr).Port
	var called, asked []float64
	for range fleetRounds {
		a := agents.New(agents.Options{Log: slog.New(slog.DiscardHandler)})
		took, err := each(ctx, func(i int) error {
			agent, err := a.Agent(core.Node{ID: core.NodeID(fmt.Sprint(i)), Address: f.address(i), AgentKey: f.raw})
			if err != nil {
				return err
			}
			_, err = agent.Hostname(ctx)
			return err
		})
		a.Close()
		if err != nil {
			return 0, 0, err
		}
		called = append(called, took.Seconds())
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConns: fleetSize}}
		took, err = each(ctx, func(i int) error {
			_, err := request{method: http.MethodGet, url: "https://" + loopback(i, port)}.send(client)
			return err
		})
		client.CloseIdleConnections()
		if err != nil {
			return 0, 0, err
		}
		asked = append(asked, took.Seconds())
	}
	return median(called), median(asked), nil
}

// each does something for every node, fleetCallers at a time, and returns how long all took.
func each(ctx context.Context, do func(i int) error) (time.Duration, error) {
	begun := time.Now()
	todo := make(chan int)
	errs := make(chan error, fleetCallers)
	var wg sync.WaitGroup
	for range fleetCallers {
		wg.Go(func() {
			var failed error
			for i := range todo {
				if failed == nil {
					failed = do(i)
				}
			}
			errs <- failed
		})
	}
	for i := 0; i < fleetSize && ctx.Err() == nil; i++ {
		todo <- i
	}
	close(todo)
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return time.Since(begun), ctx.Err()
}

// idle is the resident memory and the share of a core of a coordinator with the fleet's nodes.
func idle(ctx context.Context, f *fleet) (kb int, share float64, err error) {
	dir, err := os.MkdirTemp("", "reeve-load-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	p, _, _, err := startFilled(ctx, dir, fleetSize, f)
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	if _, err := settled(ctx, p); err != nil {
		return 0, 0, err
	}
	before, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-time.After(idleSpan):
	}
	after, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	kb, err = p.residentKB()
	return kb, (after - before).Seconds() / idleSpan.Seconds(), err
}
