package message

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

const (
	maxMessages = 5000
	maxBody     = 4 << 20 // bytes of one message
)

// Keys finds the key that this host shares with its coordinator; *keyring.File is one.
type Keys interface {
	Get() (envelope.Key, error)
}

// Options configure a Queue. Dir, URL and Keys are required.
type Options struct {
	Dir      string // made when missing
	URL      string // of the coordinator's message queues, which lie below it
	ServerID string // who we are; the coordinator looks the key up by it
	Version  string // of this agent, told with every message
	XML      bool   // send the older form, which an older server may want
	Keys     Keys
	HTTP     *http.Client  // nil means one with default settings
	Log      *slog.Logger  // nil means discard
	Pause    time.Duration // before the first repetition, doubled up to MaxPause; 0 means 1 s
	MaxPause time.Duration // 0 means 5 min
}

// Queue holds messages. Its methods may be called from any goroutine; Run must run once.
type Queue struct {
	o    Options
	wake chan struct{}

	mu    sync.Mutex // protects the fields below
	items []*item    // in the order of sending
	ids   map[string]bool
	last  int64 // number of the newest item
}

// item is a message on disk.
type item struct {
	stored
	path  string
	tries int       // that the coordinator refused
	due   time.Time // not before
}

// stored is the content of a message's file.
type stored struct {
	ID    string `json:"id"`
	Queue string `json:"queue"`
	Name  string `json:"name"`
	// The envelope as it was sealed when the message was stored: it proves itself when it is opened to be sent.
	Date      string `json:"date"`
	Signature string `json:"signature"`
	Body      string `json:"body"`
}

// message is the wire's JSON form; encodeXML has the other.
type message struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Meta meta   `json:"meta"`
	Body any    `json:"body"`
}

type meta struct {
	Version   string `json:"szr_version"`
	Timestamp string `json:"timestamp"`
}

// Open reads what an earlier agent could not deliver.
func Open(o Options) (*Queue, error) {
	o.URL = strings.TrimRight(o.URL, "/")
	o.Pause, o.MaxPause = cmp.Or(o.Pause, time.Second), cmp.Or(o.MaxPause, 5*time.Minute)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	q := &Queue{o: o, wake: make(chan struct{}, 1), ids: map[string]bool{}}
	if err := q.load(); err != nil {
		return nil, fmt.Errorf("read stored messages: %w", err)
	}
	return q, nil
}

