package director

import (
	"errors"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// errorDictionary is how a failure looks to callers of the documented API, or to those of 2.x. Both find the text where they
// look for it.
func errorDictionary(modern bool, text string) map[string]any {
	if modern {
		return map[string]any{"error": text, "msg": text}
	}
	return map[string]any{"error": true, "msg": text}
}

// kindText is what callers read about a kind of failure; "" is the failure's own message. Every kind has a row.
var kindText = map[core.Kind]string{
	core.Internal:        "Internal error",
	core.Invalid:         "",
	core.Unauthenticated: "User authentication failed",
	core.Forbidden:       "Not allowed",
	core.NotFound:        "",
	core.Exists:          "",
	core.Busy:            "",
	core.Quota:           "",
	core.Unproven:        "",
	core.Unavailable:     "",
	core.Unsupported:     "",
	core.RateLimited:     "",
}

// textOf is the one place where a failure becomes text. What nobody classified stays in the log.
func textOf(err error) string {
	if text := kindText[core.KindOf(err)]; text != "" {
		return text
	}
	if e, ok := errors.AsType[*core.Error](err); ok {
		return e.Msg
	}
	return kindText[core.Internal]
}

// log writes down what its caller will not be told.
func (c *call) log(err error) {
	if core.KindOf(err) == core.Internal {
		c.d.log.Error("call failed", "err", err)
	}
}

// fail answers with an error dictionary.
func (c *call) fail(text string) { c.answer(errorDictionary(c.modern(), text)) }

func (c *call) failed(err error) {
	c.log(err)
	c.fail(textOf(err))
}

// no answers false, which callers of 2.x do not understand.
func (c *call) no(err error) {
	c.log(err)
	if c.modern() {
		c.failed(err)
		return
	}
	c.answer(false)
}

// done answers true, or as callers of 2.x know it.
func (c *call) done() {
	if c.modern() {
		c.answer(map[string]any{})
		return
	}
	c.answer(true)
}
