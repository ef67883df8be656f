package core

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Kinds of the operations on service instances.
const (
	OpInstanceCreate = "service.instance.create"
	OpInstanceDelete = "service.instance.delete"
	OpServiceBind    = "service.bind"
	OpServiceUnbind  = "service.unbind"
)

// MsgNotReady is what a bind fails with while the instance is not ready, for dialects that have a status for it.
const MsgNotReady = "You cannot bind any app to this service instance because it is not ready yet."

// instanceParams are the parameters of operations on service instances.
type instanceParams struct {
	InstanceID string `json:"instance_id"`
	Name       string `json:"name"`
	AppID      AppID  `json:"app_id,omitempty"`
	BindingID  string `json:"binding_id,omitempty"`
	Email      string `json:"email,omitempty"`
}

func (c *Core) instanceOperations() []operation.Definition {
	return []operation.Definition{
		{Kind: OpInstanceCreate, Steps: []operation.Step{
			{Name: "claim", Do: func(context.Context, *operation.Run) error { return nil }, Undo: c.forgetInstance},
			{Name: "make instance", Do: c.makeInstance, Undo: c.unmakeInstance, Timeout: 10 * time.Minute},
			{Name: "finish", Do: c.finishInstance},
		}},
		{Kind: OpInstanceDelete, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 10 * time.Minute},
			{Name: "remove instance", Do: c.unmakeInstance, Timeout: 5 * time.Minute},
			{Name: "forget instance", Do: c.forgetInstance},
		}},
		{Kind: OpServiceBind, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Undo: c.forgetBinding, Timeout: 10 * time.Minute},
			{Name: "bind", Do: c.bind, Undo: c.unbind, Timeout: 3 * time.Minute},
			{Name: "finish", Do: c.finishBinding},
		}},
		{Kind: OpServiceUnbind, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 10 * time.Minute},
			{Name: "take variables", Do: c.takeVariables},
			{Name: "unbind", Do: c.unbind, Timeout: 3 * time.Minute},
			{Name: "forget binding", Do: c.forgetBinding},
		}},
	}
}

// InstanceSpec asks for a service instance.
type InstanceSpec struct {
	Name    string // ^[A-Za-z][-a-zA-Z0-9_]+$; names are one space over all services
	Service string
	Plan    string // "": the provider chooses
	Owner   string // team; "": the caller's only one
}

// CreateInstance makes an instance of a service. The operation brings it up; it fails with what the provider says.
//
// Errors: not_found (service, or the caller does not see it), invalid (name, several teams and no owner), forbidden (owner),
// exists
// Effects: a resource at the provider; or a database on a node of the pool
func (c *Core) CreateInstance(ctx context.Context, p Principal, spec InstanceSpec) (ServiceInstance, operation.Record, error) {
	i := ServiceInstance{ID: "svc-" + randomHex(8), Name: spec.Name, Plan: spec.Plan, AccountID: p.Account.ID, State: InstancePending, CreatedAt: c.now()}
	var op operation.Record
	err := c.change(ctx, p, "service.instance.create", i.ID, func(tx Tx) error {
		v, err := viewerOf(tx, p)
		if err != nil {
			return err
		}
		s, err := c.offer(tx, spec.Service)
		if err != nil {
			return err
		}
		if !v.sees(s) {
			return Errorf(NotFound, ObjService, "Service not found")
		}
		if !instancePattern.MatchString(spec.Name) || len(spec.Name) > 100 {
			return Errorf(Invalid, ObjInstance, "invalid service instance name")
		}
		owner, _, err := ownerTeam(tx, p, spec.Owner)
		if err != nil {
			return err
		}
		if _, err := tx.Instance(spec.Name); err == nil {
			return Errorf(Exists, ObjInstance, "There is already a service instance with this name.")
		} else if !isNotFound(err) {
			return err
		}
		i.Service, i.Engine, i.TeamOwner, i.Teams = s.Name, s.Engine, owner, []string{owner}
		for _, t := range v.teams { // those of the creator that may use the service
			if t != owner && (!s.Restricted || slices.Contains(s.Granted, t) || slices.Contains(s.Owners, t)) {
				i.Teams = append(i.Teams, t)
			}
		}
		slices.Sort(i.Teams)
		if s.BuiltIn() {
			i.Database = "svc_" + strings.TrimPrefix(i.ID, "svc-")
		}
		if err := tx.PutServiceInstance(&i); err != nil {
			return err
		}
		op, err = c.enqueueInstance(tx, p, OpInstanceCreate, i.ID, instanceParams{InstanceID: i.ID, Name: i.Name, Email: p.Account.Email})
		return err
	})
	return i, op, err
}

