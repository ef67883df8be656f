package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// process is a server that is being measured.
type process struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

// start runs a server until stop, and waits until its URL answers.
func start(ctx context.Context, url string, argv ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), log: &bytes.Buffer{}}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		answer, err := http.Get(url)
		if err == nil {
			answer.Body.Close()
			return p, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			p.stop()
			return nil, fmt.Errorf("%s does not answer at %s: %w\n%s", filepath.Base(argv[0]), url, err, p.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *process) stop() {
	p.cmd.Process.Signal(os.Interrupt)
	p.cmd.Wait()
}

// residentKB is the resident memory.
func (p *process) residentKB() (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, fmt.Errorf("no VmRSS")
}

// cpu is the processor time used so far, from the scheduler's own nanosecond count of every thread.
func (p *process) cpu() (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, path := range threads {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // the thread ended
		}
		first, _, _ := strings.Cut(string(data), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// request is one HTTP request that a measurement repeats.
type request struct {
	method, url, body string
	token             string // "": none
	host              string // that the request is for; "": the URL's
}

func (r request) http() (*http.Request, error) {
	req, err := http.NewRequest(r.method, r.url, strings.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "text/xml")
	}
	if r.token != "" {
		req.Header.Set("Authorization", "bearer "+r.token)
	}
	req.Host = r.host
	return req, nil
}

func (r request) send(client *http.Client) (int64, error) {
	req, err := r.http()
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", r.url, answer.Status)
	}
	return n, err
}

// perSecond sends the requests in turn from one client for a while and counts rounds per second.
func perSecond(ctx context.Context, span time.Duration, round ...request) (float64, error) {
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	for range 3 { // connections and caches warm up
		for _, r := range round {
			if _, err := r.send(client); err != nil {
				return 0, err
			}
		}
	}
	n, begun := 0, time.Now()
	for time.Since(begun) < span && ctx.Err() == nil {
		for _, r := range round {
			if _, err := r.send(client); err != nil {
				return 0, err
			}
		}
		n++
	}
	return float64(n) / time.Since(begun).Seconds(), ctx.Err()
}

// perSecondOfMany is perSecond of several clients at once, each with a connection of its own.
func perSecondOfMany(ctx context.Context, clients int, span time.Duration, r request) (float64, error) {
	rates, errs := make([]float64, clients), make([]error, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { rates[i], errs[i] = perSecond(ctx, span, r) })
	}
	wg.Wait()
	sum := 0.0
	for _, rate := range rates {
		sum += rate
	}
	return sum, errors.Join(errs...)
}

// times is a row for "ours is so many times as fast as the floor".
func times(what, unit string, ours, floor, bar float64) row {
	return row{what: what, ours: fmt.Sprintf("%.1f %s", ours, unit), floor: fmt.Sprintf("%.1f %s", floor, unit),
		ratio: fmt.Sprintf("%.1f ×", ours/floor), bar: fmt.Sprintf("≥ %g ×", bar), met: ours/floor >= bar}
}

// atMost is a row for "ours is no more than the floor times the bar".
func atMost(what string, ours, floor float64, show func(float64) string, bar float64) row {
	return row{what: what, ours: show(ours), floor: show(floor), ratio: fmt.Sprintf("%.2f ×", ours/floor),
		bar: fmt.Sprintf("≤ %g ×", bar), met: ours/floor <= bar}
}
