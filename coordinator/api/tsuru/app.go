package tsuru

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// unit is one unit as it is shown. ID is what the modern client needs, and with it the address and the release.
type unit struct {
	Name, AppName, Type, Ip, Status, State, ID string

	Address  *address `json:",omitempty"`
	Version  int      `json:",omitempty"`
	Routable *bool    `json:",omitempty"`
}

// address is a URL as programs in Go write it.
type address struct{ Scheme, Host string }

// shownUnits are an app's units; those that end are left out. Apps with nodes of their own show these.
func shownUnits(app core.App) []unit {
	all := []unit{}
	for _, u := range app.Units {
		if u.State != core.UnitStopping {
			all = append(all, newUnit(app, u.ID, u.Address, string(u.State)))
		}
	}
	if app.Shared() || len(app.Units) > 0 {
		return all
	}
	for _, n := range app.Nodes {
		state := "started"
		switch n.State {
		case core.NodeRunning:
		case core.NodeUnreachable, core.NodeFailed:
			state = "down"
		case core.NodeStopping, core.NodeGone:
			state = "stopped"
		default:
			state = "building"
		}
		all = append(all, newUnit(app, strings.TrimPrefix(string(n.ID), "node-"), n.Address, state))
	}
	return all
}

func newUnit(app core.App, id, address, state string) unit {
	return unit{Name: id, AppName: app.Name, Type: app.Platform, Ip: address, Status: state, State: state, ID: id}
}

// shown is an app with both spellings of its keys.
func (c *call) shown(app core.App, owner string) map[string]any {
	units := shownUnits(app)
	cnames := []string{}
	for _, r := range app.Routes {
		if !r.Generated && r.State != core.RouteDeleting {
			cnames = append(cnames, r.Hostname)
		}
	}
	ip := app.Address()
	if ip == "" && len(cnames) > 0 { // of another dialect, which gives no names
		ip, cnames = cnames[0], cnames[1:]
	}
	ready := app.State == core.AppRunning || app.State == core.AppStopped
	state := "pending"
	if ready {
		state = "ready"
	}
	teams := app.Teams
	if teams == nil {
		teams = []string{}
	}
	repository := c.repository(app)
	if c.versioned {
		for i, u := range app.Units {
			at := slices.IndexFunc(units, func(shown unit) bool { return shown.ID == u.ID })
			if at < 0 {
				continue
			}
			serves := app.Units[i].Serves()
			units[at].Address, units[at].Version, units[at].Routable = &address{"http", net.JoinHostPort(u.Address, strconv.Itoa(u.Port))}, u.Release, &serves
		}
	}
	v := map[string]any{
		"name": app.Name, "platform": app.Platform, "teams": teams, "units": units, "repository": repository, "ip": ip, "cname": cnames,
		"ready": ready, "owner": owner, "teamowner": app.TeamOwner, "deploys": app.Deploys,
		"memory": strconv.Itoa(app.MemoryMB), "swap": strconv.Itoa(app.SwapMB),
		"Name": app.Name, "Framework": app.Platform, "Platform": app.Platform, "Teams": teams, "Units": units, "Repository": repository,
		"Ip": ip, "State": state,
	}
	if c.versioned {
		v["pool"], v["provisioner"], v["description"], v["tags"], v["teamOwner"] = poolName, provisioner, "", []string{}, app.TeamOwner
		v["plan"], v["routers"] = planOf(app), routersOf(ip)
	}
	return v
}

// repository is where the app's code is pushed to. Clients find the app's name by the pattern ^.*@.*:(.*)\.git$.
func (c *call) repository(app core.App) string {
	return "git@" + cmp.Or(c.d.o.GitHost, api.RequestHost(c.r)) + ":" + app.Name + ".git"
}

// appsOf shows those of the caller's apps that are kept.
func (c *call) appsOf(keep func(app core.App, owner string) (bool, error)) ([]map[string]any, error) {
	apps, err := c.d.core.UsableApps(c.ctx(), c.p)
	if err != nil {
		return nil, err
	}
	owners, err := c.d.core.Owners(c.ctx(), apps)
	if err != nil {
		return nil, err
	}
	all := make([]map[string]any, 0, len(apps))
	for _, app := range apps {
		owner := owners[app.AccountID]
		kept, err := keep(app, owner)
		if err != nil {
			return nil, err
		}
		if kept {
			all = append(all, c.shown(app, owner))
		}
	}
	return all, nil
}

