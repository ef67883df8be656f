package tsuru

import (
	"net/http"
	"slices"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func serveTeams(c *call) error {
	teams, err := c.d.core.Teams(c.ctx(), c.p)
	if err != nil {
		return err
	}
	all := []map[string]any{}
	for _, t := range teams {
		one := map[string]any{"name": t.Name}
		if c.versioned {
			one["permissions"], one["tags"] = []string{"team"}, []string{}
		}
		all = append(all, one)
	}
	return c.json(http.StatusOK, all)
}

func serveTeamCreate(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	if _, err := c.d.core.CreateTeam(c.ctx(), c.p, f.str("name")); err != nil {
		return err
	}
	return c.created()
}

func serveTeam(c *call) error {
	team, members, err := c.d.core.Team(c.ctx(), c.p, c.vars["team"])
	if err != nil {
		return err
	}
	if c.versioned {
		users := []map[string]any{}
		for _, m := range members {
			users = append(users, map[string]any{"Email": m.Email, "email": m.Email})
		}
		pools, err := c.pools()
		if err != nil {
			return err
		}
		apps, err := c.appsOf(func(app core.App, _ string) (bool, error) { return slices.Contains(app.Teams, team.Name), nil })
		if err != nil {
			return err
		}
		return c.json(http.StatusOK, map[string]any{"name": team.Name, "users": users, "pools": pools, "apps": apps, "tags": []string{}})
	}
	emails := []string{}
	for _, m := range members {
		emails = append(emails, m.Email)
	}
	return c.json(http.StatusOK, map[string]any{"name": team.Name, "users": emails})
}

func serveTeamRemove(c *call) error {
	if err := c.d.core.DeleteTeam(c.ctx(), c.p, c.vars["team"]); err != nil {
		return err
	}
	return c.ok()
}

func serveMemberAdd(c *call) error {
	if err := c.d.core.AddTeamMember(c.ctx(), c.p, c.vars["team"], c.vars["email"]); err != nil {
		return err
	}
	return c.ok()
}

func serveMemberRemove(c *call) error {
	if err := c.d.core.RemoveTeamMember(c.ctx(), c.p, c.vars["team"], c.vars["email"]); err != nil {
		return err
	}
	return c.ok()
}
