package sqlite

import (
	"cmp"
	"strconv"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/store"
)

// Apps are read in two parts: first which apps and in what revision, from an index alone; then, of those that were not
// read before in that revision, all of it in four statements, whatever their number.
const (
	appRefByID   = `SELECT num, revision FROM app WHERE id = ?`
	appRefByNum  = `SELECT num, revision FROM app WHERE num = ?`
	appRefByName = `SELECT num, revision FROM app WHERE account_id = ? AND name = ?`
	appRefShared = `SELECT num, revision FROM app WHERE name = ? AND placement = 'shared'`
	appRefs      = `SELECT num, revision FROM app WHERE account_id = ? ORDER BY num LIMIT ? OFFSET ?`
	appRefsAll   = `SELECT num, revision FROM app ORDER BY num LIMIT ? OFFSET ?`
	appCount     = `SELECT count(*) FROM app WHERE account_id = ?`
	appCountAll  = `SELECT count(*) FROM app`
	appColumns   = `num, id, account_id, name, platform, engine, size_id, location_id, cloud, state, login, base_disk_gb, extra_gb, starts_at, ends_at, created_at,
		placement, unit_count, release, deploys, memory_mb, swap_mb, halted, snapshot_profile`
	appsByNums   = `SELECT ` + appColumns + ` FROM app WHERE num IN (SELECT value FROM json_each(?))`
	nodesOfApps  = nodeSelect + ` WHERE n.app_id IN (SELECT value FROM json_each(?)) ORDER BY n.app_id, n.num`
	unitsOfApps  = unitSelect + ` WHERE u.app_id IN (SELECT value FROM json_each(?)) ORDER BY u.app_id, u.num`
	routesOfApps = `SELECT ` + routeColumns + ` FROM route r WHERE r.app_id IN (SELECT value FROM json_each(?)) ORDER BY r.app_id, r.num`
	appInsert    = `INSERT INTO app (id, account_id, name, platform, engine, size_id, location_id, cloud, state, login,
		base_disk_gb, extra_gb, starts_at, ends_at, created_at, placement, unit_count, release, deploys, memory_mb, swap_mb, halted, snapshot_profile)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	appUpdate = `UPDATE app SET revision = revision + 1, id = ?, account_id = ?, name = ?, platform = ?, engine = ?,
		size_id = ?, location_id = ?, cloud = ?, state = ?, login = ?, base_disk_gb = ?, extra_gb = ?, starts_at = ?,
		ends_at = ?, created_at = ?, placement = ?, unit_count = ?, release = ?, deploys = ?, memory_mb = ?, swap_mb = ?, halted = ?,
		snapshot_profile = ?
		WHERE num = ?`
)

// appRef is one app as it was committed: content never changes under the same number and revision.
type appRef struct{ num, revision int64 }

func scanAppRef(_ *tx, row scanner, r *appRef) error {
	return row.Scan((*number)(&r.num), (*number)(&r.revision))
}

func scanApp(_ *tx, row scanner, a *core.App) error {
	return row.Scan((*number)(&a.Num), (*text)(&a.ID), (*text)(&a.AccountID), (*text)(&a.Name), (*text)(&a.Platform),
		(*text)(&a.Engine), (*text)(&a.SizeID), (*text)(&a.LocationID), (*text)(&a.Cloud), (*text)(&a.State),
		(*number)(&a.Login), (*count)(&a.BaseDiskGB), (*count)(&a.ExtraGB), (*micros)(&a.StartsAt), (*micros)(&a.EndsAt),
		(*micros)(&a.CreatedAt), (*text)(&a.Placement), (*count)(&a.UnitCount), (*count)(&a.Release), (*count)(&a.Deploys),
		(*count)(&a.MemoryMB), (*count)(&a.SwapMB), (*flag)(&a.Halted), (*number)(&a.SnapshotProfile))
}

func scanCount(_ *tx, row scanner, n *int64) error { return row.Scan((*number)(n)) }

func (t *tx) App(id core.AppID) (core.App, error) { return t.app(appRefByID, string(id)) }

func (t *tx) AppByNum(num int64) (core.App, error) { return t.app(appRefByNum, num) }

func (t *tx) AppNamed(account core.AccountID, name string) (core.App, error) {
	return t.app(appRefByName, string(account), name)
}

func (t *tx) SharedApp(name string) (core.App, error) { return t.app(appRefShared, name) }

func (t *tx) app(query string, args ...any) (core.App, error) {
	ref, err := one(t, core.ObjApp, scanAppRef, query, args...)
	if err != nil {
		return core.App{}, err
	}
	apps, err := t.load([]appRef{ref})
	if err != nil {
		return core.App{}, err
	}
	return apps[0], nil
}

func (t *tx) Apps(account core.AccountID, offset, limit int) ([]core.App, error) {
	if limit <= 0 {
		limit = -1 // no limit
	}
	query, args := appRefs, []any{string(account), limit, offset}
	if account == "" {
		query, args = appRefsAll, args[1:]
	}
	refs, err := list(t, core.ObjApp, scanAppRef, query, args...)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	return t.load(refs)
}

func (t *tx) CountApps(account core.AccountID) (int, error) {
	query, args := appCount, []any{string(account)}
	if account == "" {
		query, args = appCountAll, nil
	}
	n, err := one(t, core.ObjApp, scanCount, query, args...)
	return int(n), err
}

// load returns the apps in the order of refs. What a writing transaction sees may never be committed, so it does not go
// through the cache.
func (t *tx) load(refs []appRef) ([]core.App, error) {
	if t.writes {
		read, err := t.read(refs)
		return copyApps(read), err
	}
	apps := t.store.apps.get(refs)
	var missing []appRef
	for i, a := range apps {
		if a == nil {
			missing = append(missing, refs[i])
		}
	}
	if len(missing) == 0 {
		return copyApps(apps), nil
	}
	read, err := t.read(missing)
	if err != nil {
		return nil, err
	}
	t.store.apps.put(missing, read)
	next := 0
	for i := range apps {
		if apps[i] == nil {
			apps[i] = read[next]
			next++
		}
	}
	return copyApps(apps), nil
}

// read reads apps with their nodes, routes and units, in the order of refs.
func (t *tx) read(refs []appRef) ([]*core.App, error) {
	apps, err := list(t, core.ObjApp, scanApp, appsByNums, numsJSON(refs))
	if err != nil {
		return nil, err
	}
	ids := make([]byte, 0, 32*len(apps))
	byID := make(map[core.AppID]*core.App, len(apps))
	byNum := make(map[int64]*core.App, len(apps))
	for i := range apps {
		a := &apps[i]
		byID[a.ID], byNum[a.Num] = a, a
		ids = appendJSON(ids, strconv.Quote(string(a.ID)))
	}
	ids = append(ids, ']')
	nodes, err := list(t, core.ObjNode, scanNode, nodesOfApps, string(ids))
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		byID[n.AppID].Nodes = append(byID[n.AppID].Nodes, n)
	}
	routes, err := list(t, core.ObjRoute, scanRoute, routesOfApps, string(ids))
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		byID[r.AppID].Routes = append(byID[r.AppID].Routes, r)
	}
	units, err := list(t, core.ObjUnit, scanUnit, unitsOfApps, string(ids))
	if err != nil {
		return nil, err
	}
	for _, u := range units {
		byID[u.AppID].Units = append(byID[u.AppID].Units, u)
	}
	teams, err := list(t, core.ObjTeam, scanAppTeam, teamsOfApps, string(ids))
	if err != nil {
		return nil, err
	}
	for _, x := range teams {
		a := byID[x.app]
		if a.Teams = append(a.Teams, x.team); x.owner {
			a.TeamOwner = x.team
		}
	}
	ordered := make([]*core.App, len(refs))
	for i, ref := range refs {
		ordered[i] = byNum[ref.num]
	}
	return ordered, nil
}

func numsJSON(refs []appRef) string {
	b := make([]byte, 0, 8*len(refs))
	for _, r := range refs {
		b = appendJSON(b, strconv.FormatInt(r.num, 10))
	}
	return string(append(b, ']'))
}

func appendJSON(b []byte, element string) []byte {
	if len(b) == 0 {
		b = append(b, '[')
	} else {
		b = append(b, ',')
	}
	return append(b, element...)
}

func (t *tx) PutApp(a *core.App) error {
	if a.ID == "" {
		a.ID = core.AppID(store.NewID())
	}
	a.Placement = cmp.Or(a.Placement, core.PlacementDedicated)
	return t.put(core.ObjApp, &a.Num, appInsert, appUpdate, string(a.ID), string(a.AccountID), a.Name, a.Platform, a.Engine,
		a.SizeID, a.LocationID, a.Cloud, string(a.State), a.Login, a.BaseDiskGB, a.ExtraGB, timeValue(a.StartsAt),
		timeValue(a.EndsAt), timeValue(a.CreatedAt), string(a.Placement), int64(a.UnitCount),
		int64(a.Release), int64(a.Deploys), int64(a.MemoryMB), int64(a.SwapMB), flagValue(a.Halted), a.SnapshotProfile)
}

func (t *tx) DeleteApp(id core.AppID) error {
	if ref, err := one(t, core.ObjApp, scanAppRef, appRefByID, string(id)); err == nil {
		t.store.apps.drop(ref.num)
	}
	return t.drop(core.ObjApp, `DELETE FROM app WHERE id = ?`, string(id))
}
