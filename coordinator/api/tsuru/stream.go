package tsuru

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// stream is an answer that grows while the work goes on: text, or one JSON object per line for the modern client. Its methods
// may be called from any goroutine.
type stream struct {
	c    *call
	json bool
	stop chan struct{}
	done sync.WaitGroup

	mu   sync.Mutex // protects the field below, and the writer
	last time.Time
}

// stream begins an answer. plain keeps to text for every client; alive, if not 0, is how long it may be silent.
func (c *call) stream(plain bool, alive time.Duration) *stream {
	s := &stream{c: c, json: !plain && (c.versioned || c.d.o.JSONStreams), stop: make(chan struct{}), last: time.Now()}
	c.patient(0)
	kind := "text"
	if s.json {
		kind = "application/x-json-stream"
	}
	c.w.Header().Set("Content-Type", kind)
	c.w.Header().Set("X-Accel-Buffering", "no") // a proxy in front of us would hold it back
	c.began = true
	c.w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(c.w).Flush()
	if alive > 0 {
		s.done.Go(func() { s.keepAlive(alive) })
	}
	return s
}

// keepAlive says something when nothing was said for too long, so that neither client nor proxy gives up.
func (s *stream) keepAlive(limit time.Duration) {
	tick := time.NewTicker(max(limit/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		silent := time.Since(s.last) >= limit
		s.mu.Unlock()
		if silent {
			s.say("please wait...\n")
		}
	}
}

// end stops keepAlive. Nothing is written after it returns.
func (s *stream) end() {
	close(s.stop)
	s.done.Wait()
}

// say writes text, which brings its own line breaks, and sends it off.
func (s *stream) say(text string) { s.write(text, "") }

// mark ends text with what its readers take for success. Whoever reads objects looks for an Error, and would print it.
func (s *stream) mark(text string) {
	if !s.json {
		s.say(text)
	}
}

// fail writes a failure. Clients take it for one because the marker of success does not follow.
func (s *stream) fail(text string) {
	if s.json {
		s.write("", text)
		return
	}
	s.write("\n"+text+"\n", "")
}

func (s *stream) write(text, failure string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = time.Now()
	if s.json {
		line := map[string]string{"Message": text, "Timestamp": s.last.UTC().Format(time.RFC3339Nano)}
		if failure != "" {
			line["Error"] = failure
		}
		data, _ := json.Marshal(line)
		text = string(data) + "\n"
	}
	_, _ = io.WriteString(s.c.w, text) // whoever hung up does not want it; the work goes on
	_ = http.NewResponseController(s.c.w).Flush()
}

// follow tells what an operation prints until it ends, and says why it failed. It returns whether it succeeded.
func (s *stream) follow(op operation.Record) bool {
	end, err := s.c.d.core.FollowOperation(s.c.ctx(), op, func(line string) { s.say(line + "\n") })
	switch {
	case err != nil:
		s.fail(textOf(err))
	case end.Status != operation.StatusCompleted:
		s.fail(reason(end))
	}
	return err == nil && end.Status == operation.StatusCompleted
}

func textOf(err error) string {
	_, text := answerOf(err)
	return text
}

func reason(op operation.Record) string {
	if op.Error == "" {
		return "the operation was " + string(op.Status)
	}
	return op.Error
}

// finish waits for an operation. Clients that know streams see what it prints; for the others the answer is empty, or the
// failure with a status of its own. ok is false when there was nothing to do.
func (c *call) finish(op operation.Record, ok bool, err error) error {
	if err != nil {
		return err
	}
	if c.versioned || c.d.o.JSONStreams {
		s := c.stream(false, 0)
		defer s.end()
		if ok {
			s.follow(op)
		}
		return nil
	}
	if ok {
		if err := c.await(op); err != nil {
			return err
		}
	}
	return c.ok()
}

// await waits until an operation ends and returns its failure.
func (c *call) await(op operation.Record) error {
	c.patient(0)
	end, err := c.d.core.FollowOperation(c.ctx(), op, func(string) {})
	if err != nil {
		return err
	}
	if end.Status != operation.StatusCompleted {
		return core.Errorf(core.Unavailable, core.ObjApp, "%s", reason(end))
	}
	return nil
}
