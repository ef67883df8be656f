package core

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Kinds of the operations that change an app that runs.
const (
	OpAppUpdateNode   = "app.update.node"
	OpAppUpdateVolume = "app.update.volume"
	OpAppRestart      = "app.restart"
	OpAppRenewNode    = "app.renew.node"
	OpAppRenewVolume  = "app.renew.volume"
)

// AppUpdate says what of an app changes; what is nil stays. Comments name the members as problems call them.
type AppUpdate struct {
	Name         *string // name
	SizeID       *string // size
	ExtraGB      *int    // quantity: the new total of GB on top of the base disk, which only grows
	Password     *Secret // password: of the login and, without RootPassword, of the database's administrator
	RootPassword *Secret // root_password: of the database's administrator
	Console      *bool   // a shell for the login, or none any more
	// Keys replace those that let in by the account's keys with these numbers; nil leaves them, and NewKeys come on top.
	Keys    *[]int64 // keys
	NewKeys []string // ssh_key: OpenSSH public keys
	// SnapshotProfile is the id of the new one; 0 is none.
	SnapshotProfile *int64 // snapshot_profile
}

// ofVolume says that something changes that the volume's operation does.
func (u AppUpdate) ofVolume() bool { return u.ExtraGB != nil || u.SnapshotProfile != nil }

// ofNode says that something changes that the node's operation does; an update of nothing is one of the node too.
func (u AppUpdate) ofNode() bool {
	return u.Name != nil || u.SizeID != nil || u.Password != nil || u.RootPassword != nil || u.Console != nil || u.Keys != nil || len(u.NewKeys) > 0 || !u.ofVolume()
}

// AppLogin is how an app's owner gets onto its node. The hash is sealed at rest.
type AppLogin struct {
	AppID        AppID
	PasswordHash []byte // crypt(3) form; nil when it is not known, or there is none
	Console      bool
	Keys         []string // OpenSSH public keys that let in too
}

// updateSecret is what the steps of an update need and nobody may see.
type updateSecret struct {
	Password     string   `json:"password,omitempty"`
	RootPassword string   `json:"root_password,omitempty"`
	Before       AppLogin `json:"before"`
	After        AppLogin `json:"after"` // but for the password
	Login        bool     `json:"login"` // the login changes
}

func (c *Core) updateOperations() []operation.Definition {
	return append(c.keyOperations(), []operation.Definition{
		{Kind: OpAppUpdateNode, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Undo: c.keepName, Timeout: 10 * time.Minute},
			{Name: "resize node", Do: c.resizeNode, Undo: c.resizeBack, Timeout: 5 * time.Minute},
			{Name: "set login", Do: c.updateLogin, Undo: c.restoreLogin, Timeout: 3 * time.Minute},
			{Name: "set database password", Do: c.updateRootPassword, Timeout: 3 * time.Minute},
			{Name: "finish", Do: c.finishUpdate, Undo: c.unfinishUpdate},
		}},
		{Kind: OpAppUpdateVolume, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 10 * time.Minute},
			{Name: "grow volume", Do: c.growVolume, Timeout: 5 * time.Minute},
			{Name: "grow filesystem", Do: c.growFilesystem, Timeout: 10 * time.Minute},
			{Name: "set database password", Do: c.updateRootPassword, Timeout: 3 * time.Minute},
			{Name: "finish", Do: c.finishGrowth},
		}},
		{Kind: OpAppRestart, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 10 * time.Minute},
			{Name: "restart node", Do: c.restartNode, Timeout: 3 * time.Minute},
			{Name: "await agent", Do: c.awaitAgent, Timeout: 5 * time.Minute},
			{Name: "start services", Do: c.startServices, Timeout: 3 * time.Minute},
		}},
		{Kind: OpAppRenewNode, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 10 * time.Minute},
			{Name: "renew", Do: c.renew},
		}},
		{Kind: OpAppRenewVolume, Steps: []operation.Step{{Name: "renew", Do: c.renew}}},
	}...)
}

// changes are the kinds of operations of which an app has one at a time. Names come and go beside them.
var changes = []string{OpAppUpdateNode, OpAppUpdateVolume, OpAppRestart, OpAppRenewNode, OpAppRenewVolume, OpAppRestore}

