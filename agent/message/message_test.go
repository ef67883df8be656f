package message_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/message"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

type keys struct{ envelope.Key }

func (k keys) Get() (envelope.Key, error) { return k.Key, nil }

func parseKey(t testing.TB, text []byte) keys {
	t.Helper()
	key, err := envelope.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys{key}
}

// coordinator takes messages as spec agent-core A.3 says: it stores each id once.
type coordinator struct {
	*httptest.Server
	key keys

	mu      sync.Mutex
	order   []string              // ids, once each
	stored  map[string]received   // by id
	posts   int                   // that were accepted
	answer  func(name string) int // nil: 201
	changed chan struct{}         // a token after every request
}

type received struct {
	Queue string          `json:"-"`
	ID    string          `json:"id"`
	Name  string          `json:"name"`
	Meta  map[string]any  `json:"meta"`
	Body  json.RawMessage `json:"body"`
}

func newCoordinator(t *testing.T) *coordinator {
	c := &coordinator{key: parseKey(t, envelope.NewKeyText()), stored: map[string]received{}, changed: make(chan struct{}, 1)}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *coordinator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	text, err := envelope.Open(c.key.Key, body, r.Header.Get("Date"), r.Header.Get("X-Signature"))
	var m received
	if err != nil || json.Unmarshal(text, &m) != nil || r.Header.Get("X-Server-Id") != "server-1" || r.Header.Get("Content-Type") != "application/json" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	m.Queue = strings.TrimPrefix(r.URL.Path, "/messaging/")
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}()
	if c.answer != nil {
		if code := c.answer(m.Name); code != 0 {
			w.WriteHeader(code)
			return
		}
	}
	c.posts++
	if _, known := c.stored[m.ID]; !known {
		c.stored[m.ID] = m
		c.order = append(c.order, m.ID)
	}
	w.WriteHeader(http.StatusCreated)
}

func (c *coordinator) options(dir string) message.Options {
	return message.Options{Dir: dir, URL: c.URL + "/messaging/", ServerID: "server-1", Version: "1.2", Keys: c.key, Pause: time.Millisecond, MaxPause: 5 * time.Millisecond}
}

