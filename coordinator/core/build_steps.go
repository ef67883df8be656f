package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// buildRelease builds the source once, on a node where the app may run, and keeps the result.
func (c *Core) buildRelease(ctx context.Context, run *operation.Run) error {
	p, app, err := c.rollOf(ctx, run)
	if err != nil {
		return err
	}
	rel, err := view(ctx, c.Store, func(r Reader) (Release, error) { return r.Release(app.ID, p.Release) })
	if err != nil || rel.State == ReleaseBuilt {
		return err
	}
	node, agent, err := c.builder(ctx, app)
	if err != nil {
		return err
	}
	if err := c.makeApp(ctx, agent, app); err != nil {
		return err
	}
	_, err = c.build(ctx, run, app, rel, node, agent)
	return err
}

// build builds a release on a node that has the app, and notes the result.
func (c *Core) build(ctx context.Context, run *operation.Run, app App, rel Release, node Node, agent Agent) (Release, error) {
	source, err := c.Files.Lend(node, rel.Source)
	if err != nil {
		return rel, err
	}
	target, err := c.Files.Accept(node, buildName(app, rel))
	if err != nil {
		return rel, err
	}
	env, err := c.unitEnv(ctx, app)
	if err != nil {
		return rel, err
	}
	c.say(ctx, run, app.ID, fmt.Sprintf("---- Building release %d ----", rel.Number))
	build, err := agent.BuildRelease(ctx, agentapi.BuildReleaseParams{App: appName(app), Release: rel.Number, Source: source, Target: target, Env: env},
		func(line string) { c.say(ctx, run, app.ID, line) })
	c.filesMu.RLock()
	defer c.filesMu.RUnlock()
	if err == nil {
		var sum string
		if sum, err = c.Files.Accepted(buildName(app, rel)); err == nil && sum != build.SHA256 {
			err = Errorf(Unavailable, ObjRelease, "the build did not arrive as it was sent")
		}
		if err == nil {
			err = c.stillThere(sum)
		}
	}
	if err != nil {
		if err = buildFailure(err); !operation.Temporary(err) {
			return rel, errors.Join(err, c.logApp(ctx, app.ID, PublicError("", err)))
		}
		return rel, err
	}
	rel.State, rel.Artifact, rel.SizeBytes, rel.Manifest = ReleaseBuilt, build.SHA256, build.SizeBytes, build.Manifest
	return rel, c.Store.Update(ctx, func(tx Tx) error { return tx.PutRelease(&rel) })
}

func buildFailure(err error) error {
	if e, ok := errors.AsType[*agentapi.Error](err); ok && e.Kind == agentapi.KindInvalid {
		return Errorf(Invalid, ObjRelease, "%s", e.Text)
	}
	return classified(err, Internal, ObjRelease, "build the release")
}

// buildName is what a build is written under.
func buildName(app App, rel Release) string { return fmt.Sprintf("%s-%d", app.ID, rel.Number) }

// builder is the node that builds: the one with fewest units.
func (c *Core) builder(ctx context.Context, app App) (Node, Agent, error) {
	if app.Shared() {
		if err := c.EnsurePool(ctx, app.Platform); err != nil {
			return Node{}, nil, err
		}
	}
	able, err := c.poolRuns(ctx, app.Platform)
	if err != nil {
		return Node{}, nil, err
	}
	node, err := view(ctx, c.Store, func(r Reader) (Node, error) {
		nodes, units, err := c.nodesForUnits(r, app, able)
		if err == nil && len(nodes) == 0 {
			err = operation.RetryAfter(250*time.Millisecond, "no node for builds is up yet")
		}
		if err != nil {
			return Node{}, err
		}
		return slices.MinFunc(nodes, func(a, b Node) int { return len(units[a.ID]) - len(units[b.ID]) }), nil
	})
	if err != nil {
		return Node{}, nil, err
	}
	agent, err := c.Agents.Agent(node)
	return node, agent, err
}

func (c *Core) dropBuild(ctx context.Context, run *operation.Run) error {
	p, app, err := c.rollOf(ctx, run)
	if err != nil {
		return ignoreNotFound(err)
	}
	return c.dropFiles(ctx, app.ID, p.Release)
}

// failRelease records that a deployment did not come about, with the reason.
func (c *Core) failRelease(ctx context.Context, run *operation.Run) error {
	var p rollParams
	if err := run.Params(&p); err != nil {
		return err
	}
	err := c.Store.Update(ctx, func(tx Tx) error {
		rel, err := tx.Release(p.AppID, p.Release)
		if err != nil {
			return ignoreNotFound(err)
		}
		rel.State, rel.Error, rel.EndedAt = ReleaseFailed, run.Reason(), c.now()
		return tx.PutRelease(&rel)
	})
	if err == nil {
		c.outputs.end(run.Operation.ID)
	}
	return err
}

// dropFiles forgets the archives of a release that no other one needs.
func (c *Core) dropFiles(ctx context.Context, app AppID, number int) error {
	var files []string
	err := c.Store.Update(ctx, func(tx Tx) error {
		rel, err := tx.Release(app, number)
		if err != nil {
			return ignoreNotFound(err)
		}
		files = []string{rel.Source, rel.Artifact}
		rel.Source, rel.Artifact = "", ""
		return tx.PutRelease(&rel)
	})
	if err != nil {
		return err
	}
	return c.dropUnused(ctx, files...)
}

// dropReleases forgets the archives of all of an app's releases and code versions.
func (c *Core) dropReleases(ctx context.Context, run *operation.Run) error {
	p, _, found, err := c.appOf(ctx, run)
	if err != nil || !found || c.Files == nil {
		return err
	}
	releases, err := view(ctx, c.Store, func(r Reader) ([]Release, error) { return r.Releases(p.AppID) })
	if err != nil {
		return err
	}
	for _, rel := range releases {
		if err := c.dropFiles(ctx, p.AppID, rel.Number); err != nil {
			return err
		}
	}
	return c.dropCode(ctx, p.AppID)
}
