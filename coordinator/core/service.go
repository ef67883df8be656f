package core

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// answerWithin is how long a call waits for what it started, when the wire promises a finished change.
const answerWithin = 50 * time.Second

// ServiceState is where a managed service is in its life.
//
//	INIT -> PROLOGUE -> RUNNING <-> ADAPTING;  RUNNING -> EPILOGUE -> STOPPED -> PROLOGUE;  PROLOGUE -> STOPPED
//	ADAPTING -> ERROR -> ADAPTING;  EPILOGUE -> ERROR -> EPILOGUE
type ServiceState string

// The states of a managed service (spec director 4.1).
const (
	ServiceInit     ServiceState = "INIT" // its first node runs, and nothing on it
	ServicePrologue ServiceState = "PROLOGUE"
	ServiceRunning  ServiceState = "RUNNING"
	ServiceAdapting ServiceState = "ADAPTING"
	ServiceEpilogue ServiceState = "EPILOGUE"
	ServiceStopped  ServiceState = "STOPPED"
	ServiceError    ServiceState = "ERROR"
)

// ManagedService is what an app has besides when a manager looks after it: it is started and stopped, grows and shrinks.
type ManagedService struct {
	AppID       AppID
	Application int64  // Application.Num
	Type        string // as asked for, one of ServiceTypes
	Label       string // its name for people
	State       ServiceState
	Address     string // where its manager answers; "" until it has one
	Version     int64  // CodeVersion.Num that is active; 0: none
	Release     int    // number of the active version's release on the nodes; grows with every activation
	Settings    map[string]string
}

// Service is an app as a service. One that was made through a dialect without managers has no Managed; its state and type
// are made up from the app.
type Service struct {
	ManagedService
	Managed bool
	App     App
}

// ServiceEvent is one change of a service's state.
type ServiceEvent struct {
	At     time.Time
	State  ServiceState
	Reason string // "" when all went well
}

// ServiceKind is what a type of service is made of.
type ServiceKind struct {
	Types    []string // names it is asked for by
	Platform string   // of the app
	Engine   string   // of the app
	Scales   bool     // runs on several nodes
	Site     bool     // its nodes serve a site
	Roles    []Role   // of its nodes
}

// DefaultServiceKinds lists the services that the agents can really run.
func DefaultServiceKinds() []ServiceKind {
	return []ServiceKind{
		{Types: []string{"php"}, Platform: "php", Scales: true, Site: true, Roles: []Role{RoleApp}},
		{Types: []string{"java"}, Platform: platformJava, Scales: true, Site: true, Roles: []Role{RoleApp}},
		{Types: []string{"generic"}, Platform: platformScripts, Scales: true, Roles: []Role{RoleApp}},
		{Types: []string{"mysql", "galera"}, Engine: "mysql", Roles: []Role{RoleDB}},
	}
}

func (c *Core) serviceKind(name string) (ServiceKind, bool) {
	for _, k := range c.ServiceKinds {
		if slices.Contains(k.Types, name) {
			return k, true
		}
	}
	return ServiceKind{}, false
}

// ServiceTypes lists the types that can be started now: those for which there is an image, of a cloud that runs our agent.
func (c *Core) ServiceTypes(ctx context.Context) ([]string, error) {
	types := []string{}
	cloud, err := c.appCloud()
	if err != nil || !cloud.Info().Agents {
		return types, err
	}
	images, err := cloud.Images(ctx)
	if err != nil {
		return types, err
	}
	for _, k := range c.ServiceKinds {
		if _, found := c.imageWith(images, k.Platform); found {
			types = append(types, k.Types...)
		}
	}
	return types, nil
}

// ServiceClouds names the clouds that services can be started on, "default" first.
func (c *Core) ServiceClouds() []string {
	names := []string{"default"}
	for _, name := range c.Clouds.Names() {
		if cloud, ok := c.Clouds.Cloud(name); ok && name != "default" && cloud.Info().Agents && c.Clouds.Canonical(name) != c.AppCloud {
			names = append(names, name)
		}
	}
	return names
}

