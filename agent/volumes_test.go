package main

import (
	"encoding/json"
	"testing"

	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/host/hosttest"
	"github.com/reeve-paas/reeve/handlers/storage"
)

func TestPostgreSQLReachesStorage(t *testing.T) {
	ops, err := operation.Open(operation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := volumesFor(storage.New(storage.Options{Host: hosttest.New(t).Host, Operations: ops, StateDir: "/var/lib/reeve-agent"}))
	volume := map[string]json.RawMessage{"type": json.RawMessage(`"nfs"`), "id": json.RawMessage(`"v-1"`)}
	if _, err := v.Snapshot(t.Context(), volume, "d", map[string]string{"a": "b"}); err == nil || err.Error() == "" {
		t.Errorf("snapshot: got %v, want what storage says of an unknown type", err)
	}
	if _, err := v.Grow(t.Context(), volume, nil); err == nil {
		t.Error("grow: nobody was told")
	}
}
