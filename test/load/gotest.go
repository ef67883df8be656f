package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

var (
	benchLine  = regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)$`)
	benchValue = regexp.MustCompile(`([0-9.]+) (\S+)`)
)

// goBench runs the benchmarks of a package and returns the least value of each metric, "Name ns/op": the run that was
// disturbed least.
func goBench(ctx context.Context, pkg, pattern string) (map[string]float64, error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", "1s", "-count", "3", pkg).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	best := map[string]float64{}
	for _, line := range benchLine.FindAllStringSubmatch(string(out), -1) {
		for _, m := range benchValue.FindAllStringSubmatch(line[2], -1) {
			v, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				return nil, err
			}
			name := line[1] + " " + m[2]
			if old, seen := best[name]; !seen || v < old {
				best[name] = v
			}
		}
	}
	return best, nil
}

func nanos(ns float64) string { return time.Duration(ns).Round(10 * time.Nanosecond).String() }

// share is a row for "ours reaches so many percent of the floor's speed".
func share(what string, ours, floor, bar float64) (row, error) {
	if ours == 0 || floor == 0 {
		return row{}, fmt.Errorf("%s: the benchmark did not report", what)
	}
	return row{what: what, ours: nanos(ours), floor: nanos(floor), ratio: fmt.Sprintf("%.0f %%", 100*floor/ours),
		bar: fmt.Sprintf("≥ %.0f %%", 100*bar), met: floor/ours >= bar}, nil
}

func measureEnvelope(ctx context.Context) ([]row, error) {
	ns, err := goBench(ctx, "./crypto/envelope", "SealOpen8K|Bare8K")
	if err != nil {
		return nil, err
	}
	r, err := share("envelope seal+open of 8 KiB, against bare 3DES-CBC + HMAC", ns["SealOpen8K ns/op"], ns["Bare8K ns/op"], 0.85)
	return []row{r}, err
}

func measureRPC(ctx context.Context) ([]row, error) {
	ns, err := goBench(ctx, "./agent/rpcserver", "CPUStatAgainstEcho")
	if err != nil {
		return nil, err
	}
	r, err := share("sealed `system.cpu_stat` round trip, against a plain net/http JSON echo", ns["CPUStatAgainstEcho ns/call"], ns["CPUStatAgainstEcho ns/echo"], 0.60)
	return []row{r}, err
}
