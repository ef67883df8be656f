package storage

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

func TestConformance35Async(t *testing.T) {
	f := newFake(t)
	b := f.bed(t)
	start := func(method string, pairs ...any) string {
		t.Helper()
		id, err := b.methods[method].Call(t.Context(), json.RawMessage(params(append(pairs, "async", 1)...)))
		if text, isText := id.(string); err != nil || !isText || !regexp.MustCompile(`^[0-9a-f-]{36}$`).MatchString(text) {
			t.Fatalf("%s: got %v, %v", method, id, err)
		}
		return id.(string)
	}
	ended := func(id string) agentapi.Operation {
		t.Helper()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			record, err := b.registry.Result(id)
			if err != nil {
				t.Fatal(err)
			}
			if record.Status != agentapi.OperationInProgress {
				return record
			}
		}
		panic("a ticker does not end")
	}
	record := ended(start("create", "volume", small, "mkfs", true))
	data, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	var seen struct {
		Name, Status string
		Result       agentapi.StorageConfig
	}
	if err := json.Unmarshal(data, &seen); err != nil || seen.Name != "storage.create" || seen.Status != "completed" || seen.Result.Text("device") != "/dev/loop0" {
		t.Errorf("got %s", data)
	}
	record = ended(start("grow", "volume", seen.Result, "growth", object{"size": 0.001}))
	if record.Status != agentapi.OperationFailed || record.Error == nil || *record.Error != "New loop device size is less than current." || record.Name != "storage.grow" {
		t.Errorf("37: got %+v", record)
	}
}
