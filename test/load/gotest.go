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

// goBench runs the benchmarks of a package three times and returns the median of each metric, "Name ns/op".
func goBench(ctx context.Context, pkg, pattern string) (map[string]float64, error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", "1s", "-count", "3", pkg).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	all := map[string][]float64{}
	for _, line := range benchLine.FindAllStringSubmatch(string(out), -1) {
		for _, m := range benchValue.FindAllStringSubmatch(line[2], -1) {
			v, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				return nil, err
			}
			name := line[1] + " " + m[2]
			all[name] = append(all[name], v)
		}
	}
	medians := map[string]float64{}
	for name, values := range all {
		medians[name] = median(values)
	}
	return medians, nil
}

func nanos(ns float64) string { return time.Duration(ns).Round(10 * time.Nanosecond).String() }

// share is a row for "ours reaches so many percent of the floor's speed". The benchmark pairs both in one run and reports
// their ratio itself.
func share(what string, ours, floor, percent, bar float64) (row, error) {
	if ours == 0 || floor == 0 || percent == 0 {
		return row{}, fmt.Errorf("%s: the benchmark did not report", what)
	}
	return row{what: what, ours: nanos(ours), floor: nanos(floor), ratio: fmt.Sprintf("%.0f %%", percent),
		bar: fmt.Sprintf("≥ %.0f %%", bar), met: percent >= bar}, nil
}

func measureEnvelope(ctx context.Context) ([]row, error) {
	m, err := goBench(ctx, "./crypto/envelope", "SealOpen8K")
	if err != nil {
		return nil, err
	}
	r, err := share("envelope seal+open of 8 KiB, against bare 3DES-CBC + HMAC", m["SealOpen8K ns/sealopen"], m["SealOpen8K ns/bare"], m["SealOpen8K %-of-bare"], 85)
	return []row{r}, err
}

func measureRPC(ctx context.Context) ([]row, error) {
	m, err := goBench(ctx, "./agent/rpcserver", "CPUStatAgainstEcho")
	if err != nil {
		return nil, err
	}
	r, err := share("sealed `system.cpu_stat` round trip, against a plain net/http JSON echo", m["CPUStatAgainstEcho ns/call"], m["CPUStatAgainstEcho ns/echo"],
		m["CPUStatAgainstEcho %-of-echo"], 60)
	return []row{r}, err
}
