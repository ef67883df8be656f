package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// Kinds of the operations on apps.
const (
	OpAppCreateNode   = "app.create.node"
	OpAppCreateVolume = "app.create.volume"
	OpAppCreateRoute  = "app.create.route"
	OpAppCreateUnits  = "app.create.units" // in its place, of an app that runs as units
	OpAppDelete       = "app.delete"
)

const (
	dataMount = "/srv/data"
	appsBase  = "/srv/apps" // bound from the volume
)

func (c *Core) appOperations() []operation.Definition {
	return []operation.Definition{
		{Kind: OpAppCreateNode, Steps: append([]operation.Step{
			{Name: "claim", Do: func(context.Context, *operation.Run) error { return nil }, Undo: c.failApp},
		}, c.bootSteps()...)},
		{Kind: OpAppCreateVolume, Steps: []operation.Step{
			{Name: "create volume", Do: c.createVolume, Undo: c.destroyNodesAndVolumes, Timeout: 3 * time.Minute},
			{Name: "mount volume", Do: c.mountVolume, Timeout: 3 * time.Minute},
			{Name: "set up services", Do: atOnce(c.createDatabase, c.deployApp), Timeout: 3 * time.Minute},
		}},
		{Kind: OpAppCreateRoute, Steps: []operation.Step{
			{Name: "publish routes", Do: c.publishRoutes, Undo: c.withdrawRoutes, Timeout: 3 * time.Minute},
			{Name: "finish", Do: c.finishApp},
		}},
		{Kind: OpAppCreateUnits, Steps: slices.Concat([]operation.Step{
			{Name: "claim", Do: func(context.Context, *operation.Run) error { return nil }, Undo: c.failRelease},
			{Name: "store the welcome page", Do: c.storeWelcome, Undo: c.dropBuild, Timeout: time.Minute},
			{Name: "build", Do: c.buildRelease, Undo: c.dropBuild, Timeout: 40 * time.Minute},
		}, c.rollSteps(), []operation.Step{{Name: "finish app", Do: c.finishApp}})},
		{Kind: OpAppDelete, Steps: []operation.Step{
			{Name: "wait for others", Do: c.waitForOthers, Timeout: 10 * time.Minute},
			{Name: "withdraw routes", Do: c.withdrawRoutes, Timeout: 5 * time.Minute},
			{Name: "unbind services", Do: c.unbindAll, Timeout: 5 * time.Minute},
			{Name: "destroy nodes", Do: c.destroyAppNodes, Timeout: 5 * time.Minute},
			{Name: "remove from the pool", Do: c.removeFromPool, Timeout: 5 * time.Minute},
			{Name: "destroy volumes", Do: c.destroyVolumes, Timeout: 5 * time.Minute},
			{Name: "destroy snapshots", Do: c.destroySnapshots, Timeout: 10 * time.Minute},
			{Name: "drop releases", Do: c.dropReleases, Timeout: time.Minute},
			{Name: "release address", Do: c.releaseAddress},
			{Name: "forget app", Do: c.forgetApp},
		}},
	}
}

