package nspawn

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// NodeLeftovers names everything on this host that belongs to nodes of an instance other than those with the ids kept, and
// every attached volume: what a test looks for after nodes were destroyed.
//
// Errors: the instance has no stamp, or the host's state cannot be read
func NodeLeftovers(stateDir string, keep ...string) ([]string, error) {
	var inst instance
	if err := readJSON(filepath.Join(stateDir, fileInstance), &inst); err != nil {
		return nil, err
	}
	k := keeper{inst.App, filepath.Join(stateDir, dirNodes), keep}
	var found []string
	for _, look := range []func() ([]string, error){k.directories, k.mounts, k.cgroups, k.links} {
		more, err := look()
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	for num, file := range loopsBelow(k.nodes) {
		if !k.path(file) {
			found = append(found, fmt.Sprintf("loop device %s of %s", loopPath(num), file))
		}
	}
	for num, file := range loopsBelow(filepath.Join(stateDir, dirVolumes)) {
		found = append(found, fmt.Sprintf("loop device %s of %s", loopPath(num), file))
	}
	for _, p := range processesNaming(k.nodes + "/") {
		if _, rest, _ := strings.Cut(p, k.nodes+"/"); !k.path(k.nodes + "/" + strings.TrimSpace(rest)) {
			found = append(found, p)
		}
	}
	return found, nil
}

// keeper knows which nodes of an instance may be there.
type keeper struct {
	app, nodes string // nodes is the directory of their directories
	ids        []string
}

// path says whether a path is below a kept node's directory. What follows it may be separated by a blank.
func (k keeper) path(p string) bool {
	id := strings.FieldsFunc(strings.TrimPrefix(p, k.nodes), func(r rune) bool { return r == '/' || r == ' ' })
	return len(id) > 0 && slices.Contains(k.ids, id[0])
}

// machine says whether a machine is a kept node; CreateNode calls it <app>-<id without its prefix>.
func (k keeper) machine(name string) bool {
	return slices.ContainsFunc(k.ids, func(id string) bool { return k.app+"-"+strings.TrimPrefix(id, "n-") == name })
}

func (k keeper) directories() ([]string, error) {
	var found []string
	entries, err := os.ReadDir(k.nodes)
	for _, e := range entries {
		if !slices.Contains(k.ids, e.Name()) {
			found = append(found, "directory "+filepath.Join(k.nodes, e.Name()))
		}
	}
	return found, err
}

func (k keeper) mounts() ([]string, error) {
	var found []string
	mounted, err := nodesMounted(k.nodes)
	for id, where := range mounted {
		if !slices.Contains(k.ids, id) {
			found = append(found, fmt.Sprintf("mount of node %s in %s", id, where))
		}
	}
	return found, err
}

func (k keeper) cgroups() ([]string, error) {
	layout, err := findCgroups(cgroupMount)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, dir := range layout.group(k.app).dirs() {
		groups, _ := os.ReadDir(dir) // absent when no node ever ran
		for _, g := range groups {
			if g.IsDir() && !k.machine(g.Name()) {
				found = append(found, "cgroup "+filepath.Join(dir, g.Name()))
			}
		}
	}
	return found, nil
}

// links looks at alternative names too: nspawn cuts long names and keeps the full one there.
func (k keeper) links() ([]string, error) {
	var found []string
	links, err := netlink.LinkList()
	for _, l := range links {
		names := append(slices.Clone(l.Attrs().AltNames), l.Attrs().Name)
		kept := slices.ContainsFunc(names, func(n string) bool { return k.machine(strings.TrimPrefix(n, "vb-")) })
		if !kept && hasPrefixAny(names, "vb-"+k.app+"-") {
			found = append(found, "network interface "+l.Attrs().Name)
		}
	}
	return found, err
}

// nodesMounted maps ids of nodes whose files are mounted to one process that sees that, in whatever mount namespace: those
// of supervisors and nodes are their own.
func nodesMounted(nodes string) (map[string]string, error) {
	pattern, err := regexp.Compile(regexp.QuoteMeta(nodes) + `/([^/, ]+)`)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // the process ended
		}
		for _, m := range pattern.FindAllSubmatch(data, -1) {
			found[string(m[1])] = filepath.Dir(f)
		}
	}
	return found, nil
}
