package system_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/system"
)

type definitions struct {
	list []agentapi.ScalingMetricDefinition
	err  error
}

func (d definitions) ScalingMetrics(context.Context) ([]agentapi.ScalingMetricDefinition, error) {
	return d.list, d.err
}

func scaling(t *testing.T, d system.Definitions) (*env, string) {
	root := t.TempDir()
	o := options(t, host.New(host.Options{Root: root}))
	o.Metrics = d
	return &env{t: t, methods: system.New(o).Methods()}, root
}

func put(t *testing.T, root, path, text string, mode os.FileMode) {
	t.Helper()
	full := filepath.Join(root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(text), mode)); err != nil {
		t.Fatal(err)
	}
}

// Conformance 57: scaling_metrics.
func TestConformance57_ScalingMetrics(t *testing.T) {
	type list = []agentapi.ScalingMetricDefinition
	e, root := scaling(t, definitions{list: list{
		{ID: "1", Name: "read", Path: "/m/five", Method: "read"},
		{ID: "2", Name: "exit", Path: "/m/exit3", Method: "execute"},
		{ID: "3", Name: "slow", Path: "/m/slow", Method: "execute"},
		{ID: "4", Name: "gone", Path: "/m/none", Method: "read"},
		{ID: "5", Name: "plain", Path: "/m/five", Method: "execute"},
		{ID: "6", Name: "run", Path: "/m/run", Method: "execute"},
		{ID: "7", Name: "word", Path: "/m/word", Method: "read"},
		{ID: "8", Name: "nan", Path: "/m/nan", Method: "read"},
		{ID: "9", Name: "stderr", Path: "/m/stderr", Method: "execute"},
		{ID: "10", Name: "dir", Path: "/m", Method: "read"},
	}})
	put(t, root, "m/five", "5.5\nx", 0o644)
	put(t, root, "m/exit3", "#!/bin/sh\nexit 3\n", 0o755)
	put(t, root, "m/slow", "#!/bin/sh\nsleep 9\n", 0o755)
	put(t, root, "m/run", "#!/bin/sh\necho \" 42 \"\n", 0o755)
	put(t, root, "m/word", "many\n", 0o644)
	put(t, root, "m/nan", "nan\n", 0o644)
	put(t, root, "m/stderr", "#!/bin/sh\nprintf 'é%.0s' $(seq 300) >&2\nexit 1\n", 0o755)
	started := time.Now()
	got, err := e.call("scaling_metrics", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took > 6*time.Second { // 3 s and the start of a few shells
		t.Errorf("took %s", took)
	}
	metric := func(id, name, value, text string) string {
		return fmt.Sprintf(`{"id":"%s","name":"%s","value":%s,"error":"%s"}`, id, name, value, text)
	}
	want := "[" + strings.Join([]string{
		metric("1", "read", "5.5", ""), metric("2", "exit", "0.0", "exitcode: 3"), metric("3", "slow", "0.0", "Timeouted"),
		metric("4", "gone", "0.0", "File is not readable: '/m/none'"), metric("5", "plain", "0.0", "File is not executable: '/m/five'"),
		metric("6", "run", "42.0", ""), metric("7", "word", "0.0", "could not convert string to float: many"),
		metric("8", "nan", "0.0", "could not convert string to float: nan"), metric("9", "stderr", "0.0", strings.Repeat("é", 255)),
		metric("10", "dir", "0.0", "File is not readable: '/m'"),
	}, ",") + "]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestScalingMetricsKeepTheOrderOf27(t *testing.T) {
	var list []agentapi.ScalingMetricDefinition
	for i := range 27 {
		list = append(list, agentapi.ScalingMetricDefinition{ID: fmt.Sprint(i), Name: "m", Path: fmt.Sprintf("/m/%d", i), Method: "read"})
	}
	e, root := scaling(t, definitions{list: list})
	for i := range 27 {
		put(t, root, fmt.Sprintf("m/%d", i), fmt.Sprint(i), 0o644)
	}
	var got []struct {
		ID    string
		Value float64
	}
	e.into("scaling_metrics", `{}`, &got)
	if len(got) != 27 {
		t.Fatalf("got %d metrics, want 27", len(got))
	}
	for i, m := range got {
		if m.ID != fmt.Sprint(i) || m.Value != float64(i) {
			t.Errorf("metric %d: got %+v", i, m)
		}
	}
}

func TestScalingMetricsWithoutDefinitions(t *testing.T) {
	e, _ := scaling(t, definitions{})
	e.want("scaling_metrics", `{}`, `[]`)
	e, _ = scaling(t, nil)
	e.wantError("scaling_metrics", `{}`, "QueryEnvError: no coordinator is configured that defines scaling metrics")
	e, _ = scaling(t, definitions{err: errors.New("QueryEnv failed: forbidden")})
	e.wantError("scaling_metrics", `{}`, "QueryEnvError: QueryEnv failed: forbidden")
	e, _ = scaling(t, definitions{list: []agentapi.ScalingMetricDefinition{{Name: "a", Method: "url"}}})
	e.wantError("scaling_metrics", `{}`, `QueryEnvError: metric "a" has the unknown retrieve-method "url"`)
}