// services lists an account's apps as services, by ascending number.
func (c *Core) services(r Reader, account AccountID) ([]Service, error) {
	apps, err := r.Apps(account, 0, 0)
	if err != nil || len(apps) == 0 {
		return nil, err
	}
	managed, err := r.ManagedServices(account)
	if err != nil {
		return nil, err
	}
	byApp := make(map[AppID]ManagedService, len(managed))
	for _, m := range managed {
		byApp[m.AppID] = m
	}
	first, err := firstApplication(r, account)
	if err != nil {
		return nil, err
	}
	all := make([]Service, len(apps))
	for i, app := range apps {
		m, ok := byApp[app.ID]
		all[i] = asService(app, m, ok, first)
	}
	return all, nil
}

func firstApplication(r Reader, account AccountID) (int64, error) {
	all, err := r.Applications(account)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	return all[0].Num, nil
}

func asService(app App, m ManagedService, managed bool, first int64) Service {
	s := Service{ManagedService: m, Managed: managed, App: app}
	if !managed {
		s.AppID, s.Application, s.Type, s.Label = app.ID, first, cmp.Or(app.Platform, app.Engine), app.Name
		s.State = map[AppState]ServiceState{AppCreating: ServicePrologue, AppRunning: ServiceRunning, AppStopped: ServiceStopped,
			AppFailed: ServiceError}[app.seen()]
		if len(app.Nodes) > 0 {
			s.Address = app.Nodes[0].Address
		}
	}
	if app.State == AppDeleting {
		s.State = ServiceEpilogue
	}
	return s
}

// Services lists the caller's services by ascending number; application 0 means those of all applications.
func (c *Core) Services(ctx context.Context, p Principal, application int64) ([]Service, error) {
	if _, err := c.Applications(ctx, p); err != nil {
		return nil, err
	}
	all, err := view(ctx, c.Store, func(r Reader) ([]Service, error) { return c.services(r, p.Account.ID) })
	if application != 0 {
		all = slices.DeleteFunc(all, func(s Service) bool { return s.Application != application })
	}
	return all, err
}

// Service is one service of the caller. What is not theirs does not exist.
func (c *Core) Service(ctx context.Context, p Principal, num int64) (Service, error) {
	return view(ctx, c.Store, func(r Reader) (Service, error) { return ownService(r, p, num) })
}

func ownService(r Reader, p Principal, num int64) (Service, error) {
	app, err := ownApp(r, p, num)
	if err != nil {
		return Service{}, err
	}
	m, err := r.ManagedService(app.ID)
	if err != nil && !isNotFound(err) {
		return Service{}, err
	}
	first, ferr := firstApplication(r, p.Account.ID)
	if ferr != nil {
		return Service{}, ferr
	}
	return asService(app, m, err == nil, first), nil
}

// Manager is a service and its owner, for whoever answers in the service's name.
type Manager struct {
	Service Service
	Owner   Account
}

// Managers lists every service that has an address to be managed at, by ascending number, and one by its number.
func (c *Core) Managers(ctx context.Context) ([]Manager, error) {
	return view(ctx, c.Store, func(r Reader) ([]Manager, error) {
		rows, err := r.ManagedServices("")
		if err != nil {
			return nil, err
		}
		var all []Manager
		for _, m := range rows {
			if m.Address == "" {
				continue
			}
			app, err := r.App(m.AppID)
			if err != nil {
				return nil, err
			}
			if app.State == AppDeleting {
				continue
			}
			owner, err := r.Account(app.AccountID)
			if err != nil {
				return nil, err
			}
			all = append(all, Manager{asService(app, m, true, 0), owner})
		}
		return all, nil
	})
}

// ServiceSpec asks for a managed service.
type ServiceSpec struct {
	Type        string
	Application int64  // Application.Num; 0 means the caller's first
	Cloud       string // "" means the cloud of apps
}

type serviceParams struct {
	AppID   AppID  `json:"app_id"`
	AppNum  int64  `json:"app_num"`
	NodeID  NodeID `json:"node_id,omitempty"`
	NodeNum int64  `json:"node_num,omitempty"`
	Name    string `json:"name"`
	// What to go back to when a change fails.
	Version  int64             `json:"version,omitempty"`
	Settings map[string]string `json:"settings,omitempty"`
	// Nodes to be taken away.
	Nodes []NodeID `json:"nodes,omitempty"`
	// The script to run, and what it is told.
	Script    string   `json:"script,omitempty"`
	Arguments []string `json:"arguments,omitempty"`
	// What became of it, for the history of the service.
	Reason string `json:"reason,omitempty"`
}

