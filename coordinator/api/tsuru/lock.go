package tsuru

import (
	"fmt"
	"net/http"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// holder is a request that has an app to itself. It is kept in memory only: a request ends with the process, and what goes
// on after it, or after a crash, is an operation that the store knows.
type holder struct {
	who, what string
	since     time.Time
	id        *call // tells two requests apart
}

func locked(app string, h holder) error {
	return &status{http.StatusConflict, fmt.Sprintf("App %s locked by %s, running %s. Acquired in %s", app, h.who, h.what, h.since.UTC().Format(time.RFC3339))}
}

// lock takes an app's lock for this request, or says who has it: another request, or an operation that has not ended.
func (c *call) lock(apps ...core.App) (release func(), err error) {
	for _, app := range apps {
		op, busy, err := c.d.core.Working(c.ctx(), app.ID)
		if err != nil {
			return nil, err
		}
		if busy {
			return nil, locked(app.Name, holder{who: op.Who, what: op.What, since: op.Since})
		}
	}
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	for _, app := range apps {
		if h, held := c.d.held[app.ID]; held {
			return nil, locked(app.Name, h)
		}
	}
	for _, app := range apps {
		c.d.held[app.ID] = holder{who: c.p.Account.Email, what: c.r.Method + " " + c.r.URL.Path, since: time.Now(), id: c}
	}
	return func() {
		c.d.mu.Lock()
		defer c.d.mu.Unlock()
		for _, app := range apps {
			if c.d.held[app.ID].id == c { // unless it was taken away
				delete(c.d.held, app.ID)
			}
		}
	}, nil
}

// holder says who has an app's lock: an operation, or a request.
func (c *call) holder(app core.App) (h holder, held bool, err error) {
	op, busy, err := c.d.core.Working(c.ctx(), app.ID)
	if err != nil || busy {
		return holder{who: op.Who, what: op.What, since: op.Since}, busy, err
	}
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	h, held = c.d.held[app.ID]
	return h, held, nil
}

// unlock takes the lock away from whoever has it.
func (d *Dialect) unlock(app core.AppID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.held, app)
}