// idle refuses a change of an app while another one is under way, so that none works with what the other is changing.
func idle(r Reader, app App) error {
	if err := changeable(app); err != nil {
		return err
	}
	ops, err := r.Operations(OperationFilter{Subject: string(app.ID), Unfinished: true})
	if err == nil && slices.ContainsFunc(ops, func(op operation.Record) bool { return slices.Contains(changes, op.Kind) }) {
		return Errorf(Busy, ObjApp, "another change of the app is under way")
	}
	return err
}

// CheckUpdate finds every problem of an update without changing anything; none means that UpdateApp would accept it.
//
// Errors: not_found, busy (the app's state, or another change)
func (c *Core) CheckUpdate(ctx context.Context, p Principal, num int64, u AppUpdate) ([]Problem, error) {
	var problems []Problem
	sizes, err := c.Sizes(ctx)
	if err != nil {
		return nil, err
	}
	err = c.Store.View(ctx, func(r Reader) error {
		app, err := ownApp(r, p, num)
		if err != nil {
			return err
		}
		if err := idle(r, app); err != nil {
			return err
		}
		problems, err = c.checkUpdate(r, app, u, sizes)
		return err
	})
	return problems, err
}

func (c *Core) checkUpdate(r Reader, app App, u AppUpdate, sizes []Size) (problems []Problem, err error) {
	bad := func(field string, code ProblemCode, msg string, allowed ...string) {
		problems = append(problems, Problem{Field: field, Code: code, Msg: msg, Allowed: allowed})
	}
	if u.Name != nil {
		problems = append(problems, checkName(*u.Name)...)
		switch other, err := r.AppNamed(app.AccountID, *u.Name); {
		case err == nil && other.ID != app.ID:
			bad("name", ProblemTaken, "an app of this name exists")
		case err != nil && !isNotFound(err):
			return nil, err
		}
	}
	if u.SizeID != nil && !slices.ContainsFunc(sizes, func(s Size) bool { return s.ID == *u.SizeID }) {
		bad("size", ProblemNotInList, "no such size", sizeIDs(sizes)...)
	}
	if u.ExtraGB != nil {
		switch n := *u.ExtraGB; {
		case n < 0:
			bad("quantity", ProblemTooSmall, "the additional disk size is not negative")
		case n > c.MaxDiskGB-app.BaseDiskGB:
			bad("quantity", ProblemTooBig, "the disk would be larger than is allowed")
		case n < app.ExtraGB:
			bad("quantity", ProblemShrinks, fmt.Sprintf("the disk has %d GB more than its base already, and cannot shrink", app.ExtraGB))
		}
	}
	if u.SnapshotProfile != nil || u.ExtraGB != nil {
		profile, extra := app.SnapshotProfile, app.ExtraGB
		if u.SnapshotProfile != nil {
			profile = *u.SnapshotProfile
		}
		if u.ExtraGB != nil {
			extra = *u.ExtraGB
		}
		if found := c.checkProfile(profile, app.BaseDiskGB+max(extra, 0)); len(problems) == 0 || u.SnapshotProfile != nil {
			problems = append(problems, found...)
		}
	}
	if u.Password != nil && !goodPassword(*u.Password) {
		bad("password", ProblemPassword, passwordRule)
	}
	if u.RootPassword != nil && !goodPassword(*u.RootPassword) {
		bad("root_password", ProblemPassword, passwordRule)
	}
	_, keyProblems, err := updatedKeys(r, app, AppLogin{}, u)
	if problems = append(problems, keyProblems...); err != nil {
		return nil, err
	}
	if u.RootPassword != nil && app.Engine == "" {
		bad("root_password", ProblemUnknown, "the app has no database")
	}
	return problems, nil
}

