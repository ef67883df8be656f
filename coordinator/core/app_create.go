package core

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

const (
	baseDiskGB = 10
	// MaxMonths is how far in the future an app may end.
	MaxMonths = 120
	maxRoutes = 100 // per app; each one costs a look-up of its ownership
)

// appParams are the parameters of an app's operations; they never hold a secret.
type appParams struct {
	AppID       AppID  `json:"app_id"`
	AppNum      int64  `json:"app_num"`
	NodeID      NodeID `json:"node_id,omitempty"`
	NodeNum     int64  `json:"node_num,omitempty"`
	VolumeID    string `json:"volume_id,omitempty"`
	VolumeNum   int64  `json:"volume_num,omitempty"`
	LocationNum int64  `json:"location_num,omitempty"`
	Months      int    `json:"months,omitempty"`
	ExtraGB     int    `json:"extra_gb,omitempty"`
	Name        string `json:"name"`
	Route       string `json:"route,omitempty"`
	RouteID     string `json:"route_id,omitempty"`
	FromID      AppID  `json:"from_id,omitempty"`     // whom the route was taken from
	Certificate int64  `json:"certificate,omitempty"` // number of the uploaded certificate that is the reason
	Removes     bool   `json:"removes,omitempty"`     // it goes
	// Of updates; what does not change is absent.
	SizeID    string    `json:"size_id,omitempty"`
	OldSizeID string    `json:"old_size_id,omitempty"`
	OldName   string    `json:"old_name,omitempty"`
	Both      bool      `json:"both,omitempty"` // an operation of the node and one of the volume
	EndsAt    time.Time `json:"ends_at,omitzero"`
	// Of the creation of an app that runs as units: what its first roll reads as rollParams.
	Release int  `json:"release,omitempty"`
	Count   int  `json:"count,omitempty"`
	Deploy  bool `json:"deploy,omitempty"`
	// Profile is the new one of snapshots; 0 is none.
	Profile *int64 `json:"snapshot_profile,omitempty"`
	// Of operations with snapshots.
	SnapshotID  string `json:"snapshot_id,omitempty"`
	SnapshotNum int64  `json:"snapshot_num,omitempty"`
	NewVolumeID string `json:"new_volume_id,omitempty"` // takes the place of VolumeID
}

// appSecret is what the steps of a creation need and nobody may see.
type appSecret struct {
	Password string `json:"password"` // the owner's
	Database string `json:"database"` // of the app's database user
}

// plan is a checked AppSpec with everything looked up.
type plan struct {
	spec     AppSpec
	kind     AppType
	image    Image
	location Location
	routes   []string
	keys     []string
}

// CheckApp finds every problem of a spec without changing anything; none means that CreateApp would accept it.
func (c *Core) CheckApp(ctx context.Context, p Principal, spec AppSpec) ([]Problem, error) {
	_, problems, err := c.planApp(ctx, p, spec)
	if err != nil {
		return nil, err
	}
	err = c.Store.View(ctx, func(r Reader) error { return c.checkQuota(r, p.Account.ID, spec.Name) })
	if err != nil && KindOf(err) == Exists {
		return append(problems, Problem{Field: "name", Code: ProblemTaken, Msg: "an app of this name exists"}), nil
	}
	return problems, err
}

