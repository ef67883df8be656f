// Command reeve-coordinator is Reeve's central service: public APIs over one core, carried out on clouds and agents.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
	"github.com/reeve-paas/reeve/coordinator/release/gitssh"
)

// version is set by the linker.
var version = "dev"

func main() {
	if handled, code := nspawn.Main(os.Args); handled { // a process of the nspawn driver, not a person's call
		os.Exit(code)
	}
	if filepath.Base(os.Args[0]) == gitssh.HookName { // git calls us as its hook
		os.Exit(gitssh.Hook(os.Stdin, os.Stdout))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := rootCommand(os.Stdout, os.Stderr).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "reeve-coordinator:", err)
		var code exitCode
		if errors.As(err, &code) {
			os.Exit(int(code))
		}
		os.Exit(1)
	}
}

// exitCode is an error that was told already.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// app is what every command shares: where to write and what is configured.
type app struct {
	stdout, stderr io.Writer
	configPath     string
	flags          *cobra.Command
}

func rootCommand(stdout, stderr io.Writer) *cobra.Command {
	a := &app{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "reeve-coordinator",
		Short: "turn plain Linux machines into a platform",
		Long: `reeve-coordinator offers the Gandi PaaS and Orchestrator APIs over one core and
carries them out on clouds and on the agents of their nodes.

Every setting has a default, so "reeve-coordinator serve" works without a file.
A setting is read from the config file, then from the environment (REEVE_DATA_DIR
for --data-dir), then from flags; the later one wins.`,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	a.flags = root
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "config file (default "+defaultConfigPath+" when it exists)")
	defaults := DefaultConfig()
	defaults.settings(root.PersistentFlags())
	root.AddCommand(a.serveCommand(), a.userCommand(), a.nodeCommand(), a.keyCommand(), a.imageCommand(), a.doctorCommand(), a.teardownCommand(), a.managerCertificateCommand(), a.versionCommand(), manCommand(root))
	return root
}

func (a *app) config() (Config, error) {
	path, explicit := a.configPath, a.configPath != ""
	if !explicit {
		path = defaultConfigPath
	}
	return loadConfig(path, explicit, a.flags.PersistentFlags(), os.LookupEnv)
}

func (a *app) logger(cfg Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, "reeve-coordinator", version)
			return err
		}}
}

func manCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "man DIRECTORY", Short: "write the man pages", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "Reeve", Manual: "Reeve"}, args[0])
		}}
}