// updatedKeys are the keys that let in after an update of a login.
func updatedKeys(r Reader, app App, login AppLogin, u AppUpdate) ([]string, []Problem, error) {
	if u.Keys != nil {
		return loginKeys(r, app.AccountID, *u.Keys, u.NewKeys)
	}
	more, problems, err := loginKeys(r, app.AccountID, nil, u.NewKeys)
	all := slices.Clone(login.Keys)
	for _, k := range more {
		if !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	return all, problems, err
}

func checkName(name string) []Problem {
	bad := func(code ProblemCode, msg string) []Problem { return []Problem{{Field: "name", Code: code, Msg: msg}} }
	switch n := utf8.RuneCountInString(name); {
	case n == 0:
		return bad(ProblemTooShort, "a name has at least one character")
	case n > 64:
		return bad(ProblemTooLong, "a name has at most 64 characters")
	case !printable(name):
		return bad(ProblemPattern, "a name has printable characters only")
	}
	return nil
}

func sizeIDs(sizes []Size) []string {
	var ids []string
	for _, s := range sizes {
		ids = append(ids, s.ID)
	}
	return ids
}

// UpdateApp changes an app that runs: operations of its node, of its volume, or of both carry it out and are taken back
// together when one fails. A volume stays as large as it became.
//
// Errors: not_found, busy (the app's state, or another change), invalid, exists (name), unsupported (the cloud cannot)
// Effects: the app's node and volume; a node that uses more memory than it is to have is rebooted
func (c *Core) UpdateApp(ctx context.Context, p Principal, num int64, u AppUpdate) (ops []operation.Record, err error) {
	if ops, err = c.updateApp(ctx, p, num, u); err != nil {
		c.refused(ctx, p, "app.update", numbered(num), err)
	}
	return ops, err
}

func (c *Core) updateApp(ctx context.Context, p Principal, num int64, u AppUpdate) (ops []operation.Record, err error) {
	sizes, err := c.Sizes(ctx)
	if err != nil {
		return nil, err
	}
	return ops, c.Store.Update(ctx, func(tx Tx) error {
		app, err := ownApp(tx, p, num)
		if err != nil {
			return err
		}
		if err := idle(tx, app); err != nil {
			return err
		}
		problems, err := c.checkUpdate(tx, app, u, sizes)
		if err != nil {
			return err
		}
		if len(problems) > 0 {
			return problemError(problems)
		}
		ap, err := c.changeParams(tx, app)
		if err != nil {
			return err
		}
		if err := c.canUpdate(app, u); err != nil {
			return err
		}
		var kinds []string
		if u.ofNode() {
			kinds = append(kinds, OpAppUpdateNode)
		}
		if u.ofVolume() {
			kinds = append(kinds, OpAppUpdateVolume)
			ap.Profile = u.SnapshotProfile
		}
		if u.ExtraGB != nil {
			ap.ExtraGB = *u.ExtraGB
		}
		ap.Both = len(kinds) > 1
		secret := updateSecret{}
		if secret.Before, err = tx.AppLogin(app.ID); err != nil && !isNotFound(err) {
			return err
		}
		if u.SizeID != nil && *u.SizeID != app.SizeID {
			ap.SizeID, ap.OldSizeID = *u.SizeID, app.SizeID
		}
		if u.Password != nil {
			secret.Password = string(*u.Password)
			if app.Engine != "" {
				secret.RootPassword = secret.Password
			}
		}
		if u.RootPassword != nil {
			secret.RootPassword = string(*u.RootPassword)
		}
		secret.After = secret.Before
		if secret.After.Keys, _, err = updatedKeys(tx, app, secret.Before, u); err != nil {
			return err
		}
		if u.Console != nil {
			secret.After.Console = *u.Console
		}
		secret.Login = u.Password != nil || u.Console != nil || u.Keys != nil || len(u.NewKeys) > 0
		if u.Name != nil && *u.Name != app.Name { // at once, so that nobody else takes it
			ap.OldName, ap.Name, app.Name = app.Name, *u.Name, *u.Name
			if err := tx.PutApp(&app); err != nil {
				return err
			}
		}
		ops, err = c.enqueueApps(tx, p, "app.update", kinds, ap, secret)
		return err
	})
}

// canUpdate says whether the app's cloud can do what is asked.
func (c *Core) canUpdate(app App, u AppUpdate) error {
	cloud, ok := c.Clouds.Cloud(app.Cloud)
	if !ok {
		return Errorf(Internal, ObjCloud, "cloud %q is not configured any more; put it back to go on", app.Cloud)
	}
	if _, can := cloud.(ResizeCloud); u.SizeID != nil && *u.SizeID != app.SizeID && !(can && cloud.Info().Resize) {
		return Errorf(Unsupported, ObjCloud, "this cloud cannot change the size of nodes")
	}
	if _, can := cloud.(GrowCloud); u.ExtraGB != nil && *u.ExtraGB > app.ExtraGB && !(can && cloud.Info().Grow) {
		return Errorf(Unsupported, ObjCloud, "the volumes of this cloud cannot grow")
	}
	return nil
}

// changeParams are the parameters that every operation on an app that runs has.
func (c *Core) changeParams(r Reader, app App) (appParams, error) {
	ap := appParams{AppID: app.ID, AppNum: app.Num, Name: app.Name, ExtraGB: app.ExtraGB}
	if len(app.Nodes) > 0 {
		ap.NodeID, ap.NodeNum = app.Nodes[0].ID, app.Nodes[0].Num
	}
	volumes, err := r.Volumes(app.ID)
	if err == nil && len(volumes) > 0 {
		i := max(slices.IndexFunc(volumes, func(v Volume) bool { return v.NodeID != "" }), 0) // one that was replaced may be left
		ap.VolumeID, ap.VolumeNum = volumes[i].ID, volumes[i].Num
	}
	return ap, err
}

// CheckRestart says why RestartApp would be refused.
func (c *Core) CheckRestart(ctx context.Context, p Principal, num int64) error {
	return c.Store.View(ctx, func(r Reader) error {
		app, err := ownApp(r, p, num)
		if err != nil {
			return err
		}
		return idle(r, app)
	})
}

// RestartApp boots an app's node again; one that stopped is started.
//
// Errors: not_found, busy (the app's state, or another change)
func (c *Core) RestartApp(ctx context.Context, p Principal, num int64) (op operation.Record, err error) {
	err = c.Store.Update(ctx, func(tx Tx) error {
		app, err := ownApp(tx, p, num)
		if err != nil {
			return err
		}
		if err := idle(tx, app); err != nil {
			return err
		}
		ap, err := c.changeParams(tx, app)
		if err != nil {
			return err
		}
		op, err = c.enqueueApp(tx, p, "app.restart", OpAppRestart, ap, nil)
		return err
	})
	if err != nil {
		c.refused(ctx, p, "app.restart", numbered(num), err)
	}
	return op, err
}

// CheckRenew finds every problem with a renewal without changing anything.
func (c *Core) CheckRenew(ctx context.Context, p Principal, num int64, months int) (problems []Problem, err error) {
	err = c.Store.View(ctx, func(r Reader) error {
		app, err := ownApp(r, p, num)
		if err != nil {
			return err
		}
		if err := idle(r, app); err != nil {
			return err
		}
		problems = c.checkRenewal(app, months)
		return nil
	})
	return problems, err
}

func (c *Core) checkRenewal(app App, months int) []Problem {
	switch {
	case months < 1:
		return []Problem{{Field: "duration", Code: ProblemTooSmall, Msg: "at least one month"}}
	case months > MaxMonths || AddMonths(app.EndsAt, months).After(AddMonths(c.now(), MaxMonths)):
		return []Problem{{Field: "duration", Code: ProblemTooBig, Msg: "at most ten years from now"}}
	}
	return nil
}

// RenewApp lets an app run some months longer than it was to.
//
// Errors: not_found, busy (the app's state, or another change), invalid
func (c *Core) RenewApp(ctx context.Context, p Principal, num int64, months int) (ops []operation.Record, err error) {
	err = c.Store.Update(ctx, func(tx Tx) error {
		app, err := ownApp(tx, p, num)
		if err != nil {
			return err
		}
		if err := idle(tx, app); err != nil {
			return err
		}
		if problems := c.checkRenewal(app, months); len(problems) > 0 {
			return problemError(problems)
		}
		ap, err := c.changeParams(tx, app)
		if err != nil {
			return err
		}
		ap.Months, ap.EndsAt = months, AddMonths(app.EndsAt, months)
		ops, err = c.enqueueApps(tx, p, "app.renew", []string{OpAppRenewNode, OpAppRenewVolume}, ap, nil)
		return err
	})
	if err != nil {
		c.refused(ctx, p, "app.renew", numbered(num), err)
	}
	return ops, err
}

// changeApp changes the row of the operation's app, if it is still there.
func (c *Core) changeApp(ctx context.Context, run *operation.Run, change func(Tx, appParams, *App) error) error {
	var p appParams
	if err := run.Params(&p); err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		app, err := tx.App(p.AppID)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := change(tx, p, &app); err != nil {
			return err
		}
		return tx.PutApp(&app)
	})
}

