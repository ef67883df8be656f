package operation

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// maxLogs bounds the log lines a record keeps, maxLogLine the bytes of one and maxLogSize those of all.
const (
	maxLogs    = 5000
	maxLogLine = 4096
	maxLogSize = 512 << 10
)

// logsEnd is the last line of logs that were cut off.
const logsEnd = "… what comes after this is left out"

// Op is a running operation, as its own function sees it.
type Op struct {
	registry  *Registry
	log       *slog.Logger
	onCancel  func()
	exclusive bool
	canceled  chan struct{}
	done      chan struct{}
	value     any   // set before done is closed
	err       error // same

	// registry.mu protects the fields below.
	entry   entry
	unheard bool // OnEnd is to be told by Registry.Run
	logSize int  // bytes that were to be logged
	logsCut bool
}

// ID names the operation.
func (o *Op) ID() string { return o.entry.ID }

// Log writes to the agent's log, and at Info and above also to the record's logs. Never log secrets.
func (o *Op) Log() *slog.Logger { return o.log }

// Print adds a line to the record's logs as it is, and to nothing else: for what a program prints that the caller runs.
func (o *Op) Print(line string) { o.appendLog(line) }

// Canceled is closed once somebody cancelled the operation.
func (o *Op) Canceled() <-chan struct{} { return o.canceled }

func (o *Op) isCanceled() bool {
	select {
	case <-o.canceled:
		return true
	default:
		return false
	}
}

func (o *Op) appendLog(line string) {
	if len(line) > maxLogLine {
		line = strings.ToValidUTF8(line[:maxLogLine], "") + "…"
	}
	o.registry.mu.Lock()
	defer o.registry.mu.Unlock()
	switch o.logSize += len(line); {
	case len(o.entry.Logs) < maxLogs-1 && o.logSize <= maxLogSize:
		o.entry.Logs = append(o.entry.Logs, line)
	case !o.logsCut:
		o.entry.Logs, o.logsCut = append(o.entry.Logs, logsEnd), true
	}
}

// recorder passes log records on and keeps their text in the operation.
type recorder struct {
	next  slog.Handler
	op    *Op
	attrs string // of With, as text
}

func (h *recorder) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.next.Enabled(ctx, l)
}

func (h *recorder) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		var b strings.Builder
		b.WriteString(r.Message)
		b.WriteString(h.attrs)
		r.Attrs(func(a slog.Attr) bool {
			if a.Key != "stack" { // trace text is cut off
				fmt.Fprintf(&b, " %s=%v", a.Key, a.Value.Resolve())
			}
			return true
		})
		h.op.appendLog(b.String())
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

func (h *recorder) WithAttrs(attrs []slog.Attr) slog.Handler {
	text := h.attrs
	for _, a := range attrs {
		text += fmt.Sprintf(" %s=%v", a.Key, a.Value.Resolve())
	}
	return &recorder{next: h.next.WithAttrs(attrs), op: h.op, attrs: text}
}

func (h *recorder) WithGroup(name string) slog.Handler {
	return &recorder{next: h.next.WithGroup(name), op: h.op, attrs: h.attrs}
}
