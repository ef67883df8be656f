//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/rpcserver/rpctest"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/test/hosts"
	"github.com/reeve-paas/reeve/test/oldcoordinator"
)

// coreHost is a host whose installed agent is called by hand, and a coordinator that it asks and tells.
type coreHost struct {
	*rpctest.Server
	h   *hosts.Host
	far *oldcoordinator.Coordinator
	key envelope.Key

	settings string          // of agent.yaml, without the clock's
	tls      *rpctest.Client // the agent's other listener
}

// TestCoreItemsOnABootedHost is the checklist of spec agent-core 8, items 1 to 59, over the wire against an installed agent.
// Items 53 and 54 are in TestSystemOnARealHost. A subtest's name begins with its number.
func TestCoreItemsOnABootedHost(t *testing.T) {
	t.Parallel()
	c := newCoreHost(t)
	c.rememberMuch(t)
	process := c.h.Exec(t, "systemctl", "show", agentUnit, "-P", "MainPID")
	rpctest.Conformance(t, c.Server)
	t.Run("25 credentials are left nowhere on the host", c.credentialsAreLeftNowhere)
	t.Run("33 TLS carries the same envelope, and the plain listener is unaffected", func(t *testing.T) {
		overTLS := *c.Server
		overTLS.Client = c.tls
		rpctest.Conformance(t, &overTLS)
		c.WantAlive(t)
	})
	wantText(t, c.h, process, "systemctl", "show", agentUnit, "-P", "MainPID") // nothing of this ended it
	t.Run("01 to 26 and 33 the wire's vectors", func(t *testing.T) {
		c.configure(t, "max_clock_skew: 0s")
		file := filepath.Join(top, "crypto/envelope/testdata/envelope.json")
		rpctest.Vectors(t, c.Server, file)
		overTLS := *c.Server
		overTLS.Client = c.tls
		rpctest.Vectors(t, &overTLS, file)
	})
	c.SetKey(t, c.h.Key())
	c.configure(t, "max_clock_skew: 300s")
	c.operations(t)
	c.facts(t)
	c.actions(t)
}

