package core

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Offer is something that apps can be bound to: a provider that answers the HTTP contract of spec tsuru 4.2, or a database
// engine of our agents.
type Offer struct {
	Name       string
	Endpoint   string            // base URL of the provider; "" when BuiltIn
	Endpoints  map[string]string // all that the manifest names
	Password   []byte            // of the provider, whose user is Name; sealed at rest
	Doc        []byte
	Restricted bool     // only granted teams, and owners, see it
	Owners     []string // teams, sorted
	Granted    []string // teams, sorted
	CreatedAt  time.Time
	Engine     string // of a built-in one; "" otherwise
}

// BuiltIn says that our agents run it.
func (s Offer) BuiltIn() bool { return s.Engine != "" }

// InstanceState is how a service instance is.
type InstanceState string

// The states of a service instance. Whether one of a provider is up is asked of the provider.
const (
	InstancePending  InstanceState = "pending"
	InstanceAsked    InstanceState = "asked" // of its provider, whose answer is not noted; callers see it as pending
	InstanceUp       InstanceState = "up"
	InstanceDown     InstanceState = "down"
	InstanceDeleting InstanceState = "deleting"
)

// Binding is an app that uses a service instance.
type Binding struct {
	ID         string
	InstanceID string
	AppID      AppID
	State      BindingState
	User       string // of a database; the app's own
	Password   []byte // sealed at rest
	Whole      bool   // the provider was told of the app as a whole (bind-app)
	Units      map[string]string
	CreatedAt  time.Time
}

// BindingState is where a binding is in its life.
type BindingState string

// The states of a binding.
const (
	BindingBinding   BindingState = "binding"
	BindingAsked     BindingState = "asked" // of the provider, whose answer is not noted
	BindingBound     BindingState = "bound"
	BindingUnbinding BindingState = "unbinding"
)

// Plan is a kind of instance that a service offers.
type Plan struct{ Name, Description string }

// Label is something a service tells about an instance.
type Label struct{ Label, Value string }

// Broker speaks to providers. Its errors are *Error: Unavailable when a provider does not answer; Busy with ObjInstance when
// it says that it is not ready (412); otherwise Invalid with what it said. It tries nothing twice.
type Broker interface {
	Create(ctx context.Context, s Offer, i ServiceInstance, email string) error
	Remove(ctx context.Context, s Offer, instance string) error
	// BindApp tells of an app; known is false when the provider does not know this call.
	BindApp(ctx context.Context, s Offer, instance, appHost string) (vars map[string]string, known bool, err error)
	UnbindApp(ctx context.Context, s Offer, instance, appHost string) error
	BindUnit(ctx context.Context, s Offer, instance, appHost, unitHost string, whole bool) (map[string]string, error)
	UnbindUnit(ctx context.Context, s Offer, instance, appHost, unitHost string, whole bool) error
	Status(ctx context.Context, s Offer, instance string) (InstanceState, error)
	Info(ctx context.Context, s Offer, instance string) ([]Label, error)
	Plans(ctx context.Context, s Offer) ([]Plan, error)
}

