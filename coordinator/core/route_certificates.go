package core

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// OpRouteCertify is the operation that makes routers show other certificates for the names of one app.
const OpRouteCertify = "route.certify"

func (c *Core) certificateOperations() []operation.Definition {
	return []operation.Definition{
		{Kind: OpRouteCertify, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Undo: c.takeBackCertificate, Timeout: 10 * time.Minute},
			{Name: "show the certificate", Do: c.certifyRoutes, Undo: c.uncertifyRoutes, Timeout: 5 * time.Minute},
			{Name: "finish", Do: c.forgetCertificate},
		}},
	}
}

// UploadCertificate stores a certificate of the caller's. It is shown for every name of the caller's apps that it covers, from
// now on and for names that come later, while it counts; the newest one if several do.
//
// chain is PEM: the certificate, then that of its issuer, and so on; the root may be left out. key is PEM: PKCS#8, PKCS#1 or
// SEC 1, without a passphrase.
//
// Errors: invalid (Problems of crt and key), exists (uploaded before), quota
// Effects: every router of the clouds of the apps that have such names, one operation per app; when routers refuse the
// certificate, it is gone again
func (c *Core) UploadCertificate(ctx context.Context, p Principal, chain string, key Secret) (rc RouteCertificate, ops []operation.Record, err error) {
	defer func() {
		if err != nil {
			c.refused(ctx, p, "certificate.upload", "", err)
		}
	}()
	if err := known(p); err != nil {
		return rc, nil, err
	}
	now := c.now()
	rc, problems := readCertificate(chain, key, now)
	if len(problems) > 0 {
		e := Errorf(Invalid, ObjCertificate, "%s", problems[0].Msg)
		e.Problems = problems
		return RouteCertificate{}, nil, e
	}
	rc.AccountID, rc.CreatedAt = p.Account.ID, now
	err = c.Store.Update(ctx, func(tx Tx) error {
		rc.Num = 0
		list, err := tx.RouteCertificates(p.Account.ID)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(list, func(o RouteCertificate) bool { return o.ID == rc.ID }) {
			return Errorf(Exists, ObjCertificate, "this certificate was uploaded before")
		}
		if len(list) >= maxCertificates {
			return Errorf(Quota, ObjCertificate, "an account has at most %d certificates", maxCertificates)
		}
		if err := tx.PutRouteCertificate(&rc); err != nil {
			return err
		}
		if ops, err = c.certify(tx, p, appParams{Certificate: rc.Num}); err != nil || len(ops) > 0 {
			return err
		}
		return tx.Audit(c.auditRecord(p, "certificate.upload", rc.ID, "", "accepted"))
	})
	rc.Key = nil
	return rc, ops, err
}

// RouteCertificates lists the certificates that the caller uploaded, oldest first, without keys.
func (c *Core) RouteCertificates(ctx context.Context, p Principal) ([]RouteCertificate, error) {
	if err := known(p); err != nil {
		return nil, err
	}
	list, err := view(ctx, c.Store, func(r Reader) ([]RouteCertificate, error) { return r.RouteCertificates(p.Account.ID) })
	return slices.DeleteFunc(list, func(rc RouteCertificate) bool { return rc.Deleting }), err
}

