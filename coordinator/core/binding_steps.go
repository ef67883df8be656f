package core

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// bindingOf loads what an operation on a binding is about.
func (c *Core) bindingOf(ctx context.Context, run *operation.Run) (i ServiceInstance, s Offer, app App, b Binding, found bool, err error) {
	p, i, s, found, err := c.instanceOf(ctx, run)
	if err != nil || !found {
		return i, s, app, b, found, err
	}
	err = c.Store.View(ctx, func(r Reader) error {
		if app, err = r.App(p.AppID); err != nil {
			return err
		}
		bindings, err := r.Bindings(app.ID)
		n := slices.IndexFunc(bindings, func(b Binding) bool { return b.ID == p.BindingID })
		if err == nil && n < 0 {
			return Errorf(NotFound, ObjBinding, "the binding does not exist any more")
		}
		if err == nil {
			b = bindings[n]
		}
		return err
	})
	if isNotFound(err) {
		return i, s, app, b, false, nil
	}
	return i, s, app, b, err == nil, err
}

// bind tells the provider, or makes the app's database user, and gives the app what it exports.
func (c *Core) bind(ctx context.Context, run *operation.Run) error {
	i, s, app, b, found, err := c.bindingOf(ctx, run)
	if err != nil {
		return err
	}
	if !found {
		return Errorf(NotFound, ObjBinding, "the service instance or the app does not exist any more")
	}
	var vars map[string]string
	if s.BuiltIn() {
		vars, err = c.bindDatabase(ctx, i, b)
	} else {
		vars, err = c.bindProvider(ctx, s, i, app, &b)
	}
	if err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		if err := tx.PutBinding(&b); err != nil {
			return err
		}
		env, err := tx.AppEnv(app.ID)
		if err != nil {
			return err
		}
		for name, value := range vars {
			if strings.HasPrefix(name, "TSURU_") || !envPattern.MatchString(name) {
				continue
			}
			n := slices.IndexFunc(env, func(v EnvVar) bool { return v.Name == name })
			if s.BuiltIn() && strings.HasPrefix(name, "DATABASE_") && n >= 0 && env[n].Tag != i.Name {
				continue // another instance has it, or the owner
			}
			if err := tx.PutEnv(app.ID, EnvVar{Name: name, Value: Secret(value), Tag: i.Name}); err != nil {
				return err
			}
		}
		return c.putServicesVariable(tx, app.ID)
	})
}

// putServicesVariable tells programs of an app what it is bound to: TSURU_SERVICES (spec tsuru 5.4).
func (c *Core) putServicesVariable(tx Tx, app AppID) error {
	bindings, err := tx.Bindings(app)
	if err != nil {
		return err
	}
	env, err := tx.AppEnv(app)
	if err != nil {
		return err
	}
	type bound struct {
		InstanceName string            `json:"instance_name"`
		Envs         map[string]string `json:"envs"`
	}
	services := map[string][]bound{}
	for _, b := range bindings {
		i, err := tx.InstanceByID(b.InstanceID)
		if err != nil {
			return err
		}
		one := bound{i.Name, map[string]string{}}
		for _, v := range env {
			if v.Tag == i.Name {
				one.Envs[v.Name] = string(v.Value)
			}
		}
		if b.State == BindingUnbinding {
			if services[i.Service] == nil {
				services[i.Service] = []bound{}
			}
			continue
		}
		services[i.Service] = append(services[i.Service], one)
	}
	data, err := json.Marshal(services)
	if err != nil {
		return err
	}
	return tx.PutEnv(app, EnvVar{Name: EnvServices, Value: Secret(data)})
}

// enginePorts are where the servers of our agents listen.
var enginePorts = map[string]string{agentapi.EnginePostgreSQL: "5432", agentapi.EngineMySQL: "3306", agentapi.EngineMongoDB: "27017"}

// engineVars are the names that public providers of each engine export host, port, database, user and password under.
var engineVars = map[string][5]string{
	agentapi.EnginePostgreSQL: {"PG_HOST", "PG_PORT", "PG_DATABASE", "PG_USER", "PG_PASSWORD"},
	agentapi.EngineMySQL:      {"MYSQL_HOST", "MYSQL_PORT", "MYSQL_DATABASE_NAME", "MYSQL_USER", "MYSQL_PASSWORD"},
	agentapi.EngineMongoDB:    {"MONGO_HOST", "MONGO_PORT", "MONGO_DATABASE_NAME", "MONGO_USER", "MONGO_PASSWORD"},
}

func (c *Core) bindDatabase(ctx context.Context, i ServiceInstance, b Binding) (map[string]string, error) {
	node, err := c.node(ctx, i.NodeID)
	if err != nil {
		return nil, err
	}
	agent, err := c.Agents.Agent(node)
	if err != nil {
		return nil, err
	}
	err = agent.CreateDatabaseUser(ctx, i.Engine, agentapi.CreateDatabaseUserParams{Name: b.User, Password: agentapi.Secret(b.Password), Database: i.Database, Remote: true})
	if err != nil {
		return nil, classified(err, Internal, ObjInstance, "create the database user")
	}
	return databaseVars(i.Engine, node.Address, i.Database, b.User, string(b.Password)), nil
}

