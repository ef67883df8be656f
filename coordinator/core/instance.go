package core

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"time"

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
	Restart    bool   `json:"restart,omitempty"` // the app's units begin anew once its variables have changed
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

// BindApp lets an app use an instance: its environment gets what the instance exports, tagged with its name. With restart its units
// begin anew when it is done, see RestartAfter.
//
// Errors: not_found, forbidden (instance, app), exists (it is bound), busy with ObjInstance (not ready)
// Effects: the provider is told; or a database user of the app is made
func (c *Core) BindApp(ctx context.Context, p Principal, instance, appName string, restart bool) (operation.Record, error) {
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
		op, err = c.enqueueInstance(tx, p, OpServiceBind, string(app.ID), instanceParams{InstanceID: i.ID, Name: i.Name, AppID: app.ID, BindingID: b.ID, Restart: restart})
		return err
	})
	return op, err
}

// UnbindApp takes that back. restart is as for BindApp.
//
// Errors: not_found, forbidden (instance, app), busy with ObjBinding (it is not bound)
func (c *Core) UnbindApp(ctx context.Context, p Principal, instance, appName string, restart bool) (operation.Record, error) {
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
		op, err = c.enqueueInstance(tx, p, OpServiceUnbind, string(app.ID), instanceParams{InstanceID: i.ID, Name: i.Name, AppID: app.ID, BindingID: b.ID, Restart: restart})
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
