package core

import "context"

// Unlimited is the limit of what has none.
const Unlimited = -1

// Allowance is how much of something there may be and is.
type Allowance struct {
	Limit int // Unlimited, or not negative
	InUse int
}

// Available is how much more there may be; Unlimited when there is no end.
func (q Allowance) Available() int {
	if q.Limit < 0 {
		return Unlimited
	}
	return max(q.Limit-q.InUse, 0)
}

// limitOf is the limit of one account or app: its own, or the configured one, where 0 means none.
func limitOf(r Reader, subject string, configured int) (int, error) {
	most, own, err := r.Limit(subject)
	switch {
	case err != nil:
		return 0, err
	case own:
		return most, nil
	case configured <= 0:
		return Unlimited, nil
	}
	return configured, nil
}

// accountQuota counts apps. It is read in the transaction that adds one, so that two at once cannot both be the last.
func (c *Core) accountQuota(r Reader, id AccountID) (Allowance, error) {
	limit, err := limitOf(r, string(id), c.MaxApps)
	if err != nil {
		return Allowance{}, err
	}
	n, err := r.CountApps(id)
	return Allowance{Limit: limit, InUse: n}, err
}

// AccountQuota is how many apps an account may have and has. Administrators may ask about everybody.
//
// Errors: not_found, forbidden
func (c *Core) AccountQuota(ctx context.Context, p Principal, email string) (Allowance, error) {
	return view(ctx, c.Store, func(r Reader) (Allowance, error) {
		if err := known(p); err != nil {
			return Allowance{}, err
		}
		account, err := r.AccountByEmail(email)
		if err == nil && account.ID == p.Account.ID {
			return c.accountQuota(r, account.ID)
		}
		if isNotFound(err) {
			return Allowance{}, Errorf(NotFound, ObjAccount, "Quota not found")
		}
		if err == nil {
			err = requireAdmin(r, p)
		}
		if err != nil {
			return Allowance{}, err
		}
		return c.accountQuota(r, account.ID)
	})
}

// SetAccountQuota sets how many apps an account may have; any negative limit means that there is none.
//
// Errors: forbidden (the caller is no administrator; less than it has), not_found
func (c *Core) SetAccountQuota(ctx context.Context, p Principal, email string, limit int) error {
	return c.change(ctx, p, "account.quota", email, func(tx Tx) error {
		if err := requireAdmin(tx, p); err != nil {
			return err
		}
		account, err := tx.AccountByEmail(email)
		if isNotFound(err) {
			err = Errorf(NotFound, ObjAccount, "User not found")
		}
		if err != nil {
			return err
		}
		q, err := c.accountQuota(tx, account.ID)
		if err != nil {
			return err
		}
		return setLimit(tx, string(account.ID), q, limit)
	})
}

func setLimit(tx Tx, subject string, now Allowance, limit int) error {
	if limit < 0 {
		limit = Unlimited
	}
	if limit >= 0 && limit < now.InUse {
		return Errorf(Forbidden, ObjAccount, "new limit is lesser than the current allocated value")
	}
	return tx.PutLimit(subject, limit)
}

// appQuota counts units that are there or on their way.
func (c *Core) appQuota(r Reader, app App) (Allowance, error) {
	limit, err := limitOf(r, string(app.ID), c.MaxUnits)
	return Allowance{Limit: limit, InUse: app.UnitCount}, err
}

// AppQuota is how many units an app may have and has.
//
// Errors: not_found, forbidden
func (c *Core) AppQuota(ctx context.Context, p Principal, name string) (Allowance, error) {
	return view(ctx, c.Store, func(r Reader) (Allowance, error) {
		app, err := usableApp(r, p, name)
		if err != nil {
			return Allowance{}, err
		}
		return c.appQuota(r, app)
	})
}

// SetAppQuota sets how many units an app may have; any negative limit means that there is none.
//
// Errors: forbidden (the caller is no administrator; less than it has), not_found
func (c *Core) SetAppQuota(ctx context.Context, p Principal, name string, limit int) error {
	return c.change(ctx, p, "app.quota", name, func(tx Tx) error {
		if err := requireAdmin(tx, p); err != nil {
			return err
		}
		app, err := usableApp(tx, p, name)
		if err != nil {
			return err
		}
		q, err := c.appQuota(tx, app)
		if err != nil {
			return err
		}
		return setLimit(tx, string(app.ID), q, limit)
	})
}