// atOnce does several things that do not need each other side by side. All are waited for; the first failure counts.
func atOnce(dos ...func(context.Context, *operation.Run) error) func(context.Context, *operation.Run) error {
	return func(ctx context.Context, run *operation.Run) error {
		errs := make([]error, len(dos))
		var wg sync.WaitGroup
		for i, do := range dos {
			wg.Go(func() {
				defer func() {
					if v := recover(); v != nil { // the engine sees panics of its own goroutine only
						errs[i] = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
					}
				}()
				errs[i] = do(ctx, run)
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil && !operation.Temporary(err) {
				return err // not to be retried, whatever else failed
			}
		}
		return errors.Join(errs...)
	}
}

// appOf loads the app of the operation; found is false when it was forgotten already.
func (c *Core) appOf(ctx context.Context, run *operation.Run) (p appParams, app App, found bool, err error) {
	if err = run.Params(&p); err != nil {
		return p, app, false, err
	}
	app, err = view(ctx, c.Store, func(r Reader) (App, error) { return r.App(p.AppID) })
	if isNotFound(err) {
		return p, app, false, nil
	}
	return p, app, err == nil, err
}

// appAgent loads the app, its node and the agent on it.
func (c *Core) appAgent(ctx context.Context, run *operation.Run) (appParams, App, Node, Agent, error) {
	p, app, found, err := c.appOf(ctx, run)
	if err != nil {
		return p, app, Node{}, nil, err
	}
	if !found || len(app.Nodes) == 0 {
		return p, app, Node{}, nil, Errorf(NotFound, ObjApp, "the app has no node any more")
	}
	agent, err := c.Agents.Agent(app.Nodes[0])
	return p, app, app.Nodes[0], agent, err
}

func (c *Core) failApp(ctx context.Context, run *operation.Run) error {
	p, _, found, err := c.appOf(ctx, run)
	if err != nil || !found {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		app, err := tx.App(p.AppID)
		if err != nil {
			return err
		}
		for _, r := range app.Routes {
			r.State = RouteFailed
			if err := tx.PutRoute(&r); err != nil {
				return err
			}
		}
		if app.State == AppDeleting {
			return nil
		}
		app.State = AppFailed
		return tx.PutApp(&app)
	})
}

func (c *Core) volumeCloud(name string) (VolumeCloud, error) {
	cloud, ok := c.Clouds.Cloud(name)
	if !ok {
		return nil, Errorf(NotFound, ObjCloud, "cloud %q is not configured any more; put it back to go on", name)
	}
	vc, ok := cloud.(VolumeCloud)
	if !ok {
		return nil, Errorf(Unsupported, ObjVolume, "cloud %q has no volumes", name)
	}
	return vc, nil
}

func (c *Core) createVolume(ctx context.Context, run *operation.Run) error {
	p, app, _, err := c.appOf(ctx, run)
	if err != nil {
		return err
	}
	if len(app.Nodes) == 0 {
		return Errorf(NotFound, ObjApp, "the app has no node any more")
	}
	node := app.Nodes[0]
	vol, err := view(ctx, c.Store, func(r Reader) (Volume, error) { return r.Volume(p.VolumeID) })
	if err != nil {
		return err
	}
	vc, err := c.volumeCloud(vol.Cloud)
	if err != nil {
		return err
	}
	cv, err := vc.CreateVolume(ctx, vol.Key, vol.SizeBytes)
	if err != nil {
		return cloudFailure(err, Internal, ObjVolume, "create the data volume")
	}
	device, err := vc.AttachVolume(ctx, cv.ID, node.CloudID)
	if err != nil {
		return cloudFailure(err, Internal, ObjVolume, "attach the data volume")
	}
	vol.CloudID, vol.NodeID, vol.Device = cv.ID, node.ID, device
	return c.Store.Update(ctx, func(tx Tx) error { return tx.PutVolume(&vol) })
}

func (c *Core) mountVolume(ctx context.Context, run *operation.Run) error {
	p, app, _, agent, err := c.appAgent(ctx, run)
	if err != nil {
		return err
	}
	vol, err := view(ctx, c.Store, func(r Reader) (Volume, error) { return r.Volume(p.VolumeID) })
	if err != nil {
		return err
	}
	return c.mountData(ctx, agent, app, vol)
}

// mountData mounts the volume of an app's data, which may be empty, where everything expects it.
func (c *Core) mountData(ctx context.Context, agent Agent, app App, vol Volume) error {
	// A bound directory's unit does not start before its volume is there: at a boot the web server would fail for want of
	// its sites, and the database would begin an empty one. Units of apps wait by themselves.
	apps := agentapi.BindMount{Source: "apps", Target: appsBase}
	if app.hasVHosts() {
		apps.Unit = "apache2.service"
	}
	params := agentapi.MountVolumeParams{Device: vol.Device, MPoint: dataMount, Binds: []agentapi.BindMount{apps}}
	if bind, ok := databaseBinds[app.Engine]; ok {
		params.Binds = append(params.Binds, bind)
	}
	_, err := agent.MountVolume(ctx, params)
	return classified(err, Internal, ObjVolume, "mount the data volume")
}

func appSecretOf(run *operation.Run) (appSecret, error) {
	var s appSecret
	if err := json.Unmarshal(run.Secret(), &s); err != nil {
		return s, fmt.Errorf("read the secret of the operation: %w", err)
	}
	return s, nil
}

// databaseBinds are where the node image's database servers keep their data.
var databaseBinds = map[string]agentapi.BindMount{
	agentapi.EngineMySQL:      {Source: "mysql", Target: "/var/lib/mysql", Unit: "mariadb.service"},
	agentapi.EnginePostgreSQL: {Source: "postgresql", Target: "/var/lib/postgresql", Unit: "postgresql@15-main.service"},
}

// databaseAdmin is the user of the whole server, whose password the app's owner chose.
var databaseAdmin = map[string]string{
	agentapi.EngineMySQL: "root", agentapi.EnginePostgreSQL: "postgres", agentapi.EngineMongoDB: "scalr",
}

func (c *Core) createDatabase(ctx context.Context, run *operation.Run) error {
	_, app, _, agent, err := c.appAgent(ctx, run)
	if err != nil || app.Engine == "" {
		return err
	}
	secret, err := appSecretOf(run)
	if err != nil {
		return err
	}
	si, err := c.database(ctx, app.ID)
	if err != nil {
		return err
	}
	if err := startForGood(ctx, agent, app.Engine); err != nil {
		return classified(err, Internal, ObjApp, "start the database server")
	}
	if err := agent.CreateDatabase(ctx, app.Engine, agentapi.CreateDatabaseParams{Name: si.Database}); err != nil {
		return classified(err, Internal, ObjApp, "create the database")
	}
	user := agentapi.CreateDatabaseUserParams{Name: si.User, Password: agentapi.Secret(secret.Database), Database: si.Database}
	if err := agent.CreateDatabaseUser(ctx, app.Engine, user); err != nil {
		return classified(err, Internal, ObjApp, "create the database user")
	}
	if secret.Password == "" { // the owner gets in by key; only the host itself administers the server
		return nil
	}
	return c.setDatabasePassword(ctx, agent, app, secret.Password)
}

func (c *Core) setDatabasePassword(ctx context.Context, agent Agent, app App, password string) error {
	err := agent.ResetDatabasePassword(ctx, app.Engine, agentapi.ResetPasswordParams{User: databaseAdmin[app.Engine], NewPassword: agentapi.Ptr(agentapi.Secret(password))})
	return classified(err, Internal, ObjApp, "set the database password")
}

func (c *Core) database(ctx context.Context, app AppID) (ServiceInstance, error) {
	all, err := view(ctx, c.Store, func(r Reader) ([]ServiceInstance, error) { return r.ServiceInstances(app) })
	if err == nil && len(all) == 0 {
		err = Errorf(NotFound, ObjApp, "the app has no database")
	}
	if err != nil {
		return ServiceInstance{}, err
	}
	return all[0], nil
}

// appName is what an app is called on its hosts.
func appName(app App) string { return fmt.Sprintf("a%d", app.Num) }

func (c *Core) deployApp(ctx context.Context, run *operation.Run) error {
	_, app, _, agent, err := c.appAgent(ctx, run)
	if err != nil {
		return err
	}
	secret, err := appSecretOf(run)
	if err != nil {
		return err
	}
	params := agentapi.CreateAppParams{App: appName(app), Platform: app.Platform, Base: appsBase, Env: map[string]agentapi.Secret{}}
	if app.Engine != "" && app.hasVHosts() { // units get it with their own environment
		si, err := c.database(ctx, app.ID)
		if err != nil {
			return err
		}
		params.Env = vhostEnv(si, secret.Database)
	}
	if c.HashPassword != nil {
		login, err := view(ctx, c.Store, func(r Reader) (AppLogin, error) { return r.AppLogin(app.ID) })
		if err != nil && !isNotFound(err) {
			return err
		}
		login.AppID = app.ID
		if secret.Password != "" {
			hash, err := c.HashPassword(secret.Password)
			if err != nil {
				return err
			}
			login.PasswordHash = []byte(hash)
		}
		params.Login = &agentapi.AppLogin{User: fmt.Sprint(app.Login), PasswordHash: agentapi.Secret(login.PasswordHash), Keys: login.Keys}
		if err := c.Store.Update(ctx, func(tx Tx) error { return tx.PutAppLogin(login) }); err != nil {
			return err
		}
	}
	paths, err := agent.CreateApp(ctx, params)
	if err != nil {
		return classified(err, Internal, ObjApp, "make the app on its node")
	}
	if !app.hasVHosts() {
		return nil
	}
	for i, r := range app.Routes {
		_, err := agent.CreateVHost(ctx, agentapi.CreateVHostParams{Hostname: r.Hostname, Port: "80", Template: vhostTemplate(r.Hostname, paths),
			Reload: agentapi.Ptr(agentapi.Bool(i == len(app.Routes)-1))})
		if err != nil {
			return classified(err, Internal, ObjRoute, "make the virtual host "+r.Hostname)
		}
	}
	return classified(startForGood(ctx, agent, "apache"), Internal, ObjApp, "start the web server")
}

// databaseEnv is how an app finds the database on its own node.
func databaseEnv(si ServiceInstance, host, password string) map[string]string {
	env := databaseVars(si.Engine, host, si.Database, si.User, password)
	switch si.Engine {
	case agentapi.EngineMySQL:
		env["MYSQL_DATABASE"] = si.Database
	case agentapi.EnginePostgreSQL: // as libpq and its relatives read them
		env["PGHOST"], env["PGUSER"], env["PGPASSWORD"], env["PGDATABASE"] = host, si.User, password, si.Database
	}
	return env
}

// vhostEnv is the same for what the web server of the node runs.
func vhostEnv(si ServiceInstance, password string) map[string]agentapi.Secret {
	env := map[string]agentapi.Secret{}
	for name, value := range databaseEnv(si, "localhost", password) {
		env[name] = agentapi.Secret(value)
	}
	return env
}

func vhostTemplate(hostname string, paths agentapi.AppPaths) string {
	name := "ServerName " + hostname
	if rest, wild := strings.CutPrefix(hostname, "*."); wild {
		name = "ServerName " + rest + "\n   ServerAlias " + hostname
	}
	return fmt.Sprintf(`<VirtualHost *:80>
   %s
   DocumentRoot "%s"
   Include "%s"
   ErrorLog "%s/error.log"
   CustomLog "%s/access.log" combined
   <Directory "%s">
      Options SymLinksIfOwnerMatch
      AllowOverride All
      Require all granted
   </Directory>
</VirtualHost>
`, name, paths.DocumentRoot, paths.EnvInclude, paths.LogDir, paths.LogDir, paths.DocumentRoot)
}

// routers are the running router nodes of a cloud.
func (c *Core) routers(ctx context.Context, cloud string) ([]Node, error) {
	nodes, err := view(ctx, c.Store, func(r Reader) ([]Node, error) { return r.Nodes(NodeFilter{Role: RoleRouter, Cloud: cloud}) })
	var running []Node
	for _, n := range nodes {
		if n.alive() {
			running = append(running, n)
		}
	}
	return running, err
}

func (c *Core) publishRoutes(ctx context.Context, run *operation.Run) error {
	_, app, found, err := c.appOf(ctx, run)
	if err != nil || len(app.Routes) == 0 {
		return err
	}
	if !found {
		return Errorf(NotFound, ObjApp, "the app does not exist any more")
	}
	return c.publish(ctx, app, app.hostnames()...)
}

func (c *Core) withdrawRoutes(ctx context.Context, run *operation.Run) error {
	_, app, found, err := c.appOf(ctx, run)
	if err != nil || !found {
		return err
	}
	return c.withdraw(ctx, app.Cloud, app.hostnames()...)
}

func (a App) hostnames() []string {
	var names []string
	for _, r := range a.Routes {
		names = append(names, r.Hostname)
	}
	return names
}

func (c *Core) finishApp(ctx context.Context, run *operation.Run) error {
	p, _, _, err := c.appOf(ctx, run)
	if err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		app, err := tx.App(p.AppID)
		if err != nil {
			return err
		}
		for _, r := range app.Routes {
			if r.State != RouteCreating {
				continue
			}
			r.State = RouteRunning
			if err := tx.PutRoute(&r); err != nil {
				return err
			}
		}
		if app.State == AppCreating {
			app.State = AppRunning
		}
		return tx.PutApp(&app)
	})
}