// builtIn are the services that our agents run, by name.
var builtIn = map[string]Offer{
	agentapi.EnginePostgreSQL: {Name: agentapi.EnginePostgreSQL, Engine: agentapi.EnginePostgreSQL, Doc: []byte(`PostgreSQL: a database and a user of its own for every app.

Binding exports PG_HOST, PG_PORT, PG_DATABASE, PG_USER and PG_PASSWORD, and, unless another bound instance has them already,
DATABASE_HOST, DATABASE_PORT, DATABASE_NAME, DATABASE_USER, DATABASE_PASSWORD and DATABASE_URL. All apps that are bound to an
instance share its tables. Unbinding drops the app's user.
`)},
	agentapi.EngineMySQL: {Name: agentapi.EngineMySQL, Engine: agentapi.EngineMySQL, Doc: []byte(`MySQL (MariaDB): a database and a user of its own for every app.

Binding exports MYSQL_HOST, MYSQL_PORT, MYSQL_DATABASE_NAME, MYSQL_USER and MYSQL_PASSWORD, and, unless another bound instance
has them already, DATABASE_HOST, DATABASE_PORT, DATABASE_NAME, DATABASE_USER, DATABASE_PASSWORD and DATABASE_URL. All apps that
are bound to an instance share its tables. Unbinding drops the app's user.
`)},
	agentapi.EngineMongoDB: {Name: agentapi.EngineMongoDB, Engine: agentapi.EngineMongoDB, Doc: []byte(`MongoDB: a database and a user of its own for every app.

Binding exports MONGO_URI, MONGO_HOST, MONGO_PORT, MONGO_USER, MONGO_PASSWORD and MONGO_DATABASE_NAME, and, unless another bound
instance has them already, DATABASE_HOST, DATABASE_PORT, DATABASE_NAME, DATABASE_USER, DATABASE_PASSWORD and DATABASE_URL. All
apps that are bound to an instance share its collections. Unbinding drops the app's user.

Instances are made on hosts that have a MongoDB server (unit mongod.service), which Debian does not bring.
`)},
}

// serviceAliases are other names of built-in services.
var serviceAliases = map[string]string{"postgres": agentapi.EnginePostgreSQL, "mongo": agentapi.EngineMongoDB, "mariadb": agentapi.EngineMySQL}

// OfferName is the name of a service that callers may call otherwise.
func OfferName(name string) string {
	if known, ok := serviceAliases[name]; ok {
		return known
	}
	return name
}

// offer finds a service, built-in ones first.
func (c *Core) offer(r Reader, name string) (Offer, error) {
	name = OfferName(name)
	if s, ok := builtIn[name]; ok {
		s.Owners = []string{c.adminTeam()}
		return s, nil
	}
	s, err := r.Offer(name)
	if isNotFound(err) {
		err = Errorf(NotFound, ObjService, "Service not found")
	}
	return s, err
}

