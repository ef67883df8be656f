package core

import (
	"context"
	"crypto/sha256"
	"regexp"
	"slices"
	"strings"
	"time"
)

// AppTokenTTL is how long the token of an app is good.
const AppTokenTTL = 365 * 24 * time.Hour

// maxUnitMB is the most memory one unit may ask for.
const maxUnitMB = 64 << 10

// Variables that every shared app has. Spec tsuru 5.4.
const (
	EnvAppName  = "TSURU_APPNAME"
	EnvHost     = "TSURU_HOST"
	EnvAppToken = "TSURU_APP_TOKEN"
	EnvAppDir   = "TSURU_APPDIR"
	EnvServices = "TSURU_SERVICES"
)

// EnvMemory is the memory of a unit in MiB, where it is limited: not every runtime can find out by itself.
const EnvMemory = "REEVE_MEMORY_MB"

var appPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// SharedAppSpec asks for an app that shares nodes with others.
type SharedAppSpec struct {
	Name      string // a lower-case letter, then up to 62 of a-z, 0-9 and -
	Platform  string // one of Platforms
	TeamOwner string // "": the caller's only team
	MemoryMB  int    // of each unit; 0: no limit of its own
	SwapMB    int    // likewise
	API       string // base URL under which programs of the app reach us
}

// appDomain is the zone that the generated names of apps are in.
func (c *Core) appDomain() string {
	if c.AppDomain == "" {
		return "apps.test"
	}
	return c.AppDomain
}

// Address is the generated name of an app, which routers know it by; "" when it has none.
func (a App) Address() string {
	for _, r := range a.Routes {
		if r.Generated {
			return r.Hostname
		}
	}
	return ""
}

// CreateSharedApp makes an app that runs as units on the pool. It has no unit until something is deployed. Every team of the
// caller may use it.
//
// Errors, in the order of the checks: quota with ObjUnit (memory), invalid (no team, platform, several teams and no owner),
// forbidden (owner), invalid (name), quota (apps), exists
// Source: spec tsuru 1.1b, 1.1c
func (c *Core) CreateSharedApp(ctx context.Context, p Principal, spec SharedAppSpec) (App, error) {
	now := c.now()
	app := App{ID: AppID("app-" + randomHex(8)), AccountID: p.Account.ID, Name: spec.Name, Platform: spec.Platform, Cloud: c.AppCloud,
		State: AppRunning, Placement: PlacementShared, MemoryMB: spec.MemoryMB, SwapMB: spec.SwapMB, StartsAt: now, CreatedAt: now}
	token := randomHex(20)
	platforms := c.Platforms(ctx)
	err := c.change(ctx, p, "app.create", string(app.ID), func(tx Tx) error {
		app.Num, app.Routes, app.Teams = 0, nil, nil // Update may run this again
		if spec.MemoryMB < 0 || spec.SwapMB < 0 || spec.MemoryMB > maxUnitMB || spec.SwapMB > maxUnitMB {
			return Errorf(Quota, ObjUnit, "a unit has at most %d MB of memory and of swap", maxUnitMB)
		}
		owner, teams, err := c.ownerOf(tx, p, spec, platforms)
		if err != nil {
			return err
		}
		if err := c.checkSharedName(tx, p, spec.Name); err != nil {
			return err
		}
		if err := tx.PutApp(&app); err != nil {
			if KindOf(err) == Exists {
				return appExists(spec.Name)
			}
			return err
		}
		for _, t := range teams {
			app.Teams = append(app.Teams, t.Name)
			if err := tx.PutAppTeam(app.ID, t.Name, t.Name == owner); err != nil {
				return err
			}
		}
		if !slices.Contains(app.Teams, owner) { // an administrator's choice
			app.Teams = append(app.Teams, owner)
			if err := tx.PutAppTeam(app.ID, owner, true); err != nil {
				return err
			}
		}
		app.TeamOwner = owner
		route := Route{ID: "rt-" + randomHex(8), AppID: app.ID, Hostname: spec.Name + "." + c.appDomain(), State: RouteRunning, Generated: true, CreatedAt: now}
		if err := tx.PutRoute(&route); err != nil {
			return err
		}
		app.Routes = []Route{route}
		if err := c.putAppToken(tx, app, token); err != nil {
			return err
		}
		for name, value := range map[string]string{EnvAppName: app.Name, EnvHost: spec.API, EnvAppDir: appsBase + "/" + appName(app) + "/current", EnvServices: "{}"} {
			if err := tx.PutEnv(app.ID, EnvVar{Name: name, Value: Secret(value)}); err != nil {
				return err
			}
		}
		return nil
	})
	return app, err
}