func (c *Core) renew(ctx context.Context, run *operation.Run) error {
	return c.changeApp(ctx, run, func(_ Tx, p appParams, app *App) error {
		app.EndsAt = p.EndsAt
		return nil
	})
}

// keepName gives an app its old name back, unless somebody has it by now.
func (c *Core) keepName(ctx context.Context, run *operation.Run) error {
	return c.changeApp(ctx, run, func(tx Tx, p appParams, app *App) error {
		if p.OldName == "" || app.Name != p.Name {
			return nil
		}
		if _, err := tx.AppNamed(app.AccountID, p.OldName); isNotFound(err) {
			app.Name = p.OldName
		}
		return nil
	})
}

func (c *Core) resizeNode(ctx context.Context, run *operation.Run) error {
	return c.resize(ctx, run, func(p appParams) string { return p.SizeID })
}

func (c *Core) resizeBack(ctx context.Context, run *operation.Run) error {
	if err := c.resize(ctx, run, func(p appParams) string { return p.OldSizeID }); !isNotFound(err) {
		return err
	}
	return nil // somebody destroyed the node
}

func (c *Core) resize(ctx context.Context, run *operation.Run, to func(appParams) string) error {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil || !found || p.SizeID == "" || len(app.Nodes) == 0 {
		return err
	}
	node := app.Nodes[0]
	cloud, ok := c.Clouds.Cloud(node.Cloud)
	resizer, can := cloud.(ResizeCloud)
	if !ok || !can {
		return Errorf(Unsupported, ObjCloud, "cloud %q cannot change the size of nodes", node.Cloud)
	}
	if err := resizer.ResizeNode(ctx, node.CloudID, to(p)); err != nil {
		return cloudFailure(err, Unavailable, ObjNode, "resize the node")
	}
	if err := c.awaitAgent(ctx, run); err != nil { // it may have been rebooted for that
		return err
	}
	_, err = c.updateNode(ctx, node.ID, func(n *Node) { n.SizeID = to(p) })
	return err
}

