package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/cloud"
	"github.com/reeve-paas/reeve/coordinator/cloud/fake"
	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// openClouds builds the driver of every configured cloud: the visible list of engines. A cloud that cannot work on this
// machine is left in with a driver that says why, so that the others serve.
func openClouds(ctx context.Context, cfg Config, log *slog.Logger) (set *cloud.Set, closeAll func() error, err error) {
	var drivers []cloud.Named
	var closers []func() error
	closeAll = func() error {
		var first error
		for _, c := range slices.Backward(closers) {
			if err := c(); err != nil && first == nil {
				first = err
			}
		}
		return first
	}
	for name, c := range cfg.Clouds {
		log := log.With("cloud", name)
		switch c.Engine {
		case "fake":
			drivers = append(drivers, cloud.Named{Name: name, Driver: fake.New()})
		case "nspawn":
			o, err := nspawnOptions(cfg, name, c, log)
			if err != nil {
				return nil, closeAll, err
			}
			driver, err := nspawn.Open(ctx, o)
			if err != nil {
				log.Warn("this machine cannot be a cloud; \"reeve-coordinator doctor\" tells what it lacks", "err", err)
				drivers = append(drivers, cloud.Named{Name: name, Driver: cloud.Broken(core.CloudInfo{Type: "nspawn", Name: "systemd-nspawn"}, err)})
				continue
			}
			closers = append(closers, driver.Close)
			var d core.Cloud = driver
			if c.AllowAnonymous {
				d = anonymous{driver}
			}
			drivers = append(drivers, cloud.Named{Name: name, Driver: d})
		default:
			return nil, closeAll, fmt.Errorf("cloud %s: unknown engine %q", name, c.Engine)
		}
	}
	set, err = cloud.NewSet(cfg.DefaultCloud, drivers...)
	return set, closeAll, err
}

func nspawnOptions(cfg Config, name string, c CloudConfig, log *slog.Logger) (nspawn.Options, error) {
	o := nspawn.Options{StateDir: filepath.Join(cfg.DataDir, "clouds", name), Bridge: c.Bridge, ImageCache: cfg.ImageCache, Log: log}
	if c.Subnet == "" {
		return o, nil
	}
	var err error
	o.Subnet, err = netip.ParsePrefix(c.Subnet)
	return o, err
}

// anonymous opens a driver to callers without a token, as its configuration asks.
type anonymous struct{ *nspawn.Driver }

func (a anonymous) Info() core.CloudInfo {
	info := a.Driver.Info()
	info.Anonymous = true
	return info
}

// agentPackage is the .deb that node images get: the configured one, or what was installed or built beside this program.
func agentPackage(cfg Config) string {
	if cfg.AgentPackage != "" {
		return cfg.AgentPackage
	}
	candidates := []string{"/usr/share/reeve/reeve-agent.deb"}
	if self, err := os.Executable(); err == nil {
		candidates = append([]string{filepath.Join(filepath.Dir(self), "..", "dist", "reeve-agent.deb")}, candidates...)
	}
	for _, path := range candidates {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}
