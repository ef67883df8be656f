package core

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// What the web server of an app's node serves is a release of the app, for all its names, or of one name alone: then it lies on
// the node as an app of its own beside the other, with the same environment. A name whose release was never deployed is served
// from the app's.

// documentRoot is the directory of a source that is served.
const documentRoot = "htdocs"

func (c *Core) siteSteps() []operation.Step {
	return []operation.Step{
		{Name: "wait for others", Do: c.waitForOthers, Undo: c.failRelease, Timeout: 10 * time.Minute},
		{Name: "bring the release", Do: c.bringSite, Undo: c.dropSite, Timeout: 10 * time.Minute},
		{Name: "switch to it", Do: c.switchSite, Undo: c.switchSiteBack, Timeout: 3 * time.Minute},
		{Name: "serve it", Do: c.serveSite, Undo: c.serveSiteBefore, Timeout: 3 * time.Minute},
		{Name: "finish", Do: c.finishRoll},
	}
}

// wantDocumentRoot refuses a source that has nothing to serve.
//
// Errors: invalid, not_found (the file)
func (c *Core) wantDocumentRoot(source string) error {
	f, err := c.Files.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return Wrap(Invalid, ObjRelease, err, "the source is no tar.gz archive")
	}
	tr := tar.NewReader(zr)
	for {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return Errorf(Invalid, ObjRelease, "the source has no directory %s: what is served lies there", documentRoot)
		case err != nil:
			return Wrap(Invalid, ObjRelease, err, "the source is no tar.gz archive")
		}
		if name := path.Clean(h.Name); name == documentRoot && h.Typeflag == tar.TypeDir || strings.HasPrefix(name, documentRoot+"/") {
			return nil
		}
	}
}

// served is the number of the release that serves a route by itself, or with "" the app; 0 when none does. all are the app's,
// newest first.
func served(all []Release, routeID string) int {
	i := slices.IndexFunc(all, func(r Release) bool { return r.RouteID == routeID && r.State == ReleaseBuilt && !r.EndedAt.IsZero() })
	if i < 0 {
		return 0
	}
	return all[i].Number
}

func (a App) hasRoute(id string) bool {
	return slices.ContainsFunc(a.Routes, func(r Route) bool { return r.ID == id })
}

// siteName is what the releases of a route alone are called on the node; with "" those of the app.
func siteName(app App, routeID string) string {
	if routeID == "" {
		return appName(app)
	}
	return appName(app) + "-" + strings.TrimPrefix(routeID, "rt-")
}

// routePaths are where what serves a route lies on the app's node.
func (c *Core) routePaths(ctx context.Context, agent Agent, app App, route Route) (agentapi.AppPaths, error) {
	all, err := view(ctx, c.Store, func(r Reader) ([]Release, error) { return r.Releases(app.ID) })
	if err != nil {
		return agentapi.AppPaths{}, err
	}
	of := ""
	if served(all, route.ID) > 0 {
		of = route.ID
	}
	return agent.AppPaths(ctx, agentapi.AppParams{App: siteName(app, of)})
}

// makeVHost lets the web server of an app's node serve a route from where it is to.
func (c *Core) makeVHost(ctx context.Context, agent Agent, app App, route Route) error {
	paths, err := c.routePaths(ctx, agent, app, route)
	if err != nil {
		return classified(err, Internal, ObjApp, "find the app on its node")
	}
	return putVHost(ctx, agent, route.Hostname, paths)
}

func putVHost(ctx context.Context, agent Agent, hostname string, paths agentapi.AppPaths) error {
	_, err := agent.CreateVHost(ctx, agentapi.CreateVHostParams{Hostname: hostname, Port: "80", Template: vhostTemplate(hostname, paths)})
	return classified(err, Internal, ObjRoute, "make the virtual host "+hostname)
}

// siteOf loads what a deployment of a site is about. route is zero when it is for the app, or the route is gone.
func (c *Core) siteOf(ctx context.Context, run *operation.Run) (p rollParams, app App, route Route, agent Agent, err error) {
	if p, app, err = c.rollOf(ctx, run); err != nil {
		return p, app, route, nil, err
	}
	if i := slices.IndexFunc(app.Routes, func(r Route) bool { return r.ID == p.RouteID }); i >= 0 {
		route = app.Routes[i]
	}
	if len(app.Nodes) == 0 {
		return p, app, route, nil, Errorf(NotFound, ObjApp, "the app has no node any more")
	}
	agent, err = c.Agents.Agent(app.Nodes[0])
	return p, app, route, agent, err
}

