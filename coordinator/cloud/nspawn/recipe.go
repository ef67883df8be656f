package nspawn

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recipe is everything that decides what the base image holds; its hash names the result.
type recipe struct {
	Version  int // raise it when finish does something else
	Suite    string
	Sources  []string
	Packages []string
	Before   map[string]string // files in place before packages are installed
	After    map[string]string // files written when they are; "" deletes
	Disable  []string          // units that are installed and start only when somebody wants them
	Enable   []string
	Mask     []string // units nobody needs in a node
	Target   string   // what a boot reaches
}

func newRecipe(mirror string) recipe {
	mirror = strings.TrimSuffix(mirror, "/")
	return recipe{
		Version: 1,
		Suite:   "bookworm",
		Sources: []string{
			"deb " + mirror + " bookworm main",
			"deb " + mirror + " bookworm-updates main",
			"deb " + mirror + "-security bookworm-security main",
		},
		Packages: []string{
			"systemd", "systemd-sysv", "dbus", "libpam-systemd", "iproute2", "openssh-server", "ca-certificates", "curl", "procps", "netbase",
			"apache2", "libapache2-mod-php", "php-cli", "php-mysql", "nginx-light", "mariadb-server", "postgresql",
			// Filesystems of volumes, beside the ext ones (handlers/storage).
			"xfsprogs", "btrfs-progs",
			// What apps are built with and run on (handlers/deploy/platform). npm is left out: 167 MB in 360 packages.
			"python3", "python3-pip", "python3-psycopg2", "python3-pymysql", "gunicorn", "nodejs", "node-pg", "node-mysql",
			"ruby", "ruby-bundler", "ruby-rack", "ruby-webrick", "ruby-pg", "ruby-mysql2", "golang-1.19-go", "php-pgsql", "postgresql",
		},
		Before: map[string]string{
			// Before the first start of the database: its data directory is copied for every database instance, so it
			// must be small. An existing log keeps its size, hence the order.
			"/etc/mysql/mariadb.conf.d/90-reeve-small.cnf": "[mysqld]\ninnodb_log_file_size = 8M\ninnodb_buffer_pool_size = 32M\nperformance_schema = OFF\n",
			// The same for the cluster that PostgreSQL's package makes.
			"/etc/postgresql-common/createcluster.d/90-reeve-small.conf": "initdb_options = '--wal-segsize=1'\n" +
				"max_wal_size = 64MB\nmin_wal_size = 2MB\nshared_buffers = 32MB\n",
			"/etc/dpkg/dpkg.cfg.d/90-reeve-slim": "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n" +
				"path-exclude=/usr/share/man/*\npath-exclude=/usr/share/info/*\npath-exclude=/usr/share/locale/*\n",
			// A third of the compiler is the compiler for itself, and tools that no build uses.
			"/etc/dpkg/dpkg.cfg.d/91-reeve-go": "path-exclude=/usr/lib/go-*/pkg/linux_*/cmd/*\npath-exclude=/usr/lib/go-*/pkg/tool/*\n" +
				"path-include=/usr/lib/go-*/pkg/tool/*/compile\npath-include=/usr/lib/go-*/pkg/tool/*/link\npath-include=/usr/lib/go-*/pkg/tool/*/asm\n" +
				"path-include=/usr/lib/go-*/pkg/tool/*/pack\npath-include=/usr/lib/go-*/pkg/tool/*/buildid\n" +
				"path-exclude=/usr/share/go-*/src/cmd/*\npath-exclude=/usr/share/go-*/test/*\npath-exclude=/usr/share/go-*/api/*\n" +
				"path-exclude=/usr/share/go-*/src/*_test.go\npath-exclude=/usr/share/go-*/src/*/testdata/*\n",
		},
		After: map[string]string{
			"/etc/hostname":                              "",
			"/var/lib/dbus/machine-id":                   "",
			"/etc/ssh/ssh_host_rsa_key":                  "",
			"/etc/ssh/ssh_host_rsa_key.pub":              "",
			"/etc/ssh/ssh_host_ecdsa_key":                "",
			"/etc/ssh/ssh_host_ecdsa_key.pub":            "",
			"/etc/ssh/ssh_host_ed25519_key":              "",
			"/etc/ssh/ssh_host_ed25519_key.pub":          "",
			"/etc/systemd/journald.conf.d/90-reeve.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\nForwardToConsole=no\n",
			"/etc/ssh/sshd_config.d/90-reeve.conf":       "HostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\nUseDNS no\n",
			"/etc/systemd/system.conf.d/90-reeve.conf":   "[Manager]\nDefaultTimeoutStopSec=20s\n",
			"/usr/share/reeve/image":                     ImageID + "\n",
		},
		Target:  "multi-user.target",
		Disable: []string{"apache2.service", "nginx.service", "mariadb.service", "mariadb.socket", "postgresql.service", "ssh.service"},
		Enable:  []string{"systemd-networkd.service", "ssh.socket"},
		Mask: []string{
			"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
			"man-db.timer", "phpsessionclean.timer", "systemd-networkd-wait-online.service", "systemd-pstore.service", "getty.target",
			"console-getty.service", "systemd-timesyncd.service", "systemd-resolved.service", "systemd-udevd.service", "systemd-udev-trigger.service",
			"systemd-firstboot.service", "systemd-machine-id-commit.service", "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service",
			"sys-kernel-debug.mount", "sys-kernel-tracing.mount", "dev-hugepages.mount", "modprobe@.service", "ldconfig.service",
			"systemd-network-generator.service", "systemd-journal-flush.service", "systemd-remount-fs.service", "systemd-sysusers.service",
		},
	}
}