func newCoreHost(t *testing.T) *coreHost {
	h := hosts.Boot(t, hosts.Options{Name: "core", Agent: true, Size: "m"})
	c := &coreHost{h: h}
	c.key = c.parse(t, h.Key())
	c.far = oldcoordinator.New(c.key)
	l, err := net.Listen("tcp", netip.AddrPortFrom(h.Cloud.Gateway(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	far := httptest.NewUnstartedServer(c.far)
	far.Listener = l
	far.Start()
	t.Cleanup(far.Close)

	_, cert, private := certificate(t, "core.test")
	h.WriteFile(t, "/etc/reeve/tls.crt", 0o644, cert)
	h.WriteFile(t, "/etc/reeve/tls.key", 0o600, private)
	c.settings = "listen_tls: [':8443']\ntls: {cert_file: /etc/reeve/tls.crt, key_file: /etc/reeve/tls.key}\n" +
		fmt.Sprintf("coordinator: {queryenv_url: '%s/query-env', producer_url: '%s/messaging', server_id: s-1}\n", far.URL, far.URL)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	client := func(url string, config *tls.Config) *rpctest.Client {
		transport := &http.Transport{TLSClientConfig: config}
		t.Cleanup(transport.CloseIdleConnections)
		return &rpctest.Client{URL: url, HTTP: &http.Client{Transport: transport, Timeout: time.Minute}, Key: func() envelope.Key { return c.key }}
	}
	c.tls = client("https://"+netip.AddrPortFrom(h.Addr, 8443).String(), &tls.Config{RootCAs: roots, ServerName: "core.test"})

	const ran = "/run/hook-ran"
	h.WriteFile(t, shutdownHook, 0o755, []byte("#!/bin/sh\necho >>"+ran+"\n"))
	h.WriteFile(t, ran, 0o644, nil)
	c.Server = &rpctest.Server{
		Client: client(h.AgentURL(), nil),
		SetKey: func(t testing.TB, raw []byte) {
			h.WriteFile(t, "/etc/reeve/keys/default", 0o600, []byte(base64.StdEncoding.EncodeToString(raw)+"\n"))
			c.key = c.parse(t, raw)
		},
		Change: func(id string) (path, plaintext string) {
			return "/system", `{"method": "call_auth_shutdown_hook", "params": {}, "id": "` + id + `"}`
		},
		Changes: func(t testing.TB) int { return bytes.Count(h.ReadFile(t, ran), []byte("\n")) },
		Seen:    c.seen,
		Log: func(t testing.TB, until string) (log string) {
			hosts.Eventually(t, until+" is in the agent's log", func() bool {
				log = h.Exec(t, "journalctl", "-u", agentUnit, "-o", "cat")
				return strings.Contains(log, until)
			})
			return log
		},
	}
	c.configure(t, "max_clock_skew: 300s")
	return c
}

func (c *coreHost) parse(t testing.TB, raw []byte) envelope.Key {
	t.Helper()
	key, err := envelope.NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// configure restarts the agent with the host's settings and one more.
func (c *coreHost) configure(t testing.TB, more string) {
	t.Helper()
	c.h.WriteFile(t, agentConfig, 0o640, []byte(c.settings+more+"\n"))
	c.h.Exec(t, "systemctl", "restart", agentUnit)
	for _, port := range []uint16{8010, 8443} {
		awaitPort(t, netip.AddrPortFrom(c.h.Addr, port))
	}
}

// The agent remembers 100,000 requests, and keeps what it remembers in a file of records of 28 bytes, which it writes anew when
// it is twice as long as what is remembered.
const (
	seenFile   = "/var/lib/reeve-agent/rpc-seen"
	seenRecord = 28
	seenBound  = 100_000
)

// rememberMuch leaves the agent a file of requests that is nearly as long as it may be: it is written anew within the next five
// hundred.
func (c *coreHost) rememberMuch(t *testing.T) {
	records := make([]byte, (2*seenBound-500)*seenRecord)
	_, _ = rand.Read(records)
	for record := range slices.Chunk(records, seenRecord) {
		binary.BigEndian.PutUint64(record[seenRecord-8:], uint64(time.Now().Add(time.Hour).Unix()))
	}
	c.h.Exec(t, "systemctl", "stop", agentUnit)
	c.h.WriteFile(t, seenFile, 0o600, records)
	c.configure(t, "max_clock_skew: 300s")
}

// seen is what is in the file of remembered requests: those that were remembered when it was written anew, and the few that came
// since.
func (c *coreHost) seen(t testing.TB) (remembered, bound int) {
	t.Helper()
	size, err := strconv.Atoi(c.h.Exec(t, "stat", "-c", "%s", seenFile))
	if err != nil {
		t.Fatal(err)
	}
	return size / seenRecord, seenBound + 5000
}

// result calls a method and returns its result.
func (c *coreHost) result(t testing.TB, method, params string) json.RawMessage {
	t.Helper()
	r := c.call(t, method, params)
	if r.Error != nil {
		t.Fatalf("%s: got error %+v, want a result", method, *r.Error)
	}
	return r.Result
}

// failure calls a method that fails by itself and returns the message.
func (c *coreHost) failure(t testing.TB, method, params string) string {
	t.Helper()
	r := c.call(t, method, params)
	if r.Error == nil || r.Error.Code != -32603 {
		t.Fatalf("%s: got %+v with result %s, want error -32603", method, r.Error, r.Result)
	}
	return r.Error.Message
}

func (c *coreHost) call(t testing.TB, method, params string) rpctest.RPC {
	t.Helper()
	namespace, name, _ := strings.Cut(method, ".")
	return c.Call(t, "/"+namespace, fmt.Sprintf(`{"method": %q, "params": %s, "id": %q}`, name, params, rand.Text())).Reply(t)
}

// into decodes the result of a method, whose members must all be known to v.
func (c *coreHost) into(t testing.TB, method, params string, v any) {
	t.Helper()
	text := c.result(t, method, params)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %s: %v", method, text, err)
	}
}

// credentialsAreLeftNowhere makes calls with cloud credentials in every namespace, among them one that shows all that a program
// of the agent's gets, and looks for them everywhere that they could have been written.
func (c *coreHost) credentialsAreLeftNowhere(t *testing.T) {
	c.SetKey(t, c.h.Key()) // that of the coordinator, which is told of operations
	const access = `"_platform_access_data": {"account_id": "ACCOUNTSECRET", "key_id": "KEYIDSECRET", "key": "KEYSECRET", "proxy": {"pass": "PROXYSECRET"}}`
	for _, method := range []string{"system.uname", "sysinfo.mounts", "operation.has_in_progress", "nginx.get_service_status", "www.get_service_status",
		"apache.list_served_virtual_hosts", "app.get_service_status", "mysql.get_service_status", "mysql2.get_service_status",
		"postgresql.get_service_status", "mongodb.get_service_status", "deploy.list_scripts"} {
		if r := c.call(t, method, "{"+access+"}"); r.Error != nil && strings.Contains(r.Error.Message, "platform") {
			t.Errorf("%s: got %s, want no such parameter seen", method, r.Error.Message)
		}
	}
	for method, params := range map[string]string{"storage.create": `"volume": {"type": "ebs", "size": 1}`, "service.get_preset": `"behavior": "nope"`} {
		if message := c.failure(t, method, "{"+params+", "+access+"}"); strings.Contains(message, "platform") {
			t.Errorf("%s: got %s, want no such parameter seen", method, message)
		}
	}
	c.result(t, "system.execute_scripts", `{"scripts": [{"name": "show", "body": "#!/bin/sh\nenv; cat /proc/$PPID/environ /proc/self/cmdline\n", "timeout": 20, "execution_id": "env"}],
		"event_name": "Show", `+access+`}`)
	c.h.Exec(t, "grep", "-q", "PATH=", "/var/log/scalarizr/scripting/show.Show.env-out.log")
	if found, err := c.h.Try(t, "grep", "-rlE", "(ACCOUNT|KEYID|KEY|PROXY)SECRET", "/etc", "/var", "/run", "/tmp", "/usr/local"); err == nil {
		t.Errorf("credentials are in %s", found)
	}
	if log := c.Log(t, "method=execute_scripts"); strings.Contains(log, "SECRET") {
		t.Errorf("credentials are in the log %s", log)
	}
	for _, m := range c.far.Messages() {
		if strings.Contains(string(m.Body), "SECRET") {
			t.Errorf("credentials are in the message %s", m.Body)
		}
	}
}

// operations are items 34 to 43.
func (c *coreHost) operations(t *testing.T) {
	// mkfs waits while it is told to.
	c.h.Exec(t, "sh", "-c", makeLoops)
	c.h.WriteFile(t, "/usr/local/sbin/mkfs.ext4", 0o755, []byte("#!/bin/sh\nif test -e /run/hold; then touch /run/held; while test -e /run/hold; do sleep 0.02; done; fi\nexec /usr/sbin/mkfs.ext4 \"$@\"\n"))
	// Loop devices are the kernel's, which other hosts share: the names of their files must be this host's own, and none may stay.
	disks := "/srv/" + rand.Text()
	c.h.Exec(t, "mkdir", disks)
	attached := func() string {
		return c.h.Exec(t, "sh", "-c", "losetup --list --noheadings --output NAME,BACK-FILE | grep "+disks+" || true")
	}
	defer func() {
		c.h.Exec(t, "rm", "-f", "/run/hold")
		for line := range strings.Lines(attached()) {
			c.h.Exec(t, "losetup", "--detach", strings.Fields(line)[0])
		}
	}()
	volume := func(name string) string {
		return fmt.Sprintf(`{"volume": {"type": "loop", "size": 0.02, "file": "%s/%s.img", "fstype": "ext4"}, "mkfs": true, "async": true}`, disks, name)
	}
	// begin starts a storage.create that has begun and does not end before release.
	begin := func(t *testing.T, name string) (id string) {
		t.Helper()
		c.h.Exec(t, "touch", "/run/hold")
		c.into(t, "storage.create", volume(name), &id)
		hosts.Eventually(t, "the filesystem is being made", func() bool {
			if o := c.record(t, id); o.Status != agentapi.OperationInProgress {
				t.Fatalf("got %+v, want it to make a filesystem", o)
			}
			_, err := c.h.Try(t, "test", "-e", "/run/held")
			return err == nil
		})
		return id
	}
	release := func(t *testing.T) {
		t.Helper()
		c.h.Exec(t, "rm", "-f", "/run/hold", "/run/held")
	}
	busy := func(t *testing.T, want string) {
		t.Helper()
		if got := c.result(t, "operation.has_in_progress", `{}`); string(got) != want {
			t.Errorf("got has_in_progress %s, want %s", got, want)
		}
	}
	cancel := func(t *testing.T, id string) {
		t.Helper()
		if got := c.result(t, "operation.cancel", `{"operation_id": "`+id+`"}`); string(got) != "null" {
			t.Errorf("cancel: got %s, want null", got)
		}
	}
	var reason string // of a volume of a cloud that cannot be made

	t.Run("34 an unknown id", func(t *testing.T) {
		for _, method := range []string{"operation.result", "operation.cancel"} {
			if got := c.failure(t, method, `{"operation_id": "nope"}`); got != "OperationNotFoundError: 'nope' not found" {
				t.Errorf("%s: got %s", method, got)
			}
		}
	})
	t.Run("35 an asynchronous call answers with a UUID while its work goes on", func(t *testing.T) {
		id := begin(t, "35")
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
			t.Errorf("got id %q, want a random UUID", id)
		}
		members := func() map[string]json.RawMessage {
			t.Helper()
			var m map[string]json.RawMessage
			c.into(t, "operation.result", `{"operation_id": "`+id+`"}`, &m)
			if got := slices.Sorted(maps.Keys(m)); !slices.Equal(got, []string{"error", "id", "logs", "name", "result", "status", "trace"}) {
				t.Errorf("got members %q", got)
			}
			if string(m["name"]) != `"storage.create"` || string(m["id"]) != `"`+id+`"` || string(m["error"]) != "null" || string(m["trace"]) != "null" || m["logs"][0] != '[' {
				t.Errorf("got record %s", m)
			}
			return m
		}
		if m := members(); string(m["status"]) != `"in-progress"` || string(m["result"]) != "null" {
			t.Errorf("while it runs: got %s", m)
		}
		release(t)
		c.ended(t, id)
		if m := members(); string(m["status"]) != `"completed"` || !regexp.MustCompile(`"id":"vol-loop-[0-9a-f]{8}"`).Match(m["result"]) {
			t.Errorf("afterwards: got %s", m)
		}
	})
	t.Run("36 a status moves forward only", func(t *testing.T) {
		for _, end := range []agentapi.OperationStatus{agentapi.OperationCompleted, agentapi.OperationFailed, agentapi.OperationCanceled} {
			id := begin(t, "36-"+string(end))
			switch end {
			case agentapi.OperationFailed:
				c.h.Exec(t, "chmod", "644", "/usr/sbin/mkfs.ext4")
			case agentapi.OperationCanceled:
				cancel(t, id)
			}
			seen := []agentapi.OperationStatus{c.record(t, id).Status}
			release(t)
			for _, after := range c.ended(t, id) {
				if after.Status != seen[len(seen)-1] {
					seen = append(seen, after.Status)
				}
			}
			c.h.Exec(t, "chmod", "755", "/usr/sbin/mkfs.ext4")
			if !slices.Equal(seen, []agentapi.OperationStatus{agentapi.OperationInProgress, end}) {
				t.Errorf("got statuses %q, want in-progress and then %s", seen, end)
			}
		}
	})
	t.Run("37 a failed asynchronous operation", func(t *testing.T) {
		var id string
		c.into(t, "storage.create", `{"volume": {"type": "ebs", "size": 1}, "async": 1}`, &id)
		c.ended(t, id)
		o := c.record(t, id)
		const start = "Volume has no ID and EC2 connection required for volume construction is not available"
		if o.Status != agentapi.OperationFailed || o.Error == nil || !strings.HasPrefix(*o.Error, start) || o.Result != nil || o.Trace == nil {
			t.Fatalf("got %+v, want failed with %q and no result", o, start)
		}
		reason = *o.Error
	})
	t.Run("38 a failed synchronous operation is an error", func(t *testing.T) {
		if got := c.failure(t, "storage.create", `{"volume": {"type": "ebs", "size": 1}}`); got != "StorageError: "+reason {
			t.Errorf("got %s, want the class and %q", got, reason)
		}
	})
	var canceled string
	t.Run("39 a canceled operation goes on until its work ends", func(t *testing.T) {
		canceled = begin(t, "39")
		cancel(t, canceled)
		if o := c.record(t, canceled); o.Status != agentapi.OperationInProgress {
			t.Errorf("got %+v, want it in progress while mkfs runs", o)
		}
		release(t)
		c.ended(t, canceled)
		if o := c.record(t, canceled); o.Status != agentapi.OperationCanceled || o.Error == nil || *o.Error != "User canceled" || o.Result == nil {
			t.Errorf("got %+v, want it canceled with its result", o)
		}
	})
	t.Run("40 cancel of a finished operation changes nothing", func(t *testing.T) {
		var completed string
		c.into(t, "storage.create", volume("40"), &completed)
		c.ended(t, completed)
		for _, id := range []string{completed, canceled} {
			before := c.result(t, "operation.result", `{"operation_id": "`+id+`"}`)
			cancel(t, id)
			if after := c.result(t, "operation.result", `{"operation_id": "`+id+`"}`); !bytes.Equal(before, after) {
				t.Errorf("got %s, want %s", after, before)
			}
		}
	})
	t.Run("41 has_in_progress", func(t *testing.T) {
		busy(t, "false")
		id := begin(t, "41")
		busy(t, "true")
		release(t)
		c.ended(t, id)
		busy(t, "false")
	})
	t.Run("42 a second backup at once is refused", func(t *testing.T) {
		c.result(t, "deploy.enable_service", `{"service": "postgresql"}`)
		c.result(t, "postgresql.start_service", `{}`)
		// pg_dump waits for the lock.
		c.h.Exec(t, "systemd-run", "--unit", "lock", "--uid", "postgres", "psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", "CREATE TABLE held (x int)", "-c", "BEGIN", "-c", "LOCK TABLE held",
			"-c", `\! touch /tmp/locked; until test -e /tmp/unlock; do sleep 0.05; done`)
		hosts.Eventually(t, "the table is locked", func() bool { _, err := c.h.Try(t, "test", "-e", "/tmp/locked"); return err == nil })
		var id, next string
		c.into(t, "postgresql.create_backup", `{}`, &id)
		want := `AlreadyInProgressError: ("'postgresql.create-backup' already in progress", '` + id + `')`
		if got := c.failure(t, "postgresql.create_backup", `{}`); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		busy(t, "true")
		c.h.Exec(t, "touch", "/tmp/unlock")
		c.ended(t, id)
		c.into(t, "postgresql.create_backup", `{}`, &next)
		c.ended(t, next)
		for _, id := range []string{id, next} {
			if o := c.record(t, id); o.Status != agentapi.OperationCompleted {
				t.Errorf("got %+v, want completed", o)
			}
		}
	})
	t.Run("43 the end of each operation is told, of synchronous ones too", func(t *testing.T) {
		c.result(t, "system.execute_scripts", `{"scripts": [{"name": "hi", "body": "#!/bin/sh\n", "timeout": 20}]}`)
		var told map[string]string
		hosts.Eventually(t, "every operation that the host recorded was told", func() bool {
			told = map[string]string{}
			for _, m := range c.far.Messages() {
				if m.Name == "OperationResult" && m.Queue == "control" {
					var o agentapi.Operation
					if err := json.Unmarshal(m.Body, &o); err != nil || told[o.ID] != "" {
						t.Fatalf("got %s, %v, want each operation once", m.Body, err)
					}
					told[o.ID] = string(m.Body)
				}
			}
			files := strings.Fields(c.h.Exec(t, "sh", "-c", "cd /var/lib/reeve-agent/operations && ls *.json"))
			return len(files) > 10 && !slices.ContainsFunc(files, func(f string) bool { return told[strings.TrimSuffix(f, ".json")] == "" })
		})
		endings := map[string]int{}
		for id, body := range told {
			if record := c.result(t, "operation.result", `{"operation_id": "`+id+`"}`); string(record) != body {
				t.Errorf("told %s, the record is %s", body, record)
			}
			o := c.record(t, id)
			endings[o.Name+" "+string(o.Status)]++
		}
		want := map[string]int{"storage.create completed": 4, "storage.create failed": 4, "storage.create canceled": 2,
			"postgresql.create-backup completed": 2, "system.execute_scripts completed": 2}
		if !maps.Equal(endings, want) {
			t.Errorf("got %v, want %v", endings, want)
		}
		for id := range told {
			if o := c.record(t, id); o.Name == "storage.create" && o.Result != nil {
				v, _ := json.Marshal(o.Result)
				c.result(t, "storage.destroy", `{"volume": `+string(v)+`, "force": true}`)
			}
		}
		if left := c.h.Exec(t, "ls", disks) + attached(); left != "" {
			t.Errorf("got %s left of the volumes", left)
		}
	})
}

func (c *coreHost) record(t testing.TB, id string) (o agentapi.Operation) {
	t.Helper()
	c.into(t, "operation.result", `{"operation_id": "`+id+`"}`, &o)
	return o
}

// ended waits until an operation has ended, and returns what was seen of it until then and a little later.
func (c *coreHost) ended(t testing.TB, id string) (seen []agentapi.Operation) {
	t.Helper()
	hosts.Eventually(t, "operation "+id+" has ended", func() bool {
		o := c.record(t, id)
		seen = append(seen, o)
		return o.Status != agentapi.OperationNew && o.Status != agentapi.OperationInProgress
	})
	return append(seen, c.record(t, id))
}
