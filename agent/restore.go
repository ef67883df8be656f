package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/crypto/keyring"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/systemd"
)

const restoreHelp = `
Gives this host back to Scalarizr: ends this agent for good, checks that its port is free, takes our second include of the
virtual hosts away where Apache has Scalarizr's own, and starts Scalarizr, now and at every boot. Key, virtual hosts and
certificates are below /etc/scalr, where Scalarizr left them; nothing there is changed.

When Scalarizr does not start, this agent is started again. A host without Scalarizr is left without an agent. What this agent
serves or runs goes on being served, and the package stays: remove it when nobody wants to come back.`

// scalarizrUnits are the old agent and its updater, in the order they are started.
var scalarizrUnits = []string{"scalarizr.service", "scalarizr-upd.service"}

// unitControl is what a restoration asks of systemd; *systemd.Manager is one.
type unitControl interface {
	States(ctx context.Context, units ...string) ([]systemd.State, error)
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
	Reload(ctx context.Context, unit string) error
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
}

// restoration is what giving a host back works with; tests put it together themselves.
type restoration struct {
	units  unitControl
	layout host.Layout
	root   string   // before every path; "" but in tests
	ports  []string // addresses that this agent answers at
	out    io.Writer
	dry    bool
}

func restoreScalarizr(ctx context.Context, args []string, t terminal) error {
	flags := newFlags("restore-scalarizr", t)
	configPath := flags.String("config", "", "`file` of this agent's settings, for its port (default "+defaultConfigPath+")")
	dry := flags.Bool("dry-run", false, "say what would be done, and do nothing")
	if _, err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	c, err := loadConfig(*configPath, t.getenv)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 && !*dry {
		return errors.New("root is needed")
	}
	units := systemd.New()
	defer units.Close()
	r := restoration{units: units, layout: *host.New(host.Options{}).Layout(), ports: c.Listen, out: t.stdout, dry: *dry}
	return r.run(ctx)
}

// step says what is done, and does it unless that is all that was asked for.
func (r restoration) step(what string, do func() error) error {
	if r.dry {
		fmt.Fprintln(r.out, "would "+what)
		return nil
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	fmt.Fprintln(r.out, "done: "+what)
	return nil
}

func (r restoration) run(ctx context.Context) (err error) {
	states, err := r.units.States(ctx, append([]string{agentUnit}, scalarizrUnits...)...)
	if err != nil {
		return err
	}
	var installed []string
	for _, s := range states[1:] {
		if s.Load == "loaded" {
			installed = append(installed, s.Unit)
		}
	}
	if err := r.checkKey(len(installed) > 0); err != nil {
		return err
	}
	if states[0].Load == "loaded" {
		err = r.step("stop "+agentUnit+", now and at every boot", func() error {
			return errors.Join(r.units.Disable(ctx, agentUnit), r.units.Stop(ctx, agentUnit))
		})
		if err != nil {
			return err
		}
		defer func() {
			if err == nil || r.dry {
				return
			}
			back := errors.Join(r.units.Enable(context.WithoutCancel(ctx), agentUnit), r.units.Start(context.WithoutCancel(ctx), agentUnit))
			if back == nil {
				fmt.Fprintln(r.out, "taken back: "+agentUnit+" is started again")
			}
			err = errors.Join(err, back)
		}()
	}
	if err := r.step("see that nobody else has "+strings.Join(r.ports, ", "), func() error { return r.portsAreFree(ctx) }); err != nil {
		return err
	}
	if len(installed) == 0 {
		fmt.Fprintln(r.out, "Scalarizr is not installed: this host has no agent now")
	}
	for _, unit := range installed {
		if err := r.step("start "+unit, func() error { return r.units.Start(ctx, unit) }); err != nil {
			return err
		}
		if r.dry {
			fmt.Fprintln(r.out, "would have "+unit+" start at every boot")
		} else if err := r.units.Enable(ctx, unit); err != nil { // an init script has its own way
			fmt.Fprintf(r.out, "it runs, but not yet at every boot: systemctl enable %s (%v)\n", strings.TrimSuffix(unit, ".service"), err)
		}
	}
	return r.dropInclude(ctx)
}

func (r restoration) path(p string) string { return filepath.Join(r.root, p) }

// checkKey wants the key that Scalarizr had: without it nobody could call it.
func (r restoration) checkKey(installed bool) error {
	if !installed {
		return nil
	}
	_, err := os.Stat(r.path(keyring.ScalarizrPath))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the key of Scalarizr is gone (%s): put it back first; this agent never took it away", keyring.ScalarizrPath)
	}
	if err == nil {
		fmt.Fprintln(r.out, "Scalarizr's key is in its place: "+keyring.ScalarizrPath)
	}
	return err
}

// portsAreFree waits until the stopped agent's ports can be taken.
func (r restoration) portsAreFree(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var errs []error
		for _, addr := range r.ports {
			l, err := net.Listen("tcp", addr)
			if err == nil {
				err = l.Close()
			}
			errs = append(errs, err)
		}
		err := errors.Join(errs...)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// dropInclude removes our include of Scalarizr's virtual hosts where its own is in Apache's main file: two would name each site
// twice. Without its own ours stays, and the sites are served until Scalarizr includes them.
func (r restoration) dropInclude(ctx context.Context) error {
	ours := r.path(filepath.Join(r.layout.ApacheEnabledDir, "zz-reeve.conf"))
	text, err := os.ReadFile(ours)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Contains(text, []byte("/etc/scalr/private.d")) {
		return nil
	}
	if err != nil {
		return err
	}
	conf, err := os.ReadFile(r.path(r.layout.ApacheConf))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	has := slices.ContainsFunc(strings.Split(string(conf), "\n"), func(line string) bool {
		words := strings.Fields(strings.ToLower(line))
		return len(words) > 1 && (words[0] == "include" || words[0] == "includeoptional") && strings.Contains(words[1], "/etc/scalr/private.d/vhosts")
	})
	if !has {
		fmt.Fprintf(r.out, "kept: %s, until Scalarizr includes its virtual hosts itself\n", ours)
		return nil
	}
	return r.step("remove "+ours+", since Apache includes the virtual hosts already", func() error {
		if err := os.Remove(ours); err != nil {
			return err
		}
		states, err := r.units.States(ctx, r.layout.ApacheUnit)
		if err != nil || states[0].Active != "active" {
			return err
		}
		return r.units.Reload(ctx, r.layout.ApacheUnit)
	})
}
