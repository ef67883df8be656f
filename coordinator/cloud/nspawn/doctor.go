package nspawn

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Finding is one thing this host needs to be a cloud.
type Finding struct {
	What    string // what is needed and, in brackets, what was seen
	Missing bool
	Fix     string // the command that mends it
}

// minFreeBytes is what an image, its cache and a few nodes take.
const minFreeBytes = 4 << 30

// Doctor looks at everything this driver needs of the host and changes nothing that lasts.
func Doctor(ctx context.Context) []Finding {
	findings := []Finding{
		check("Linux", runtime.GOOS == "linux", "use a Linux host"),
		check("root", os.Geteuid() == 0, "run as root, e.g. with sudo"),
	}
	for _, tool := range [][2]string{
		{"systemd-nspawn", "systemd-container"}, {"mmdebstrap", "mmdebstrap"}, {"mkfs.ext4", "e2fsprogs"},
		{"nft", "nftables"}, {"nsenter", "util-linux"}, {"chroot", "coreutils"},
	} {
		_, err := exec.LookPath(tool[0])
		findings = append(findings, check("program "+tool[0], err == nil, "apt-get install "+tool[1]))
	}
	data, _ := os.ReadFile("/proc/filesystems")
	for _, fs := range []string{"overlay", "ext4"} {
		findings = append(findings, check("file system "+fs, slices.Contains(strings.Fields(string(data)), fs), "modprobe "+fs))
	}
	return append(findings, loopFinding(), bridgeFinding(), nftFinding(ctx), cgroupFinding(), diskFinding(DefaultImageCache()), dnsFinding())
}

func check(what string, ok bool, fix string) Finding {
	return Finding{What: what, Missing: !ok, Fix: fix}
}

func loopFinding() Finding {
	f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return check("loop devices", err == nil, "modprobe loop")
}

// bridgeProbe keeps two checks of this process from making the same bridge.
var bridgeProbe sync.Mutex

// bridgeFinding makes a bridge and takes it away: only that tells whether the kernel and our rights allow it.
func bridgeFinding() Finding {
	bridgeProbe.Lock()
	defer bridgeProbe.Unlock()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("rvdoc%d", os.Getpid()%1_000_000)
	link := &netlink.Bridge{LinkAttrs: attrs}
	err := netlink.LinkAdd(link)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	return check("network bridges", err == nil, "modprobe bridge veth, and run as root")
}

func nftFinding(ctx context.Context) Finding {
	cmd := exec.CommandContext(ctx, "nft", "--check", "-f", "-")
	cmd.Stdin = strings.NewReader(ruleset("doctor", "doctor0", netip.MustParsePrefix("192.0.2.0/24")))
	return check("nftables with masquerading", cmd.Run() == nil, "modprobe nf_tables nft_masq, and apt-get install nftables")
}

func cgroupFinding() Finding {
	const what = "cgroup controllers cpu, memory and pids"
	layout, err := findCgroups(cgroupMount)
	if err != nil {
		return check(what, false, "mount the cgroup hierarchies below "+cgroupMount+", e.g. apt-get install cgroupfs-mount")
	}
	if layout.pure() {
		data, _ := os.ReadFile(filepath.Join(cgroupMount, "cgroup.controllers"))
		have := strings.Fields(string(data))
		ok := !slices.ContainsFunc([]string{"cpu", "memory", "pids"}, func(c string) bool { return !slices.Contains(have, c) })
		return check(what, ok, "boot with cgroup_enable=memory on the kernel command line")
	}
	ok := layout.v1of["cpu"] != "" && layout.v1of["memory"] != "" && layout.v1of["pids"] != ""
	return check(what, ok, "mount the missing cgroup hierarchies below "+cgroupMount)
}

// diskFinding looks at the disk that the image cache is on, or will be.
func diskFinding(dir string) Finding {
	for !exists(dir) && dir != "/" {
		dir = filepath.Dir(dir)
	}
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	free := int64(st.Bavail) * st.Bsize
	return check(fmt.Sprintf("4 GB of free disk in %s (%.1f GB)", dir, float64(free)/1e9), err == nil && free >= minFreeBytes,
		"free some space, or set REEVE_IMAGE_CACHE to a directory on another disk")
}

func dnsFinding() Finding {
	servers := hostNameservers()
	return check(fmt.Sprintf("a name server that nodes can reach (%v)", servers), len(servers) > 0,
		"put a nameserver that is not on the loopback into /etc/resolv.conf")
}