// load reads the files and removes what a killed agent left half-written.
func (q *Queue) load() error {
	if err := os.MkdirAll(q.o.Dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(q.o.Dir) // sorted by name, and so by age
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(q.o.Dir, f.Name())
		if strings.HasPrefix(f.Name(), ".") { // a temporary file of renameio
			os.Remove(path)
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		m := &item{path: path}
		var number int64
		if _, err := fmt.Sscanf(f.Name(), "%020d-", &number); err != nil || json.Unmarshal(data, &m.stored) != nil || !goodID.MatchString(m.ID) {
			q.o.Log.Error("file among the stored messages is no message", "path", path)
			continue
		}
		if q.ids[m.ID] {
			os.Remove(path)
			continue
		}
		q.items, q.last, q.ids[m.ID] = append(q.items, m), max(q.last, number), true
	}
	return nil
}

// goodID is what goes into a file's name without surprise.
var goodID = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// Send stores a message under a new id; Run delivers it.
//
// Errors: unavailable (5000 messages wait), invalid (a body over 4 MiB), a disk that does not take it
func (q *Queue) Send(ctx context.Context, queue, name string, body any) error {
	return q.SendID(ctx, newID(), queue, name, body)
}

// SendID is Send for a message that may be sent more than once: while one of its id waits, nothing is stored, and what was
// delivered already the coordinator knows by the id.
func (q *Queue) SendID(_ context.Context, id, queue, name string, body any) error {
	if !goodID.MatchString(id) {
		return fmt.Errorf("message %s: %.70q is no id", name, id)
	}
	now := time.Now()
	text, err := q.encode(message{ID: id, Name: name, Meta: meta{q.o.Version, now.UTC().Format(time.RFC3339)}, Body: body})
	if err != nil {
		return fmt.Errorf("message %s: %w", name, err)
	}
	if len(text) > maxBody {
		return agentapi.Errorf(agentapi.KindInvalid, "MessagingError", "message %s has %d bytes, more than %d", name, len(text), maxBody)
	}
	key, err := q.o.Keys.Get()
	if err != nil {
		return err
	}
	m := &item{stored: stored{ID: id, Queue: queue, Name: name}}
	sealed, date, signature := envelope.Seal(key, text, now)
	m.Body, m.Date, m.Signature = string(sealed), date, signature
	return q.store(m)
}

func (q *Queue) encode(m message) ([]byte, error) {
	if q.o.XML {
		return encodeXML(m)
	}
	return json.Marshal(m)
}

func (q *Queue) store(m *item) error {
	data, err := json.Marshal(m.stored)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ids[m.ID] {
		return nil
	}
	if len(q.items) >= maxMessages {
		return agentapi.Errorf(agentapi.KindUnavailable, "MessagingError", "%d messages wait for the coordinator already", len(q.items))
	}
	m.path = filepath.Join(q.o.Dir, fmt.Sprintf("%020d-%s.json", q.last+1, m.ID))
	if err := renameio.WriteFile(m.path, data, 0o600, renameio.WithTempDir(q.o.Dir), renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("store message %s: %w", m.Name, err)
	}
	q.last++
	q.items, q.ids[m.ID] = append(q.items, m), true
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// Len is how many messages wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// errRefused is an answer that is about this message, not about the coordinator.
var errRefused = errors.New("the coordinator refuses the message")

// errForeign is a stored message that was sealed with another key: it is for a coordinator that this host has left.
var errForeign = errors.New("the message was sealed with a key that this host has no more")

// Run delivers messages until ctx ends.
func (q *Queue) Run(ctx context.Context) error {
	failures := 0 // of the coordinator, one after the other
	for {
		m, wait := q.next(time.Now())
		if m == nil {
			q.pause(ctx, wait, true)
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		err := q.deliver(ctx, m)
		switch {
		case ctx.Err() != nil && err != nil:
			return nil
		case err == nil:
			failures = 0
			q.drop(m)
		case errors.Is(err, errForeign):
			q.o.Log.Warn("message is dropped", "message", m.Name, "id", m.ID, "err", err)
			q.drop(m)
		case errors.Is(err, errRefused):
			failures = 0
			q.o.Log.Warn("message is not delivered", "message", m.Name, "id", m.ID, "err", err)
			q.postpone(m)
		default:
			if failures++; failures == 1 {
				q.o.Log.Warn("the coordinator does not take messages; they wait", "waiting", q.Len(), "err", err)
			}
			q.pause(ctx, q.backoff(failures), false)
		}
	}
}

// pause waits for a time, negative meaning for ever, or for a new message when one may be sent at once.
func (q *Queue) pause(ctx context.Context, d time.Duration, wakeable bool) {
	var wake <-chan struct{}
	if wakeable {
		wake = q.wake
	}
	var due <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-wake:
	case <-ctx.Done():
	}
}

// backoff is the pause after so many failures. Its random part keeps a fleet from coming back all at once.
func (q *Queue) backoff(failures int) time.Duration {
	d := q.o.MaxPause
	if failures < 20 {
		d = min(d, q.o.Pause<<(failures-1))
	}
	return d/2 + mathrand.N(d/2+1)
}

// next is the oldest message that is due, or how long none will be; negative when none waits.
func (q *Queue) next(now time.Time) (*item, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait := time.Duration(-1)
	for _, m := range q.items {
		d := m.due.Sub(now)
		if d <= 0 {
			return m, 0
		}
		if wait < 0 || d < wait {
			wait = d
		}
	}
	return nil, wait
}

func (q *Queue) postpone(m *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m.tries++
	m.due = time.Now().Add(q.backoff(m.tries))
}

// drop forgets a message. A file that stays is delivered again by the next agent, which the coordinator sees by the id.
func (q *Queue) drop(m *item) {
	if err := os.Remove(m.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.o.Log.Warn("remove delivered message", "path", m.path, "err", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.items {
		if other == m {
			q.items = append(q.items[:i], q.items[i+1:]...)
			break
		}
	}
	delete(q.ids, m.ID)
}

// deliver sends a message once, sealed anew: the coordinator compares dates with its clock.
func (q *Queue) deliver(ctx context.Context, m *item) error {
	key, err := q.o.Keys.Get()
	if err != nil {
		return err
	}
	text, err := envelope.Open(key, []byte(m.Body), m.Date, m.Signature)
	if err != nil {
		return errForeign
	}
	body, date, signature := envelope.Seal(key, text, time.Now())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, q.o.URL+"/"+m.Queue, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", contentType(text))
	r.Header.Set("Date", date)
	r.Header.Set("X-Signature", signature)
	r.Header.Set("X-Server-Id", q.o.ServerID)
	answer, err := q.o.HTTP.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
	switch {
	case answer.StatusCode/100 == 2:
		return nil
	case answer.StatusCode/100 == 4 && answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusRequestTimeout:
		return fmt.Errorf("%w: %s: %s", errRefused, answer.Status, bytes.TrimSpace(said))
	}
	return fmt.Errorf("%s: %s", answer.Status, bytes.TrimSpace(said))
}

// contentType names the form of a message, which may be older than the configuration.
func contentType(text []byte) string {
	if bytes.HasPrefix(text, []byte("<")) {
		return "xml" // so the older agent calls it
	}
	return "application/json"
}

// newID is a random UUID (RFC 9562 section 5.4).
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
