package core

import (
	"context"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// outputs are the lines that running operations printed, for whoever follows them. They live in memory: who follows is
// gone with the process anyway, and what is worth keeping is in the app's log.
type outputs struct {
	mu    sync.Mutex // protects the field below
	lines map[string]*output
}

type output struct {
	lines []string
	more  chan struct{} // closed and replaced with every line
	ended time.Time     // zero while it runs
}

const (
	maxOutputLines = 20000
	outputKept     = 2 * time.Minute // after the end
)

func (o *outputs) of(id string) *output {
	if o.lines == nil {
		o.lines = map[string]*output{}
	}
	if o.lines[id] == nil {
		for other, out := range o.lines { // a few at most: what ended long ago goes
			if !out.ended.IsZero() && time.Since(out.ended) > outputKept {
				delete(o.lines, other)
			}
		}
		o.lines[id] = &output{more: make(chan struct{})}
	}
	return o.lines[id]
}

func (o *outputs) add(id string, lines ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.of(id)
	if room := maxOutputLines - len(out.lines); len(lines) > room {
		lines = lines[:room]
	}
	out.lines = append(out.lines, lines...)
	close(out.more)
	out.more = make(chan struct{})
}

func (o *outputs) end(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of(id).ended = time.Now()
}

// after are the lines from n on, and what is closed when there are more.
func (o *outputs) after(id string, n int) ([]string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.of(id)
	return out.lines[min(n, len(out.lines)):], out.more
}

// say tells everybody who follows an operation, and the app's log, what goes on.
func (c *Core) say(ctx context.Context, run *operation.Run, app AppID, lines ...string) {
	c.outputs.add(run.Operation.ID, lines...)
	if err := c.logApp(ctx, app, lines...); err != nil {
		c.Log.Warn("the app's log was not written", "app", string(app), "err", err)
	}
}

// FollowOperation tells emit each line that an operation of the app prints, as it comes, until the operation ended, and
// returns it. A caller that goes away stops nothing. Lines of before the last start of the coordinator are not told.
func (c *Core) FollowOperation(ctx context.Context, op operation.Record, emit func(line string)) (operation.Record, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	told := 0
	for {
		now, err := view(ctx, c.Store, func(r Reader) (operation.Record, error) { return r.Operation(op.Num) })
		if err != nil {
			return op, err
		}
		lines, more := c.outputs.after(op.ID, told)
		for _, l := range lines {
			emit(l)
		}
		if told += len(lines); now.Status.Final() {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return now, context.Cause(ctx)
		case <-more:
		case <-tick.C:
		}
	}
}
