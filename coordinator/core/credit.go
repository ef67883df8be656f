package core

import (
	"context"
	"slices"
	"time"
)

// Credit pays nodes: one for up to an hour of one node, whatever the node does. It is taken before a node is created, in
// the transaction that asks for the node, and again at the start of each further hour. What an account has never goes below
// zero. A node that is paid this way has a Lease; nodes without one (of apps made through dialects that know no credit) cost
// nothing.
//
// Hours are counted on the billing clock, which goes on with the time that really went by: setting the wall clock moves no
// hour, and a restart neither skips nor repeats one. Between restarts of the machine it follows the kernel's count of its
// uptime; over one, the wall clock is all there is.

const leaseHour = time.Hour

// Lease says how far a node is paid.
type Lease struct {
	NodeID    NodeID
	AppID     AppID
	PaidUntil time.Duration // on the billing clock
}

// BillingClock is the clock as it was read last.
type BillingClock struct {
	Counted time.Duration
	Boot    string        // of the machine when it was read
	Uptime  time.Duration // likewise
	Wall    time.Time     // likewise
}

// billingTime is the time on the billing clock, and the clock as it would be stored.
func (c *Core) billingTime(r Reader) (BillingClock, error) {
	boot, up := c.Uptime()
	next := BillingClock{Boot: boot, Uptime: up, Wall: c.now()}
	last, err := r.BillingClock()
	switch {
	case isNotFound(err):
		return next, nil
	case err != nil:
		return next, err
	case last.Boot == boot && boot != "":
		next.Counted = last.Counted + max(0, up-last.Uptime)
	default:
		next.Counted = last.Counted + max(0, next.Wall.Sub(last.Wall))
	}
	return next, nil
}

// tickBilling stores where the billing clock stands.
func (c *Core) tickBilling(tx Tx) (time.Duration, error) {
	clock, err := c.billingTime(tx)
	if err != nil {
		return 0, err
	}
	return clock.Counted, tx.PutBillingClock(clock)
}

// payNodes takes the credit for the first hour of nodes.
//
// Errors: quota (not enough credit; nothing is taken)
func (c *Core) payNodes(tx Tx, account AccountID, nodes ...Node) error {
	ok, err := tx.TakeCredit(account, len(nodes))
	if err != nil {
		return err
	}
	if !ok {
		return Errorf(Quota, ObjCredit, "not enough credit for %d more nodes", len(nodes))
	}
	at, err := c.tickBilling(tx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := tx.PutLease(Lease{NodeID: n.ID, AppID: n.AppID, PaidUntil: at + leaseHour}); err != nil {
			return err
		}
	}
	return nil
}

// refundNode gives back what was paid for a node whose creation failed. Whoever stopped the app meanwhile has used the node.
func (c *Core) refundNode(ctx context.Context, id NodeID, appID AppID) error {
	return c.Store.Update(ctx, func(tx Tx) error {
		leases, err := tx.Leases(appID)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(leases, func(l Lease) bool { return l.NodeID == id })
		if i < 0 {
			return nil // given back already
		}
		app, err := tx.App(appID)
		if err != nil {
			return err
		}
		if err := tx.DeleteLease(id); err != nil || app.State == AppDeleting {
			return err
		}
		return tx.GiveCredit(app.AccountID, 1)
	})
}

// SpendCredit takes credit for a service that counts its hours itself, and counts it as payment for the nodes we know of,
// those that are due first. So nothing is charged twice: whoever pays first has paid.
//
// Errors: not_found, invalid (n), quota (not enough credit; nothing is taken)
func (c *Core) SpendCredit(ctx context.Context, p Principal, service int64, n int) error {
	err := c.Store.Update(ctx, func(tx Tx) error {
		app, err := ownApp(tx, p, service)
		if err != nil {
			return err
		}
		if n < 1 || n > 10000 {
			return Errorf(Invalid, ObjCredit, "between 1 and 10000 are taken at once")
		}
		switch ok, err := tx.TakeCredit(app.AccountID, n); {
		case err != nil:
			return err
		case !ok:
			return Errorf(Quota, ObjCredit, "not enough credit")
		}
		leases, err := tx.Leases(app.ID)
		if err != nil {
			return err
		}
		for range min(n, n*len(leases)) { // none without leases
			i := 0
			for j := range leases {
				if leases[j].PaidUntil < leases[i].PaidUntil {
					i = j
				}
			}
			leases[i].PaidUntil += leaseHour
		}
		for _, l := range leases {
			if err := tx.PutLease(l); err != nil {
				return err
			}
		}
		return tx.Audit(c.auditRecord(p, "credit.spend", string(app.ID), "", "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, "credit.spend", "", err)
	}
	return err
}

// Credit is what the caller has left.
func (c *Core) Credit(ctx context.Context, p Principal) (int64, error) {
	a, err := view(ctx, c.Store, func(r Reader) (Account, error) { return r.Account(p.Account.ID) })
	return a.Credit, err
}

// ChargeHours takes the credit for every hour that began. Services are charged in the order of their age; one that cannot be
// paid any more is deleted, the youngest first. It may be called at any time and as often as one likes.
func (c *Core) ChargeHours(ctx context.Context) error {
	due, err := view(ctx, c.Store, func(r Reader) ([]int64, error) {
		clock, err := c.billingTime(r)
		if err != nil {
			return nil, err
		}
		return r.OwingApps(clock.Counted)
	})
	if err != nil {
		return err
	}
	var broke []int64
	for _, num := range due {
		paid, err := c.chargeApp(ctx, num)
		if err != nil && !isNotFound(err) {
			return err
		}
		if err == nil && !paid {
			broke = append(broke, num)
		}
	}
	for _, num := range slices.Backward(broke) {
		if err := c.endUnpaid(ctx, num); err != nil && KindOf(err) != Busy && !isNotFound(err) {
			return err
		}
	}
	return nil
}

// chargeApp takes the credit for the hours of an app's nodes that began, hour by hour, for all nodes that are due or for none.
func (c *Core) chargeApp(ctx context.Context, num int64) (paid bool, err error) {
	err = c.Store.Update(ctx, func(tx Tx) error {
		paid = true
		app, err := tx.AppByNum(num)
		if err != nil || app.State == AppDeleting {
			return err
		}
		at, err := c.tickBilling(tx)
		if err != nil {
			return err
		}
		leases, err := tx.Leases(app.ID)
		if err != nil {
			return err
		}
		for {
			var due []*Lease
			for i := range leases {
				if leases[i].PaidUntil <= at {
					due = append(due, &leases[i])
				}
			}
			if len(due) == 0 {
				return nil
			}
			if paid, err = tx.TakeCredit(app.AccountID, len(due)); err != nil || !paid {
				return err
			}
			for _, l := range due {
				l.PaidUntil += leaseHour
				if err := tx.PutLease(*l); err != nil {
					return err
				}
			}
		}
	})
	return paid, err
}

func (c *Core) endUnpaid(ctx context.Context, num int64) error {
	app, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.AppByNum(num) })
	if err != nil {
		return err
	}
	owner, err := view(ctx, c.Store, func(r Reader) (Account, error) { return r.Account(app.AccountID) })
	if err != nil {
		return err
	}
	c.Log.Info("a service ends because its credit is used up", "service", num, "account", owner.Handle)
	_, err = c.DeleteApp(ctx, Principal{Account: owner, Via: "local", Dialect: "credit"}, num)
	return err
}