func updateSecretOf(run *operation.Run) (updateSecret, error) {
	var s updateSecret
	if err := json.Unmarshal(run.Secret(), &s); err != nil {
		return s, fmt.Errorf("read the secret of the operation: %w", err)
	}
	return s, nil
}

// setLogin brings an app's login to what it is to be, and stores that. Without a hash the host keeps the password it has.
func (c *Core) setLogin(ctx context.Context, agent Agent, app App, login AppLogin) error {
	p := agentapi.SetLoginParams{App: appName(app), KeepPassword: len(login.PasswordHash) == 0, Login: &agentapi.AppLogin{
		User: fmt.Sprint(app.Login), PasswordHash: agentapi.Secret(login.PasswordHash), Shell: login.Console, Keys: login.Keys}}
	if err := agent.SetLogin(ctx, p); err != nil {
		return classified(err, Internal, ObjApp, "set the login")
	}
	login.AppID = app.ID
	return c.Store.Update(ctx, func(tx Tx) error { return tx.PutAppLogin(login) })
}

func (c *Core) updateLogin(ctx context.Context, run *operation.Run) error {
	secret, err := updateSecretOf(run)
	if err != nil {
		return err
	}
	_, app, _, agent, err := c.appAgent(ctx, run)
	if err != nil || !secret.Login || c.HashPassword == nil {
		return err
	}
	login := secret.After
	if secret.Password != "" {
		hash, err := c.HashPassword(secret.Password)
		if err != nil {
			return err
		}
		login.PasswordHash = []byte(hash)
	}
	return c.setLogin(ctx, agent, app, login)
}

func (c *Core) restoreLogin(ctx context.Context, run *operation.Run) error {
	secret, err := updateSecretOf(run)
	if err != nil {
		return err
	}
	_, app, found, err := c.appOf(ctx, run)
	if err != nil || !found || len(app.Nodes) == 0 || !secret.Login || c.HashPassword == nil {
		return err
	}
	if len(secret.Before.PasswordHash) == 0 && secret.Password != "" {
		c.Log.Warn("the login keeps its new password: the old one is not known", "app", app.ID)
	}
	agent, err := c.Agents.Agent(app.Nodes[0])
	if err != nil {
		return err
	}
	return c.setLogin(ctx, agent, app, secret.Before)
}

