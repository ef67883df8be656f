package tsuru

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// logEntry is one line of a log as it is shown.
type logEntry struct {
	Date    time.Time
	Message string
	Source  string
	AppName string
	Unit    string
}

func entries(app core.App, lines []core.LogLine) []logEntry {
	all := make([]logEntry, 0, len(lines))
	for _, l := range lines {
		all = append(all, logEntry{l.At.UTC(), l.Message, l.Source, app.Name, l.Unit})
	}
	return all
}

// followEvery is how often a log that is followed is looked at.
const followEvery = 500 * time.Millisecond

func serveLog(c *call) error {
	q := c.r.URL.Query()
	lines, err := strconv.Atoi(q.Get("lines"))
	if err != nil || lines < 0 {
		return badRequest(`Parameter "lines" is mandatory and must be an integer.`)
	}
	query := core.LogQuery{Source: q.Get("source"), Unit: q.Get("unit"), Lines: lines}
	found, cursor, err := c.d.core.AppLog(c.ctx(), c.p, c.app.ID, query)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.patient(0)
	c.send(found)
	if !truth(q.Get("follow")) {
		return nil
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx().Done():
			return nil
		case <-tick.C:
		}
		if found, err = c.d.core.MoreAppLog(c.ctx(), c.p, c.app.ID, query, cursor); err != nil {
			return nil // the app is gone, or no longer the caller's
		}
		if len(found) > 0 {
			c.send(found)
		}
	}
}

// send writes lines as one JSON array on a line of its own.
func (c *call) send(lines []core.LogLine) {
	data, err := json.Marshal(entries(c.app, lines))
	if err != nil {
		return
	}
	c.began = true
	_, _ = c.w.Write(append(data, '\n'))
	_ = http.NewResponseController(c.w).Flush()
}

func serveLogAdd(c *call) error {
	data, err := c.body()
	if err != nil {
		return err
	}
	var messages []string
	if json.Unmarshal(data, &messages) != nil {
		return badRequest("Invalid JSON")
	}
	q := c.r.URL.Query()
	if err := c.d.core.AddAppLog(c.ctx(), c.p, c.app.ID, q.Get("source"), q.Get("unit"), messages); err != nil {
		return err
	}
	return c.ok()
}