func (c *Core) destroyAppNodes(ctx context.Context, run *operation.Run) error {
	_, app, found, err := c.appOf(ctx, run)
	if err != nil || !found {
		return err
	}
	for _, n := range app.Nodes {
		cloud, ok := c.Clouds.Cloud(n.Cloud)
		if !ok {
			return Errorf(NotFound, ObjCloud, "cloud %q is not configured any more; put it back to go on", n.Cloud)
		}
		if err := c.removeNode(ctx, n, cloud); err != nil && !isNotFound(err) {
			return err
		}
	}
	return nil
}

// destroyNodesAndVolumes takes a volume back. Its node goes first, because it has the volume mounted.
func (c *Core) destroyNodesAndVolumes(ctx context.Context, run *operation.Run) error {
	if err := c.destroyAppNodes(ctx, run); err != nil {
		return err
	}
	return c.destroyVolumes(ctx, run)
}

// destroyVolumes removes the app's volumes from their cloud. One that was never recorded is found by its key.
func (c *Core) destroyVolumes(ctx context.Context, run *operation.Run) error {
	p, _, _, err := c.appOf(ctx, run)
	if err != nil {
		return err
	}
	vols, err := view(ctx, c.Store, func(r Reader) ([]Volume, error) { return r.Volumes(p.AppID) })
	if err != nil {
		return err
	}
	for _, vol := range vols {
		if err := c.destroyAgentSnapshots(ctx, p.AppID, vol.Cloud); err != nil {
			return err
		}
		if err := c.destroyVolume(ctx, vol); err != nil {
			return err
		}
	}
	return nil
}

