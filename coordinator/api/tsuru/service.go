package tsuru

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// manifest reads a provider's manifest: YAML, or the form of the modern client, which names a known service in the path alone.
// Keys that we do not know are ignored.
func (c *call) manifest() (core.OfferSpec, error) {
	data, err := c.body()
	if err != nil {
		return core.OfferSpec{}, err
	}
	spec := core.OfferSpec{Endpoints: map[string]string{}}
	if form, err := c.form(data); err == nil && (form.Get("id") != "" || c.vars["service"] != "") {
		spec.Name, spec.Password = form.Get("id"), core.Secret(form.Get("password"))
		spec.Endpoints["production"] = form.Get("endpoint")
		return spec, nil
	}
	var m struct {
		ID         string         `yaml:"id"`
		Password   string         `yaml:"password"`
		Endpoint   map[string]any `yaml:"endpoint"`
		Restricted bool           `yaml:"is_restricted"`
	}
	if err := yaml.Unmarshal(data, &m); err != nil {
		return spec, &status{http.StatusInternalServerError, "the manifest is no valid YAML"}
	}
	spec.Name, spec.Password, spec.Restricted = m.ID, core.Secret(m.Password), m.Restricted
	for name, v := range m.Endpoint {
		if v != nil {
			spec.Endpoints[name] = fmt.Sprint(v)
		}
	}
	return spec, nil
}

func serveServices(c *call) error {
	services, err := c.d.core.Offers(c.ctx(), c.p, true)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, pairs(services))
}

// pairs are services with the names of their instances, and with as many plans: clients from 0.13 on take both by one index.
func pairs(services []core.OfferView) []map[string]any {
	all := []map[string]any{}
	for _, s := range services {
		names, plans := []string{}, []string{}
		details := []map[string]any{}
		for _, i := range s.Instances {
			names, plans, i.Teams = append(names, i.Name), append(plans, i.Plan), append([]string{}, i.Teams...)
			details = append(details, map[string]any{"name": i.Name, "pool": "", "plan_name": i.Plan, "team_owner": i.TeamOwner, "service_name": i.Service,
				"tags": []string{}, "teams": i.Teams, "apps": []string{}, "description": ""})
		}
		all = append(all, map[string]any{"service": s.Name, "instances": names, "plans": plans, "service_instances": details})
	}
	return all
}

func serveServiceCreate(c *call) error {
	spec, err := c.manifest()
	if err != nil {
		return err
	}
	err = c.d.core.CreateOffer(c.ctx(), c.p, spec)
	if err != nil && core.KindOf(err) == core.Exists && !c.versioned {
		return &status{http.StatusInternalServerError, textOf(err)} // as the document has it
	}
	if err != nil {
		return err
	}
	if c.versioned {
		return c.text(http.StatusCreated, "success")
	}
	return c.text(http.StatusOK, "success")
}

func serveServiceUpdate(c *call) error {
	spec, err := c.manifest()
	if err != nil {
		return err
	}
	if name := c.vars["service"]; name != "" { // the modern client's path names it
		spec.Name = name
	}
	if err := c.d.core.UpdateOffer(c.ctx(), c.p, spec); err != nil {
		return err
	}
	if c.wantsSeed() || c.versioned {
		return c.ok()
	}
	c.w.WriteHeader(http.StatusNoContent) // crane says that it worked only then
	return nil
}

