package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/test/ports"
)

const scrapes = 200

// measureAgent compares the agent, idle and scraped, with Debian's prometheus-node-exporter in the same run.
func measureAgent(ctx context.Context) ([]row, error) {
	dir, err := os.MkdirTemp("", "reeve-load-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	key := filepath.Join(dir, "key")
	if out, err := exec.CommandContext(ctx, "bin/reeve-agent", "keygen", "--out", key).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("keygen: %w\n%s", err, out)
	}
	taken := make([]int, 3)
	for i := range taken {
		if taken[i], err = ports.Next(); err != nil {
			return nil, err
		}
	}
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", taken[i]) }
	ours, err := observe(ctx, "http://"+at(1)+"/metrics", "bin/reeve-agent", "serve", "--listen", at(0), "--metrics-listen", at(1),
		"--key-file", key, "--state-dir", filepath.Join(dir, "state"))
	if err != nil {
		return nil, err
	}
	theirs, err := observe(ctx, "http://"+at(2)+"/metrics", "prometheus-node-exporter", "--web.listen-address", at(2))
	if err != nil {
		return nil, err
	}
	st, err := os.Stat("bin/reeve-agent")
	if err != nil {
		return nil, err
	}
	mb := func(kb float64) string { return fmt.Sprintf("%.1f MB", kb/1024) }
	us := func(s float64) string { return fmt.Sprintf("%.2f µs", s*1e6) }
	size := float64(st.Size()) / 1e6
	return []row{
		atMost("agent: idle resident memory, against prometheus-node-exporter", float64(ours.residentKB), float64(theirs.residentKB), mb, 1),
		atMost(fmt.Sprintf("agent: scrape CPU per series (%d series against %d)", ours.series, theirs.series), ours.perSeries, theirs.perSeries, us, 1),
		{what: "agent: size of the program", ours: fmt.Sprintf("%.1f MB", size), floor: "–", ratio: "–", bar: "≤ 20 MB", met: size <= 20},
	}, nil
}

type exporter struct {
	residentKB int
	series     int
	perSeries  float64 // seconds of CPU
}

func observe(ctx context.Context, url string, argv ...string) (exporter, error) {
	p, err := start(ctx, url, argv...)
	if err != nil {
		return exporter{}, err
	}
	defer p.stop()
	var e exporter
	if e.series, err = countSeries(url); err != nil {
		return e, err
	}
	if e.residentKB, err = settled(ctx, p); err != nil {
		return e, err
	}
	before, err := p.cpu()
	if err != nil {
		return e, err
	}
	for range scrapes {
		if _, err := countSeries(url); err != nil {
			return e, err
		}
	}
	after, err := p.cpu()
	e.perSeries = (after - before).Seconds() / scrapes / float64(e.series)
	return e, err
}

// settled is the resident memory once it no longer changes.
func settled(ctx context.Context, p *process) (int, error) {
	last := 0
	for range 30 {
		kb, err := p.residentKB()
		if err != nil || kb == last {
			return kb, err
		}
		last = kb
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return last, nil
}

func countSeries(url string) (int, error) {
	answer, err := http.Get(url)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	n := 0
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if line := lines.Text(); line != "" && !strings.HasPrefix(line, "#") {
			n++
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, errors.New(url + " shows no series")
	}
	return n, nil
}
