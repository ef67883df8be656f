package sqlite

import (
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

const (
	serviceInstancesOfApp = `SELECT id, app_id, engine, database, user, password, created_at FROM service_instance
		WHERE app_id = ? ORDER BY num`
	serviceInstancePut = `INSERT INTO service_instance (id, app_id, engine, database, user, password, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET app_id = excluded.app_id, engine = excluded.engine,
		database = excluded.database, user = excluded.user, password = excluded.password, created_at = excluded.created_at`
)

func scanServiceInstance(t *tx, row scanner, s *core.ServiceInstance) error {
	var password []byte
	err := row.Scan((*text)(&s.ID), (*text)(&s.AppID), (*text)(&s.Engine), (*text)(&s.Database), (*text)(&s.User),
		&password, (*micros)(&s.CreatedAt))
	if err == nil {
		s.Password, err = t.unseal(password, "service_instance.password", s.ID)
	}
	return err
}

func (t *tx) ServiceInstances(app core.AppID) ([]core.ServiceInstance, error) {
	return list(t, core.ObjApp, scanServiceInstance, serviceInstancesOfApp, string(app))
}

func (t *tx) PutServiceInstance(s *core.ServiceInstance) error {
	if s.ID == "" {
		s.ID = store.NewID()
	}
	_, err := t.exec(serviceInstancePut, s.ID, reference(s.AppID), s.Engine, s.Database, s.User,
		t.seal(s.Password, "service_instance.password", s.ID), timeValue(s.CreatedAt))
	return failure(err, core.ObjApp, "store the service instance")
}

func (t *tx) DeleteServiceInstance(id string) error {
	return t.drop(core.ObjApp, `DELETE FROM service_instance WHERE id = ?`, id)
}