func serveServiceRemove(c *call) error {
	if err := c.d.core.DeleteOffer(c.ctx(), c.p, c.vars["service"]); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func serveService(c *call) error {
	s, err := c.d.core.OfferByName(c.ctx(), c.p, c.vars["service"])
	if err != nil {
		return err
	}
	instances, err := c.d.core.ViewInstances(c.ctx(), s.Instances)
	if err != nil {
		return err
	}
	all := []map[string]any{}
	for _, i := range instances {
		all = append(all, shownInstance(i))
	}
	return c.json(http.StatusOK, all)
}

// shownInstance is an instance with both spellings of its keys.
func shownInstance(i core.InstanceView) map[string]any {
	var info map[string]string
	for _, l := range i.Info {
		if info == nil {
			info = map[string]string{}
		}
		info[l.Label] = l.Value
	}
	teams := i.Teams
	if teams == nil {
		teams = []string{}
	}
	return map[string]any{"Id": 0, "Name": i.Name, "ServiceName": i.Service, "Teams": teams, "Apps": i.Apps, "Info": info,
		"name": i.Name, "servicename": i.Service, "teams": teams, "apps": i.Apps,
		"PlanName": i.Plan, "TeamOwner": i.TeamOwner, "CustomInfo": info, "Description": "", "Tags": []string{}}
}

func serveServiceDoc(c *call) error {
	s, err := c.d.core.OfferByName(c.ctx(), c.p, c.vars["service"])
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	c.began = true
	_, _ = c.w.Write(s.Doc)
	return nil
}

func serveServiceDocSet(c *call) error {
	doc, err := c.body()
	if err != nil {
		return err
	}
	if form, err := c.form(doc); err == nil && c.versioned && form.Has("doc") {
		doc = []byte(form.Get("doc"))
	}
	if err := c.d.core.SetOfferDoc(c.ctx(), c.p, c.vars["service"], doc); err != nil {
		return err
	}
	return c.ok()
}

func serveServicePlans(c *call) error {
	plans, err := c.d.core.Plans(c.ctx(), c.p, c.vars["service"])
	if err != nil {
		return err
	}
	if plans == nil {
		plans = []core.Plan{}
	}
	return c.json(http.StatusOK, plans)
}

func serveServiceGrant(c *call) error {
	if err := c.d.core.GrantOffer(c.ctx(), c.p, c.vars["service"], c.vars["team"]); err != nil {
		return err
	}
	return c.ok()
}

func serveServiceRevoke(c *call) error {
	if err := c.d.core.RevokeOffer(c.ctx(), c.p, c.vars["service"], c.vars["team"]); err != nil {
		return err
	}
	return c.ok()
}

// serveInstances lists every service that the caller sees, also without instances.
func serveInstances(c *call) error {
	services, err := c.d.core.Offers(c.ctx(), c.p, false)
	if err != nil {
		return err
	}
	if app := c.r.URL.Query().Get("app"); app != "" {
		var all []core.OfferView
		for _, s := range services {
			instances, err := c.d.core.ViewInstances(c.ctx(), s.Instances)
			if err != nil {
				return err
			}
			s.Instances = nil
			for _, i := range instances {
				if slices.Contains(i.Apps, app) {
					s.Instances = append(s.Instances, i.ServiceInstance)
				}
			}
			all = append(all, s)
		}
		services = all
	}
	return c.json(http.StatusOK, pairs(services))
}

// serveInstanceCreate answers when the provider did. Of our own services it answers once the work is accepted, unless that
// fails at once.
func serveInstanceCreate(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	spec := core.InstanceSpec{Name: f.str("name"), Service: f.str("service_name", "servicename", "service"), Plan: f.str("plan", "plan_name"), Owner: f.str("owner")}
	if name := c.vars["service"]; name != "" {
		spec.Service = name
	}
	i, op, err := c.d.core.CreateInstance(c.ctx(), c.p, spec)
	if err != nil {
		return err
	}
	if i.Engine == "" {
		if err := c.provider(op); err != nil {
			return err
		}
		return c.created()
	}
	ctx, cancel := context.WithTimeout(c.ctx(), 3*time.Second)
	defer cancel()
	end, err := c.d.core.FollowOperation(ctx, op, func(string) {})
	if err == nil && end.Status == operation.StatusFailed {
		if op, err := c.d.core.DeleteInstance(c.ctx(), c.p, i.Name); err == nil {
			_ = c.await(op)
		}
		return &status{http.StatusInternalServerError, reason(end)}
	}
	return c.created()
}

// provider waits for an operation and tells what the provider said when it failed.
func (c *call) provider(op operation.Record) error {
	c.patient(0)
	end, err := c.d.core.FollowOperation(c.ctx(), op, func(string) {})
	if err != nil {
		return err
	}
	if end.Status == operation.StatusCompleted {
		return nil
	}
	if strings.Contains(end.Error, core.MsgNotReady) {
		return &status{http.StatusPreconditionFailed, core.MsgNotReady}
	}
	return &status{http.StatusInternalServerError, reason(end)}
}

// instance is the instance that the path names. Paths that name its service too must name the right one: to clients from 0.18 on
// two services may have instances of one name.
//
// Errors: not_found, forbidden
func (c *call) instance(info bool) (core.InstanceView, error) {
	i, err := c.d.core.InstanceByName(c.ctx(), c.p, c.vars["instance"], info)
	if name := c.vars["service"]; err == nil && name != "" && core.OfferName(name) != i.Service {
		return core.InstanceView{}, core.Errorf(core.NotFound, core.ObjInstance, "Service instance not found")
	}
	return i, err
}

func serveInstance(c *call) error {
	i, err := c.instance(true)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, shownInstance(i))
}