func (c *Core) enqueueInstance(tx Tx, p Principal, kind, subject string, params instanceParams) (operation.Record, error) {
	data, err := json.Marshal(params)
	if err != nil {
		return operation.Record{}, err
	}
	g := c.newGroup(p, subject, data, kind)
	if err := tx.Enqueue(&g); err != nil {
		return operation.Record{}, err
	}
	return g.Operations[0], nil
}

// usableInstance finds an instance that the caller may use.
//
// Errors: not_found, forbidden
func (c *Core) usableInstance(r Reader, p Principal, name string) (ServiceInstance, error) {
	v, err := viewerOf(r, p)
	if err != nil {
		return ServiceInstance{}, err
	}
	i, err := r.Instance(name)
	if isNotFound(err) {
		err = Errorf(NotFound, ObjInstance, "Service instance not found")
	}
	if err == nil && !v.uses(i) {
		err = Errorf(Forbidden, ObjInstance, "This user does not have access to this service instance")
	}
	return i, err
}

// InstanceView is a service instance with what it is bound to.
type InstanceView struct {
	ServiceInstance
	Of   Offer
	Apps []string // names, sorted
	Info []Label  // what the provider tells
}

// InstanceByName is an instance that the caller may use. tell asks the provider what it has to tell.
//
// Errors: not_found, forbidden
func (c *Core) InstanceByName(ctx context.Context, p Principal, name string, tell bool) (InstanceView, error) {
	i, err := view(ctx, c.Store, func(r Reader) (InstanceView, error) {
		i, err := c.usableInstance(r, p, name)
		if err != nil {
			return InstanceView{}, err
		}
		return c.viewInstance(r, i)
	})
	if err == nil && tell {
		i.Info = c.info(ctx, i)
	}
	return i, err
}