// CreateService makes a service with its first node, which is paid for, and waits for both. What cannot be made leaves
// nothing behind, and its credit is given back.
//
// Errors: invalid (type), not_found (application, cloud), quota (credit; the account's number of apps), unavailable
// Effects: a node, an address for the manager
func (c *Core) CreateService(ctx context.Context, p Principal, spec ServiceSpec) (Service, error) {
	s, err := c.createService(ctx, p, spec)
	if err != nil {
		c.refused(ctx, p, "service.create", "", err)
	}
	return s, err
}

func (c *Core) createService(ctx context.Context, p Principal, spec ServiceSpec) (Service, error) {
	applications, err := c.Applications(ctx, p)
	if err != nil {
		return Service{}, err
	}
	if len(applications) == 0 {
		return Service{}, Errorf(Invalid, ObjApplication, "there is no application to put the service into")
	}
	kind, ok := c.serviceKind(spec.Type)
	types, err := c.ServiceTypes(ctx)
	if err != nil {
		return Service{}, err
	}
	if !ok || !slices.Contains(types, spec.Type) {
		return Service{}, Errorf(Invalid, ObjService, "there is no service of this type")
	}
	if spec.Application == 0 {
		spec.Application = applications[0].Num
	}
	if !slices.ContainsFunc(applications, func(a Application) bool { return a.Num == spec.Application }) {
		return Service{}, Errorf(NotFound, ObjApplication, "the application does not exist")
	}
	cloudName := c.AppCloud
	if spec.Cloud != "" && spec.Cloud != "default" {
		cloudName = c.Clouds.Canonical(spec.Cloud)
	}
	cloud, ok := c.Clouds.Cloud(cloudName)
	if !ok || !cloud.Info().Agents {
		return Service{}, Errorf(NotFound, ObjCloud, "there is no cloud of this name that runs services")
	}
	images, err := cloud.Images(ctx)
	if err != nil {
		return Service{}, err
	}
	sizes, err := cloud.Sizes(ctx)
	if err != nil {
		return Service{}, err
	}
	if len(sizes) == 0 {
		return Service{}, Errorf(Unavailable, ObjSize, "the cloud lists no size")
	}
	image, err := c.imageFor(images, kind.Platform)
	if err != nil {
		return Service{}, err
	}
	size, unitMB := sizes[0], 0
	if c.PlatformNeeds[kind.Platform].MemoryMB > 0 {
		size = roomy(sizes)
		unitMB = serviceUnitMB(size)
	}
	if least := c.PlatformNeeds[kind.Platform].MemoryMB; unitMB > 0 && unitMB < least {
		return Service{}, Errorf(Unavailable, ObjSize, "a unit of %s needs %d MB of memory, and nodes of size %s have %d MB for one", kind.Platform, least, size.Name, unitMB)
	}
	now := c.now()
	app := App{ID: AppID("app-" + randomHex(8)), AccountID: p.Account.ID, Platform: kind.Platform, Engine: kind.Engine, SizeID: size.ID, MemoryMB: unitMB,
		Cloud: cloudName, State: AppCreating, BaseDiskGB: baseDiskGB, StartsAt: now.Truncate(time.Second), EndsAt: AddMonths(now.Truncate(time.Second), MaxMonths), CreatedAt: now}
	if locations, err := cloud.Locations(ctx); err == nil && len(locations) > 0 {
		app.LocationID = locations[0].ID
	}
	var group operation.Group
	err = c.Store.Update(ctx, func(tx Tx) error {
		app.Num, app.Login = 0, 0
		app.Name = string(app.ID) // until the number is known
		if err := c.checkQuota(tx, p.Account.ID, app.Name); err != nil {
			return err
		}
		if err := tx.PutApp(&app); err != nil {
			return err
		}
		m := ManagedService{AppID: app.ID, Application: spec.Application, Type: spec.Type, Label: firstLabel(spec.Type), State: ServiceInit}
		if err := nameService(tx, &app, m.Label); err != nil {
			return err
		}
		app.Login = 2000 + app.Num
		if err := tx.PutApp(&app); err != nil {
			return err
		}
		node := c.newNode(p.Account.ID, cloudName, image.ID, app.SizeID, kind.Roles...)
		node.AppID = app.ID
		if err := tx.PutNode(&node); err != nil {
			return err
		}
		if err := tx.PutManagedService(m); err != nil {
			return err
		}
		if kind.Engine != "" {
			si := ServiceInstance{ID: "svc-" + randomHex(8), AppID: app.ID, Engine: kind.Engine, User: databaseUser, CreatedAt: now}
			if err := tx.PutServiceInstance(&si); err != nil {
				return err
			}
		}
		if err := c.payNodes(tx, p.Account.ID, node); err != nil {
			return err
		}
		if c.ServiceZone != "" && kind.Site {
			route := Route{ID: "rt-" + randomHex(8), AppID: app.ID, Hostname: fmt.Sprintf("service-%d.%s", app.Num, c.ServiceZone), State: RouteRunning, CreatedAt: now}
			if err := tx.PutRoute(&route); err != nil {
				return err
			}
		}
		params, err := json.Marshal(serviceParams{AppID: app.ID, AppNum: app.Num, NodeID: node.ID, NodeNum: node.Num, Name: m.Label})
		if err != nil {
			return err
		}
		group = c.newGroup(p, string(app.ID), params, OpServiceCreate)
		if err := tx.Enqueue(&group); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "service.create", string(app.ID), group.Operations[0].ID, "accepted"))
	})
	if err != nil {
		return Service{}, err
	}
	if err := c.awaitGroup(ctx, group, ObjService); err != nil && !(KindOf(err) == Unavailable && ctx.Err() == nil && isLate(err)) {
		return Service{}, err
	}
	return c.Service(ctx, p, app.Num)
}

