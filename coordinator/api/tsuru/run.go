package tsuru

import (
	"net/http"
	"strings"
)

// serveRun runs a command line in the environment of the app's units and ends with a marker if it succeeds.
func serveRun(c *call) error {
	data, err := c.body()
	if err != nil {
		return err
	}
	command := strings.TrimSpace(string(data))
	once := c.r.URL.Query().Get("once")
	if form, err := c.form(data); err == nil && c.versioned {
		command, once = form.Get("command"), form.Get("once")
	}
	if command == "" {
		return badRequest("You must provide the command to run")
	}
	var s *stream // begins with the first line, so that what fails before has a status
	begin := func() *stream {
		if s == nil {
			s = c.stream(false, 0)
		}
		return s
	}
	err = c.d.core.RunCommand(c.ctx(), c.p, c.app.ID, command, truth(once), func(line string) { begin().say(line + "\n") })
	if code, text := answerOf(err); err != nil && s == nil && code != http.StatusBadRequest {
		return err
	} else if err != nil {
		begin().fail(text)
	} else {
		begin().mark("\nOK!\n")
	}
	s.end()
	return nil
}