// bringSite puts a release beside the one that serves.
func (c *Core) bringSite(ctx context.Context, run *operation.Run) error {
	p, app, route, agent, err := c.siteOf(ctx, run)
	if err != nil {
		return err
	}
	if p.RouteID != "" {
		if route.ID == "" {
			return Errorf(NotFound, ObjRoute, "the name is not the app's any more")
		}
		params := agentapi.CreateAppParams{App: siteName(app, p.RouteID), Platform: app.Platform, Base: appsBase}
		if app.Engine != "" {
			si, err := c.database(ctx, app.ID)
			if err != nil {
				return err
			}
			params.Env = vhostEnv(si, string(si.Password))
		}
		if _, err := agent.CreateApp(ctx, params); err != nil {
			return classified(err, Internal, ObjApp, "make the site on its node")
		}
	}
	rel, err := view(ctx, c.Store, func(r Reader) (Release, error) { return r.Release(app.ID, p.Release) })
	if err != nil {
		return err
	}
	blob, err := c.Files.Lend(app.Nodes[0], rel.Artifact)
	if err != nil {
		return err
	}
	c.say(ctx, run, app.ID, fmt.Sprintf("---- Bringing release %d ----", rel.Number))
	return buildFailure(agent.FetchRelease(ctx, agentapi.FetchReleaseParams{App: siteName(app, p.RouteID), Release: rel.Number, Source: blob}))
}

// dropSite takes a release's archive back, and a site that had none before.
func (c *Core) dropSite(ctx context.Context, run *operation.Run) error {
	if err := c.dropBuild(ctx, run); err != nil {
		return err
	}
	p, app, _, agent, err := c.siteOf(ctx, run)
	if err != nil || p.RouteID == "" || p.Before > 0 {
		return ignoreNotFound(err)
	}
	err = agent.DeleteApp(ctx, agentapi.AppParams{App: siteName(app, p.RouteID)})
	return classified(ignoreNotFound(err), Internal, ObjApp, "remove the site")
}

func (c *Core) switchSite(ctx context.Context, run *operation.Run) error {
	p, app, _, agent, err := c.siteOf(ctx, run)
	if err != nil {
		return err
	}
	err = agent.SwitchRelease(ctx, agentapi.SwitchReleaseParams{App: siteName(app, p.RouteID), Release: p.Release})
	return classified(err, Internal, ObjRelease, "switch to the release")
}

func (c *Core) switchSiteBack(ctx context.Context, run *operation.Run) error {
	p, app, _, agent, err := c.siteOf(ctx, run)
	if err != nil {
		return ignoreNotFound(err)
	}
	err = agent.SwitchRelease(ctx, agentapi.SwitchReleaseParams{App: siteName(app, p.RouteID), Release: p.Before})
	return classified(ignoreNotFound(err), Internal, ObjRelease, "switch back")
}

// serveSite lets the web server serve a route from its own site.
func (c *Core) serveSite(ctx context.Context, run *operation.Run) error {
	p, app, route, agent, err := c.siteOf(ctx, run)
	if err != nil || p.RouteID == "" {
		return err
	}
	if route.ID == "" {
		return Errorf(NotFound, ObjRoute, "the name is not the app's any more")
	}
	paths, err := agent.AppPaths(ctx, agentapi.AppParams{App: siteName(app, p.RouteID)})
	if err != nil {
		return classified(err, Internal, ObjApp, "find the site on its node")
	}
	return putVHost(ctx, agent, route.Hostname, paths)
}

func (c *Core) serveSiteBefore(ctx context.Context, run *operation.Run) error {
	_, app, route, agent, err := c.siteOf(ctx, run)
	if err != nil || route.ID == "" {
		return ignoreNotFound(err)
	}
	return c.makeVHost(ctx, agent, app, route)
}

// deleteSite removes what was deployed for a route alone.
func (c *Core) deleteSite(ctx context.Context, app App, routeID string) error {
	all, err := view(ctx, c.Store, func(r Reader) ([]Release, error) { return r.Releases(app.ID) })
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(r Release) bool { return r.RouteID != routeID })
	if len(all) == 0 {
		return nil
	}
	agent, err := c.Agents.Agent(app.Nodes[0])
	if err != nil {
		return err
	}
	if err := agent.DeleteApp(ctx, agentapi.AppParams{App: siteName(app, routeID)}); err != nil && !isNotFound(err) {
		return classified(err, Internal, ObjApp, "remove the site")
	}
	for _, rel := range all {
		if err := c.dropFiles(ctx, app.ID, rel.Number); err != nil {
			return err
		}
	}
	return nil
}