// RemoveCertificate deletes a certificate that the caller uploaded. The names that it was shown for get another one.
//
// Errors: not_found
// Effects: as UploadCertificate
func (c *Core) RemoveCertificate(ctx context.Context, p Principal, num int64) (ops []operation.Record, err error) {
	if err := known(p); err != nil {
		return nil, err
	}
	err = c.Store.Update(ctx, func(tx Tx) error {
		rc, err := tx.RouteCertificate(num)
		if err == nil && (rc.AccountID != p.Account.ID || rc.Deleting) {
			err = Errorf(NotFound, ObjCertificate, "the certificate does not exist")
		}
		if err != nil {
			return err
		}
		rc.Deleting = true
		if err := tx.PutRouteCertificate(&rc); err != nil {
			return err
		}
		if ops, err = c.certify(tx, p, appParams{Certificate: rc.Num, Removes: true}); err != nil || len(ops) > 0 {
			return err
		}
		if err := tx.DeleteRouteCertificate(rc.Num); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "certificate.delete", rc.ID, "", "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, "certificate.delete", "", err)
	}
	return ops, err
}

// RenewCertificates starts what makes routers show the certificates they are to: for names of before there were any, for those
// that end soon, and for those whose uploaded one ended. It says whether apps were left out because something works on them.
func (c *Core) RenewCertificates(ctx context.Context) (left bool, err error) {
	apps, err := view(ctx, c.Store, func(r Reader) (found []App, err error) {
		apps, err := r.Apps("", 0, 0)
		if err != nil {
			return nil, err
		}
		for _, app := range apps {
			names, err := c.outdated(r, app)
			if err != nil {
				return nil, err
			}
			if len(names) > 0 {
				found = append(found, app)
			}
		}
		return found, nil
	})
	if err != nil {
		return false, err
	}
	for _, app := range apps {
		err := c.Store.Update(ctx, func(tx Tx) error {
			ops, err := tx.Operations(OperationFilter{Subject: string(app.ID), Unfinished: true})
			if err != nil || len(ops) > 0 {
				left = left || len(ops) > 0
				return err
			}
			now, err := tx.App(app.ID)
			if err != nil {
				return ignoreNotFound(err)
			}
			_, err = c.certifyApp(tx, keeper(now), now, appParams{})
			return err
		})
		if err != nil {
			return left, err
		}
	}
	return left, nil
}

// certify starts an operation for every app of an account with names for which routers are to show another certificate than
// they do. because says which uploaded one comes or goes, if that is the reason.
func (c *Core) certify(tx Tx, p Principal, because appParams) (all []operation.Record, err error) {
	apps, err := tx.Apps(p.Account.ID, 0, 0)
	if err != nil {
		return nil, err
	}
	for _, app := range apps {
		ops, err := c.certifyApp(tx, p, app, because)
		if err != nil {
			return nil, err
		}
		all = append(all, ops...)
	}
	return all, nil
}

func (c *Core) certifyApp(tx Tx, p Principal, app App, because appParams) ([]operation.Record, error) {
	names, err := c.outdated(tx, app)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	params := appParams{AppID: app.ID, AppNum: app.Num, Name: app.Name, Route: names[0], Certificate: because.Certificate, Removes: because.Removes}
	op, err := c.enqueueApp(tx, p, "route.certify", OpRouteCertify, params, nil)
	return []operation.Record{op}, err
}

// outdated lists names of an app for which routers show another certificate than they are to. An app that nothing serves has
// none on the routers.
func (c *Core) outdated(r Reader, app App) (names []string, err error) {
	if changeable(app) != nil || len(c.backends(app)) == 0 {
		return nil, nil
	}
	uploaded, err := r.RouteCertificates(app.AccountID)
	if err != nil {
		return nil, err
	}
	now := c.now()
	for _, route := range app.Routes {
		if route.State != RouteRunning {
			continue
		}
		want, ok := UploadedFor(uploaded, route.Hostname, now)
		if !ok {
			want, err = r.IssuedCertificate(route.ID)
			missing := isNotFound(err)
			if err != nil && !missing {
				return nil, err
			}
			if (missing || want.renewable(now)) && c.RouteAuthority != nil {
				names = append(names, route.Hostname)
				continue
			}
		}
		if want.ID != route.Certificate {
			names = append(names, route.Hostname)
		}
	}
	return names, nil
}

// certifyRoutes publishes the names of an app that show another certificate than they are to.
func (c *Core) certifyRoutes(ctx context.Context, run *operation.Run) error {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil || !found {
		return err
	}
	names, err := view(ctx, c.Store, func(r Reader) ([]string, error) { return c.outdated(r, app) })
	if err != nil {
		return err
	}
	err = c.publish(ctx, app, names...)
	if err != nil && p.Certificate != 0 && KindOf(err) == Invalid {
		return Wrap(Invalid, ObjCertificate, err, "the routers refuse the certificate")
	}
	return err
}

// takeBackCertificate makes an uploaded certificate that could not be shown go again, and one that could not be removed stay.
// An app that is going decides about nobody else's names.
func (c *Core) takeBackCertificate(ctx context.Context, run *operation.Run) error {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil || p.Certificate == 0 {
		return err
	}
	if !found || app.State == AppDeleting {
		return c.forgetCertificate(ctx, run)
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		rc, err := tx.RouteCertificate(p.Certificate)
		if err != nil {
			return ignoreNotFound(err)
		}
		switch {
		case p.Removes && !rc.Deleting: // taken back before
			return nil
		case p.Removes:
			rc.Deleting = false
			err = tx.PutRouteCertificate(&rc)
		default:
			err = tx.DeleteRouteCertificate(rc.Num)
		}
		if err != nil {
			return err
		}
		// This app's names are put back by this operation, those of others that were faster by operations of their own.
		apps, err := tx.Apps(rc.AccountID, 0, 0)
		if err != nil {
			return err
		}
		for _, other := range apps {
			if other.ID == app.ID {
				continue
			}
			if _, err := c.certifyApp(tx, keeper(other), other, appParams{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// keeper stands for the owner of an app in what is done without being asked for.
func keeper(app App) Principal { return Principal{Account: Account{ID: app.AccountID}, Via: "local"} }

func (c *Core) uncertifyRoutes(ctx context.Context, run *operation.Run) error {
	if err := c.takeBackCertificate(ctx, run); err != nil {
		return err
	}
	return c.certifyRoutes(ctx, run)
}

// forgetCertificate deletes a certificate that was to go, unless the operation of another app has to take it off yet.
func (c *Core) forgetCertificate(ctx context.Context, run *operation.Run) error {
	var p appParams
	if err := run.Params(&p); err != nil || !p.Removes {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		rc, err := tx.RouteCertificate(p.Certificate)
		if err != nil || !rc.Deleting {
			return ignoreNotFound(err)
		}
		ops, err := tx.Operations(OperationFilter{Account: rc.AccountID, Unfinished: true})
		if err != nil {
			return err
		}
		for _, op := range ops {
			if op.GroupID == run.Operation.GroupID || certificateOf(op) != rc.Num {
				continue
			}
			app, err := tx.App(AppID(op.Subject))
			if err != nil && !isNotFound(err) {
				return err
			}
			if slices.ContainsFunc(app.Routes, func(r Route) bool { return r.Certificate == rc.ID || r.Certificate == unsureCertificate }) {
				return nil
			}
		}
		return tx.DeleteRouteCertificate(rc.Num)
	})
}

// certificateOf is the number of the uploaded certificate that an operation shows or takes off, else 0.
func certificateOf(op operation.Record) int64 {
	var p appParams
	if op.Kind != OpRouteCertify || json.Unmarshal(op.Params, &p) != nil {
		return 0
	}
	return p.Certificate
}