// planApp checks a spec. Problems come in the order in which members are checked: those that need no look-up first.
func (c *Core) planApp(ctx context.Context, p Principal, spec AppSpec) (plan, []Problem, error) {
	pl := plan{spec: spec}
	var problems []Problem
	bad := func(field string, code ProblemCode, msg string, allowed ...string) {
		problems = append(problems, Problem{Field: field, Code: code, Msg: msg, Allowed: allowed})
	}
	cloud, err := c.appCloud()
	if err != nil {
		return pl, nil, err
	}
	problems = append(problems, checkName(spec.Name)...)
	sizes, err := cloud.Sizes(ctx)
	if err != nil {
		return pl, nil, err
	}
	if !slices.ContainsFunc(sizes, func(s Size) bool { return s.ID == spec.SizeID }) {
		bad("size", ProblemNotInList, "no such size", sizeIDs(sizes)...)
	}
	if i := slices.IndexFunc(c.Types, func(t AppType) bool { return t.Name == spec.Type }); i >= 0 {
		pl.kind = c.Types[i]
	} else {
		var names []string
		for _, t := range c.Types {
			names = append(names, t.Name)
		}
		bad("type", ProblemNotInList, "no such type", names...)
	}
	locations, err := cloud.Locations(ctx)
	if err != nil {
		return pl, nil, err
	}
	i := slices.IndexFunc(locations, func(l Location) bool {
		return spec.LocationID != "" && l.ID == spec.LocationID || spec.LocationID == "" && l.Num == spec.LocationNo
	})
	if i >= 0 {
		pl.location = locations[i]
	} else {
		bad("location", ProblemNotFound, "no such location")
	}
	switch {
	case spec.Months < 1:
		bad("duration", ProblemTooSmall, "at least one month")
	case spec.Months > MaxMonths:
		bad("duration", ProblemTooBig, "at most ten years")
	}
	switch {
	case spec.ExtraGB < 0:
		bad("quantity", ProblemTooSmall, "the additional disk size is not negative")
	case spec.ExtraGB > c.MaxDiskGB-baseDiskGB: // not the other way round: the sum may overflow
		bad("quantity", ProblemTooBig, "the disk would be larger than is allowed")
	}
	problems = append(problems, c.checkProfile(spec.SnapshotProfile, baseDiskGB+max(spec.ExtraGB, 0))...)
	err = c.Store.View(ctx, func(r Reader) (err error) {
		var more []Problem
		pl.keys, more, err = loginKeys(r, p.Account.ID, spec.KeyNums, spec.Keys)
		problems = append(problems, more...)
		return err
	})
	if err != nil {
		return pl, nil, err
	}
	if !goodPassword(spec.Password) && (spec.Password != "" || len(spec.KeyNums)+len(spec.Keys) == 0) {
		bad("password", ProblemPassword, passwordRule)
	}
	routes, more, err := c.checkRoutes(ctx, p.Account.ID, spec.Routes)
	pl.routes = routes
	if problems = append(problems, more...); err != nil || len(problems) > 0 {
		return pl, problems, err // what the caller can mend comes first
	}
	if !cloud.Info().Agents || !cloud.Info().Volumes {
		return pl, nil, Errorf(Unsupported, ObjCloud, "apps need a cloud whose nodes run our agent and have volumes; %q has not", c.AppCloud)
	}
	if c.Files == nil && !(App{Platform: pl.kind.Platform}).hasVHosts() {
		return pl, nil, Errorf(Unsupported, ObjApp, "releases are not kept here, and %s runs from one", pl.kind.PlatformLabel)
	}
	images, err := cloud.Images(ctx)
	if err != nil {
		return pl, nil, err
	}
	pl.image, err = c.imageFor(images, pl.kind.Platform)
	return pl, nil, err
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && r != ' ' }) < 0
}

const passwordRule = "a password has 8 to 64 printable characters and no colon"

func goodPassword(s Secret) bool {
	n := utf8.RuneCountInString(string(s))
	return n >= 8 && n <= 64 && printable(string(s)) && !strings.Contains(string(s), ":")
}

// CreateApp asks for an app with a node, a volume, a database and routes of its own. The app is there, and listed, when
// CreateApp returns; three operations bring it up: node, volume and database, code and routes.
//
// Errors: invalid or unproven (Problems holds all), exists (name, route), quota, unavailable (no image yet)
// Effects: a node, a volume, routes on the routers
func (c *Core) CreateApp(ctx context.Context, p Principal, spec AppSpec) (App, []operation.Record, error) {
	app, ops, err := c.createApp(ctx, p, spec)
	if err != nil {
		c.refused(ctx, p, "app.create", spec.Name, err)
	}
	return app, ops, err
}

