// Package host is the only door from a handler to the operating system: commands, files, units and the change that
// undoes itself. Handlers never import os/exec; tests swap this door for handlers/host/hosttest.
package host

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
)

// Options configure a Host.
type Options struct {
	Root   string       // prefix of every path a handler names; "" means "/". Tests use a temporary directory.
	Runner Runner       // runs commands; nil means the real ones
	Units  Units        // controls services; nil means every unit operation fails as unavailable
	Layout *Layout      // paths and unit names; nil means the layout of the running distribution
	Log    *slog.Logger // nil means discard
}

// Host is this machine as its agent sees it. Its methods may be called from any goroutine.
type Host struct {
	root   string
	runner Runner
	units  Units
	layout *Layout
	log    *slog.Logger

	fstabMu sync.Mutex // one editor of fstab at a time
}

// New builds a Host.
func New(o Options) *Host {
	h := &Host{root: o.Root, runner: o.Runner, units: o.Units, layout: o.Layout, log: o.Log}
	if h.root == "" {
		h.root = "/"
	}
	if h.runner == nil {
		h.runner = execRunner{}
	}
	if h.units == nil {
		h.units = noUnits{}
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.layout == nil {
		h.layout = DetectLayout(h)
	}
	return h
}

// Path is where a path of the host really lies: below the root prefix.
func (h *Host) Path(p string) string { return filepath.Join(h.root, p) }

// Layout is the table of paths and unit names of this distribution family.
func (h *Host) Layout() *Layout { return h.layout }

// Units controls services.
func (h *Host) Units() Units { return h.units }

// Log is the logger handlers derive theirs from.
func (h *Host) Log() *slog.Logger { return h.log }

// Run runs one command and returns its output. A non-zero exit is a *CommandError; see Cmd.
func (h *Host) Run(ctx context.Context, c Cmd) (Output, error) { return run(ctx, h.runner, c) }
