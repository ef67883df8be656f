package sqlite

import (
	"encoding/json"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const (
	instanceColumns = `id, app_id, engine, database, user, password, created_at, name, service, plan, team_owner, account_id, node_id,
		state, error`
	serviceInstancesOfApp = `SELECT ` + instanceColumns + ` FROM service_instance WHERE app_id = ? ORDER BY num`
	instanceByName        = `SELECT ` + instanceColumns + ` FROM service_instance WHERE name = ? AND name <> ''`
	instanceByID          = `SELECT ` + instanceColumns + ` FROM service_instance WHERE id = ?`
	instancesOfService    = `SELECT ` + instanceColumns + ` FROM service_instance WHERE service = ? AND service <> '' ORDER BY name`
	serviceInstancePut    = `INSERT INTO service_instance (` + instanceColumns + `)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET app_id = excluded.app_id,
		engine = excluded.engine, database = excluded.database, user = excluded.user, password = excluded.password,
		created_at = excluded.created_at, name = excluded.name, service = excluded.service, plan = excluded.plan,
		team_owner = excluded.team_owner, account_id = excluded.account_id, node_id = excluded.node_id, state = excluded.state,
		error = excluded.error`

	offerColumns = `name, endpoint, endpoints, password, doc, restricted, created_at`
	offerByName  = `SELECT ` + offerColumns + ` FROM service WHERE name = ?`
	offerList    = `SELECT ` + offerColumns + ` FROM service ORDER BY name`
	offerPut     = `INSERT INTO service (` + offerColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET
		endpoint = excluded.endpoint, endpoints = excluded.endpoints, password = excluded.password, doc = excluded.doc,
		restricted = excluded.restricted`
	ownersOfService  = `SELECT team FROM service_team WHERE service = ? AND owner = 1 ORDER BY team`
	grantedOfService = `SELECT team FROM service_team WHERE service = ? AND owner = 0 ORDER BY team`
	teamsOfInstance  = `SELECT team FROM instance_team WHERE instance_id = ? ORDER BY team`

	bindingColumns     = `id, instance_id, app_id, state, user, password, whole, units, created_at`
	bindingsOfApp      = `SELECT ` + bindingColumns + ` FROM binding WHERE app_id = ? ORDER BY created_at, id`
	bindingsOfInstance = `SELECT ` + bindingColumns + ` FROM binding WHERE instance_id = ? ORDER BY created_at, id`
	bindingPut         = `INSERT INTO binding (` + bindingColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
		state = excluded.state, user = excluded.user, password = excluded.password, whole = excluded.whole, units = excluded.units`
)

func scanServiceInstance(t *tx, row scanner, s *core.ServiceInstance) error {
	var password []byte
	err := row.Scan((*text)(&s.ID), (*text)(&s.AppID), (*text)(&s.Engine), (*text)(&s.Database), (*text)(&s.User),
		&password, (*micros)(&s.CreatedAt), (*text)(&s.Name), (*text)(&s.Service), (*text)(&s.Plan), (*text)(&s.TeamOwner),
		(*text)(&s.AccountID), (*text)(&s.NodeID), (*text)(&s.State), (*text)(&s.Error))
	if err == nil {
		s.Password, err = t.unseal(password, "service_instance.password", s.ID)
	}
	return err
}

func (t *tx) ServiceInstances(app core.AppID) ([]core.ServiceInstance, error) {
	return t.instances(serviceInstancesOfApp, string(app))
}

func (t *tx) InstancesOf(service string) ([]core.ServiceInstance, error) {
	return t.instances(instancesOfService, service)
}

func (t *tx) Instance(name string) (core.ServiceInstance, error) {
	return t.instance(instanceByName, name)
}

func (t *tx) InstanceByID(id string) (core.ServiceInstance, error) {
	return t.instance(instanceByID, id)
}

func (t *tx) instance(query, key string) (core.ServiceInstance, error) {
	all, err := t.instances(query, key)
	if err == nil && len(all) == 0 {
		err = core.Errorf(core.NotFound, core.ObjInstance, "the service instance does not exist")
	}
	if err != nil {
		return core.ServiceInstance{}, err
	}
	return all[0], nil
}

func (t *tx) instances(query, key string) ([]core.ServiceInstance, error) {
	all, err := list(t, core.ObjInstance, scanServiceInstance, query, key)
	for i := range all {
		if err == nil && all[i].Name != "" {
			all[i].Teams, err = list(t, core.ObjInstance, scanText, teamsOfInstance, all[i].ID)
		}
	}
	return all, err
}

func (t *tx) PutServiceInstance(s *core.ServiceInstance) error {
	if s.ID == "" {
		s.ID = store.NewID()
	}
	if s.State == "" {
		s.State = core.InstanceUp
	}
	_, err := t.exec(serviceInstancePut, s.ID, reference(s.AppID), s.Engine, s.Database, s.User,
		t.seal(s.Password, "service_instance.password", s.ID), timeValue(s.CreatedAt), s.Name, s.Service, s.Plan, s.TeamOwner,
		string(s.AccountID), string(s.NodeID), string(s.State), s.Error)
	if err == nil && s.Name != "" {
		_, err = t.exec(`DELETE FROM instance_team WHERE instance_id = ?`, s.ID)
		for _, team := range s.Teams {
			if err == nil {
				_, err = t.exec(`INSERT INTO instance_team (instance_id, team) VALUES (?, ?)`, s.ID, team)
			}
		}
	}
	return failure(err, core.ObjInstance, "store the service instance")
}

func (t *tx) DeleteServiceInstance(id string) error {
	return t.drop(core.ObjInstance, `DELETE FROM service_instance WHERE id = ?`, id)
}

func scanOffer(t *tx, row scanner, s *core.Offer) error {
	var password []byte
	var endpoints string
	err := row.Scan((*text)(&s.Name), (*text)(&s.Endpoint), (*text)(&endpoints), &password, &s.Doc, (*flag)(&s.Restricted), (*micros)(&s.CreatedAt))
	if err == nil {
		err = json.Unmarshal([]byte(endpoints), &s.Endpoints)
	}
	if err == nil {
		s.Doc = slices.Clone(s.Doc)
		s.Password, err = t.unseal(password, "service.password", s.Name)
	}
	return err
}

func (t *tx) Offer(name string) (core.Offer, error) {
	s, err := one(t, core.ObjService, scanOffer, offerByName, name)
	if err != nil {
		return s, err
	}
	return s, t.serviceTeams(&s)
}

func (t *tx) Offers() ([]core.Offer, error) {
	all, err := list(t, core.ObjService, scanOffer, offerList)
	for i := range all {
		if err == nil {
			err = t.serviceTeams(&all[i])
		}
	}
	return all, err
}

func (t *tx) serviceTeams(s *core.Offer) (err error) {
	if s.Owners, err = list(t, core.ObjService, scanText, ownersOfService, s.Name); err == nil {
		s.Granted, err = list(t, core.ObjService, scanText, grantedOfService, s.Name)
	}
	return err
}

func (t *tx) PutOffer(s *core.Offer) error {
	endpoints, err := json.Marshal(s.Endpoints)
	if err == nil {
		_, err = t.exec(offerPut, s.Name, s.Endpoint, string(endpoints), t.seal(s.Password, "service.password", s.Name), s.Doc,
			flagValue(s.Restricted), timeValue(s.CreatedAt))
	}
	if err == nil {
		_, err = t.exec(`DELETE FROM service_team WHERE service = ?`, s.Name)
	}
	for owner, teams := range [][]string{s.Granted, s.Owners} {
		for _, team := range teams {
			if err == nil {
				_, err = t.exec(`INSERT INTO service_team (service, team, owner) VALUES (?, ?, ?)`, s.Name, team, owner)
			}
		}
	}
	return failure(err, core.ObjService, "store the service")
}

func (t *tx) DeleteOffer(name string) error {
	return t.drop(core.ObjService, `DELETE FROM service WHERE name = ?`, name)
}

func scanBinding(t *tx, row scanner, b *core.Binding) error {
	var password []byte
	var units string
	err := row.Scan((*text)(&b.ID), (*text)(&b.InstanceID), (*text)(&b.AppID), (*text)(&b.State), (*text)(&b.User), &password,
		(*flag)(&b.Whole), (*text)(&units), (*micros)(&b.CreatedAt))
	if err == nil {
		err = json.Unmarshal([]byte(units), &b.Units)
	}
	if err == nil {
		b.Password, err = t.unseal(password, "binding.password", b.ID)
	}
	return err
}

func (t *tx) Bindings(app core.AppID) ([]core.Binding, error) {
	return list(t, core.ObjBinding, scanBinding, bindingsOfApp, string(app))
}

func (t *tx) BindingsOf(instance string) ([]core.Binding, error) {
	return list(t, core.ObjBinding, scanBinding, bindingsOfInstance, instance)
}

func (t *tx) PutBinding(b *core.Binding) error {
	if b.ID == "" {
		b.ID = store.NewID()
	}
	units, err := json.Marshal(b.Units)
	if err == nil {
		_, err = t.exec(bindingPut, b.ID, b.InstanceID, string(b.AppID), string(b.State), b.User, t.seal(b.Password, "binding.password", b.ID),
			flagValue(b.Whole), string(units), timeValue(b.CreatedAt))
	}
	return failure(err, core.ObjBinding, "store the binding")
}

func (t *tx) DeleteBinding(id string) error {
	return t.drop(core.ObjBinding, `DELETE FROM binding WHERE id = ?`, id)
}
