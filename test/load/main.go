// Command load measures Reeve against floors of the same run: bare primitives, Debian's own programs, the original's stack.
// It prints a table and, with -write, keeps it. `make bench` runs it; it needs root and the built packages.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
)

// row is one measurement beside its floor.
type row struct {
	what, ours, floor string
	ratio             string // how ours compares
	bar               string
	met               bool
}

type measure struct {
	name string
	run  func(context.Context) ([]row, error)
}

var measures = []measure{
	{"envelope", measureEnvelope},
	{"rpc", measureRPC},
	{"agent", measureAgent},
	{"nodes", measureNodes},
	{"paas-list", measurePaasList},
	{"fleet", measureFleet},
	{"create", measureCreate},
	{"list-growth", measureListGrowth},
	{"apps-growth", measureAppsGrowth},
	{"operations", measureOperations},
	{"push", measurePush},
}

func main() {
	if handled, code := nspawn.Main(os.Args); handled {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	keep := flags.String("write", "", "file to keep the table in")
	some := flags.String("only", "", "comma-separated measurements: envelope, rpc, agent, nodes, paas-list, fleet, create, list-growth, apps-growth, operations, push")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *keep != "" { // before minutes of measuring
		if err := os.MkdirAll(filepath.Dir(*keep), 0o755); err != nil {
			return err
		}
	}
	var rows []row
	for _, m := range measures {
		if *some != "" && !strings.Contains(","+*some+",", ","+m.name+",") {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s …\n", m.name)
		more, err := m.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		rows = append(rows, more...)
	}
	text := table(rows)
	fmt.Fprint(out, text)
	if *keep == "" {
		return nil
	}
	head := fmt.Sprintf("# Benchmarks\n\nRatios of one run, side by side on one machine (%d cores, %s, %s), written by `make bench`.\n"+
		"Absolute numbers say more about the machine than about us. How each is measured stands in `test/load`.\n\n",
		runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
	return os.WriteFile(*keep, []byte(head+text), 0o644)
}

func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| what | ours | floor | ratio | bar | met |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		met := "yes"
		if !r.met {
			met = "**no**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", r.what, r.ours, r.floor, r.ratio, r.bar, met)
	}
	return b.String()
}
