package static

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Scripts, in POSIX sh. None has a single quote or a parameter.
const (
	probeScript = `. /etc/os-release
echo "os=$ID ${VERSION_ID:-}"
echo "arch=$(uname -m)"
echo "uid=$(id -u)"
for p in dpkg rpm systemctl tar sha256sum; do command -v $p >/dev/null 2>&1 && echo "has=$p"; done
echo "cpus=$(nproc 2>/dev/null || echo 0)"
echo "memory_kb=$(sed -n "s/^MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo)"
echo "disk_kb=$(df -Pk / | tail -n 1 | tr -s " " | cut -d " " -f 2)"
if [ -d /run/systemd/system ]; then echo booted=systemd; fi
if [ -e /usr/bin/reeve-agent ]; then echo agent=yes; fi
if [ -r /etc/reeve/enrolled ]; then sed "s/^/marker./" /etc/reeve/enrolled; fi`

	// A key that somebody else made is kept for the day the machine is left alone again.
	keepKeyScript = `set -e
umask 077
k=/etc/reeve/keys/default
if [ -e $k ] && [ ! -e /etc/reeve/enrolled ]; then cp -p $k $k.before; fi`

	filesScript = `set -e
umask 022
tar -C / -xpf -
sync`

	keysScript = `set -e
umask 077
mkdir -p /root/.ssh
f=/root/.ssh/authorized_keys
touch $f
grep -v " reeve-enrolled\$" $f >$f.reeve || true
cat >>$f.reeve
mv $f.reeve $f`

	uploadScript = `set -e
umask 077
mkdir -p /var/cache/reeve-agent
f=/var/cache/reeve-agent/package
cat >$f.part
mv $f.part $f
sha256sum $f | cut -d " " -f 1`

	installDebScript = `DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold /var/cache/reeve-agent/package >&2`
	installRPMScript = `rpm -U --replacepkgs --oldpackage /var/cache/reeve-agent/package >&2`

	startScript = `set -e
rm -rf /var/cache/reeve-agent
systemctl daemon-reload
systemctl enable reeve-agent.service
systemctl restart reeve-agent.service
systemctl is-active reeve-agent.service`

	// The marker goes last: until then a repetition knows what to remove. One that is not ours is nobody's business here.
	leaveScript = `read node
m=/etc/reeve/enrolled
if ! grep -qx "node=$node" $m 2>/dev/null; then exit 0; fi
systemctl disable --now reeve-agent.service >/dev/null 2>&1
f=/root/.ssh/authorized_keys
if grep -q " reeve-enrolled\$" $f 2>/dev/null; then
	umask 077
	grep -v " reeve-enrolled\$" $f >$f.reeve
	mv $f.reeve $f || exit 1
fi
k=/etc/reeve/keys/default
rm -f $k /etc/reeve/coordinator-ca.crt /etc/systemd/system/reeve-agent.service.d/coordinator.conf
rmdir /etc/systemd/system/reeve-agent.service.d 2>/dev/null
systemctl daemon-reload >/dev/null 2>&1
ours=no
if grep -qx installed=yes $m; then ours=yes; fi
if [ $ours = yes ] && [ -e /usr/bin/reeve-agent ]; then
	if command -v dpkg >/dev/null 2>&1 && dpkg -s reeve-agent >/dev/null 2>&1; then dpkg --purge reeve-agent >&2 || exit $?
	else rpm -e reeve-agent >&2 || exit $?; fi
fi
if [ -e $k.before ]; then mv $k.before $k && systemctl enable --now reeve-agent.service >/dev/null 2>&1; fi
rm -rf /var/cache/reeve-agent
rm -f $m || exit 1
if [ $ours = yes ]; then rmdir /etc/reeve/keys /etc/reeve 2>/dev/null; fi
exit 0`

	rebootScript = `systemctl reboot`
)

// probed is what a machine said about itself.
type probed struct {
	facts
	arch   string
	family string // deb or rpm
	agent  bool
	marker map[string]string // nil when there is none
}

