// Package oldcoordinator stands in for a coordinator as older agents knew it: it answers QueryEnv below /query-env with what it
// is told, and takes messages below /messaging. Both must be signed with the node's key.
package oldcoordinator

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/test/queryenv"
)

// Coordinator is a coordinator of one node.
type Coordinator struct {
	key     envelope.Key
	arrived chan struct{} // has room for one, and is full when Await may look again

	mu       sync.Mutex        // protects the fields below
	replies  map[string]string // of QueryEnv, by command
	messages []Message
}

// Message is a message as it arrived.
type Message struct {
	Queue string `json:"-"`
	ID    string
	Name  string
	Body  json.RawMessage
}

// New knows the node's key and nothing to answer.
func New(key envelope.Key) *Coordinator {
	return &Coordinator{key: key, replies: map[string]string{}, arrived: make(chan struct{}, 1)}
}

// Reply is what a command of QueryEnv is answered with from now on, inside of <response>; "" makes the command unknown.
func (c *Coordinator) Reply(command, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replies[command] = text
}

// ServeHTTP implements http.Handler.
func (c *Coordinator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	queue, ok := strings.CutPrefix(r.URL.Path, "/messaging/")
	if !ok {
		queryenv.Server{Key: c.key, Answer: c.answer}.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	text, err := envelope.Open(c.key, body, r.Header.Get("Date"), r.Header.Get("X-Signature"))
	m := Message{Queue: queue}
	if err != nil || json.Unmarshal(text, &m) != nil {
		http.Error(w, "no message", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.messages = append(c.messages, m)
	c.mu.Unlock()
	select {
	case c.arrived <- struct{}{}:
	default:
	}
	w.WriteHeader(http.StatusCreated)
}

func (c *Coordinator) answer(command string, _ map[string]string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reply := c.replies[command]; reply != "" {
		return reply, nil
	}
	return "", errors.New("unknown operation")
}

// Messages are those that arrived so far, in their order.
func (c *Coordinator) Messages() []Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.messages)
}

// Await waits until so many messages arrived.
func (c *Coordinator) Await(t testing.TB, n int) []Message {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		list := c.Messages()
		if len(list) >= n {
			return list
		}
		select {
		case <-c.arrived:
		case <-limit:
			t.Fatalf("got %d messages, want %d", len(list), n)
		}
	}
}
