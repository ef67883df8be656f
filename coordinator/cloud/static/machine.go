package static

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Host is a machine and how to reach it.
type Host struct {
	Name    string // unique in the cloud; also the node's id
	Address string // IP address or name; where the agent will listen too
	Port    int    // of SSH; 0 means 22
	User    string // "" means root
	KeyFile string // private key; "" means the caller's SSH agent
	HostKey string // a line of known_hosts without the name, e.g. "ssh-ed25519 AAAA…"
	Sudo    bool   // User becomes root with sudo -n
}

// machine is a record of machines.json.
type machine struct {
	Host
	Configured bool `json:",omitempty"` // from the configuration, which says how to reach it
	Token      bool `json:",omitempty"` // enrolled by its administrator: we have no way in but its agent

	// Of the node that the machine is; zero while it is none.
	Key      string              `json:",omitempty"`
	NodeName string              `json:",omitempty"`
	State    core.CloudNodeState `json:",omitempty"`
	Metadata map[string]string   `json:",omitempty"`
	Since    time.Time           `json:",omitzero"`
	Touched  bool                `json:",omitempty"` // something may be on it already

	Facts facts `json:",omitzero"` // as last probed
}

// facts are what a machine is.
type facts struct {
	CPUs     int    `json:",omitempty"`
	MemoryMB int    `json:",omitempty"`
	DiskGB   int    `json:",omitempty"`
	OS       string `json:",omitempty"` // e.g. "debian 12"
}

var machineName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (d *Driver) file() string { return filepath.Join(d.o.StateDir, "machines.json") }

// load reads all machines, by name.
func (d *Driver) load() ([]machine, error) {
	data, err := os.ReadFile(d.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []machine
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		return nil, core.Wrap(core.Unavailable, core.ObjCloud, err, "read the list of machines")
	}
	return all, nil
}

// change reads and writes all machines as one.
func (d *Driver) change(ctx context.Context, fn func(all []machine) ([]machine, error)) error {
	unlock, err := d.lock(ctx, "machines")
	if err != nil {
		return err
	}
	defer unlock()
	all, err := d.load()
	if err != nil {
		return err
	}
	if all, err = fn(all); err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b machine) int { return strings.Compare(a.Name, b.Name) })
	data, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = renameio.WriteFile(d.file(), data, 0o600)
	}
	if err != nil {
		return core.Wrap(core.Unavailable, core.ObjCloud, err, "write the list of machines")
	}
	return nil
}

// update changes one machine.
func (d *Driver) update(ctx context.Context, name string, fn func(*machine)) error {
	return d.change(ctx, func(all []machine) ([]machine, error) {
		for i := range all {
			if all[i].Name == name {
				fn(&all[i])
			}
		}
		return all, nil
	})
}

// lock takes a lock of the state directory. The kernel frees it when its holder ends, however that happens.
func (d *Driver) lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(d.o.StateDir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, core.Wrap(core.Unavailable, core.ObjCloud, err, "lock the list of machines")
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			f.Close()
			return nil, core.Wrap(core.Unavailable, core.ObjCloud, err, "lock %s", name)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, core.Wrap(core.Unavailable, core.ObjNode, ctx.Err(), "somebody else works on %s", name)
		case <-tick.C:
		}
	}
}