func serveInstanceStatus(c *call) error {
	i, err := c.instance(false)
	if err != nil {
		return err
	}
	state, err := c.d.core.InstanceStatus(c.ctx(), c.p, i.Name)
	if err != nil {
		return providerError(err)
	}
	return c.text(http.StatusOK, fmt.Sprintf("Service instance %q is %s", i.Name, state))
}

// providerError tells what a provider did wrong as our own failure: it is not the caller's.
func providerError(err error) error {
	if code, text := answerOf(err); code == http.StatusBadRequest {
		return &status{http.StatusInternalServerError, text}
	}
	return err
}

func serveInstanceRemove(c *call) error {
	i, err := c.instance(false)
	if err != nil {
		return err
	}
	if truth(c.r.URL.Query().Get("unbindall")) {
		for _, app := range i.Apps {
			op, err := c.d.core.UnbindApp(c.ctx(), c.p, i.Name, app, true)
			if err == nil {
				err = c.provider(op)
			}
			if err != nil {
				return err
			}
		}
	}
	op, err := c.d.core.DeleteInstance(c.ctx(), c.p, i.Name)
	if err != nil {
		return err
	}
	if c.versioned || c.d.o.JSONStreams {
		return c.finish(op, true, nil)
	}
	if err := c.await(op); err != nil {
		return err
	}
	return c.text(http.StatusOK, "service instance successfuly removed")
}

// serveBind answers what was exported: the names to clients of the time, an object to readers of the document.
func serveBind(c *call) error {
	i, err := c.instance(false)
	if err != nil {
		return err
	}
	skip := c.noRestart()
	op, err := c.d.core.BindApp(c.ctx(), c.p, i.Name, c.app.Name, !skip)
	if err != nil {
		return err
	}
	if err := c.provider(op); err != nil {
		return err
	}
	env, err := c.d.core.AppEnv(c.ctx(), c.p, c.app.ID)
	if err != nil {
		return err
	}
	vars := map[string]string{}
	for _, v := range env {
		if v.Tag == i.Name {
			vars[v.Name] = string(v.Value)
		}
	}
	restart, ok, err := c.d.core.RestartAfter(c.ctx(), c.p, c.app.ID, op)
	if c.versioned || c.d.o.JSONStreams {
		return c.finish(restart, ok, err)
	}
	if err == nil && ok {
		err = c.await(restart)
	}
	if err != nil {
		return err
	}
	if c.wantsSeed() {
		return c.json(http.StatusOK, vars)
	}
	return c.json(http.StatusOK, append([]string{}, slices.Sorted(maps.Keys(vars))...))
}

// noRestart says that the caller lets units go on as they are. Whatever else a body says does not matter here.
func (c *call) noRestart() bool {
	f, _ := c.fields()
	return c.flag(f, "norestart")
}

func serveUnbind(c *call) error {
	i, err := c.instance(false)
	if err != nil {
		return err
	}
	skip := c.noRestart()
	op, err := c.d.core.UnbindApp(c.ctx(), c.p, i.Name, c.app.Name, !skip)
	if err != nil {
		return err
	}
	if err := c.provider(op); err != nil {
		return err
	}
	return c.finish(c.d.core.RestartAfter(c.ctx(), c.p, c.app.ID, op))
}

// serveProxy passes a request to the provider of an instance.
func serveProxy(c *call) error {
	i, err := c.instance(false)
	if err != nil {
		return err
	}
	s, err := c.d.core.ProviderOf(c.ctx(), c.p, i.Name)
	if err != nil {
		return err
	}
	if c.d.o.Proxy == nil {
		return core.Errorf(core.Unsupported, core.ObjService, "there are no services of providers here")
	}
	return providerError(c.d.o.Proxy.Proxy(c.w, c.r, s, c.r.URL.Query().Get("callback")))
}

// appsOfService are the names of the apps that are bound to a service; nil without one.
func (c *call) appsOfService(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	s, err := c.d.core.OfferByName(c.ctx(), c.p, name)
	if err != nil {
		return nil, err
	}
	instances, err := c.d.core.ViewInstances(c.ctx(), s.Instances)
	names := []string{}
	for _, i := range instances {
		names = append(names, i.Apps...)
	}
	return names, err
}
