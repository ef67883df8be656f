package operation

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/reeve-paas/reeve/agent/agentapi"
)

// entry is one operation in the journal: one file per operation, mode 0600, replaced in one step.
type entry struct {
	ID      string                   `json:"id"`
	Name    string                   `json:"name"`
	Status  agentapi.OperationStatus `json:"status"`
	Result  json.RawMessage          `json:"result,omitempty"`
	Error   *string                  `json:"error,omitempty"`
	Trace   *string                  `json:"trace,omitempty"`
	Kind    agentapi.Kind            `json:"kind,omitempty"`
	Logs    []string                 `json:"logs,omitempty"`
	Started time.Time                `json:"started"`
	Ended   time.Time                `json:"ended,omitzero"` // zero while in progress
	Told    bool                     `json:"told,omitempty"` // OnEnd heard of the end
}

// end fills in how the function ended.
func (e *entry) end(result json.RawMessage, err error, canceled bool) {
	e.Ended, e.Result = time.Now(), result
	switch {
	case err != nil:
		trace := err.Error() // starts with the class of a typed error
		if typed, ok := errors.AsType[*agentapi.Error](err); ok {
			e.Kind = typed.Kind
		} else {
			trace = "Exception: " + trace
		}
		e.fail(errorText(err), trace)
		if canceled {
			e.Status = agentapi.OperationCanceled
		}
	case canceled:
		e.Status, e.Error = agentapi.OperationCanceled, agentapi.Ptr("User canceled")
	default:
		e.Status = agentapi.OperationCompleted
	}
}

func (e *entry) fail(text, trace string) {
	e.Status, e.Error, e.Trace, e.Ended = agentapi.OperationFailed, &text, &trace, time.Now()
}

// record is the entry as operation.result shows it.
func (e *entry) record() agentapi.Operation {
	o := agentapi.Operation{ID: e.ID, Name: e.Name, Status: e.Status, Error: e.Error, Trace: e.Trace, Kind: e.Kind, Logs: slices.Clone(e.Logs)}
	if o.Logs == nil {
		o.Logs = []string{}
	}
	if e.Result != nil {
		o.Result = e.Result
	}
	return o
}

type journal struct{ dir string }

func (j journal) path(id string) string { return filepath.Join(j.dir, id+".json") }

func (j journal) save(e entry) error {
	if j.dir == "" {
		return nil
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return renameio.WriteFile(j.path(e.ID), data, 0o600, renameio.WithTempDir(j.dir), renameio.WithStaticPermissions(0o600))
}

func (j journal) remove(id string) error {
	if j.dir == "" {
		return nil
	}
	if err := os.Remove(j.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// load reads every entry, and removes what a killed agent left half-written. A file that is no record is logged and left.
func (j journal) load(log *slog.Logger) ([]entry, error) {
	if j.dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, f := range files {
		path := filepath.Join(j.dir, f.Name())
		if !strings.HasSuffix(f.Name(), ".json") {
			if strings.HasPrefix(f.Name(), ".") { // a temporary file of renameio
				os.Remove(path)
			}
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var e entry
		if err := json.Unmarshal(data, &e); err != nil || e.ID+".json" != f.Name() {
			log.Error("file in the operation journal is not a record", "path", path, "err", err)
			continue
		}
		entries = append(entries, e)
	}
	return entries, nil
}
