package agents

import (
	"context"
	"errors"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// Deadlines of calls, by what the host has to do. A context that ends sooner wins.
const (
	forAnswer = 10 * time.Second // reads
	forChange = 90 * time.Second // a configuration test and a reload
	forVolume = 5 * time.Minute  // making a filesystem, copying a directory onto it
)

// agent is one node's agent as core sees it.
type agent struct {
	client *agentclient.Client
	node   string // name, for errors
}

// do runs one call with a deadline and classifies its failure.
func do[R any](ctx context.Context, a *agent, method string, limit time.Duration, call func(context.Context) (R, error)) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	result, err := call(ctx)
	return result, a.classify(method, err)
}

// run is do for calls without a result.
func run(ctx context.Context, a *agent, method string, limit time.Duration, call func(context.Context) error) error {
	_, err := do(ctx, a, method, limit, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

// kinds maps what an agent says to what core understands.
var kinds = map[agentapi.Kind]core.Kind{
	agentapi.KindInternal:    core.Internal,
	agentapi.KindInvalid:     core.Invalid,
	agentapi.KindNotFound:    core.NotFound,
	agentapi.KindConflict:    core.Busy,
	agentapi.KindConfigTest:  core.Invalid,
	agentapi.KindUnavailable: core.Unavailable,
	agentapi.KindUnsupported: core.Unsupported,
}

// classify turns a failed call into a *core.Error. Its Msg names node and method; what the agent said, which may tell
// paths, is the cause.
func (a *agent) classify(method string, err error) error {
	if err == nil {
		return nil
	}
	if !agentclient.Reached(err) {
		// A refused envelope counts too: clocks come together after boot, and a repeated request is refused as a replay.
		return core.Wrap(core.Unavailable, core.ObjNode, err, "the agent of %s gives no answer to %s", a.node, method)
	}
	kind := core.Internal
	if e, ok := errors.AsType[*agentapi.Error](err); ok {
		if k, ok := kinds[e.Kind]; ok {
			kind = k
		}
	}
	return core.Wrap(kind, core.ObjNode, err, "%s on %s", method, a.node)
}

func (a *agent) Hostname(ctx context.Context) (string, error) {
	return do(ctx, a, "system.get_hostname", forAnswer, a.client.System().Hostname)
}

func (a *agent) MountVolume(ctx context.Context, p agentapi.MountVolumeParams) (agentapi.VolumeMount, error) {
	return do(ctx, a, "deploy.mount_volume", forVolume, func(ctx context.Context) (agentapi.VolumeMount, error) {
		return a.client.Deploy().MountVolume(ctx, p)
	})
}

func (a *agent) UnmountVolume(ctx context.Context, p agentapi.UnmountVolumeParams) error {
	return run(ctx, a, "deploy.unmount_volume", forVolume, func(ctx context.Context) error { return a.client.Deploy().UnmountVolume(ctx, p) })
}

func (a *agent) CreateApp(ctx context.Context, p agentapi.CreateAppParams) (agentapi.AppPaths, error) {
	return do(ctx, a, "deploy.create_app", forChange, func(ctx context.Context) (agentapi.AppPaths, error) {
		return a.client.Deploy().CreateApp(ctx, p)
	})
}

func (a *agent) GrowVolume(ctx context.Context, p agentapi.GrowVolumeParams) (agentapi.VolumeMount, error) {
	return do(ctx, a, "deploy.grow_volume", forVolume, func(ctx context.Context) (agentapi.VolumeMount, error) {
		return a.client.Deploy().GrowVolume(ctx, p)
	})
}

func (a *agent) SetLogin(ctx context.Context, p agentapi.SetLoginParams) error {
	return run(ctx, a, "deploy.set_login", forChange, func(ctx context.Context) error { return a.client.Deploy().SetLogin(ctx, p) })
}

func (a *agent) AppPaths(ctx context.Context, p agentapi.AppParams) (agentapi.AppPaths, error) {
	return do(ctx, a, "deploy.app_paths", forAnswer, func(ctx context.Context) (agentapi.AppPaths, error) {
		return a.client.Deploy().AppPaths(ctx, p)
	})
}

func (a *agent) DeleteApp(ctx context.Context, p agentapi.AppParams) error {
	return run(ctx, a, "deploy.delete_app", forChange, func(ctx context.Context) error { return a.client.Deploy().DeleteApp(ctx, p) })
}

func (a *agent) PutRelease(ctx context.Context, p agentapi.PutReleaseParams) error {
	return run(ctx, a, "deploy.put_release", forVolume, func(ctx context.Context) error { return a.client.Deploy().PutRelease(ctx, p) })
}

func (a *agent) CreateVHost(ctx context.Context, p agentapi.CreateVHostParams) (string, error) {
	return do(ctx, a, "apache.create_vhost", forChange, func(ctx context.Context) (string, error) {
		return a.client.Apache().CreateVHost(ctx, p)
	})
}

func (a *agent) DeleteVHosts(ctx context.Context, p agentapi.DeleteVHostsParams) error {
	return run(ctx, a, "apache.delete_vhosts", forChange, func(ctx context.Context) error { return a.client.Apache().DeleteVHosts(ctx, p) })
}

func (a *agent) StartService(ctx context.Context, namespace string) error {
	return run(ctx, a, namespace+".start_service", forChange, a.client.Service(namespace).Start)
}

func (a *agent) EnableService(ctx context.Context, p agentapi.EnableServiceParams) error {
	return run(ctx, a, "deploy.enable_service", forChange, func(ctx context.Context) error { return a.client.Deploy().EnableService(ctx, p) })
}

func (a *agent) PrepareRouter(ctx context.Context) error {
	return run(ctx, a, "deploy.prepare_router", forChange, a.client.Deploy().PrepareRouter)
}

func (a *agent) MakeProxy(ctx context.Context, p agentapi.ProxyParams) error {
	return run(ctx, a, "nginx.make_proxy", forChange, func(ctx context.Context) error { return a.client.Nginx().MakeProxy(ctx, p) })
}

func (a *agent) RemoveProxy(ctx context.Context, p agentapi.RemoveProxyParams) error {
	return run(ctx, a, "nginx.remove_proxy", forChange, func(ctx context.Context) error { return a.client.Nginx().RemoveProxy(ctx, p) })
}

func (a *agent) CreateDatabase(ctx context.Context, engine string, p agentapi.CreateDatabaseParams) error {
	return run(ctx, a, engine+".create_database", forChange, func(ctx context.Context) error {
		return a.client.Database(engine).CreateDatabase(ctx, p)
	})
}

func (a *agent) DropDatabase(ctx context.Context, engine, name string) error {
	return run(ctx, a, engine+".drop_database", forChange, func(ctx context.Context) error {
		return a.client.Database(engine).DropDatabase(ctx, name)
	})
}

func (a *agent) DumpDatabase(ctx context.Context, engine string, p agentapi.DumpDatabaseParams) error {
	return run(ctx, a, engine+".dump_database", forBuild, func(ctx context.Context) error {
		return a.client.Database(engine).DumpDatabase(ctx, p)
	})
}

func (a *agent) LoadDump(ctx context.Context, engine string, p agentapi.LoadDumpParams) error {
	return run(ctx, a, engine+".load_dump", forBuild, func(ctx context.Context) error { return a.client.Database(engine).LoadDump(ctx, p) })
}

func (a *agent) CreateDatabaseUser(ctx context.Context, engine string, p agentapi.CreateDatabaseUserParams) error {
	return run(ctx, a, engine+".create_user", forChange, func(ctx context.Context) error {
		return a.client.Database(engine).CreateUser(ctx, p)
	})
}

func (a *agent) DropDatabaseUser(ctx context.Context, engine string, p agentapi.DropDatabaseUserParams) error {
	return run(ctx, a, engine+".drop_user", forChange, func(ctx context.Context) error {
		return a.client.Database(engine).DropUser(ctx, p)
	})
}

func (a *agent) ResetDatabasePassword(ctx context.Context, engine string, p agentapi.ResetPasswordParams) error {
	return run(ctx, a, engine+".reset_password", forChange, func(ctx context.Context) error {
		_, err := a.client.Database(engine).ResetPassword(ctx, p)
		return err
	})
}

func (a *agent) Call(ctx context.Context, method string, params, result any) error {
	return run(ctx, a, method, forVolume, func(ctx context.Context) error { return a.client.Call(ctx, method, params, result) })
}
