package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/cloud"
	"github.com/reeve-paas/reeve/coordinator/cloud/fake"
	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
	"github.com/reeve-paas/reeve/coordinator/cloud/static"
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
		case "static":
			driver, err := static.Open(ctx, staticOptions(cfg, name, c, log))
			if err != nil {
				return nil, closeAll, fmt.Errorf("cloud %s: %w", name, err)
			}
			drivers = append(drivers, cloud.Named{Name: name, Driver: driver})
		default:
			return nil, closeAll, fmt.Errorf("cloud %s: unknown engine %q", name, c.Engine)
		}
	}
	set, err = cloud.NewSet(cfg.DefaultCloud, drivers...)
	return set, closeAll, err
}

func nspawnOptions(cfg Config, name string, c CloudConfig, log *slog.Logger) (nspawn.Options, error) {
	o := nspawn.Options{StateDir: filepath.Join(cfg.DataDir, "clouds", name), Bridge: c.Bridge, ImageCache: cfg.ImageCache, Location: c.Location.core(), Log: log}
	if c.Subnet == "" {
		return o, nil
	}
	var err error
	o.Subnet, err = netip.ParsePrefix(c.Subnet)
	return o, err
}

func staticOptions(cfg Config, name string, c CloudConfig, log *slog.Logger) static.Options {
	o := static.Options{StateDir: filepath.Join(cfg.DataDir, "clouds", name), Anonymous: c.AllowAnonymous, Platforms: c.Platforms, Location: c.Location.core(), Log: log}
	o.Package = func(family, arch string) (string, error) {
		if arch != machineArch() {
			return "", core.Errorf(core.Unsupported, core.ObjNode, "there is no agent for %s machines here, only for %s", arch, machineArch())
		}
		return agentPackageFor(cfg, family)
	}
	for _, h := range c.Hosts {
		o.Hosts = append(o.Hosts, static.Host(h))
	}
	return o
}

func (l LocationConfig) core() core.Location {
	return core.Location{Name: l.Name, Country: l.Country, ISO: l.ISO, Code: l.Code}
}

// machineArch is this program's architecture as uname -m says it; the agent's packages beside us are for the same.
func machineArch() string {
	if runtime.GOARCH == "arm64" {
		return "aarch64"
	}
	return "x86_64"
}

// agentPackageFor finds the agent's package of a family, "deb" or "rpm", for enrolment and downloads.
//
// Errors: unsupported (there is none)
func agentPackageFor(cfg Config, family string) (string, error) {
	deb := agentPackage(cfg)
	path := strings.TrimSuffix(deb, ".deb") + "." + family
	if _, err := os.Stat(path); deb == "" || err != nil {
		return "", core.Errorf(core.Unsupported, core.ObjNode, "there is no .%s package of the agent here; agent_package names the .deb, and the .rpm lies beside it", family)
	}
	return path, nil
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
