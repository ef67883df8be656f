package director

// manifest describes an application so that it could be made again.
type manifest struct {
	Application string            `json:"Application"`
	Services    []serviceManifest `json:"Services"`
}

// serviceManifest has no Archive, Dump and StartupScript, which would be URLs that anybody may fetch.
type serviceManifest struct {
	Type      string         `json:"Type"`
	Name      string         `json:"ServiceName"`
	Cloud     string         `json:"Cloud"`
	Start     int            `json:"Start"`                      // 1: it runs
	Instances map[string]int `json:"StartupInstances,omitempty"` // nodes by role, while it runs
}

// downloadManifest answers with the manifest of an application of the caller's, false when there is none.
func (c *call) downloadManifest() {
	app, ok := c.ownApp()
	if !ok {
		return
	}
	services, err := c.d.core.Services(c.ctx(), c.peer.Principal, app.Num)
	if err != nil {
		c.no(err)
		return
	}
	m := manifest{Application: app.Name, Services: []serviceManifest{}}
	for _, s := range services {
		if !s.Managed {
			continue // another dialect's app, which no manifest could make
		}
		cloud := c.d.cloudName(s.App.Cloud)
		one := serviceManifest{Type: s.Type, Name: s.Label, Cloud: cloud}
		if len(nodesUp(s)) > 0 {
			one.Start, one.Instances = 1, map[string]int{}
			for role, ids := range roles(cloud, s) {
				one.Instances[role] = len(ids)
			}
		}
		m.Services = append(m.Services, one)
	}
	c.answer(m)
}

// uploadManifest answers in words: of a path that is not there tools say that certificates are wrong.
func (c *call) uploadManifest() {
	c.fail("Manifests are not taken: they name archives by URL, which nobody fetches for a caller. Use createapp, start and the manager's calls")
}