// destroyVolume removes a volume from its cloud and forgets it.
func (c *Core) destroyVolume(ctx context.Context, vol Volume) error {
	vc, err := c.volumeCloud(vol.Cloud)
	if err != nil {
		return err
	}
	all, err := vc.Volumes(ctx)
	if err != nil {
		return classified(err, Unavailable, ObjVolume, "look for the volume")
	}
	for _, cv := range all {
		if cv.ID != vol.CloudID && (cv.Key == "" || cv.Key != vol.Key) {
			continue
		}
		if err := vc.DetachVolume(ctx, cv.ID); err != nil && !isNotFound(err) {
			return cloudFailure(err, Unavailable, ObjVolume, "detach the volume")
		}
		if err := vc.DestroyVolume(ctx, cv.ID); err != nil && !isNotFound(err) {
			return cloudFailure(err, Unavailable, ObjVolume, "destroy the volume")
		}
	}
	return ignoreNotFound(c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteVolume(vol.ID) }))
}

func (c *Core) forgetApp(ctx context.Context, run *operation.Run) error {
	p, _, found, err := c.appOf(ctx, run)
	if err != nil || !found {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		app, err := tx.App(p.AppID)
		if err != nil {
			return err
		}
		for _, r := range app.Routes {
			if err := tx.DeleteRoute(r.ID); err != nil {
				return err
			}
		}
		instances, err := tx.ServiceInstances(app.ID)
		if err != nil {
			return err
		}
		for _, si := range instances {
			if err := tx.DeleteServiceInstance(si.ID); err != nil {
				return err
			}
		}
		return tx.DeleteApp(app.ID)
	})
}