// databaseVars tell an app where a database is and as whom it gets in: under the names of public providers of the engine, and
// under DATABASE_, the same for all engines.
func databaseVars(engine, host, database, user, password string) map[string]string {
	port := enginePorts[engine]
	values := [5]string{host, port, database, user, password}
	vars := map[string]string{}
	for n, name := range engineVars[engine] {
		vars[name] = values[n]
	}
	for n, name := range []string{"DATABASE_HOST", "DATABASE_PORT", "DATABASE_NAME", "DATABASE_USER", "DATABASE_PASSWORD"} {
		vars[name] = values[n]
	}
	u := url.URL{Scheme: engine, User: url.UserPassword(user, password), Host: net.JoinHostPort(host, port), Path: "/" + database}
	vars["DATABASE_URL"] = u.String()
	if engine == agentapi.EngineMongoDB {
		vars["MONGO_URI"] = u.String()
	}
	return vars
}

// bindProvider tells the provider of the app as a whole, if it knows such a call, and of each of its units. An app without
// units is told of by its own address, so that it has the variables when its first unit starts. What it is told is noted
// before: after a crash, or a failure, that is taken back.
func (c *Core) bindProvider(ctx context.Context, s Offer, i ServiceInstance, app App, b *Binding) (map[string]string, error) {
	if b.State == BindingAsked {
		c.unbindProvider(ctx, i, s, app, *b)
	}
	b.State, b.Units = BindingAsked, map[string]string{}
	for _, u := range app.Units {
		b.Units[u.ID] = u.Address
	}
	if len(b.Units) == 0 {
		b.Units[""] = app.Address()
	}
	if err := c.Store.Update(ctx, func(tx Tx) error { return tx.PutBinding(b) }); err != nil {
		return nil, err
	}
	vars, whole, err := c.Broker.BindApp(ctx, s, i.Name, app.Address())
	if err != nil {
		return nil, final(err)
	}
	if b.Whole = whole; whole {
		delete(b.Units, "")
	} else {
		vars = map[string]string{}
	}
	for _, address := range b.Units {
		more, err := c.Broker.BindUnit(ctx, s, i.Name, app.Address(), address, whole)
		if err != nil && !whole {
			return nil, final(err)
		}
		if !whole {
			for name, value := range more {
				vars[name] = value
			}
		}
	}
	return vars, nil
}

// bindNewUnits tells providers of units that came since an app was bound, and of units that are gone. It is called after
// every change of units; failures are logged only.
func (c *Core) bindNewUnits(ctx context.Context, id AppID) {
	var app App
	var bindings []Binding
	err := c.Store.View(ctx, func(r Reader) (err error) {
		if app, err = r.App(id); err == nil {
			bindings, err = r.Bindings(id)
		}
		return err
	})
	for _, b := range bindings {
		if err == nil && b.State == BindingBound {
			err = c.tellUnits(ctx, app, b)
		}
	}
	if err != nil {
		c.Log.Warn("providers were not told of new units", "app", app.Name, "err", err)
	}
}

func (c *Core) tellUnits(ctx context.Context, app App, b Binding) error {
	var i ServiceInstance
	var s Offer
	err := c.Store.View(ctx, func(r Reader) (err error) {
		if i, err = r.InstanceByID(b.InstanceID); err == nil {
			s, err = c.offer(r, i.Service)
		}
		return err
	})
	if err != nil || s.BuiltIn() {
		return err
	}
	now := map[string]string{}
	for _, u := range app.Units {
		if u.State == UnitStopping {
			continue
		}
		now[u.ID] = u.Address
		if _, told := b.Units[u.ID]; told {
			continue
		}
		if _, err := c.Broker.BindUnit(ctx, s, i.Name, app.Address(), u.Address, b.Whole); err != nil {
			c.Log.Info("a provider did not take a new unit", "service", s.Name, "instance", i.Name, "err", err)
		}
	}
	for unit, address := range b.Units {
		still := slices.ContainsFunc(app.Units, func(u AppUnit) bool { return u.Address == address && u.State != UnitStopping })
		if _, there := now[unit]; !there && !still {
			if err := c.Broker.UnbindUnit(ctx, s, i.Name, app.Address(), address, b.Whole); err != nil {
				c.Log.Info("a provider did not let go of a unit", "service", s.Name, "instance", i.Name, "err", err)
			}
		}
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		all, err := tx.Bindings(app.ID)
		n := slices.IndexFunc(all, func(x Binding) bool { return x.ID == b.ID })
		if err != nil || n < 0 {
			return err
		}
		all[n].Units = now
		return tx.PutBinding(&all[n])
	})
}

func (c *Core) finishBinding(ctx context.Context, run *operation.Run) error {
	i, _, app, b, found, err := c.bindingOf(ctx, run)
	if err != nil || !found {
		return err
	}
	if b.State != BindingBound { // else a killed coordinator came this far
		b.State = BindingBound
		err := c.Store.Update(ctx, func(tx Tx) error {
			if err := tx.PutBinding(&b); err != nil {
				return err
			}
			return c.restartBound(tx, run)
		})
		if err != nil {
			return err
		}
	}
	return c.logApp(ctx, app.ID, fmt.Sprintf("bound to the service instance %s", i.Name))
}