// ViewInstances completes instances with what they are bound to, and asks their providers.
func (c *Core) ViewInstances(ctx context.Context, instances []ServiceInstance) ([]InstanceView, error) {
	all, err := view(ctx, c.Store, func(r Reader) (all []InstanceView, err error) {
		for _, i := range instances {
			one, err := c.viewInstance(r, i)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return all, nil
	})
	for n := range all {
		all[n].Info = c.info(ctx, all[n])
	}
	return all, err
}

// BoundInstances are those of the instances that an app is bound to.
func (c *Core) BoundInstances(ctx context.Context, instances []ServiceInstance, id AppID) ([]ServiceInstance, error) {
	return view(ctx, c.Store, func(r Reader) (bound []ServiceInstance, err error) {
		for _, i := range instances {
			bindings, err := r.BindingsOf(i.ID)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(bindings, func(b Binding) bool { return b.AppID == id }) {
				bound = append(bound, i)
			}
		}
		return bound, nil
	})
}

func (c *Core) viewInstance(r Reader, i ServiceInstance) (InstanceView, error) {
	v := InstanceView{ServiceInstance: i, Apps: []string{}}
	var err error
	if v.Of, err = c.offer(r, i.Service); err != nil {
		return v, err
	}
	bindings, err := r.BindingsOf(i.ID)
	if err != nil {
		return v, err
	}
	for _, b := range bindings {
		app, err := r.App(b.AppID)
		if err != nil {
			return v, err
		}
		v.Apps = append(v.Apps, app.Name)
	}
	slices.Sort(v.Apps)
	return v, nil
}

func (c *Core) info(ctx context.Context, i InstanceView) []Label {
	if i.Of.BuiltIn() {
		plan := i.Plan
		if plan == "" {
			plan = "shared"
		}
		labels := []Label{{"Plan", plan}}
		if node, err := c.node(ctx, i.NodeID); err == nil {
			labels = append(labels, Label{"Address", net.JoinHostPort(node.Address, enginePorts[i.Engine])})
		}
		return labels
	}
	if c.Broker == nil {
		return nil
	}
	labels, err := c.Broker.Info(ctx, i.Of, i.Name)
	if err != nil {
		c.Log.Debug("a provider tells nothing of an instance", "service", i.Service, "instance", i.Name, "err", err)
		return nil
	}
	return labels
}

// InstanceStatus is how an instance is: of a provider's what it says now.
//
// Errors: not_found, forbidden, unavailable and invalid (the provider)
func (c *Core) InstanceStatus(ctx context.Context, p Principal, name string) (InstanceState, error) {
	i, err := c.InstanceByName(ctx, p, name, false)
	if err != nil {
		return "", err
	}
	if !i.Of.BuiltIn() {
		if i.State == InstancePending || i.State == InstanceAsked {
			return InstancePending, nil
		}
		if c.Broker == nil {
			return "", Errorf(Unsupported, ObjService, "there are no services of providers here")
		}
		return c.Broker.Status(ctx, i.Of, i.Name)
	}
	if i.State != InstanceUp {
		return i.State, nil
	}
	node, err := c.node(ctx, i.NodeID)
	if isNotFound(err) || err == nil && node.State != NodeRunning {
		return InstanceDown, nil
	}
	return InstanceUp, err
}

// DeleteInstance ends an instance that no app is bound to. What the provider says to it does not matter.
//
// Errors: not_found, forbidden, busy (bound; something is being done with it)
func (c *Core) DeleteInstance(ctx context.Context, p Principal, name string) (operation.Record, error) {
	var op operation.Record
	err := c.change(ctx, p, "service.instance.delete", name, func(tx Tx) error {
		i, err := c.usableInstance(tx, p, name)
		if err != nil {
			return err
		}
		bindings, err := tx.BindingsOf(i.ID)
		if err != nil {
			return err
		}
		if len(bindings) > 0 {
			return Errorf(Busy, ObjInstance, "This service instance is bound to at least one app. Unbind them before removing it")
		}
		i.State = InstanceDeleting
		if err := tx.PutServiceInstance(&i); err != nil {
			return err
		}
		op, err = c.enqueueInstance(tx, p, OpInstanceDelete, i.ID, instanceParams{InstanceID: i.ID, Name: i.Name})
		return err
	})
	return op, err
}

// BindApp lets an app use an instance: its environment gets what the instance exports, tagged with its name.
//
// Errors: not_found, forbidden (instance, app), exists (it is bound), busy with ObjInstance (not ready)
// Effects: the provider is told; or a database user of the app is made
func (c *Core) BindApp(ctx context.Context, p Principal, instance, appName string) (operation.Record, error) {
	var op operation.Record
	err := c.change(ctx, p, "service.bind", instance, func(tx Tx) error {
		i, app, b, err := c.instanceAndApp(tx, p, instance, appName)
		if err != nil {
			return err
		}
		if b.ID != "" {
			return Errorf(Exists, ObjBinding, "This app is already bound to this service instance.")
		}
		if i.State != InstanceUp {
			return Errorf(Busy, ObjInstance, "%s", MsgNotReady)
		}
		b = Binding{ID: "bind-" + randomHex(8), InstanceID: i.ID, AppID: app.ID, State: BindingBinding, Units: map[string]string{}, CreatedAt: c.now()}
		if i.Engine != "" {
			b.User, b.Password = "u"+randomHex(7), []byte(randomWord())
		}
		if err := tx.PutBinding(&b); err != nil {
			return err
		}
		op, err = c.enqueueInstance(tx, p, OpServiceBind, string(app.ID), instanceParams{InstanceID: i.ID, Name: i.Name, AppID: app.ID, BindingID: b.ID})
		return err
	})
	return op, err
}

// UnbindApp takes that back.
//
// Errors: not_found, forbidden (instance, app), busy with ObjBinding (it is not bound)
func (c *Core) UnbindApp(ctx context.Context, p Principal, instance, appName string) (operation.Record, error) {
	var op operation.Record
	err := c.change(ctx, p, "service.unbind", instance, func(tx Tx) error {
		i, app, b, err := c.instanceAndApp(tx, p, instance, appName)
		if err != nil {
			return err
		}
		if b.ID == "" {
			return Errorf(Busy, ObjBinding, "This app is not bound to this service instance.")
		}
		b.State = BindingUnbinding
		if err := tx.PutBinding(&b); err != nil {
			return err
		}
		op, err = c.enqueueInstance(tx, p, OpServiceUnbind, string(app.ID), instanceParams{InstanceID: i.ID, Name: i.Name, AppID: app.ID, BindingID: b.ID})
		return err
	})
	return op, err
}

// instanceAndApp finds both, and the binding between them if there is one.
func (c *Core) instanceAndApp(r Reader, p Principal, instance, appName string) (i ServiceInstance, app App, b Binding, err error) {
	if i, err = c.usableInstance(r, p, instance); err != nil {
		return i, app, b, err
	}
	if app, err = usableApp(r, p, appName); err != nil {
		return i, app, b, err
	}
	bindings, err := r.Bindings(app.ID)
	if n := slices.IndexFunc(bindings, func(b Binding) bool { return b.InstanceID == i.ID }); n >= 0 {
		b = bindings[n]
	}
	return i, app, b, err
}

// instanceOf loads the instance of the operation and its service; found is false when it was forgotten.
func (c *Core) instanceOf(ctx context.Context, run *operation.Run) (p instanceParams, i ServiceInstance, s Offer, found bool, err error) {
	if err = run.Params(&p); err != nil {
		return p, i, s, false, err
	}
	err = c.Store.View(ctx, func(r Reader) error {
		if i, err = r.InstanceByID(p.InstanceID); err != nil {
			return err
		}
		s, err = c.offer(r, i.Service)
		return err
	})
	if isNotFound(err) {
		return p, i, s, false, nil
	}
	return p, i, s, err == nil, err
}

// makeInstance asks the provider for a resource, or an agent for a database.
func (c *Core) makeInstance(ctx context.Context, run *operation.Run) error {
	p, i, s, found, err := c.instanceOf(ctx, run)
	if err != nil {
		return err
	}
	if !found {
		return Errorf(NotFound, ObjInstance, "the service instance does not exist any more")
	}
	if !s.BuiltIn() {
		return c.makeResource(ctx, s, i, p.Email)
	}
	node, err := c.databaseNode(ctx, &i)
	if err != nil {
		return err
	}
	agent, err := c.Agents.Agent(node)
	if err != nil {
		return err
	}
	if err := startForGood(ctx, agent, i.Engine); err != nil {
		return classified(err, Internal, ObjInstance, "start the "+i.Engine+" server")
	}
	err = agent.CreateDatabase(ctx, i.Engine, agentapi.CreateDatabaseParams{Name: i.Database})
	return classified(err, Internal, ObjInstance, "create the database")
}

// makeResource asks a provider for a resource, but after a crash first whether there is one: asked again it would refuse, or
// make another.
func (c *Core) makeResource(ctx context.Context, s Offer, i ServiceInstance, email string) error {
	if i.State == InstanceAsked {
		if _, err := c.Broker.Status(ctx, s, i.Name); err == nil || KindOf(err) == Unavailable {
			return final(err)
		}
	}
	i.State = InstanceAsked
	if err := c.Store.Update(ctx, func(tx Tx) error { return tx.PutServiceInstance(&i) }); err != nil {
		return err
	}
	return final(c.Broker.Create(ctx, s, i, email))
}

// final makes a failure of a provider one that is not tried again: whoever waits shall hear of it.
func final(err error) error {
	if err != nil && KindOf(err) == Unavailable {
		return Wrap(Invalid, ObjService, err, "provider")
	}
	return err
}

// databaseNode is where an instance's database is: the node of the pool that has most of them, so that the others can be
// replaced. It is chosen once.
func (c *Core) databaseNode(ctx context.Context, i *ServiceInstance) (Node, error) {
	if i.NodeID != "" {
		return c.node(ctx, i.NodeID)
	}
	if err := c.EnsurePool(ctx); err != nil {
		return Node{}, err
	}
	var node Node
	err := c.Store.Update(ctx, func(tx Tx) error {
		nodes, err := tx.Nodes(NodeFilter{Cloud: c.AppCloud, Role: RoleDB})
		if err != nil {
			return err
		}
		nodes = slices.DeleteFunc(nodes, func(n Node) bool { return n.AppID != "" || n.AccountID != "" || n.State != NodeRunning })
		if len(nodes) == 0 {
			return operation.RetryAfter(500*time.Millisecond, "no node for databases is up yet")
		}
		there := map[NodeID]int{}
		for engine := range builtIn {
			instances, err := tx.InstancesOf(engine)
			if err != nil {
				return err
			}
			for _, other := range instances {
				there[other.NodeID]++
			}
		}
		node = slices.MaxFunc(nodes, func(a, b Node) int { return there[a.ID] - there[b.ID] })
		i.NodeID = node.ID
		return tx.PutServiceInstance(i)
	})
	return node, err
}

// unmakeInstance takes the resource back. A provider that fails to is not waited for.
func (c *Core) unmakeInstance(ctx context.Context, run *operation.Run) error {
	_, i, s, found, err := c.instanceOf(ctx, run)
	if err != nil || !found {
		return err
	}
	if !s.BuiltIn() {
		if err := c.Broker.Remove(ctx, s, i.Name); err != nil {
			c.Log.Warn("a provider did not remove an instance", "service", s.Name, "instance", i.Name, "err", err)
		}
		return nil
	}
	agent, ok, err := c.databaseAgent(ctx, i)
	if err != nil || !ok {
		return err
	}
	err = agent.DropDatabase(ctx, i.Engine, i.Database)
	if err != nil && KindOf(err) == Unsupported { // there never was a server
		return nil
	}
	return classified(ignoreNotFound(err), Internal, ObjInstance, "drop the database")
}

// databaseAgent is the agent where an instance's database is; ok is false when there is none, or its node is gone.
func (c *Core) databaseAgent(ctx context.Context, i ServiceInstance) (agent Agent, ok bool, err error) {
	if i.NodeID == "" {
		return nil, false, nil
	}
	node, err := c.node(ctx, i.NodeID)
	if isNotFound(err) || err == nil && (node.State == NodeGone || node.State == NodeFailed) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	agent, err = c.Agents.Agent(node)
	return agent, err == nil, err
}

func (c *Core) finishInstance(ctx context.Context, run *operation.Run) error {
	_, i, _, found, err := c.instanceOf(ctx, run)
	if err != nil || !found {
		return err
	}
	i.State = InstanceUp
	return c.Store.Update(ctx, func(tx Tx) error { return tx.PutServiceInstance(&i) })
}

// forgetInstance ends an instance. One of our agents that could not be made is kept as down, because its maker was told that
// it is on its way.
func (c *Core) forgetInstance(ctx context.Context, run *operation.Run) error {
	_, i, s, found, err := c.instanceOf(ctx, run)
	if err != nil || !found {
		return err
	}
	if s.BuiltIn() && run.Operation.Kind == OpInstanceCreate {
		i.State, i.Error = InstanceDown, run.Reason()
		return c.Store.Update(ctx, func(tx Tx) error { return tx.PutServiceInstance(&i) })
	}
	return c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteServiceInstance(i.ID) })
}

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
	b.State = BindingBound
	if err := c.Store.Update(ctx, func(tx Tx) error { return tx.PutBinding(&b) }); err != nil {
		return err
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
		return c.dropVariables(tx, app.ID, i.Name)
	})
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

// ProviderOf is the service and the instance behind a name, for requests that go through to the provider.
//
// Errors: not_found, forbidden, unsupported (the service is one of ours)
func (c *Core) ProviderOf(ctx context.Context, p Principal, instance string) (Offer, error) {
	i, err := c.InstanceByName(ctx, p, instance, false)
	if err == nil && i.Of.BuiltIn() {
		err = Errorf(Unsupported, ObjService, "the service %s is part of the platform and has nothing behind a proxy", i.Of.Name)
	}
	return i.Of, err
}