func (r *remote) probe() (probed, error) {
	out, err := r.run("look around", probeScript, nil)
	p := probed{}
	if err != nil {
		if failed, ok := errors.AsType[*failedCommand](err); ok && r.sudo && strings.Contains(failed.said, "sudo") {
			return p, core.Wrap(core.Unauthenticated, core.ObjNode, err, "sudo on %s wants a password: %s", r.name, failed.said)
		}
		return p, err
	}
	has := map[string]bool{}
	values := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "has" {
			has[value] = true
		}
		if name, ok := strings.CutPrefix(key, "marker."); ok {
			if p.marker == nil {
				p.marker = map[string]string{}
			}
			p.marker[name] = value
		}
		values[key] = value
	}
	number := func(key string) int { n, _ := strconv.Atoi(values[key]); return n }
	p.facts = facts{CPUs: number("cpus"), MemoryMB: number("memory_kb") >> 10, DiskGB: max(1, number("disk_kb")>>20), OS: strings.TrimSpace(values["os"])}
	p.arch, p.agent = values["arch"], values["agent"] == "yes"
	refuse := func(format string, args ...any) (probed, error) {
		return p, core.Errorf(core.Unsupported, core.ObjNode, format, args...)
	}
	switch {
	case values["uid"] != "0":
		return p, core.Errorf(core.Unauthenticated, core.ObjNode, "we are not root on %s: log in as root, or allow sudo", r.name)
	case values["booted"] != "systemd" || !has["systemctl"]:
		return refuse("%s is not run by systemd", r.name)
	case has["dpkg"]:
		p.family = "deb"
	case has["rpm"]:
		p.family = "rpm"
	default:
		return refuse("%s has neither dpkg nor rpm", r.name)
	}
	if !has["tar"] || !has["sha256sum"] {
		return refuse("%s lacks tar or sha256sum", r.name)
	}
	return p, nil
}

// install enrols a machine, from wherever an earlier try stopped.
func (d *Driver) install(ctx context.Context, m machine, spec core.NodeSpec) (facts, error) {
	r, err := dial(ctx, m.Host)
	if err != nil {
		return facts{}, err
	}
	defer r.close()
	p, err := r.probe()
	if err != nil {
		return facts{}, err
	}
	if p.marker != nil && p.marker["owner"] != d.owner {
		return facts{}, core.Errorf(core.Invalid, core.ObjNode, "the machine %s is enrolled by another coordinator; destroy its node there, or remove /etc/reeve/enrolled on it", m.Name)
	}
	file, err := d.o.Package(p.family, p.arch)
	if err != nil {
		return facts{}, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return facts{}, core.Wrap(core.Unsupported, core.ObjNode, err, "read the agent's package for %s", m.Name)
	}
	hash := sha256.Sum256(data)
	sum := hex.EncodeToString(hash[:])
	same := p.agent && p.marker["package"] == sum // before the marker says so
	mark := map[string]string{"owner": d.owner, "node": spec.Key, "installed": "yes", "package": ""}
	if old, marked := p.marker["installed"]; marked {
		mark["installed"] = old
	} else if p.agent {
		mark["installed"] = "no"
	}
	if same {
		mark["package"] = sum
	}
	if err := d.update(ctx, m.Name, func(m *machine) { m.Touched = true }); err != nil {
		return facts{}, err
	}
	if _, err := r.run("keep the old key", keepKeyScript, nil); err != nil {
		return facts{}, err
	}
	if err := r.putFiles("write its identity", append([]core.BootstrapFile{marker(mark)}, spec.Files...)); err != nil {
		return facts{}, err
	}
	if err := r.putKeys(spec.SSHKeys); err != nil {
		return facts{}, err
	}
	if !same {
		if err := r.putPackage(ctx, p.family, data, sum); err != nil {
			return facts{}, err
		}
		mark["package"] = sum
		if err := r.putFiles("note the package", []core.BootstrapFile{marker(mark)}); err != nil {
			return facts{}, err
		}
	}
	_, err = r.run("start the agent", startScript, nil)
	return p.facts, err
}

func marker(values map[string]string) core.BootstrapFile {
	text := ""
	for _, key := range []string{"owner", "node", "installed", "package"} {
		text += key + "=" + values[key] + "\n"
	}
	return core.BootstrapFile{Path: "/etc/reeve/enrolled", Mode: 0o600, Data: []byte(text)}
}

