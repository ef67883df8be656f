package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// version is set by the linker.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], terminal{os.Stdin, os.Stdout, os.Stderr, os.Getenv})
	stop()
	os.Exit(code)
}

// terminal is what a command reads from and writes to.
type terminal struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
}

// command is one word after the program's name.
type command struct {
	name    string
	usage   string // arguments
	summary string
	help    string
	run     func(ctx context.Context, args []string, t terminal) error
}

// errUsage is a command line that makes no sense; its text was printed with the usage.
var errUsage = errors.New("usage")

func commands() []command {
	return []command{
		{"serve", "[--config F] [--listen ADDR]... [--metrics-listen ADDR] [--key-file F] [--state-dir D]",
			"answer RPC calls and metric scrapes until told to stop", serveHelp, serve},
		{"call", "NAMESPACE.METHOD [JSON-PARAMS] [--url URL] [--key-file F]",
			"sign and send one call, and print its result", callHelp, call},
		{"enroll", "--url URL [--ca-sha256 HEX] <TOKEN", "make this host a node of a coordinator", enrollHelp, enroll},
		{"keygen", "[--out F] [--force]", "make the key that the agent shares with its coordinator", keygenHelp, keygen},
		{"restore-scalarizr", "[--dry-run] [--config F]", "give this host back to Scalarizr", restoreHelp, restoreScalarizr},
		{"version", "", "print the version", "", printVersion},
	}
}

// run carries out one command line and returns the exit code: 0 done, 1 failed, 2 not understood.
func run(ctx context.Context, args []string, t terminal) int {
	if len(args) == 0 {
		printUsage(t.stderr)
		return 2
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(rest) > 0 {
			name, rest = rest[0], []string{"--help"}
			break
		}
		printUsage(t.stdout)
		return 0
	}
	for _, c := range commands() {
		if c.name == name {
			return exitCode(c.run(ctx, rest, t), t.stderr)
		}
	}
	fmt.Fprintf(t.stderr, "reeve-agent: there is no command %q; see: reeve-agent help\n", name)
	return 2
}

func exitCode(err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintf(stderr, "reeve-agent: %v\n", err)
	return 1
}

func printUsage(w io.Writer) {
	fmt.Fprintln(w, "Reeve's agent drives the services of this host for a coordinator.\n\nCommands:")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-17s  %s\n", c.name, c.summary)
	}
	fmt.Fprintln(w, "\nMore about one of them: reeve-agent help COMMAND")
}

// newFlags makes the flags of a command, with its help.
func newFlags(name string, t terminal) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(t.stderr)
	flags.Usage = func() {
		for _, c := range commands() {
			if c.name == name {
				fmt.Fprintf(flags.Output(), "Usage: %s\n\n%s\n", strings.TrimSpace("reeve-agent "+name+" "+c.usage), strings.TrimSpace(c.help))
			}
		}
		fmt.Fprintln(flags.Output(), "\nFlags:")
		flags.PrintDefaults()
	}
	return flags
}

// parse reads flags that may stand before, between and after the other arguments, of which there must be low to high.
func parse(flags *flag.FlagSet, args []string, low, high int) ([]string, error) {
	var others []string
	for {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, errUsage // the flags have said why
		}
		if flags.NArg() == 0 {
			break
		}
		others, args = append(others, flags.Arg(0)), flags.Args()[1:]
	}
	if len(others) < low || len(others) > high {
		fmt.Fprintf(flags.Output(), "reeve-agent %s: wrong number of arguments: %d\n", flags.Name(), len(others))
		flags.Usage()
		return nil, errUsage
	}
	return others, nil
}

func printVersion(_ context.Context, args []string, t terminal) error {
	if _, err := parse(newFlags("version", t), args, 0, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(t.stdout, "reeve-agent %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