func (c *Core) createApp(ctx context.Context, p Principal, spec AppSpec) (App, []operation.Record, error) {
	if err := known(p); err != nil {
		return App{}, nil, err
	}
	pl, problems, err := c.planApp(ctx, p, spec)
	if err != nil {
		return App{}, nil, err
	}
	if len(problems) > 0 {
		return App{}, nil, problemError(problems)
	}
	now := c.now()
	app := App{ID: AppID("app-" + randomHex(8)), AccountID: p.Account.ID, Name: spec.Name, Platform: pl.kind.Platform,
		Engine: pl.kind.Engine, SizeID: spec.SizeID, LocationID: pl.location.ID, Cloud: c.AppCloud, State: AppCreating,
		BaseDiskGB: baseDiskGB, ExtraGB: spec.ExtraGB, StartsAt: now.Truncate(time.Second), EndsAt: AddMonths(now.Truncate(time.Second), spec.Months), CreatedAt: now}
	app.SnapshotProfile = spec.SnapshotProfile
	var group operation.Group
	err = c.Store.Update(ctx, func(tx Tx) error {
		app.Num, app.Nodes, app.Routes = 0, nil, nil // Update may run this again
		if err := c.checkQuota(tx, p.Account.ID, spec.Name); err != nil {
			return err
		}
		if err := tx.PutApp(&app); err != nil {
			return err
		}
		app.Login = firstLogin + app.Num
		if err := tx.PutApp(&app); err != nil {
			return err
		}
		node := c.newNode(p.Account.ID, c.AppCloud, pl.image.ID, spec.SizeID, RoleApp, RoleDB)
		node.AppID = app.ID
		if err := tx.PutNode(&node); err != nil {
			return err
		}
		if len(pl.keys) > 0 {
			if err := tx.PutAppLogin(AppLogin{AppID: app.ID, Keys: pl.keys}); err != nil {
				return err
			}
		}
		vol := Volume{ID: "vol-" + randomHex(8), AppID: app.ID, Cloud: c.AppCloud, SizeBytes: int64(baseDiskGB+spec.ExtraGB) << 30, CreatedAt: now}
		vol.Key = vol.ID
		if err := tx.PutVolume(&vol); err != nil {
			return err
		}
		if err := c.putTurns(tx, app); err != nil {
			return err
		}
		password := randomWord()
		if pl.kind.Engine != "" {
			si := ServiceInstance{ID: "svc-" + randomHex(8), AppID: app.ID, Engine: pl.kind.Engine, Database: "app", User: "app",
				Password: []byte(password), CreatedAt: now}
			if err := tx.PutServiceInstance(&si); err != nil {
				return err
			}
			if !app.hasVHosts() {
				// Not by name: some runtimes take localhost for ::1, where no server listens.
				for name, value := range databaseEnv(si, "127.0.0.1", string(password)) {
					if err := tx.PutEnv(app.ID, EnvVar{Name: name, Value: Secret(value), Tag: si.ID}); err != nil {
						return err
					}
				}
			}
		}
		for _, name := range pl.routes {
			route := Route{ID: "rt-" + randomHex(8), AppID: app.ID, Hostname: name, State: RouteCreating, CreatedAt: now}
			if err := tx.PutRoute(&route); err != nil {
				return err
			}
			app.Routes = append(app.Routes, route)
		}
		app.Nodes = []Node{node}
		secret, err := json.Marshal(appSecret{Password: string(spec.Password), Database: string(password)})
		if err != nil {
			return err
		}
		ap := appParams{AppID: app.ID, AppNum: app.Num, NodeID: node.ID, NodeNum: node.Num, VolumeID: vol.ID, VolumeNum: vol.Num,
			LocationNum: pl.location.Num, Months: spec.Months, ExtraGB: spec.ExtraGB, Name: app.Name}
		last := OpAppCreateRoute
		if !app.hasVHosts() {
			last = OpAppCreateUnits
			ap.Release, ap.Count, ap.Deploy = 1, 1, true
			rel := Release{AppID: app.ID, Number: ap.Release, State: ReleaseBuilding, Origin: OriginWelcome, Account: p.Account.Email, CreatedAt: now}
			if err := tx.PutRelease(&rel); err != nil {
				return err
			}
		}
		params, err := json.Marshal(ap)
		if err != nil {
			return err
		}
		group = c.newGroup(p, string(app.ID), params, OpAppCreateNode, OpAppCreateVolume, last)
		group.Secret = secret
		if err := tx.Enqueue(&group); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "app.create", string(app.ID), group.Operations[0].ID, "accepted"))
	})
	return app, group.Operations, err
}

func (c *Core) checkQuota(r Reader, account AccountID, name string) error {
	if q, err := c.accountQuota(r, account); err != nil {
		return err
	} else if q.Limit >= 0 && q.InUse >= q.Limit {
		return Errorf(Quota, ObjApp, "the account has its %d apps already", q.Limit)
	}
	switch _, err := r.AppNamed(account, name); {
	case err == nil:
		return Errorf(Exists, ObjApp, "an app of this name exists")
	case !isNotFound(err):
		return err
	}
	return nil
}

func (c *Core) newNode(account AccountID, cloud, image, size string, roles ...Role) Node {
	id := randomHex(6)
	return Node{ID: NodeID("node-" + id), AccountID: account, Cloud: cloud, Key: "node-" + id, Name: "rv-" + id, ImageID: image, SizeID: size,
		Roles: roles, State: NodePending, AgentKey: randomBytes(40), CreatedAt: c.now()}
}

// newGroup makes a group of operations on one subject that share their parameters.
func (c *Core) newGroup(p Principal, subject string, params json.RawMessage, kinds ...string) operation.Group {
	var g operation.Group
	defs := c.Definitions()
	for i, kind := range kinds {
		d := defs[slices.IndexFunc(defs, func(d operation.Definition) bool { return d.Kind == kind })]
		g.Operations = append(g.Operations, operation.Record{Seq: i, Kind: kind, Account: string(p.Account.ID), Subject: subject,
			Params: params, Steps: len(d.Steps)})
	}
	return g
}

func problemError(problems []Problem) error {
	first := problems[0]
	e := Errorf(Invalid, ObjApp, "%s", first.Msg)
	switch first.Code {
	case ProblemUnproven:
		e.Kind, e.Object = Unproven, ObjRoute
	case ProblemTaken:
		e.Kind, e.Object = Exists, ObjRoute
	}
	e.Problems = problems
	return e
}

// AddMonths adds calendar months and clamps to the last day of the month.
func AddMonths(t time.Time, months int) time.Time {
	first := time.Date(t.Year(), t.Month()+time.Month(months), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}