// putFiles writes files of root. Directories of keys are closed; others are made as they are needed.
func (r *remote) putFiles(doing string, files []core.BootstrapFile) error {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	dir := func(name string, mode int64) error {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: time.Now()})
	}
	err := errors.Join(dir("etc/reeve/", 0o755))
	if slices.ContainsFunc(files, func(f core.BootstrapFile) bool { return strings.HasPrefix(f.Path, "/etc/reeve/keys/") }) {
		err = errors.Join(err, dir("etc/reeve/keys/", 0o700))
	}
	for _, f := range files {
		mode := f.Mode.Perm()
		if mode == 0 {
			mode = fs.FileMode(0o600)
		}
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/"), Mode: int64(mode), Size: int64(len(f.Data)), ModTime: time.Now()}))
		_, werr := w.Write(f.Data)
		err = errors.Join(err, werr)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return core.Wrap(core.Internal, core.ObjNode, err, "%s", doing)
	}
	_, err = r.run(doing, filesScript, &archive)
	return err
}

// putKeys lets keys in as root, and no key of an earlier enrolment.
func (r *remote) putKeys(keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	text := ""
	for _, k := range keys {
		text += strings.TrimSpace(k) + " reeve-enrolled\n"
	}
	_, err := r.run("let SSH keys in", keysScript, strings.NewReader(text))
	return err
}

// putPackage uploads and installs the agent. The checksum is the only proof that all of it arrived.
func (r *remote) putPackage(ctx context.Context, family string, data []byte, sum string) error {
	out, err := r.run("upload the agent", uploadScript, bytes.NewReader(data))
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(out); got != sum {
		return core.Errorf(core.Unavailable, core.ObjNode, "the agent's package arrived at %s with the checksum %.80q", r.name, got)
	}
	script := installDebScript
	if family == "rpm" {
		script = installRPMScript
	}
	return r.whileLocked(ctx, "install the agent", script, nil)
}

// lockPatience is how long another package manager may keep its lock.
const lockPatience = 2 * time.Minute

// whileLocked runs a script again while another package manager holds the lock.
func (r *remote) whileLocked(ctx context.Context, doing, script string, stdin func() *strings.Reader) error {
	deadline := time.Now().Add(lockPatience)
	for {
		var in *strings.Reader
		if stdin != nil {
			in = stdin()
		} else {
			in = strings.NewReader("")
		}
		_, err := r.run(doing, script, in)
		failed, ok := errors.AsType[*failedCommand](err)
		if !ok || !strings.Contains(failed.said, "lock") || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return core.Wrap(core.Unavailable, core.ObjNode, err, "another package manager works on %s", r.name)
		case <-time.After(time.Second):
		}
	}
}

// uninstall takes a machine's enrolment back, however far it came.
func (d *Driver) uninstall(ctx context.Context, m machine) error {
	r, err := dial(ctx, m.Host)
	if err != nil {
		return err
	}
	defer r.close()
	return r.whileLocked(ctx, "remove the agent", leaveScript, func() *strings.Reader { return strings.NewReader(m.Key + "\n") })
}

// RebootNode implements core.Cloud.
//
// Errors: unsupported (a machine that was enrolled with a token has no way in)
func (d *Driver) RebootNode(ctx context.Context, id string) error {
	m, err := d.machine(id)
	if err == nil && m.Key == "" {
		err = core.Errorf(core.NotFound, core.ObjNode, "there is no such node")
	}
	if err != nil {
		return err
	}
	if m.Token {
		return core.Errorf(core.Unsupported, core.ObjNode, "%s was enrolled with a token: only its administrator can reboot it", m.Name)
	}
	r, err := dial(ctx, m.Host)
	if err != nil {
		return err
	}
	defer r.close()
	_, err = r.run("reboot", rebootScript, nil)
	if _, failed := errors.AsType[*failedCommand](err); failed {
		return err
	}
	return nil // a connection that the reboot cut off is as good
}

// Probe logs in to a host and looks around, without changing anything.
//
// Errors: those of Enroll; a cause of type *UnknownHostKey on first contact
func Probe(ctx context.Context, h Host) (string, error) {
	if err := checkHost(h); err != nil {
		return "", err
	}
	r, err := dial(ctx, h)
	if err != nil {
		return "", err
	}
	defer r.close()
	p, err := r.probe()
	return fmt.Sprintf("%s, %s", p.OS, p.arch), err
}
