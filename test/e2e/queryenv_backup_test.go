//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// await waits for the end of an operation that a call answered with, and returns its record.
func (n *nodeCalls) await(answer string) (op agentapi.Operation) {
	n.Helper()
	var id string
	if err := json.Unmarshal([]byte(answer), &id); err != nil {
		n.Fatalf("got %s: %v", answer, err)
	}
	n.s.await(time.Minute, "operation "+id+" to end", func() (bool, string) {
		if err := json.Unmarshal([]byte(n.call("operation.result", dict{"operation_id": id})), &op); err != nil {
			n.Fatal(err)
		}
		return op.Status != agentapi.OperationInProgress && op.Status != agentapi.OperationNew, string(op.Status)
	})
	return op
}

// psql runs statements as the superuser of a node's PostgreSQL and returns the rows.
func (n *nodeCalls) psql(database, statements string) string {
	n.Helper()
	return n.sh(fmt.Sprintf("runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d %s <<'END'\n%s\nEND", database, statements))
}

// scraped is the value of the first series at a URL whose line begins with a name and has all labels, "" when there is none.
func scraped(t *testing.T, url, name string, labels ...string) string {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if len(labels) == 0 {
			series, value, _ = strings.Cut(strings.TrimSpace(line), " ")
		}
		if strings.HasPrefix(series, name) && !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series, l) }) {
			return value
		}
	}
	return ""
}

// backups lets a node back its PostgreSQL up in each way there is. What the agent tells of it comes to the coordinator once,
// also when it was off meanwhile.
func (s *site) backups(t *testing.T, node string) {
	n := &nodeCalls{T: t, s: s, node: node}
	n.call("postgresql.start_service", dict{})
	n.psql("postgres", "CREATE TABLE goods AS SELECT n, md5(n::text) AS sum FROM generate_series(1, 1000) n")
	content := func() string {
		t.Helper()
		return n.psql("postgres", "SELECT count(*), md5(string_agg(sum, ',' ORDER BY n)) FROM goods")
	}
	want := content()
	awaitTold := func(action string, want ...string) {
		t.Helper()
		s.await(time.Minute, strings.Join(want, ", "), func() (bool, string) {
			got := s.told(action)
			return slices.Equal(got, want), strings.Join(got, ", ")
		})
	}
	metrics := "http://" + s.nodeWith("app").Address + ":9810/metrics"
	nothingWaits := func() {
		t.Helper()
		s.await(time.Minute, "the agent to have told everything", func() (bool, string) {
			waiting := scraped(t, metrics, "reeve_messages_waiting")
			return waiting == "0", waiting + " messages wait"
		})
	}

	nothingWaits()
	s.stop()
	if op := n.await(n.call("postgresql.create_backup", dict{})); op.Status != agentapi.OperationCompleted {
		t.Fatalf("got %+v", op)
	}
	s.start(0)
	awaitTold("agent.backup", "agent.backup postgresql ok")
	nothingWaits()
	if got := scraped(t, s.url+"/metrics", "reeve_http_requests_total", `route="POST /agent/messages/{queue}"`, `code="201"`); got != "2" {
		t.Errorf("the coordinator took %s messages, want that of the backup and that of its operation", got)
	}
	n.psql("postgres", brokenDump)
	if op := n.await(n.call("postgresql.create_backup", dict{})); op.Status != agentapi.OperationFailed {
		t.Errorf("got %+v", op)
	}
	awaitTold("agent.backup", "agent.backup postgresql error", "agent.backup postgresql ok")
	n.psql("postgres", mendedDump)

	// A data bundle is of a volume that holds the data. The server lives on what is restored from it.
	volume := n.storage("create", dict{"volume": dict{"type": "nspawn", "size": 0.3, "fstype": "ext4", "mpoint": "/mnt/pgstorage"}, "mkfs": true, "mount": true})
	config, err := json.Marshal(volume)
	if err != nil {
		t.Fatal(err)
	}
	serveFrom := func(dir string) {
		t.Helper()
		n.call("postgresql.stop_service", dict{})
		n.sh(fmt.Sprintf(`[ -e %[1]s ] || cp -a /var/lib/postgresql/15/main %[1]s
sed -i "s|^data_directory = .*|data_directory = '%[1]s'|" %[2]s/postgresql.conf`, dir, postgresConf))
		n.call("postgresql.start_service", dict{})
	}
	serveFrom("/mnt/pgstorage/data")
	n.sh(fmt.Sprintf("mkdir -p /etc/scalr/private.d/storage; echo '%s' >/etc/scalr/private.d/storage/postgresql.json", config))
	op := n.await(n.call("postgresql.create_databundle", dict{}))
	bundle, _ := op.Result.(dict)
	if op.Status != agentapi.OperationCompleted || bundle["type"] != "snap_postgresql" {
		t.Fatalf("got %+v", op)
	}
	awaitTold("agent.databundle", "agent.databundle postgresql ok")
	n.psql("postgres", "DROP TABLE goods")
	restored := n.storage("create", dict{"volume": dict{"type": "nspawn", "snap": bundle["snapshot"], "fstype": "ext4", "mpoint": "/mnt/pgrestored"}, "mount": true})
	n.sh("rm -f /mnt/pgrestored/data/postmaster.pid")
	serveFrom("/mnt/pgrestored/data")
	if got := content(); got != want {
		t.Errorf("of the data bundle: got %s, want %s", got, want)
	}
	nothingWaits()
	awaitTold("agent.backup", "agent.backup postgresql error", "agent.backup postgresql ok")
	awaitTold("agent.databundle", "agent.databundle postgresql ok")
	n.call("postgresql.stop_service", dict{})
	for _, v := range []dict{restored, volume} {
		n.storage("destroy", dict{"volume": v})
	}
}