func (r recipe) hash() string {
	data, _ := json.Marshal(r) // maps are written in key order
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// bootstrap runs mmdebstrap: 45 s for all of these packages on two cores, where debootstrap takes 40 s for the bare
// system alone.
func (r recipe) bootstrap(ctx context.Context, target string, lock *os.File, progress Progress) error {
	program, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return errors.New("mmdebstrap is not installed; run: apt-get install mmdebstrap")
	}
	seed, err := os.CreateTemp("", "reeve-seed-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(seed.Name())
	err = writeTar(seed, r.Before)
	if err = errors.Join(err, seed.Close()); err != nil {
		return err
	}
	args := []string{
		"--variant=minbase", "--mode=root", "--format=directory", "--verbose", "--skip=check/qemu",
		"--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Queue-Mode \"access\"",
		"--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io",
		"--setup-hook=tar-in " + seed.Name() + " /", // one of mmdebstrap's own words, not a command
		"--include=" + strings.Join(r.Packages, ","),
		r.Suite, target,
	}
	cmd := exec.CommandContext(ctx, program, append(args, r.Sources...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.ExtraFiles = []*os.File{lock} // if we are killed, the cache stays locked until mmdebstrap has ended too
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return runFollowed(cmd, newAptFollower("base", progress).line)
}

// runFollowed runs a command, gives every line of its output to line, and on failure returns the last ones.
func runFollowed(cmd *exec.Cmd, line func(string)) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	var last []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line(lines.Text())
		if last = append(last, lines.Text()); len(last) > 15 {
			last = last[1:]
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w:\n%s", filepath.Base(cmd.Path), err, strings.Join(last, "\n"))
	}
	return nil
}

// aptFollower turns apt's and dpkg's chatter into progress: every package is fetched, unpacked and set up once.
type aptFollower struct {
	progress    Progress
	stage       string
	done, total int
}

var newlyInstalled = regexp.MustCompile(`^\d+ upgraded, (\d+) newly installed`)

func newAptFollower(stage string, p Progress) *aptFollower {
	p(stage, 0, 0, "start")
	return &aptFollower{progress: p, stage: stage}
}

func (f *aptFollower) line(text string) {
	if m := newlyInstalled.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		f.total += 3 * n
		return
	}
	word, rest, _ := strings.Cut(text, " ")
	switch {
	case strings.HasPrefix(word, "Get:") && strings.Contains(rest, " amd64 "), strings.HasPrefix(word, "Get:") && strings.Contains(rest, " all "):
		f.done++
	case word == "Unpacking", word == "Setting":
		f.done++
	case word == "I:":
	default:
		return
	}
	if f.total > 0 {
		f.done = min(f.done, f.total)
	}
	f.progress(f.stage, f.done, f.total, strings.TrimRight(strings.TrimPrefix(text, "I: "), " ."))
}

// writeTar writes files, and the directories above them, owned by root.
func writeTar(w *os.File, files map[string]string) error {
	tw := tar.NewWriter(w)
	made := map[string]bool{}
	var mkdir func(dir string) error
	mkdir = func(dir string) error {
		if dir == "/" || dir == "." || made[dir] {
			return nil
		}
		if err := mkdir(path.Dir(dir)); err != nil {
			return err
		}
		made[dir] = true
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "." + dir + "/", Mode: 0o755})
	}
	for name, text := range files {
		if err := mkdir(path.Dir(name)); err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Name: "." + name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := tw.Write([]byte(text)); err != nil {
			return err
		}
	}
	return tw.Close()
}

// finish turns a fresh Debian into a node image.
func (r recipe) finish(ctx context.Context, rootfs string) error {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return err
	}
	defer root.Close()
	for name, text := range r.After {
		name = strings.TrimPrefix(name, "/")
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if text == "" {
			continue
		}
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	// Empty and not absent: then every node makes its own. A copied one gives equal ids to all.
	if err := root.WriteFile("etc/machine-id", nil, 0o444); err != nil {
		return err
	}
	for verb, units := range map[string][]string{"disable": r.Disable, "enable": r.Enable, "mask": r.Mask, "set-default": {r.Target}} {
		if out, err := systemctl(ctx, rootfs, verb, units); err != nil {
			return fmt.Errorf("systemctl %s: %w: %s", verb, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// systemctl works offline on a tree, with the tree's own systemctl, so that the versions fit.
func systemctl(ctx context.Context, rootfs, verb string, units []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "chroot", append([]string{rootfs, "systemctl", "--quiet", verb}, units...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	return cmd.CombinedOutput()
}