// serveApps lists the caller's apps, of the modern client those that it asks for; the name is a regular expression (RE2).
func serveApps(c *call) error {
	q := formFields(c.r.URL.Query()) // clients before 1.0 write teamowner, later ones teamOwner
	name, err := regexp.Compile(q.str("name"))
	if err != nil {
		return badRequest("Invalid name: it is a regular expression")
	}
	is := func(name, value string) bool { return q.str(name) == "" || q.str(name) == value }
	_, tagged := q.list("tag")
	states := strings.FieldsFunc(q.str("status"), func(r rune) bool { return r == ',' })
	all, err := c.appsOf(func(app core.App, owner string) (bool, error) {
		switch {
		case !is("platform", app.Platform), !is("teamowner", app.TeamOwner), !is("owner", owner), !is("pool", poolName), tagged,
			!name.MatchString(app.Name):
			return false, nil
		case len(states) > 0 && !slices.ContainsFunc(shownUnits(app), func(u unit) bool { return slices.Contains(states, u.Status) }):
			return false, nil
		case truth(q.str("locked")):
			_, held, err := c.holder(app)
			return held, err
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, all)
}

func serveApp(c *call) error {
	owners, err := c.d.core.Owners(c.ctx(), []core.App{c.app})
	if err != nil {
		return err
	}
	v := c.shown(c.app, owners[c.app.AccountID])
	if c.versioned {
		q, err := c.d.core.AppQuota(c.ctx(), c.p, c.app.Name)
		if err != nil {
			return err
		}
		v["quota"] = map[string]int{"limit": q.Limit, "inuse": q.InUse}
		if v["serviceInstanceBinds"], err = c.binds(); err != nil {
			return err
		}
		if h, held, err := c.holder(c.app); err != nil {
			return err
		} else if held {
			v["lock"] = map[string]any{"Locked": true, "Owner": h.who, "Reason": h.what, "AcquireDate": h.since}
		}
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json; profile="+c.baseURL()+"/schema/app")
	c.began = true
	_, _ = c.w.Write(append(data, '\n'))
	return nil
}

// binds are the service instances that the app is bound to, of those that the caller may see.
func (c *call) binds() ([]map[string]string, error) {
	services, err := c.d.core.Offers(c.ctx(), c.p, false)
	if err != nil {
		return nil, err
	}
	binds := []map[string]string{}
	for _, s := range services {
		instances, err := c.d.core.BoundInstances(c.ctx(), s.Instances, c.app.ID)
		if err != nil {
			return nil, err
		}
		for _, i := range instances {
			binds = append(binds, map[string]string{"service": s.Name, "instance": i.Name, "plan": i.Plan})
		}
	}
	return binds, nil
}

func serveAppCreate(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	for _, choice := range [][3]string{{"Plan", f.name("plan"), planName}, {"Pool", f.str("pool"), poolName}, {"Router", f.str("router"), routerName}} {
		if err := only(choice[0], choice[1], choice[2]); err != nil {
			return err
		}
	}
	spec := core.SharedAppSpec{Name: f.str("name"), Platform: f.str("platform", "framework"), TeamOwner: f.str("teamowner"), API: c.baseURL()}
	for name, into := range map[string]*int{"memory": &spec.MemoryMB, "swap": &spec.SwapMB} {
		text := f.str(name)
		if text == "" {
			continue
		}
		if *into, err = strconv.Atoi(text); err != nil {
			return badRequest("Invalid " + name)
		}
	}
	app, err := c.d.core.CreateSharedApp(c.ctx(), c.p, spec)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if c.versioned {
		code = http.StatusCreated
	}
	return c.json(code, map[string]string{"status": "success", "repository_url": c.repository(app), "ip": app.Address()})
}

// serveAppRemove answers before the work is done. Until it is, the app is listed, and locked by the operation.
func serveAppRemove(c *call) error {
	op, err := c.d.core.DeleteApp(c.ctx(), c.p, c.app.Num)
	if err != nil {
		return err
	}
	if c.versioned || c.d.o.JSONStreams {
		s := c.stream(false, 0)
		defer s.end()
		s.say(fmt.Sprintf("---- Removing application %q...\n", c.app.Name))
		if s.follow(op) {
			s.say(fmt.Sprintf("---- Done. Application %q was removed.\n", c.app.Name))
		}
		return nil
	}
	return c.text(http.StatusOK, "success")
}

func serveAppGrant(c *call) error {
	if err := c.d.core.GrantApp(c.ctx(), c.p, c.app.Name, c.vars["team"]); err != nil {
		return err
	}
	return c.ok()
}

func serveAppRevoke(c *call) error {
	if err := c.d.core.RevokeApp(c.ctx(), c.p, c.app.Name, c.vars["team"]); err != nil {
		return err
	}
	return c.ok()
}

func serveTeamOwner(c *call) error {
	data, err := c.body()
	if err != nil {
		return err
	}
	team := strings.TrimSpace(string(data))
	if team == "" {
		return badRequest("You must specify a team")
	}
	if err := c.d.core.SetTeamOwner(c.ctx(), c.p, c.app.Name, team); err != nil {
		return err
	}
	return c.ok()
}

// serveAppQuota is for administrators, and for whoever may use the app with the modern client.
func serveAppQuota(c *call) error {
	if !c.versioned {
		if err := c.d.core.RequireAdmin(c.ctx(), c.p); err != nil {
			return err
		}
	}
	q, err := c.d.core.AppQuota(c.ctx(), c.p, c.app.Name)
	if err != nil {
		return err
	}
	return c.quota(q)
}

func serveAppQuotaSet(c *call) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	if err := c.d.core.SetAppQuota(c.ctx(), c.p, c.app.Name, limit); err != nil {
		return err
	}
	return c.ok()
}

// serveUnlock takes the lock from whoever holds it, request or operation.
func serveUnlock(c *call) error {
	app, err := c.d.core.Unlock(c.ctx(), c.p, c.app.Name)
	if err != nil {
		return err
	}
	c.d.unlock(app.ID)
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// serveSwap exchanges the addresses of two apps. Both are locked.
func serveSwap(c *call) error {
	f := formFields(c.r.URL.Query())
	if f.str("app1") == "" {
		var err error
		if f, err = c.fields(); err != nil {
			return err
		}
	}
	if truth(f.str("cnameonly")) {
		return badRequest("apps are swapped with all their names here, not with their cnames only")
	}
	var apps [2]core.App
	for i, name := range []string{"app1", "app2"} {
		app, err := c.d.core.AppByName(c.ctx(), c.p, f.str(name))
		if err != nil {
			return err
		}
		apps[i] = app
	}
	if apps[0].ID == apps[1].ID {
		return badRequest("an app cannot be swapped with itself")
	}
	release, err := c.lock(apps[:]...)
	if err != nil {
		return err
	}
	defer release()
	if !truth(f.str("force")) && (apps[0].Platform != apps[1].Platform || len(shownUnits(apps[0])) != len(shownUnits(apps[1]))) {
		return &status{http.StatusPreconditionFailed, "Apps are not equal."}
	}
	op, err := c.d.core.SwapApps(c.ctx(), c.p, apps[0].ID, apps[1].ID)
	if err != nil {
		return err
	}
	if err := c.await(op); err != nil {
		return err
	}
	return c.ok()
}

// variable is one variable of an environment as it is shown.
type variable struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Public bool   `json:"public"`
}

func (c *call) variables(names []string, all bool) error {
	env, err := c.d.core.AppEnv(c.ctx(), c.p, c.app.ID)
	if err != nil {
		return err
	}
	shown := []variable{}
	for _, v := range env {
		if all || slices.Contains(names, v.Name) {
			shown = append(shown, variable{v.Name, string(v.Value), v.Public})
		}
	}
	return c.json(http.StatusOK, shown)
}

// serveEnv shows values of private variables too: hiding them is the client's part.
func serveEnv(c *call) error {
	names, _, err := c.names("env")
	if err != nil {
		return err
	}
	return c.variables(names, len(names) == 0)
}

func serveEnvSet(c *call) error {
	vars, options, err := c.envBody()
	if err != nil {
		return err
	}
	if err := c.d.core.SetEnv(c.ctx(), c.p, c.app.ID, vars, c.flag(options, "private")); err != nil {
		return err
	}
	return c.restartUnless(c.flag(options, "norestart"))
}

func truth(s string) bool { b, _ := strconv.ParseBool(s); return b }

// restartUnless lets units see what changed.
func (c *call) restartUnless(skip bool) error { return c.finish(c.restart(skip)) }

// restart begins to start an app's units anew, unless the caller does not want that. ok is false when there is nothing to do.
func (c *call) restart(skip bool) (op operation.Record, ok bool, err error) {
	if skip {
		return noOperation, false, nil
	}
	return c.d.core.RestartUnits(c.ctx(), c.p, c.app.ID)
}

// envBody reads variables: an object of names and scalars, or the modern client's form (Envs.0.Name, Envs.0.Value, …), which
// it also sends as JSON ({"envs": [{"name", "value"}], …}).
func (c *call) envBody() (map[string]string, fields, error) {
	data, err := c.body()
	if err != nil {
		return nil, fields{}, err
	}
	vars := map[string]string{}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err == nil && object != nil {
		f := fields{json: map[string]json.RawMessage{}}
		for k, v := range object {
			f.json[strings.ToLower(k)] = v
		}
		var list []struct{ Name, Value string }
		if raw, ok := f.json["envs"]; ok && json.Unmarshal(raw, &list) == nil && list != nil {
			for _, v := range list {
				vars[v.Name] = v.Value
			}
			return vars, f, someVars(vars)
		}
		for name, raw := range object {
			value, ok := scalar(raw)
			if !ok {
				return nil, fields{}, badRequest("Invalid JSON: the variables must be an object of names and values")
			}
			vars[name] = value
		}
		return vars, fields{}, someVars(vars)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fields{}, badRequest("You must provide the list of environment variables")
	}
	form, err := c.form(data)
	if err != nil {
		return nil, fields{}, badRequest("Invalid JSON: the variables must be an object of names and values")
	}
	f := formFields(form)
	for key := range f.form {
		index, ok := strings.CutPrefix(key, "envs.")
		if index, ok2 := strings.CutSuffix(index, ".name"); ok && ok2 {
			vars[f.str(key)] = f.str("envs." + index + ".value")
		}
	}
	return vars, f, someVars(vars)
}

func someVars(vars map[string]string) error {
	if len(vars) == 0 {
		return badRequest("You must provide the list of environment variables")
	}
	return nil
}

func serveEnvUnset(c *call) error {
	names, none, err := c.names("env")
	if err != nil {
		return err
	}
	if none || len(names) == 0 {
		return badRequest("You must provide the list of environment variables.")
	}
	if err := c.d.core.UnsetEnv(c.ctx(), c.p, c.app.ID, names, c.versioned); err != nil {
		return err
	}
	return c.restartUnless(c.flag(fields{}, "norestart"))
}

// cnames reads names: one or several under "cname", of any generation.
func (c *call) cnames() ([]string, error) {
	if q := c.r.URL.Query()["cname"]; len(q) > 0 {
		return q, nil
	}
	f, err := c.fields()
	if err != nil {
		return nil, err
	}
	names, ok := f.list("cname")
	if !ok {
		return nil, badRequest("You must provide the cname.")
	}
	return names, nil
}

func serveCNameAdd(c *call) error {
	names, err := c.cnames()
	if err != nil {
		return err
	}
	for _, name := range names { // all or none
		if _, ok := core.NormalHostname(name); !ok {
			return badRequest("Invalid cname")
		}
	}
	for _, name := range names {
		_, op, err := c.d.core.AddRoute(c.ctx(), c.p, c.app.Num, core.RouteSpec{Hostname: name, Free: true})
		if err != nil {
			return cnameError(err)
		}
		if err := c.await(op); err != nil {
			return err
		}
	}
	return c.ok()
}

func cnameError(err error) error {
	if core.KindOf(err) == core.Invalid {
		return badRequest("Invalid cname")
	}
	return err
}

// serveCNameRemove removes the names given, or all of them when there is no body, as clients before 0.12 ask for.
func serveCNameRemove(c *call) error {
	var names []string
	if c.r.ContentLength == 0 && c.r.URL.RawQuery == "" && !c.versioned {
		for _, r := range c.app.Routes {
			if !r.Generated {
				names = append(names, r.Hostname)
			}
		}
	} else {
		var err error
		if names, err = c.cnames(); err != nil {
			return err
		}
	}
	for _, name := range names {
		normal, ok := core.NormalHostname(name)
		if !ok {
			return badRequest("Invalid cname")
		}
		if !slices.ContainsFunc(c.app.Routes, func(r core.Route) bool { return r.Hostname == normal && !r.Generated }) {
			return badRequest("Invalid cname: it is not one of the app's")
		}
		_, op, err := c.d.core.RemoveRoute(c.ctx(), c.p, normal)
		if err != nil {
			return err
		}
		if err := c.await(op); err != nil {
			return err
		}
	}
	return c.ok()
}
