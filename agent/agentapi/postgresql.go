package agentapi

import "encoding/json"

// ReplicationStatus is the result of postgresql.replication_status: of a primary
//
//	{"master": {"status": "up"}}
//
// of a standby that follows, with seconds since the last replayed commit (0 when all that was received is replayed),
//
//	{"slave": {"status": "up", "xlog_delay": 0}}
//
// and of one that does not, or does not run
//
//	{"slave": {"status": "down", "error": "…" or null}}
//
// Errors:  unavailable (a primary that does not run), unsupported (not installed)
// Source:  spec agent-core 6.5
type ReplicationStatus struct {
	Master *ReplicationRole
	Slave  *ReplicationRole
}

// ReplicationRole is one server's part in replication.
type ReplicationRole struct {
	Up    bool
	Delay *int   // seconds; of a standby that is up
	Error string // of one that is down; "" is null on the wire
}

// MarshalJSON writes the members that belong to the state.
func (s ReplicationStatus) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Master *ReplicationRole `json:"master,omitempty"`
		Slave  *ReplicationRole `json:"slave,omitempty"`
	}{s.Master, s.Slave})
}

// MarshalJSON writes the members that belong to the state.
func (r ReplicationRole) MarshalJSON() ([]byte, error) {
	if r.Up {
		return json.Marshal(struct {
			Status string `json:"status"`
			Delay  *int   `json:"xlog_delay,omitempty"`
		}{"up", r.Delay})
	}
	down := struct {
		Status string  `json:"status"`
		Error  *string `json:"error"`
	}{Status: "down"}
	if r.Error != "" {
		down.Error = &r.Error
	}
	return json.Marshal(down)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *ReplicationStatus) UnmarshalJSON(data []byte) error {
	var in map[string]*struct {
		Status string  `json:"status"`
		Delay  *int    `json:"xlog_delay"`
		Error  *string `json:"error"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	role := func(name string) *ReplicationRole {
		r := in[name]
		if r == nil {
			return nil
		}
		out := &ReplicationRole{Up: r.Status == "up", Delay: r.Delay}
		if r.Error != nil {
			out.Error = *r.Error
		}
		return out
	}
	*s = ReplicationStatus{Master: role("master"), Slave: role("slave")}
	return nil
}

// CreateBackupParams are the parameters of postgresql.create_backup: dump every database that is no template, compressed
// and cut into chunks, with a manifest, below the agent's backup_dir.
//
// Result:  the operation's id when Async; []BackupPart otherwise, and in operation.result
// Errors:  AlreadyInProgressError (conflict), "Error while dumping database <db>: <stderr>"
// Effects: <backup_dir>/postgresql/<time and operation>/{<db>.sql.gz.000, …, manifest.json}, for root only; nothing of it stays
// after a failure. Message DbMsr_CreateBackupResult
// Source:  spec agent-core 5.8, 6.4, D11
type CreateBackupParams struct {
	Async *Bool `json:"async,omitempty"` // default true
}

// BackupPart is one chunk of a backup. The manifest lies beside the chunks and is not listed.
type BackupPart struct {
	Path string `json:"path"` // a URL, file:///…
	Size int64  `json:"size"` // bytes
}

// CreateDataBundleParams are the parameters of postgresql.create_databundle: a snapshot of the volume that holds the data
// and the log, from which a server starts as after a power failure.
//
// Result:  the operation's id when Async; DataBundle otherwise, and in operation.result
// Errors:  AlreadyInProgressError (conflict), unsupported (no volume of the storage namespace holds the data,
// or not all of it), what storage.snapshot answers
// Effects: a snapshot; message DbMsr_CreateDataBundleResult
// Source:  spec agent-core 6.4, D11, D14
type CreateDataBundleParams struct {
	Async *Bool `json:"async,omitempty"` // default true
}

// DataBundle is what restores the data.
type DataBundle struct {
	Type        string                     `json:"type"`        // "snap_postgresql"
	Snapshot    map[string]json.RawMessage `json:"snapshot"`    // as storage.snapshot answers it
	Consistency string                     `json:"consistency"` // "crash": the server replays its log when it starts from it
}

// GrowDataVolumeParams are the parameters of postgresql.grow_volume: storage.grow of the volume that holds the data, with
// the server stopped meanwhile and always started again.
//
// Result:  the operation's id when Async; the config of the new volume otherwise
// Errors:  AssertionError "volume configuration is invalid, 'dict' type expected" and "volume.id can't be blank" (invalid),
// AlreadyInProgressError (conflict), unsupported, what storage.grow answers
// Source:  spec agent-core 6.1
type GrowDataVolumeParams struct {
	Volume json.RawMessage `json:"volume" rpc:"required"`
	Growth json.RawMessage `json:"growth" rpc:"required"`
	Async  *Bool           `json:"async,omitempty"` // default false
}

// DBMsrCreateBackupResult is the body of the message DbMsr_CreateBackupResult, queue "control".
type DBMsrCreateBackupResult struct {
	DBType      string       `json:"db_type"`
	Status      string       `json:"status"` // "ok" or "error"
	BackupParts []BackupPart `json:"backup_parts,omitempty"`
	LastError   string       `json:"last_error,omitempty"`
}

// DBMsrCreateDataBundleResult is the body of the message DbMsr_CreateDataBundleResult, queue "control".
type DBMsrCreateDataBundleResult struct {
	DBType     string              `json:"db_type"`
	Status     string              `json:"status"`              // "ok" or "error"
	UsedSize   string              `json:"used_size,omitempty"` // used megabytes / 1000, three decimals
	PostgreSQL *DBMsrSnapshotState `json:"postgresql,omitempty"`
	LastError  string              `json:"last_error,omitempty"`
}

// DBMsrSnapshotState is the engine's part of DbMsr_CreateDataBundleResult.
type DBMsrSnapshotState struct {
	SnapshotConfig map[string]json.RawMessage `json:"snapshot_config"`
}
