package tsuru

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// noOperation stands for work that there was none of.
var noOperation operation.Record

// count reads a number of units: raw decimal text, or the modern client's "units".
func (c *call) count() (int, error) {
	text := c.r.URL.Query().Get("units")
	if text == "" {
		data, err := c.body()
		if err != nil {
			return 0, err
		}
		text = strings.TrimSpace(string(data))
		if form, err := c.form(data); err == nil {
			text = form.Get("units")
		}
	}
	if text == "" {
		return 0, badRequest("You must provide the number of units.")
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || !digits(text) {
		return 0, badRequest("Invalid number of units: the number must be an integer greater than 0.")
	}
	return n, nil
}

func serveUnitAdd(c *call) error {
	n, err := c.count()
	if err != nil {
		return err
	}
	op, err := c.d.core.ChangeUnits(c.ctx(), c.p, c.app.ID, n)
	return c.finish(op, true, err)
}

func serveUnitRemove(c *call) error {
	n, err := c.count()
	if err != nil {
		return err
	}
	op, err := c.d.core.ChangeUnits(c.ctx(), c.p, c.app.ID, -n)
	return c.finish(op, true, err)
}

// verb starts, stops or restarts an app's units and streams what happens. There is no marker at the end: the status tells.
func (c *call) verb(doing string, do func() (operation.Record, bool, error)) error {
	op, ok, err := do()
	if err != nil {
		return err
	}
	s := c.stream(false, 0)
	defer s.end()
	s.say(fmt.Sprintf("---- %s the app %q ----\n", doing, c.app.Name))
	if ok {
		s.follow(op)
	}
	return nil
}

func serveRestart(c *call) error {
	return c.verb("Restarting", func() (operation.Record, bool, error) { return c.d.core.RestartUnits(c.ctx(), c.p, c.app.ID) })
}

func serveStart(c *call) error {
	return c.verb("Starting", func() (operation.Record, bool, error) { return c.d.core.ResumeUnits(c.ctx(), c.p, c.app.ID) })
}

func serveStop(c *call) error {
	return c.verb("Stopping", func() (operation.Record, bool, error) { return c.d.core.HaltUnits(c.ctx(), c.p, c.app.ID) })
}

// unitNamed finds a unit by its name or the beginning of it.
func (c *call) unitNamed(name string) (core.AppUnit, error) {
	i := slices.IndexFunc(c.app.Units, func(u core.AppUnit) bool { return name != "" && strings.HasPrefix(u.ID, name) })
	if i < 0 {
		return core.AppUnit{}, &status{http.StatusNotFound, "Unit not found"}
	}
	return c.app.Units[i], nil
}

// unitStatuses are what a program inside a unit may say about it.
var unitStatuses = []string{"building", "error", "down", "unreachable", "started", "starting", "stopped"}

// serveUnitStatus takes note of a program's own report in the app's log only: how a unit is doing is asked of its host, which
// cannot be lied to.
func serveUnitStatus(c *call) error {
	f, err := c.fields()
	if err != nil {
		return badRequest("Invalid status")
	}
	if !slices.Contains(unitStatuses, f.str("status")) {
		return badRequest("Invalid status")
	}
	u, err := c.unitNamed(c.vars["unit"])
	if err != nil {
		return err
	}
	if f.str("status") == string(u.State) {
		return c.ok()
	}
	if err := c.d.core.AddAppLog(c.ctx(), c.p, c.app.ID, core.LogPlatform, u.ID, []string{"the unit says that it is " + f.str("status")}); err != nil {
		return err
	}
	return c.ok()
}

// serveUnitRegister lets a program inside a unit read its environment.
func serveUnitRegister(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	if _, err := c.unitNamed(f.str("hostname")); err != nil {
		return err
	}
	return c.variables(nil, true)
}

// serveCustomData takes the content of tsuru.yaml from a program inside a unit. Here it was read when the release was built.
func serveCustomData(c *call) error {
	data, err := c.body()
	if err != nil {
		return err
	}
	var object map[string]any
	if json.Unmarshal(data, &object) != nil || object == nil {
		return badRequest("Invalid JSON")
	}
	return c.ok()
}

func serveAvailable(c *call) error {
	if slices.ContainsFunc(c.app.Units, func(u core.AppUnit) bool {
		return u.State == core.UnitStarted || u.State == core.UnitStarting || u.State == core.UnitUnreachable
	}) {
		return c.ok()
	}
	return &status{http.StatusInternalServerError, "App must be available to receive pushes."}
}

// portOf is the port that a unit listens on, as text.
func portOf(app core.App, id string) string {
	for _, u := range app.Units {
		if u.ID == id {
			return strconv.Itoa(u.Port)
		}
	}
	return ""
}
