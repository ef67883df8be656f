package sqlite

import (
	"sync"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// maxCachedApps bounds the memory: about 1 KiB each with one node and one route.
const maxCachedApps = 16384

// appCache remembers apps by number and revision. Whoever asks has read the revision in its own transaction, so an entry
// cannot be out of date: it is of that revision, or it is not used. Nothing has to be told when something changes, and
// another process may write to the database too.
type appCache struct {
	mu   sync.RWMutex // protects the field below
	apps map[int64]cachedApp
}

type cachedApp struct {
	revision int64
	app      *core.App // never changed
}

// get returns one entry per ref, nil where it knows nothing.
func (c *appCache) get(refs []appRef) []*core.App {
	found := make([]*core.App, len(refs))
	c.mu.RLock()
	defer c.mu.RUnlock()
	for i, ref := range refs {
		if hit, ok := c.apps[ref.num]; ok && hit.revision == ref.revision {
			found[i] = hit.app
		}
	}
	return found
}

// put stores one app per ref. A full cache forgets any other entry first.
func (c *appCache) put(refs []appRef, apps []*core.App) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apps == nil {
		c.apps = make(map[int64]cachedApp)
	}
	for i, ref := range refs {
		if old, ok := c.apps[ref.num]; ok && old.revision > ref.revision {
			continue // we looked at an older state than somebody else
		} else if !ok && len(c.apps) >= maxCachedApps {
			for num := range c.apps {
				delete(c.apps, num)
				break
			}
		}
		c.apps[ref.num] = cachedApp{ref.revision, apps[i]}
	}
}

func (c *appCache) drop(num int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.apps, num)
}

// copyApps gives the caller apps of its own, all nodes in one piece, and routes and units likewise. Roles and keys are shared:
// nobody changes them in place.
func copyApps(apps []*core.App) []core.App {
	nodes, routes, units := 0, 0, 0
	for _, a := range apps {
		nodes += len(a.Nodes)
		routes += len(a.Routes)
		units += len(a.Units)
	}
	out := make([]core.App, len(apps))
	allNodes := make([]core.Node, 0, nodes)
	allRoutes := make([]core.Route, 0, routes)
	allUnits := make([]core.AppUnit, 0, units)
	for i, a := range apps {
		out[i] = *a
		n, r, u := len(allNodes), len(allRoutes), len(allUnits)
		allUnits = append(allUnits, a.Units...)
		out[i].Units = allUnits[u:len(allUnits):len(allUnits)]
		allNodes, allRoutes = append(allNodes, a.Nodes...), append(allRoutes, a.Routes...)
		out[i].Nodes, out[i].Routes = allNodes[n:len(allNodes):len(allNodes)], allRoutes[r:len(allRoutes):len(allRoutes)]
	}
	return out
}