// updateRootPassword cannot be taken back, because nobody keeps the old password. So it is the last thing that is done: by
// the operation of the volume when there is one.
func (c *Core) updateRootPassword(ctx context.Context, run *operation.Run) error {
	secret, err := updateSecretOf(run)
	if err != nil {
		return err
	}
	p, app, _, agent, err := c.appAgent(ctx, run)
	if err != nil || secret.RootPassword == "" || app.Engine == "" || p.Both && run.Operation.Kind == OpAppUpdateNode {
		return err
	}
	return c.setDatabasePassword(ctx, agent, app, secret.RootPassword)
}

func (c *Core) finishUpdate(ctx context.Context, run *operation.Run) error {
	return c.changeApp(ctx, run, func(_ Tx, p appParams, app *App) error {
		if p.SizeID != "" {
			app.SizeID = p.SizeID
		}
		return nil
	})
}

func (c *Core) unfinishUpdate(ctx context.Context, run *operation.Run) error {
	return c.changeApp(ctx, run, func(_ Tx, p appParams, app *App) error {
		if p.SizeID != "" {
			app.SizeID = p.OldSizeID
		}
		return nil
	})
}

// growVolume makes the volume larger at its cloud. It is not taken back: volumes do not shrink, and the next try finds it.
func (c *Core) growVolume(ctx context.Context, run *operation.Run) error {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil || !found {
		return err
	}
	if p.ExtraGB <= app.ExtraGB {
		return nil
	}
	vol, err := view(ctx, c.Store, func(r Reader) (Volume, error) { return r.Volume(p.VolumeID) })
	if err != nil {
		return err
	}
	cloud, ok := c.Clouds.Cloud(vol.Cloud)
	grower, can := cloud.(GrowCloud)
	if !ok || !can {
		return Errorf(Unsupported, ObjCloud, "the volumes of cloud %q cannot grow", vol.Cloud)
	}
	cv, err := grower.GrowVolume(ctx, vol.CloudID, int64(app.BaseDiskGB+p.ExtraGB)<<30)
	if err != nil {
		return cloudFailure(err, Unavailable, ObjVolume, "grow the data volume")
	}
	vol.SizeBytes = cv.SizeBytes
	return c.Store.Update(ctx, func(tx Tx) error { return tx.PutVolume(&vol) })
}

func (c *Core) growFilesystem(ctx context.Context, run *operation.Run) error {
	p, app, _, agent, err := c.appAgent(ctx, run)
	if err != nil || p.ExtraGB <= app.ExtraGB {
		return err
	}
	_, err = agent.GrowVolume(ctx, agentapi.GrowVolumeParams{MPoint: dataMount})
	return classified(err, Internal, ObjVolume, "grow the filesystem of the data volume")
}

func (c *Core) finishGrowth(ctx context.Context, run *operation.Run) error {
	return c.changeApp(ctx, run, func(tx Tx, p appParams, app *App) error {
		app.ExtraGB = max(app.ExtraGB, p.ExtraGB)
		if p.Profile == nil {
			return nil
		}
		return c.setProfile(tx, app, *p.Profile)
	})
}

func (c *Core) restartNode(ctx context.Context, run *operation.Run) error {
	_, app, found, err := c.appOf(ctx, run)
	if err != nil {
		return err
	}
	if !found || len(app.Nodes) == 0 {
		return Errorf(NotFound, ObjApp, "the app has no node any more")
	}
	cloud, ok := c.Clouds.Cloud(app.Nodes[0].Cloud)
	if !ok {
		return Errorf(NotFound, ObjCloud, "cloud %q is not configured any more; put it back to go on", app.Nodes[0].Cloud)
	}
	return cloudFailure(cloud.RebootNode(ctx, app.Nodes[0].CloudID), Unavailable, ObjNode, "restart the node")
}

// startServices makes sure that what serves the app is up; after a boot it starts by itself.
func (c *Core) startServices(ctx context.Context, run *operation.Run) error {
	_, app, _, agent, err := c.appAgent(ctx, run)
	if err != nil {
		return err
	}
	for _, service := range app.services() {
		if err := agent.StartService(ctx, service); err != nil {
			return classified(err, Internal, ObjApp, "start "+service)
		}
	}
	return c.startAgain(ctx, app)
}

// services are those of its node that an app needs.
func (a App) services() []string {
	var names []string
	if a.Engine != "" {
		names = append(names, a.Engine)
	}
	if a.hasVHosts() {
		names = append(names, "apache")
	}
	return names
}
