package nspawn

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Options configure one instance of the driver. Several instances live side by side on one host when their state
// directories, bridges and subnets differ.
type Options struct {
	// StateDir holds everything of the instance; required, absolute, at most 70 bytes (it is part of socket paths).
	StateDir string
	// Bridge is the instance's own network interface. "" means reeve0.
	Bridge string
	// Subnet is the instance's own IPv4 network; its first address is the host's. The zero value means 10.66.0.0/24.
	Subnet netip.Prefix
	// AppName stamps the instance's cgroup, nft table and machine names. "" means the bridge's name.
	AppName string
	// Images lists what nodes boot from. nil means: whatever BuildImage has put into ImageCache, looked up at each use.
	Images []Image
	// ImageCache is where BuildImage keeps images. "" means DefaultImageCache.
	ImageCache string
	// Sizes replaces DefaultSizes; the first is what a NodeSpec without a size gets.
	Sizes []core.Size
	// Location is how the only one is shown; id and number are the driver's own.
	Location core.Location
	// MaxPids limits the processes and threads of a node. 0 means 2048.
	MaxPids int
	// Nameservers go into the nodes' resolv.conf. nil means the host's upstream servers.
	Nameservers []netip.Addr
	// Log may be nil.
	Log *slog.Logger
}

// DefaultSizes are the sizes of a driver without configured ones.
func DefaultSizes() []core.Size {
	return []core.Size{
		{ID: "s", Name: "s", CPUs: 1, MemoryMB: 512, DiskGB: 10},
		{ID: "s+", Name: "s+", CPUs: 1, MemoryMB: 768, DiskGB: 10},
		{ID: "m", Name: "m", CPUs: 1, MemoryMB: 1024, DiskGB: 10},
		{ID: "l", Name: "l", CPUs: 2, MemoryMB: 2048, DiskGB: 10},
		{ID: "xl", Name: "xl", CPUs: 4, MemoryMB: 4096, DiskGB: 10},
		{ID: "xxl", Name: "xxl", CPUs: 8, MemoryMB: 8192, DiskGB: 10},
	}
}

var (
	bridgeName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,14}$`)
	appName    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	nodeName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// withDefaults fills in what was left out and reports everything that is wrong.
func (o Options) withDefaults() (Options, error) {
	if o.Bridge == "" {
		o.Bridge = "reeve0"
	}
	if !o.Subnet.IsValid() {
		o.Subnet = netip.MustParsePrefix("10.66.0.0/24")
	}
	if o.AppName == "" {
		o.AppName = strings.ToLower(strings.ReplaceAll(o.Bridge, "_", "-"))
	}
	if o.ImageCache == "" {
		o.ImageCache = DefaultImageCache()
	}
	if len(o.Sizes) == 0 {
		o.Sizes = DefaultSizes()
	}
	if o.MaxPids == 0 {
		o.MaxPids = 2048
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Subnet = o.Subnet.Masked()
	var errs []error
	switch {
	case !filepath.IsAbs(o.StateDir):
		errs = append(errs, fmt.Errorf("state directory %q is not absolute", o.StateDir))
	case len(o.StateDir) > 70:
		errs = append(errs, fmt.Errorf("state directory %q is longer than 70 bytes, sockets below it would not fit", o.StateDir))
	case strings.ContainsAny(o.StateDir, ":,\\"):
		errs = append(errs, fmt.Errorf("state directory %q holds one of : , \\, which mount options cannot carry", o.StateDir))
	}
	if !bridgeName.MatchString(o.Bridge) {
		errs = append(errs, fmt.Errorf("bridge name %q: want a letter and up to 14 of [a-zA-Z0-9_-]", o.Bridge))
	}
	if !appName.MatchString(o.AppName) {
		errs = append(errs, fmt.Errorf("instance name %q: want a letter and up to 30 of [a-z0-9-]", o.AppName))
	}
	if !o.Subnet.Addr().Is4() || o.Subnet.Bits() < 16 || o.Subnet.Bits() > 29 {
		errs = append(errs, fmt.Errorf("subnet %s: want an IPv4 network between /16 and /29", o.Subnet))
	}
	return o, errors.Join(errs...)
}
