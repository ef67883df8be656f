package agentclient

import (
	"context"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Deploy is the namespace deploy; see agentapi/deploy.go for parameters, errors and effects. Every call may be repeated.
type Deploy struct{ client *Client }

// Deploy runs apps on the host.
func (c *Client) Deploy() Deploy { return Deploy{c} }

const deploy = "deploy"

// MountVolume mounts a device, with a filesystem made when it has none, and moves directories onto it.
func (d Deploy) MountVolume(ctx context.Context, p agentapi.MountVolumeParams) (agentapi.VolumeMount, error) {
	return invoke[agentapi.VolumeMount](ctx, d.client, deploy, "mount_volume", p)
}

// GrowVolume lets a mounted filesystem fill its device.
func (d Deploy) GrowVolume(ctx context.Context, p agentapi.GrowVolumeParams) (agentapi.VolumeMount, error) {
	return invoke[agentapi.VolumeMount](ctx, d.client, deploy, "grow_volume", p)
}

// UnmountVolume is the reverse of MountVolume; data stays on the device.
func (d Deploy) UnmountVolume(ctx context.Context, p agentapi.UnmountVolumeParams) error {
	return d.client.call(ctx, deploy, "unmount_volume", p, nil)
}

// CreateApp makes an app's user, directories and environment, or updates its environment and login.
func (d Deploy) CreateApp(ctx context.Context, p agentapi.CreateAppParams) (agentapi.AppPaths, error) {
	return invoke[agentapi.AppPaths](ctx, d.client, deploy, "create_app", p)
}

// SetLogin replaces an app's login.
func (d Deploy) SetLogin(ctx context.Context, p agentapi.SetLoginParams) error {
	return d.client.call(ctx, deploy, "set_login", p, nil)
}

// AppPaths tells where an app lies on the host.
func (d Deploy) AppPaths(ctx context.Context, p agentapi.AppParams) (agentapi.AppPaths, error) {
	return invoke[agentapi.AppPaths](ctx, d.client, deploy, "app_paths", p)
}

// DeleteApp removes everything CreateApp made.
func (d Deploy) DeleteApp(ctx context.Context, p agentapi.AppParams) error {
	return d.client.call(ctx, deploy, "delete_app", p, nil)
}

// EnableService makes a service start at every boot.
func (d Deploy) EnableService(ctx context.Context, p agentapi.EnableServiceParams) error {
	return d.client.call(ctx, deploy, "enable_service", p, nil)
}

// PrepareRouter makes the host a router: names without a route get 404, and nginx starts at every boot.
func (d Deploy) PrepareRouter(ctx context.Context) error {
	return d.client.call(ctx, deploy, "prepare_router", struct{}{}, nil)
}

// StartScript runs a script of a release.
func (d Deploy) StartScript(ctx context.Context, p agentapi.StartScriptParams) error {
	return d.client.call(ctx, deploy, "start_script", p, nil)
}

// StopScript ends a script.
func (d Deploy) StopScript(ctx context.Context, p agentapi.ScriptParams) error {
	return d.client.call(ctx, deploy, "stop_script", p, nil)
}

// ListScripts lists the scripts of an app that were started.
func (d Deploy) ListScripts(ctx context.Context, p agentapi.AppParams) ([]agentapi.AppScript, error) {
	return invoke[[]agentapi.AppScript](ctx, d.client, deploy, "list_scripts", p)
}

// ScriptLog is what the scripts of an app printed.
func (d Deploy) ScriptLog(ctx context.Context, p agentapi.AppParams) (agentapi.ScriptLog, error) {
	return invoke[agentapi.ScriptLog](ctx, d.client, deploy, "script_log", p)
}

// DrainRouter waits until nothing on the host is about to connect to backends that its routers were told to leave.
func (d Deploy) DrainRouter(ctx context.Context, p agentapi.DrainRouterParams) error {
	return d.client.call(ctx, deploy, "drain_router", p, nil)
}

// PutRelease unpacks a release and switches to it.
func (d Deploy) PutRelease(ctx context.Context, p agentapi.PutReleaseParams) error {
	return d.client.call(ctx, deploy, "put_release", p, nil)
}

// SwitchRelease goes back, or forward, to a release that is stored on the host.
func (d Deploy) SwitchRelease(ctx context.Context, p agentapi.SwitchReleaseParams) error {
	return d.client.call(ctx, deploy, "switch_release", p, nil)
}

// ListApps lists the apps of the host.
func (d Deploy) ListApps(ctx context.Context) ([]agentapi.AppInfo, error) {
	return invoke[[]agentapi.AppInfo](ctx, d.client, deploy, "list_apps", nil)
}
