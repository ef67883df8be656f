package nspawn

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// intent is what the driver wants of a node. It is written before the node is touched, so that whoever reads it after a
// crash knows how to go on.
type intent string

const (
	intentCreating  intent = "creating" // the record exists, the rest is half made
	intentRunning   intent = "running"
	intentStopped   intent = "stopped"
	intentDestroyed intent = "destroyed"
)

// record is <node>/state.json. Only the driver writes it; it exists before anything else of the node does and is the
// last thing of it to go.
type record struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Key       string            `json:"key"`
	Machine   string            `json:"machine"` // host-wide unique name, for nspawn, its veth and its cgroup
	App       string            `json:"app"`
	Bridge    string            `json:"bridge"`
	Addr      netip.Prefix      `json:"addr"`
	ImageID   string            `json:"image_id"`
	SizeID    string            `json:"size_id"`
	Layers    []string          `json:"layers"` // lower directories, topmost first
	Limits    limits            `json:"limits"`
	KeyName   string            `json:"key_name,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Intent    intent            `json:"intent"`
	CreatedAt time.Time         `json:"created_at"`
}

// runState is <node>/run.json and one line of the watch socket: what the supervisor sees. Only the supervisor writes it.
type runState struct {
	State      core.CloudNodeState `json:"state"`
	Detail     string              `json:"detail,omitempty"` // last STATUS= text, or why it failed
	Boots      int                 `json:"boots"`            // how often the node was started, reboots included
	Resume     bool                `json:"resume,omitempty"` // stopped because the host stops, not because somebody wanted it
	Supervisor proc                `json:"supervisor"`
	Nspawn     proc                `json:"nspawn"`
	Leader     proc                `json:"leader"` // the node's PID 1 as the host sees it
	Since      time.Time           `json:"since"`
}

// ended says that the node went off and that its supervisor had nothing more to do for it. An error alone does not mean
// that: a node that is late is in error too.
func (r runState) ended() bool {
	return (r.State == core.CloudStopped || r.State == core.CloudError) && !r.Nspawn.alive() && !r.Leader.alive()
}

// Names of files in a node's directory.
const (
	fileState   = "state.json"      // record
	fileRun     = "run.json"        // runState
	fileSeed    = "seed.json"       // files to put in before the first boot; gone afterwards
	fileLock    = "supervisor.lock" // held by the node's supervisor
	fileWatch   = "watch"           // stream socket: the supervisor sends a runState per change
	fileNotify  = "notify"          // datagram socket: nspawn's readiness messages
	fileConsole = "console.log"
	fileDisk    = "disk.img" // ext4 holding upper and work; its size is the node's disk limit
	dirDisk     = "disk"     // where disk.img is mounted, in the supervisor's own mount namespace
	dirRoot     = "root"     // where the overlay is mounted, likewise
	dirDev      = "dev"      // device nodes of attached volumes; bound to /dev/reeve inside the node
)

// readJSON reads one of our state files.
func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces a state file atomically and durably.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, append(data, '\n'), 0o600, renameio.WithTempDir(filepath.Dir(path)))
}

func readRecord(dir string) (record, error) {
	var r record
	return r, readJSON(filepath.Join(dir, fileState), &r)
}

func (r record) write(dir string) error { return writeJSON(filepath.Join(dir, fileState), r) }

// readRun returns what the node's supervisor last saw; the zero value when it never ran.
func readRun(dir string) runState {
	var r runState
	_ = readJSON(filepath.Join(dir, fileRun), &r) // a torn or missing file means: nothing known
	return r
}