// offers lists all there are by name.
func (c *Core) offers(r Reader) ([]Offer, error) {
	all, err := r.Offers()
	for _, s := range builtIn {
		s.Owners = []string{c.adminTeam()}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Offer) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// viewer is what decides what a caller sees of services: its teams, and whether it sees everything.
type viewer struct {
	teams []string
	admin bool
}

func viewerOf(r Reader, p Principal) (viewer, error) {
	if err := known(p); err != nil {
		return viewer{}, err
	}
	teams, err := r.Teams(p.Account.ID)
	if err != nil {
		return viewer{}, err
	}
	var v viewer
	for _, t := range teams {
		v.teams = append(v.teams, t.Name)
	}
	v.admin, err = isAdmin(r, p)
	return v, err
}

func (v viewer) in(teams []string) bool {
	return slices.ContainsFunc(teams, func(t string) bool { return slices.Contains(v.teams, t) })
}
func (v viewer) owns(s Offer) bool { return v.admin || v.in(s.Owners) }
func (v viewer) sees(s Offer) bool { return !s.Restricted || v.owns(s) || v.in(s.Granted) }

func (v viewer) uses(i ServiceInstance) bool { return v.admin || v.in(i.Teams) }

// OfferSpec is a provider's manifest.
type OfferSpec struct {
	Name       string
	Password   Secret
	Endpoints  map[string]string // "production" is needed
	Restricted bool
}

func (s OfferSpec) check() error {
	switch {
	case s.Name == "":
		return Errorf(Invalid, ObjService, "Service id is required")
	case s.Endpoints["production"] == "":
		return Errorf(Invalid, ObjService, "You must provide a production endpoint in the manifest file.")
	case s.Name == "instances" || s.Name == "proxy" || strings.ContainsAny(s.Name, "/ \t\r\n?#:") || len(s.Name) > 100:
		return Errorf(Invalid, ObjService, "%q cannot be the name of a service", clip(s.Name))
	}
	return nil
}

// CreateOffer offers a provider's service. Every team of the caller owns it.
//
// Errors: invalid (name, endpoint), forbidden (the caller is in no team), exists
func (c *Core) CreateOffer(ctx context.Context, p Principal, spec OfferSpec) error {
	return c.change(ctx, p, "service.create", spec.Name, func(tx Tx) error {
		if err := spec.check(); err != nil {
			return err
		}
		teams, err := tx.Teams(p.Account.ID)
		if err != nil {
			return err
		}
		if len(teams) == 0 {
			return Errorf(Forbidden, ObjService, "In order to create a service, you should be member of at least one team")
		}
		if _, err := c.offer(tx, spec.Name); err == nil {
			return Errorf(Exists, ObjService, "Service with name %s already exists.", spec.Name)
		} else if !isNotFound(err) {
			return err
		}
		s := Offer{Name: spec.Name, Endpoint: spec.Endpoints["production"], Endpoints: spec.Endpoints, Password: []byte(spec.Password),
			Restricted: spec.Restricted, CreatedAt: c.now()}
		for _, t := range teams {
			s.Owners = append(s.Owners, t.Name)
		}
		return tx.PutOffer(&s)
	})
}

// ownService finds a service that the caller owns and can change.
func (c *Core) ownService(r Reader, p Principal, name string) (Offer, error) {
	v, err := viewerOf(r, p)
	if err != nil {
		return Offer{}, err
	}
	s, err := c.offer(r, name)
	if err == nil && !v.owns(s) {
		err = Errorf(Forbidden, ObjService, "This user does not have access to this service")
	}
	return s, err
}

// changeableService is ownService for what nobody may do to built-in ones.
func (c *Core) changeableService(r Reader, p Principal, name string) (Offer, error) {
	s, err := c.ownService(r, p, name)
	if err == nil && s.BuiltIn() {
		err = Errorf(Forbidden, ObjService, "the service %s is part of the platform", s.Name)
	}
	return s, err
}

// UpdateOffer replaces endpoints and password of a service.
//
// Errors: invalid, not_found, forbidden
func (c *Core) UpdateOffer(ctx context.Context, p Principal, spec OfferSpec) error {
	return c.change(ctx, p, "service.update", spec.Name, func(tx Tx) error {
		if err := spec.check(); err != nil {
			return err
		}
		s, err := c.changeableService(tx, p, spec.Name)
		if err != nil {
			return err
		}
		s.Endpoint, s.Endpoints, s.Password = spec.Endpoints["production"], spec.Endpoints, []byte(spec.Password)
		return tx.PutOffer(&s)
	})
}

// DeleteOffer ends a service that has no instances.
//
// Errors: not_found, forbidden (also while there are instances)
func (c *Core) DeleteOffer(ctx context.Context, p Principal, name string) error {
	return c.change(ctx, p, "service.delete", name, func(tx Tx) error {
		s, err := c.changeableService(tx, p, name)
		if err != nil {
			return err
		}
		instances, err := tx.InstancesOf(s.Name)
		if err != nil {
			return err
		}
		if len(instances) > 0 {
			return Errorf(Forbidden, ObjService, "This service cannot be removed because it has instances.\nPlease remove these instances before removing the service.")
		}
		return tx.DeleteOffer(s.Name)
	})
}

// SetOfferDoc replaces the text that users of a service read.
//
// Errors: not_found, forbidden
func (c *Core) SetOfferDoc(ctx context.Context, p Principal, name string, doc []byte) error {
	return c.change(ctx, p, "service.doc", name, func(tx Tx) error {
		s, err := c.changeableService(tx, p, name)
		if err != nil {
			return err
		}
		s.Doc = doc
		return tx.PutOffer(&s)
	})
}

// GrantOffer lets a team see a restricted service.
//
// Errors: not_found (service, team), forbidden, exists
func (c *Core) GrantOffer(ctx context.Context, p Principal, name, team string) error {
	return c.change(ctx, p, "service.grant", name, func(tx Tx) error {
		s, err := c.serviceAndTeam(tx, p, name, team)
		if err != nil {
			return err
		}
		if slices.Contains(s.Granted, team) {
			return Errorf(Exists, ObjService, "This team already has access to this service")
		}
		s.Granted = append(s.Granted, team)
		return tx.PutOffer(&s)
	})
}

// RevokeOffer takes that back.
//
// Errors: not_found (service, team, the team has no access), forbidden (the last team stays)
func (c *Core) RevokeOffer(ctx context.Context, p Principal, name, team string) error {
	return c.change(ctx, p, "service.revoke", name, func(tx Tx) error {
		s, err := c.serviceAndTeam(tx, p, name, team)
		if err != nil {
			return err
		}
		if !slices.Contains(s.Granted, team) {
			return Errorf(NotFound, ObjService, "This team does not have access to this service")
		}
		if len(s.Granted) == 1 {
			return Errorf(Forbidden, ObjService, "You can not revoke the access from this team, because it is the unique team with access to this service, and a service can not be orphaned")
		}
		s.Granted = slices.DeleteFunc(s.Granted, func(t string) bool { return t == team })
		return tx.PutOffer(&s)
	})
}

func (c *Core) serviceAndTeam(r Reader, p Principal, name, team string) (Offer, error) {
	s, err := c.changeableService(r, p, name)
	if err != nil {
		return s, err
	}
	if _, err := r.Team(team); isNotFound(err) {
		return s, Errorf(NotFound, ObjTeam, "Team not found")
	} else if err != nil {
		return s, err
	}
	return s, nil
}

// OfferView is a service as one caller sees it.
type OfferView struct {
	Offer
	Instances []ServiceInstance // that the caller may use, by name
}

// Offers lists what the caller owns (owned), or sees.
func (c *Core) Offers(ctx context.Context, p Principal, owned bool) ([]OfferView, error) {
	return view(ctx, c.Store, func(r Reader) ([]OfferView, error) {
		v, err := viewerOf(r, p)
		if err != nil {
			return nil, err
		}
		services, err := c.offers(r)
		if err != nil {
			return nil, err
		}
		var all []OfferView
		for _, s := range services {
			if owned && !v.owns(s) || !owned && !v.sees(s) {
				continue
			}
			instances, err := instancesOf(r, v, s.Name)
			if err != nil {
				return nil, err
			}
			all = append(all, OfferView{s, instances})
		}
		return all, nil
	})
}

func instancesOf(r Reader, v viewer, service string) ([]ServiceInstance, error) {
	instances, err := r.InstancesOf(service)
	return slices.DeleteFunc(instances, func(i ServiceInstance) bool { return !v.uses(i) }), err
}

// OfferByName is a service that the caller sees, with its instances.
//
// Errors: not_found, forbidden
func (c *Core) OfferByName(ctx context.Context, p Principal, name string) (OfferView, error) {
	return view(ctx, c.Store, func(r Reader) (OfferView, error) {
		v, err := viewerOf(r, p)
		if err != nil {
			return OfferView{}, err
		}
		s, err := c.offer(r, name)
		if err != nil {
			return OfferView{}, err
		}
		if !v.sees(s) {
			return OfferView{}, Errorf(Forbidden, ObjService, "This user does not have access to this service")
		}
		instances, err := instancesOf(r, v, s.Name)
		return OfferView{s, instances}, err
	})
}

// Plans lists what kinds of instances a service offers. A provider that has none, or does not answer, has none.
//
// Errors: not_found, forbidden
func (c *Core) Plans(ctx context.Context, p Principal, name string) ([]Plan, error) {
	s, err := c.OfferByName(ctx, p, name)
	if err != nil {
		return nil, err
	}
	if s.BuiltIn() {
		return []Plan{{"shared", "a database of its own on a server that is shared with others"}}, nil
	}
	if c.Broker == nil {
		return nil, nil
	}
	plans, err := c.Broker.Plans(ctx, s.Offer)
	if err != nil {
		c.Log.Info("a provider told no plans", "service", s.Name, "err", err)
		return nil, nil
	}
	return plans, nil
}

var instancePattern = regexp.MustCompile(`^[A-Za-z][-a-zA-Z0-9_]+$`)