// ownerOf checks team and platform, in the order in which clients of the original see their mistakes.
func (c *Core) ownerOf(tx Tx, p Principal, spec SharedAppSpec, platforms []string) (string, []Team, error) {
	teams, err := tx.Teams(p.Account.ID)
	if err != nil {
		return "", nil, err
	}
	if len(teams) == 0 {
		_, _, err := ownerTeam(tx, p, "")
		return "", nil, err
	}
	if !slices.Contains(platforms, spec.Platform) {
		return "", nil, Errorf(Invalid, ObjApp, "Invalid platform")
	}
	if least := c.PlatformNeeds[spec.Platform].MemoryMB; spec.MemoryMB > 0 && spec.MemoryMB < least {
		return "", nil, Errorf(Invalid, ObjApp, "a unit of platform %s needs %d MB of memory, not %d", spec.Platform, least, spec.MemoryMB)
	}
	return ownerTeam(tx, p, spec.TeamOwner)
}

func (c *Core) checkSharedName(tx Tx, p Principal, name string) error {
	if !appPattern.MatchString(name) || name == "tsr" || slices.Contains(c.PlatformNames, name) {
		return Errorf(Invalid, ObjApp, "Invalid app name, your app should have at most 63 characters, containing only lower case letters, numbers or dashes, starting with a letter. Names of platforms are taken.")
	}
	q, err := c.accountQuota(tx, p.Account.ID)
	if err != nil {
		return err
	}
	if q.Limit >= 0 && q.InUse >= q.Limit {
		return Errorf(Quota, ObjApp, "Quota exceeded")
	}
	if _, err := tx.SharedApp(name); err == nil {
		return appExists(name)
	} else if !isNotFound(err) {
		return err
	}
	if _, err := tx.Route(name + "." + c.appDomain()); err == nil {
		return appExists(name) // another app was swapped with one that is gone, and has its address
	} else if !isNotFound(err) {
		return err
	}
	return nil
}

func appExists(name string) error {
	return Errorf(Exists, ObjApp, "there is already an app with this name: %s already exists", name)
}

// putAppToken gives an app a token and lets its programs know it.
func (c *Core) putAppToken(tx Tx, app App, token string) error {
	now := c.now()
	err := tx.PutCredential(Credential{Hash: sha256.Sum256([]byte(token)), Kind: CredentialApp, AccountID: app.AccountID, AppID: app.ID,
		CreatedAt: now, ExpiresAt: now.Add(AppTokenTTL)})
	if err != nil {
		return err
	}
	return tx.PutEnv(app.ID, EnvVar{Name: EnvAppToken, Value: Secret(token)})
}

// NewAppToken makes another token for an app, for administrators. With export it becomes the app's own.
//
// Errors: forbidden, not_found
func (c *Core) NewAppToken(ctx context.Context, p Principal, name string, export bool) (token Secret, created time.Time, err error) {
	text := randomHex(20)
	created = c.now()
	err = c.change(ctx, p, "app.token", name, func(tx Tx) error {
		if err := requireAdmin(tx, p); err != nil {
			return err
		}
		app, err := usableApp(tx, p, name)
		if err != nil {
			return err
		}
		if export {
			return c.putAppToken(tx, app, text)
		}
		return tx.PutCredential(Credential{Hash: sha256.Sum256([]byte(text)), Kind: CredentialApp, AccountID: app.AccountID, AppID: app.ID,
			CreatedAt: created, ExpiresAt: created.Add(AppTokenTTL)})
	})
	return Secret(text), created, err
}

// ownName says that a host name is one that apps are given, and nobody may ask for.
func (c *Core) ownName(hostname string) bool {
	return hostname == c.appDomain() || strings.HasSuffix(hostname, "."+c.appDomain())
}

// Unlock takes an app away from whatever operation works on it, which is asked to stop and undone. For administrators.
//
// Errors: forbidden, not_found
func (c *Core) Unlock(ctx context.Context, p Principal, name string) (App, error) {
	var app App
	err := c.change(ctx, p, "app.unlock", name, func(tx Tx) error {
		if err := requireAdmin(tx, p); err != nil {
			return err
		}
		var err error
		if app, err = usableApp(tx, p, name); err != nil {
			return err
		}
		_, err = tx.RequestCancel(string(app.ID), "")
		return err
	})
	return app, err
}
