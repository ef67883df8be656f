package tsuru

import (
	"net/http"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func servePlatforms(c *call) error {
	all := []map[string]any{}
	for _, name := range c.d.core.Platforms(c.ctx()) {
		all = append(all, map[string]any{"Name": name, "Disabled": false})
	}
	return c.json(http.StatusOK, all)
}

// servePlatformAdd says why there is nothing to add: a platform is code of the agents, which come with all there are.
func servePlatformAdd(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	switch name := f.str("name"); {
	case name == "":
		return badRequest("Platform name is required.")
	case slices.Contains(c.d.core.Platforms(c.ctx()), name):
		return &status{http.StatusConflict, "Duplicate platform"}
	}
	return core.Errorf(core.Unsupported, core.ObjApp, "platforms come with the agents of this installation, they are not built from a Dockerfile")
}

// servePlatformUpdate has nothing to rebuild, and says so the way clients take for success.
func servePlatformUpdate(c *call) error {
	if err := c.platform(); err != nil {
		return err
	}
	s := c.stream(false, 0)
	defer s.end()
	s.say("the platform " + c.vars["platform"] + " is that of the agents; it is up to date with them\n")
	s.mark("\nOK!\n")
	return nil
}

func (c *call) platform() error {
	if !slices.Contains(c.d.core.Platforms(c.ctx()), c.vars["platform"]) {
		return &status{http.StatusNotFound, "Platform not found"}
	}
	return nil
}

func servePlatformRemove(c *call) error {
	if err := c.platform(); err != nil {
		return err
	}
	apps, err := c.d.core.UsableApps(c.ctx(), c.p)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(apps, func(a core.App) bool { return a.Platform == c.vars["platform"] }) {
		return &status{http.StatusPreconditionFailed, "there are apps that use this platform, remove them first"}
	}
	return core.Errorf(core.Unsupported, core.ObjApp, "platforms come with the agents of this installation and stay as long as these")
}

// serveHealers lists healers: to the document's readers an array of objects with URLs, to the daemon of the time one object
// with paths.
func serveHealers(c *call) error {
	if c.wantsSeed() {
		all := []map[string]string{}
		for _, name := range c.d.core.Healers() {
			all = append(all, map[string]string{name: c.baseURL() + "/healers/" + name})
		}
		return c.json(http.StatusOK, all)
	}
	all := map[string]string{}
	for _, name := range c.d.core.Healers() {
		all[name] = "/healers/" + name
	}
	return c.json(http.StatusOK, all)
}

func serveHeal(c *call) error {
	if !slices.Contains(c.d.core.Healers(), c.vars["healer"]) {
		return &status{http.StatusNotFound, "Healer not found"}
	}
	if err := c.d.core.Heal(c.ctx(), c.vars["healer"]); err != nil {
		return err
	}
	return c.ok()
}

// serveToken makes a token for an app.
func serveToken(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	client := f.str("client")
	if client == "" {
		return badRequest("Missing client name in JSON body")
	}
	token, created, err := c.d.core.NewAppToken(c.ctx(), c.p, client, truth(f.str("export")))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string]any{
		"token": string(token), "creation": created.Format(time.RFC3339Nano), "expires": int64(core.AppTokenTTL), "email": "", "app": client,
		"Token": string(token), "Creation": created.Format(time.RFC3339Nano), "Expires": int64(core.AppTokenTTL), "AppName": client,
	})
}

func serveLogsRemove(c *call) error {
	if err := c.d.core.ForgetLog(c.ctx(), c.p, c.r.URL.Query().Get("app")); err != nil {
		return err
	}
	return c.ok()
}

// serveMachines shows the nodes of the platform's own: those that apps share, routers and database hosts.
func serveMachines(c *call) error {
	nodes, err := c.d.core.PlatformNodes(c.ctx(), c.p)
	if err != nil {
		return err
	}
	all := []map[string]any{}
	for _, n := range nodes {
		params := map[string]string{"size": n.SizeID, "image": n.ImageID}
		all = append(all, map[string]any{"Id": n.Name, "Iaas": n.Cloud, "Status": string(n.State), "Address": n.Address, "CreationParams": params})
	}
	return c.json(http.StatusOK, all)
}

func serveMachineRemove(c *call) error {
	if err := c.d.core.RemovePlatformNode(c.ctx(), c.p, c.vars["machine"]); err != nil {
		return err
	}
	return c.ok()
}

// serveContainers lists every unit of an app: part of a list makes the client of the time panic.
func serveContainers(c *call) error {
	all := []map[string]any{}
	for _, u := range shownUnits(c.app) {
		all = append(all, map[string]any{"ID": u.Name, "Type": c.app.Platform, "IP": u.Ip, "HostAddr": u.Ip, "HostPort": portOf(c.app, u.Name),
			"SSHHostPort": "", "Status": u.Status, "Version": "", "Image": "", "LastStatusUpdate": time.Now().UTC()})
	}
	return c.json(http.StatusOK, all)
}