func (c *coordinator) wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		ok := done()
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-c.changed:
		case <-limit:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func open(t *testing.T, o message.Options) *message.Queue {
	t.Helper()
	q, err := message.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// start runs a queue; the returned function stops it and waits.
func start(t *testing.T, q *message.Queue) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { q.Run(ctx); close(done) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAMessageArrivesInTheWiresForm(t *testing.T) {
	c := newCoordinator(t)
	q := open(t, c.options(t.TempDir()))
	start(t, q)
	if err := q.Send(t.Context(), "log", "ExecScriptResult", agentapi.ExecScriptResult{ScriptName: "x", ReturnCode: 3}); err != nil {
		t.Fatal(err)
	}
	c.wait(t, "the message", func() bool { return c.posts == 1 })
	m := c.stored[c.order[0]]
	if m.Queue != "log" || m.Name != "ExecScriptResult" || len(m.ID) != 36 || m.Meta["szr_version"] != "1.2" || m.Meta["timestamp"] == "" || !strings.Contains(string(m.Body), `"return_code":3`) {
		t.Errorf("got %+v %s", m, m.Body)
	}
}

func TestMessagesWaitOnDiskSealed(t *testing.T) {
	c := newCoordinator(t)
	dir := filepath.Join(t.TempDir(), "messages")
	q := open(t, c.options(dir))
	if err := q.Send(t.Context(), "log", "X", map[string]string{"password": "hunter2-in-clear"}); err != nil {
		t.Fatal(err)
	}
	list := files(t, dir)
	if len(list) != 1 {
		t.Fatalf("got %v, want one file", list)
	}
	info, err := os.Stat(list[0])
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(list[0])
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || strings.Contains(string(data), "hunter2") {
		t.Errorf("got mode %o, %s", info.Mode().Perm(), data)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}

func TestMessagesArriveInOrderAcrossAnOutageAndARestart(t *testing.T) {
	c := newCoordinator(t)
	down := true
	c.answer = func(string) int {
		if down {
			return http.StatusServiceUnavailable
		}
		return 0
	}
	dir := t.TempDir()
	q := open(t, c.options(dir))
	var want []string
	for i := range 30 {
		id := fmt.Sprintf("id-%02d", i)
		want = append(want, id)
		if err := q.SendID(t.Context(), id, "control", "M", i); err != nil {
			t.Fatal(err)
		}
	}
	stop := start(t, q)
	<-c.changed // it was tried
	stop()
	c.mu.Lock()
	down = false
	c.mu.Unlock()
	q = open(t, c.options(dir))
	start(t, q)
	c.wait(t, "all messages", func() bool { return len(c.order) == len(want) })
	if !slices.Equal(c.order, want) || c.posts != len(want) {
		t.Errorf("got %v in %d posts", c.order, c.posts)
	}
}

func TestARepetitionIsTheSameMessage(t *testing.T) {
	c := newCoordinator(t)
	dir := t.TempDir()
	q := open(t, c.options(dir))
	for range 3 {
		if err := q.SendID(t.Context(), "one", "control", "M", 1); err != nil {
			t.Fatal(err)
		}
	}
	list := files(t, dir)
	if len(list) != 1 {
		t.Fatalf("got %v, want one file", list)
	}
	kept, err := os.ReadFile(list[0])
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, q)
	c.wait(t, "the message", func() bool { return c.posts == 1 })
	stop()
	// Killed after the coordinator answered, before the file went.
	if err := os.WriteFile(list[0], kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".half-written"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, open(t, c.options(dir)))
	c.wait(t, "the repetition", func() bool { return c.posts == 2 })
	if len(c.order) != 1 {
		t.Errorf("got %v, want one id", c.order)
	}
}

func TestARefusedMessageDoesNotHoldUpOthers(t *testing.T) {
	c := newCoordinator(t)
	refuse := 3
	c.answer = func(name string) int {
		if name == "Bad" && refuse > 0 {
			refuse--
			return http.StatusUnprocessableEntity
		}
		return 0
	}
	o := c.options(t.TempDir())
	q := open(t, o)
	for _, name := range []string{"Bad", "Good"} {
		if err := q.SendID(t.Context(), name, "log", name, nil); err != nil {
			t.Fatal(err)
		}
	}
	start(t, q)
	c.wait(t, "both", func() bool { return len(c.order) == 2 })
	if !slices.Equal(c.order, []string{"Good", "Bad"}) {
		t.Errorf("got %v", c.order)
	}
}

func TestAMessageForACoordinatorThatWasLeftIsDropped(t *testing.T) {
	c := newCoordinator(t)
	o := c.options(t.TempDir())
	o.Keys = parseKey(t, envelope.NewKeyText())
	if err := open(t, o).SendID(t.Context(), "old", "log", "M", "for another"); err != nil {
		t.Fatal(err)
	}
	o.Keys = c.key
	q := open(t, o)
	if err := q.SendID(t.Context(), "new", "log", "M", nil); err != nil {
		t.Fatal(err)
	}
	start(t, q)
	c.wait(t, "the new one", func() bool { return len(c.order) == 1 })
	if c.order[0] != "new" {
		t.Errorf("got %v", c.order)
	}
}

func TestWhatCannotBeStoredIsAnError(t *testing.T) {
	c := newCoordinator(t)
	q := open(t, c.options(t.TempDir()))
	err := q.Send(t.Context(), "log", "M", strings.Repeat("x", 5<<20))
	if e, ok := errors.AsType[*agentapi.Error](err); !ok || e.Kind != agentapi.KindInvalid {
		t.Errorf("got %v", err)
	}
	if err := q.SendID(t.Context(), "../../x", "log", "M", nil); err == nil {
		t.Error("an id that leaves the directory was taken")
	}
}

const childDir = "REEVE_TEST_MESSAGES"

// TestKilledSender is the process that TestNoAcknowledgedMessageIsLostWhenTheSenderIsKilled kills.
func TestKilledSender(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("runs as a process of its own")
	}
	key, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	q := open(t, message.Options{Dir: filepath.Join(dir, "messages"), URL: os.Getenv(childDir + "_URL"), ServerID: "server-1", Keys: parseKey(t, key), Pause: time.Millisecond})
	start(t, q)
	for i := 0; ; i++ {
		id := fmt.Sprintf("%d-%d", os.Getpid(), i)
		if err := q.SendID(t.Context(), id, "log", "M", i); err == nil {
			fmt.Println("stored", id)
		}
	}
}

func TestNoAcknowledgedMessageIsLostWhenTheSenderIsKilled(t *testing.T) {
	c := newCoordinator(t)
	text := envelope.NewKeyText()
	c.key = parseKey(t, text)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	for round := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledSender$") // a cancelled one is killed
		cmd.Env = append(os.Environ(), childDir+"="+dir, childDir+"_URL="+c.URL+"/messaging")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); {
			if id, ok := strings.CutPrefix(lines.Text(), "stored "); ok {
				acknowledged = append(acknowledged, id)
				if n++; n == 20+7*round {
					cancel()
				}
			}
		}
		cancel()
		if err := cmd.Wait(); err == nil {
			t.Fatal("the sender ended by itself")
		}
	}
	q := open(t, c.options(filepath.Join(dir, "messages")))
	start(t, q)
	c.wait(t, "all acknowledged messages", func() bool {
		return !slices.ContainsFunc(acknowledged, func(id string) bool { _, ok := c.stored[id]; return !ok })
	})
	seen := map[string]bool{}
	for _, id := range c.order {
		if seen[id] {
			t.Errorf("%s is stored twice", id)
		}
		seen[id] = true
	}
}
