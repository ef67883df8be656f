package director

import (
	"errors"
	"strconv"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// creditAnswer is read by managers: anything but {"error": false} makes them end all their machines.
type creditAnswer struct {
	Error bool `json:"error"`
}

// decrementUserCredit takes credit for what a manager counts itself.
func (c *call) decrementUserCredit() {
	n, err := strconv.Atoi(c.text("decrement"))
	if err != nil || c.text("sid") != strconv.FormatInt(c.peer.Service, 10) {
		c.answer(creditAnswer{true})
		return
	}
	for range 3 { // a manager takes a moment's trouble of ours for the end of the credit
		if err = c.d.core.SpendCredit(c.ctx(), c.peer.Principal, c.peer.Service, n); err == nil || core.KindOf(err) != core.Unavailable {
			break
		}
	}
	if err != nil && core.KindOf(err) == core.NotFound {
		c.answer(false)
		return
	}
	if e, ok := errors.AsType[*core.Error](err); ok && e.Kind != core.Quota && e.Kind != core.Invalid || err != nil && !ok {
		c.d.log.Error("credit could not be taken", "service", c.peer.Service, "err", err)
	}
	c.answer(creditAnswer{err != nil})
}

// terminateService ends the service of the manager that calls.
func (c *call) terminateService() {
	if c.text("sid") != strconv.FormatInt(c.peer.Service, 10) {
		c.answer(creditAnswer{true})
		return
	}
	err := c.d.core.StopService(c.ctx(), c.peer.Principal, c.peer.Service)
	c.d.opts.Changed(c.ctx())
	if err != nil && core.KindOf(err) != core.Busy {
		c.log(err)
		c.answer(creditAnswer{true})
		return
	}
	c.answer(creditAnswer{false})
}
