package core

import (
	"context"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// exchangeNames gives each of two apps the names that the other had.
func (c *Core) exchangeNames(ctx context.Context, run *operation.Run) error {
	var p rollParams
	if err := run.Params(&p); err != nil {
		return err
	}
	return c.giveNames(ctx, map[AppID][]string{p.Other: p.Names, p.AppID: p.OtherNames})
}

func (c *Core) exchangeNamesBack(ctx context.Context, run *operation.Run) error {
	var p rollParams
	if err := run.Params(&p); err != nil {
		return err
	}
	if err := c.giveNames(ctx, map[AppID][]string{p.AppID: p.Names, p.Other: p.OtherNames}); err != nil {
		return err
	}
	return c.publishSwapped(ctx, run)
}

func (c *Core) giveNames(ctx context.Context, names map[AppID][]string) error {
	return c.Store.Update(ctx, func(tx Tx) error {
		for id, hostnames := range names {
			for _, name := range hostnames {
				r, err := tx.Route(name)
				if isNotFound(err) {
					continue // removed meanwhile
				}
				if err != nil {
					return err
				}
				r.AppID = id
				if err := tx.PutRoute(&r); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (c *Core) publishSwapped(ctx context.Context, run *operation.Run) error {
	var p rollParams
	if err := run.Params(&p); err != nil {
		return err
	}
	for _, id := range []AppID{p.AppID, p.Other} {
		app, err := view(ctx, c.Store, func(r Reader) (App, error) { return r.App(id) })
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := c.publish(ctx, app, app.hostnames()...); err != nil {
			return err
		}
	}
	return nil
}