// takeVariables removes what an instance exported to an app, and nothing else.
func (c *Core) takeVariables(ctx context.Context, run *operation.Run) error {
	i, _, app, _, found, err := c.bindingOf(ctx, run)
	if err != nil || !found {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error { return c.dropVariables(tx, app.ID, i.Name) })
}

func (c *Core) dropVariables(tx Tx, app AppID, tag string) error {
	env, err := tx.AppEnv(app)
	if err != nil {
		return err
	}
	for _, v := range env {
		if v.Tag == tag {
			if err := tx.DeleteEnv(app, v.Name); err != nil {
				return err
			}
		}
	}
	return c.putServicesVariable(tx, app)
}

// unbind takes back what bind did outside, also when bind was cut off. What a provider says to it does not matter.
func (c *Core) unbind(ctx context.Context, run *operation.Run) error {
	i, s, app, b, found, err := c.bindingOf(ctx, run)
	if err != nil || !found {
		return err
	}
	return c.unbindFrom(ctx, i, s, app, b)
}

func (c *Core) unbindFrom(ctx context.Context, i ServiceInstance, s Offer, app App, b Binding) error {
	if !s.BuiltIn() {
		c.unbindProvider(ctx, i, s, app, b)
		return nil
	}
	agent, ok, err := c.databaseAgent(ctx, i)
	if err != nil || !ok {
		return err
	}
	err = agent.DropDatabaseUser(ctx, i.Engine, agentapi.DropDatabaseUserParams{Name: b.User, Database: i.Database})
	return classified(ignoreNotFound(err), Internal, ObjInstance, "drop the database user")
}

// unbindProvider tells a provider that an app and its units let go. Of a binding whose answer was not noted it is not known
// which calls the provider knows: both kinds are tried, to what is not there it says 404.
func (c *Core) unbindProvider(ctx context.Context, i ServiceInstance, s Offer, app App, b Binding) {
	kinds := []bool{b.Whole}
	if b.State == BindingAsked {
		kinds = []bool{false, true}
	}
	for _, whole := range kinds {
		for _, address := range b.Units {
			if err := c.Broker.UnbindUnit(ctx, s, i.Name, app.Address(), address, whole); err != nil {
				c.Log.Info("a provider did not let go of a unit", "service", s.Name, "instance", i.Name, "err", err)
			}
		}
		if !whole {
			continue
		}
		if err := c.Broker.UnbindApp(ctx, s, i.Name, app.Address()); err != nil {
			c.Log.Info("a provider did not let go of an app", "service", s.Name, "instance", i.Name, "err", err)
		}
	}
}

func (c *Core) forgetBinding(ctx context.Context, run *operation.Run) error {
	i, _, app, b, found, err := c.bindingOf(ctx, run)
	if err != nil || !found {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		if err := tx.DeleteBinding(b.ID); err != nil {
			return err
		}
		if err := c.dropVariables(tx, app.ID, i.Name); err != nil {
			return err
		}
		if b.State != BindingUnbinding { // a binding that failed: units never saw its variables
			return nil
		}
		return c.restartBound(tx, run)
	})
}

// restartBound lets the units of an app see its new variables, if that was asked for. It comes with the change itself, so that no
// unit goes on with credentials that are revoked because the coordinator ended in between.
func (c *Core) restartBound(tx Tx, run *operation.Run) error {
	var p instanceParams
	if err := run.Params(&p); err != nil || !p.Restart {
		return err
	}
	app, err := tx.App(p.AppID)
	if err == nil {
		err = hasUnits(tx, app)
	}
	if KindOf(err) == Unsupported || err == nil && !app.restarts() {
		return nil
	}
	if err != nil {
		return ignoreNotFound(err)
	}
	_, err = c.enqueueRoll(tx, Principal{Account: Account{ID: AccountID(run.Operation.Account)}}, OpAppRoll,
		rollParams{AppID: app.ID, AppNum: app.Num, Name: app.Name, Release: app.Release, Count: app.UnitCount, Fresh: true})
	return err
}

// unbindAll lets go of everything an app that ends is bound to.
func (c *Core) unbindAll(ctx context.Context, run *operation.Run) error {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil || !found {
		return err
	}
	bindings, err := view(ctx, c.Store, func(r Reader) ([]Binding, error) { return r.Bindings(p.AppID) })
	if err != nil {
		return err
	}
	for _, b := range bindings {
		var i ServiceInstance
		var s Offer
		err := c.Store.View(ctx, func(r Reader) (err error) {
			if i, err = r.InstanceByID(b.InstanceID); err == nil {
				s, err = c.offer(r, i.Service)
			}
			return err
		})
		if err != nil && !isNotFound(err) {
			return err
		}
		if err == nil {
			if err := c.unbindFrom(ctx, i, s, app, b); err != nil {
				return err
			}
		}
		if err := c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteBinding(b.ID) }); err != nil {
			return err
		}
	}
	return nil
}