// firstLabel is what a new service is called (spec director 2.3).
func firstLabel(kind string) string {
	if kind == "galera" {
		kind = "MySQL"
	}
	return "New " + kind + " service"
}

// nameService gives the app of a service a name that no other app of the account has.
func nameService(r Reader, app *App, label string) error {
	for i := range 3 {
		app.Name = fmt.Sprintf("%s %d", label, app.Num)
		if i > 0 {
			app.Name += "-" + randomHex(4)
		}
		other, err := r.AppNamed(app.AccountID, app.Name)
		if isNotFound(err) || err == nil && other.ID == app.ID {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return Errorf(Exists, ObjApp, "an app of this name exists")
}

// errLate says that a deadline of a call passed and that what it waited for goes on.
var errLate = Errorf(Unavailable, "", "it takes longer than expected; it goes on in the background")

func isLate(err error) bool { return err == errLate }

// awaitGroup waits until the operations have ended, and returns why they failed. When it takes too long the error is errLate.
func (c *Core) awaitGroup(ctx context.Context, g operation.Group, object Object) error {
	wait, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	err := c.await(wait, answerWithin, func(r Reader) (bool, error) {
		ops, err := r.Operations(OperationFilter{GroupID: g.Operations[0].GroupID})
		if err != nil {
			return false, err
		}
		done := true
		for _, op := range ops {
			switch {
			case !op.Status.Final():
				done = false
			case op.Status == operation.StatusFailed:
				return false, Errorf(Unavailable, object, "%s", op.Error)
			case op.Status == operation.StatusCanceled:
				return false, Errorf(Busy, object, "it was stopped: %s", op.Error)
			}
		}
		return done, nil
	})
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		return errLate
	}
	return err
}

// RenameService gives a service another name.
//
// Errors: not_found, invalid (name), exists (an app made through another dialect keeps its names unique)
func (c *Core) RenameService(ctx context.Context, p Principal, num int64, name string) error {
	err := c.Store.Update(ctx, func(tx Tx) error {
		s, err := ownService(tx, p, num)
		if err != nil {
			return err
		}
		if !goodLabel(name) {
			return Errorf(Invalid, ObjService, "a name has 1 to 256 printable characters")
		}
		if s.Managed {
			s.Label = name
			if err := tx.PutManagedService(s.ManagedService); err != nil {
				return err
			}
			if err := nameService(tx, &s.App, name); err != nil {
				return err
			}
		} else if other, err := tx.AppNamed(p.Account.ID, name); err == nil && other.ID != s.AppID {
			return Errorf(Exists, ObjApp, "an app of this name exists")
		} else {
			s.App.Name = name
		}
		if err := tx.PutApp(&s.App); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "service.rename", string(s.AppID), "", "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, "service.rename", "", err)
	}
	return err
}

// StopService ends a service and waits a while for its nodes to be gone.
//
// Errors: not_found, busy (it is being ended already)
func (c *Core) StopService(ctx context.Context, p Principal, num int64) error {
	if _, err := c.DeleteApp(ctx, p, num); err != nil {
		return err
	}
	err := c.await(ctx, answerWithin/2, func(r Reader) (bool, error) {
		_, err := r.AppByNum(num)
		if isNotFound(err) {
			return true, nil
		}
		return false, err
	})
	if err != nil && KindOf(err) != Unavailable {
		return err
	}
	return nil // under way
}

// changeService checks that the caller's service may be changed in its state, changes it, and starts operations on it.
func (c *Core) changeService(ctx context.Context, p Principal, num int64, action string, in []ServiceState,
	change func(tx Tx, s *Service, params *serviceParams) (kinds []string, secret []byte, err error)) (operation.Group, error) {
	var group operation.Group
	err := c.Store.Update(ctx, func(tx Tx) error {
		s, err := ownService(tx, p, num)
		if err != nil {
			return err
		}
		switch {
		case !s.Managed:
			return Errorf(Unsupported, ObjService, "this service was not started here; it has no manager")
		case s.App.State != AppRunning:
			return Errorf(Busy, ObjService, "the service is %s", s.App.State)
		case !slices.Contains(in, s.State):
			return Errorf(Busy, ObjService, "ERROR: the service is in state %s", s.State)
		}
		before := s.State
		params := serviceParams{AppID: s.AppID, AppNum: s.App.Num, Name: s.Label}
		kinds, secret, err := change(tx, &s, &params)
		if err != nil {
			return err
		}
		if err := tx.PutManagedService(s.ManagedService); err != nil {
			return err
		}
		if s.State != before {
			if err := tx.AddServiceEvent(s.AppID, ServiceEvent{At: c.now(), State: s.State}); err != nil {
				return err
			}
		}
		if len(kinds) == 0 {
			return tx.Audit(c.auditRecord(p, action, string(s.AppID), "", "accepted"))
		}
		data, err := json.Marshal(params)
		if err != nil {
			return err
		}
		group = c.newGroup(p, string(s.AppID), data, kinds...)
		group.Secret = secret
		if err := c.eachNode(&group, params); err != nil {
			return err
		}
		if err := tx.Enqueue(&group); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, action, string(s.AppID), group.Operations[0].ID, "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, action, "", err)
	}
	return group, err
}

// eachNode gives the operations that create a node one of the nodes each.
func (c *Core) eachNode(g *operation.Group, params serviceParams) error {
	next := 0
	for i := range g.Operations {
		if g.Operations[i].Kind != OpServiceNode {
			continue
		}
		one := params
		one.NodeID, one.Nodes = params.Nodes[next], nil
		next++
		data, err := json.Marshal(one)
		if err != nil {
			return err
		}
		g.Operations[i].Params = data
	}
	return nil
}

// StartupService brings what the service runs up on its nodes. It goes on in the background.
//
// Errors: not_found, busy (only in INIT and STOPPED)
func (c *Core) StartupService(ctx context.Context, p Principal, num int64) error {
	_, err := c.changeService(ctx, p, num, "service.startup", []ServiceState{ServiceInit, ServiceStopped},
		func(_ Tx, s *Service, _ *serviceParams) ([]string, []byte, error) {
			s.State = ServicePrologue
			return []string{OpServiceStartup, OpServiceDeploy}, nil, nil
		})
	return err
}

// ShutdownService ends what the service runs, and all of its nodes but the first. It goes on in the background.
//
// Errors: not_found, busy (only in RUNNING and ERROR)
func (c *Core) ShutdownService(ctx context.Context, p Principal, num int64) error {
	_, err := c.changeService(ctx, p, num, "service.shutdown", []ServiceState{ServiceRunning, ServiceError},
		func(_ Tx, s *Service, params *serviceParams) ([]string, []byte, error) {
			s.State = ServiceEpilogue
			for _, n := range s.App.Nodes[min(1, len(s.App.Nodes)):] {
				params.Nodes = append(params.Nodes, n.ID)
			}
			return []string{OpServiceShutdown}, nil, nil
		})
	return err
}

// maxAdded is the most nodes that one call adds.
const maxAdded = 32

// GrowService adds nodes, which are paid for, to a running service. It goes on in the background.
//
// Errors: not_found, busy (only in RUNNING), invalid (n), quota (credit), unsupported (the type runs on one node)
func (c *Core) GrowService(ctx context.Context, p Principal, num int64, n int) error {
	_, err := c.changeService(ctx, p, num, "service.grow", []ServiceState{ServiceRunning},
		func(tx Tx, s *Service, params *serviceParams) ([]string, []byte, error) {
			kind, _ := c.serviceKind(s.Type)
			switch {
			case !kind.Scales:
				return nil, nil, Errorf(Unsupported, ObjService, "ERROR: a service of type %s runs on one node; it is not replicated", s.Type)
			case n < 1 || n > maxAdded:
				return nil, nil, Errorf(Invalid, ObjNode, "ERROR: between 1 and %d nodes can be added", maxAdded)
			case len(s.App.Nodes) == 0:
				return nil, nil, Errorf(Busy, ObjService, "ERROR: the service has no node")
			}
			first := s.App.Nodes[0]
			kinds := []string{OpServiceGrow}
			var nodes []Node
			for range n {
				node := c.newNode(p.Account.ID, first.Cloud, first.ImageID, first.SizeID, kind.Roles...)
				node.AppID = s.AppID
				if err := tx.PutNode(&node); err != nil {
					return nil, nil, err
				}
				nodes = append(nodes, node)
				params.Nodes = append(params.Nodes, node.ID)
				kinds = append(kinds, OpServiceNode)
			}
			if err := c.payNodes(tx, p.Account.ID, nodes...); err != nil {
				return nil, nil, err
			}
			s.State = ServiceAdapting
			return append(kinds, OpServiceDeploy), nil, nil
		})
	return err
}

// ShrinkService takes the youngest nodes away from a running service, never the first one. It goes on in the background.
//
// Errors: not_found, busy (only in RUNNING), invalid (n)
func (c *Core) ShrinkService(ctx context.Context, p Principal, num int64, n int) error {
	_, err := c.changeService(ctx, p, num, "service.shrink", []ServiceState{ServiceRunning},
		func(_ Tx, s *Service, params *serviceParams) ([]string, []byte, error) {
			if n < 1 || n >= len(s.App.Nodes) {
				return nil, nil, Errorf(Invalid, ObjNode, "ERROR: there are %d nodes, and one stays", len(s.App.Nodes))
			}
			for _, node := range s.App.Nodes[len(s.App.Nodes)-n:] {
				params.Nodes = append(params.Nodes, node.ID)
			}
			s.State = ServiceAdapting
			return []string{OpServiceShrink}, nil, nil
		})
	return err
}

// ConfigureService makes a code version active, unless version is 0, and replaces settings. In a running service it waits
// for the nodes to have it; what fails on one of them is taken back on all.
//
// Errors: not_found (service, version), busy (state), unavailable, invalid (what a node said of the archive)
func (c *Core) ConfigureService(ctx context.Context, p Principal, num, version int64, settings map[string]string) error {
	group, err := c.changeService(ctx, p, num, "service.configure", []ServiceState{ServiceInit, ServiceStopped, ServiceRunning, ServiceError},
		func(tx Tx, s *Service, params *serviceParams) ([]string, []byte, error) {
			params.Version, params.Settings = s.Version, s.Settings
			if version != 0 && version != s.Version {
				if _, err := tx.CodeVersion(s.AppID, version); err != nil {
					return nil, nil, err
				}
				s.Version = version
				s.Release++
			}
			if len(settings) > 0 {
				merged := map[string]string{}
				for k, v := range s.Settings {
					merged[k] = v
				}
				for k, v := range settings {
					merged[k] = v
				}
				s.Settings = merged
			}
			if s.State != ServiceRunning && s.State != ServiceError {
				return nil, nil, nil
			}
			s.State = ServiceAdapting
			return []string{OpServiceConfigure, OpServiceDeploy}, nil, nil
		})
	if err != nil || len(group.Operations) == 0 {
		return err
	}
	if err := c.awaitGroup(ctx, group, ObjService); err != nil && !isLate(err) {
		return err
	}
	return nil
}

// SetServiceSettings replaces some settings of a service in any state.
func (c *Core) SetServiceSettings(ctx context.Context, p Principal, num int64, settings map[string]string) error {
	err := c.Store.Update(ctx, func(tx Tx) error {
		s, err := ownService(tx, p, num)
		if err != nil {
			return err
		}
		if !s.Managed {
			return Errorf(Unsupported, ObjService, "this service was not started here; it has no manager")
		}
		merged := map[string]string{}
		for _, m := range []map[string]string{s.Settings, settings} {
			for k, v := range m {
				merged[k] = v
			}
		}
		s.Settings = merged
		if err := tx.PutManagedService(s.ManagedService); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "service.settings", string(s.AppID), "", "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, "service.settings", "", err)
	}
	return err
}

// ServiceEvents is the history of a service, oldest first.
func (c *Core) ServiceEvents(ctx context.Context, p Principal, num int64) ([]ServiceEvent, error) {
	return view(ctx, c.Store, func(r Reader) ([]ServiceEvent, error) {
		s, err := ownService(r, p, num)
		if err != nil {
			return nil, err
		}
		return r.ServiceEvents(s.AppID)
	})
}

// ServiceLog tells people what happened to a service: its operations and states, one line each with its time.
func (c *Core) ServiceLog(ctx context.Context, p Principal, num int64) (string, error) {
	type entry struct {
		at   time.Time
		text string
	}
	var all []entry
	add := func(at time.Time, text, reason string) {
		if reason != "" {
			text += ": " + reason
		}
		all = append(all, entry{at, text})
	}
	err := c.Store.View(ctx, func(r Reader) error {
		s, err := ownService(r, p, num)
		if err != nil {
			return err
		}
		ops, err := r.Operations(OperationFilter{Subject: string(s.AppID)})
		if err != nil {
			return err
		}
		for _, op := range ops {
			add(op.UpdatedAt, op.Kind+" "+string(op.Status), op.Error)
		}
		events, err := r.ServiceEvents(s.AppID)
		for _, e := range events {
			add(e.At, "state "+string(e.State), e.Reason)
		}
		return err
	})
	slices.SortStableFunc(all, func(a, b entry) int { return a.at.Compare(b.at) })
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "%s %s\n", e.at.Format(time.DateTime), e.text)
	}
	return b.String(), err
}

// databaseUser is the one user of a database service (spec director 5.3).
const databaseUser = "mysqldb"

type passwordSecret struct {
	Password string `json:"password"`
}

// SetServicePassword sets the password of a database service's user, and waits for it.
//
// Errors: not_found, invalid (password), busy (only in RUNNING), unsupported, unavailable
func (c *Core) SetServicePassword(ctx context.Context, p Principal, num int64, user string, password Secret) error {
	if !goodPassword(password) {
		return Errorf(Invalid, ObjService, "a password has 8 to 64 printable characters and no colon")
	}
	secret, err := json.Marshal(passwordSecret{string(password)})
	if err != nil {
		return err
	}
	group, err := c.changeService(ctx, p, num, "service.password", []ServiceState{ServiceRunning},
		func(_ Tx, s *Service, _ *serviceParams) ([]string, []byte, error) {
			if s.App.Engine == "" {
				return nil, nil, Errorf(Unsupported, ObjService, "this service is no database")
			}
			if user != databaseUser {
				return nil, nil, Errorf(Invalid, ObjService, "the user is %s", databaseUser)
			}
			return []string{OpServicePassword}, secret, nil
		})
	if err != nil {
		return err
	}
	return c.awaitGroup(ctx, group, ObjService)
}

// DefaultCloud is the name of the cloud that services run on unless another one is asked for.
func (c *Core) DefaultCloud() string { return c.AppCloud }
