package core

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Sources and units of log lines that are not a unit's own. Spec tsuru 5.8.
const (
	LogPlatform = "tsuru"
	LogApp      = "app"
	LogAPI      = "api"
	keepLines   = 5000
)

// logApp writes what the platform says to an app's log. Nothing is written for an app that is gone.
func (c *Core) logApp(ctx context.Context, app AppID, lines ...string) error {
	entries := make([]LogLine, 0, len(lines))
	for _, l := range lines {
		if l = strings.TrimRight(l, "\r\n"); l != "" {
			entries = append(entries, LogLine{At: c.now(), Source: LogPlatform, Unit: LogAPI, Message: l})
		}
	}
	return c.addLog(ctx, app, entries)
}

func (c *Core) addLog(ctx context.Context, app AppID, entries []LogLine) error {
	if len(entries) == 0 {
		return nil
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		if _, err := tx.App(app); err != nil {
			if isNotFound(err) {
				return nil
			}
			return err
		}
		return tx.AddLog(app, entries, keepLines)
	})
}

// AddAppLog stores lines that a program of the app, or its owner, hands in. Blank ones are dropped.
//
// Errors: not_found, forbidden
func (c *Core) AddAppLog(ctx context.Context, p Principal, id AppID, source, unit string, messages []string) error {
	if _, err := c.usable(ctx, p, id); err != nil {
		return err
	}
	if source == "" {
		source = LogApp
	}
	var entries []LogLine
	for _, m := range messages {
		for line := range strings.Lines(m) {
			if line = strings.TrimRight(line, "\r\n"); line != "" {
				entries = append(entries, LogLine{At: c.now(), Source: clip(source), Unit: clip(unit), Message: line})
			}
		}
	}
	return c.addLog(ctx, id, entries)
}

// LogQuery selects lines of an app's log; empty members select all.
type LogQuery struct {
	Source string
	Unit   string
	Lines  int // the newest; 0 means all that are kept
}

// LogCursor is where a reader of an app's log is.
type LogCursor struct {
	num   int64
	nodes map[NodeID]string
}

// AppLog is the newest part of an app's log, oldest line first: what its units printed, which is asked of their nodes, and
// what the platform says. The cursor goes on from there. A node that does not answer is left out.
//
// Errors: not_found, forbidden
func (c *Core) AppLog(ctx context.Context, p Principal, id AppID, q LogQuery) ([]LogLine, *LogCursor, error) {
	app, err := c.usable(ctx, p, id)
	if err != nil {
		return nil, nil, err
	}
	at := &LogCursor{nodes: map[NodeID]string{}}
	lines, err := c.readLog(ctx, app, q, at)
	if q.Lines > 0 && len(lines) > q.Lines {
		lines = lines[len(lines)-q.Lines:]
	}
	return lines, at, err
}

// MoreAppLog are the lines that came since the cursor, and moves it.
//
// Errors: not_found, forbidden
func (c *Core) MoreAppLog(ctx context.Context, p Principal, id AppID, q LogQuery, at *LogCursor) ([]LogLine, error) {
	app, err := c.usable(ctx, p, id)
	if err != nil {
		return nil, err
	}
	q.Lines = 0
	return c.readLog(ctx, app, q, at)
}

// readLog merges the stored lines and those of the nodes behind the cursor.
func (c *Core) readLog(ctx context.Context, app App, q LogQuery, at *LogCursor) ([]LogLine, error) {
	lines, err := view(ctx, c.Store, func(r Reader) ([]LogLine, error) { return r.AppLog(app.ID, at.num, q.Source, q.Unit, q.Lines) })
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		at.num = max(at.num, l.Num)
	}
	if q.Source != "" && q.Source != LogApp {
		return lines, nil
	}
	nodes, err := c.unitNodes(ctx, app)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	logs := make([]agentapi.UnitLog, len(nodes))
	for i, n := range nodes {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			agent, err := c.Agents.Agent(n)
			if err == nil {
				logs[i], err = agent.UnitLog(ctx, agentapi.UnitLogParams{App: appName(app), Unit: q.Unit, Cursor: at.nodes[n.ID], Lines: min(max(q.Lines, 0), keepLines)})
			}
			if err != nil && !isNotFound(err) {
				c.Log.Debug("a node's part of a log is missing", "node", n.Name, "err", err)
			}
		})
	}
	wg.Wait()
	for i, n := range nodes {
		if logs[i].Cursor != "" {
			at.nodes[n.ID] = logs[i].Cursor
		}
		for _, l := range logs[i].Lines {
			lines = append(lines, LogLine{At: l.At, Source: LogApp, Unit: l.Unit, Process: l.Process, Message: l.Message})
		}
	}
	slices.SortStableFunc(lines, func(a, b LogLine) int { return a.At.Compare(b.At) })
	return lines, nil
}

// unitNodes are the nodes an app has units on.
func (c *Core) unitNodes(ctx context.Context, app App) ([]Node, error) {
	return view(ctx, c.Store, func(r Reader) ([]Node, error) {
		var nodes []Node
		for _, u := range app.Units {
			if slices.ContainsFunc(nodes, func(n Node) bool { return n.ID == u.NodeID }) {
				continue
			}
			n, err := r.Node(u.NodeID)
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			nodes = append(nodes, n)
		}
		return nodes, nil
	})
}

// usable is an app that the caller may use, by id.
func (c *Core) usable(ctx context.Context, p Principal, id AppID) (App, error) {
	return view(ctx, c.Store, func(r Reader) (App, error) { return usableByID(r, p, id) })
}

func usableByID(r Reader, p Principal, id AppID) (App, error) {
	if err := known(p); err != nil {
		return App{}, err
	}
	app, err := r.App(id)
	if err != nil {
		return App{}, err
	}
	may, err := mayUseApp(r, p, app)
	if err == nil && !may {
		err = Errorf(Forbidden, ObjApp, "User does not have access to this app")
	}
	return app, err
}
