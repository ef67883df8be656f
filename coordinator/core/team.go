package core

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Team is a set of accounts that share apps and services.
type Team struct {
	Name      string
	Members   []AccountID
	CreatedAt time.Time
}

func (t Team) has(id AccountID) bool { return slices.Contains(t.Members, id) }

var teamPattern = regexp.MustCompile(`^[a-zA-Z][-@_.+\w]+$`)

// adminTeam is the name of the team whose members are administrators.
func (c *Core) adminTeam() string {
	if c.AdminTeam == "" {
		return "admin"
	}
	return c.AdminTeam
}

// EnsureAdminTeam makes the team of administrators, with every account that is one. It is called at every start: accounts
// are made administrators by commands too.
func (c *Core) EnsureAdminTeam(ctx context.Context) error {
	return c.Store.Update(ctx, func(tx Tx) error {
		team, err := tx.Team(c.adminTeam())
		if isNotFound(err) {
			team, err = Team{Name: c.adminTeam(), CreatedAt: c.now()}, nil
		}
		if err != nil {
			return err
		}
		accounts, err := tx.Accounts()
		if err != nil {
			return err
		}
		team.Members = nil
		for _, a := range accounts {
			if a.Admin && a.Active {
				team.Members = append(team.Members, a.ID)
			}
		}
		return tx.PutTeam(&team)
	})
}

// Teams lists the caller's teams by name.
func (c *Core) Teams(ctx context.Context, p Principal) ([]Team, error) {
	if err := known(p); err != nil {
		return nil, err
	}
	return view(ctx, c.Store, func(r Reader) ([]Team, error) { return r.Teams(p.Account.ID) })
}

// User is an account as administrators see it.
type User struct {
	Email string
	Admin bool
	Teams []Team
}

// Users lists active accounts by e-mail address: for administrators all, for others the caller's own.
func (c *Core) Users(ctx context.Context, p Principal) ([]User, error) {
	if err := known(p); err != nil {
		return nil, err
	}
	users, err := view(ctx, c.Store, func(r Reader) (users []User, err error) {
		admin, err := isAdmin(r, p)
		if err != nil {
			return nil, err
		}
		accounts, err := r.Accounts()
		if err != nil {
			return nil, err
		}
		for _, a := range accounts {
			if !a.Active || !admin && a.ID != p.Account.ID {
				continue
			}
			teams, err := r.Teams(a.ID)
			if err != nil {
				return nil, err
			}
			users = append(users, User{Email: a.Email, Admin: a.Admin, Teams: teams})
		}
		return users, nil
	})
	slices.SortFunc(users, func(a, b User) int { return strings.Compare(a.Email, b.Email) })
	return users, err
}

// memberTeam finds a team that the caller is a member of; administrators are let in everywhere.
func memberTeam(r Reader, p Principal, name string) (Team, error) {
	if err := known(p); err != nil {
		return Team{}, err
	}
	team, err := r.Team(name)
	if isNotFound(err) {
		return team, Errorf(NotFound, ObjTeam, "Team not found")
	}
	if err != nil || team.has(p.Account.ID) {
		return team, err
	}
	admin, err := isAdmin(r, p)
	if err == nil && !admin {
		err = Errorf(Forbidden, ObjTeam, "User is not member of this team")
	}
	return team, err
}

// Team is one team of the caller, with its members by e-mail address.
//
// Errors: not_found, forbidden (not a member)
func (c *Core) Team(ctx context.Context, p Principal, name string) (team Team, members []Account, err error) {
	err = c.Store.View(ctx, func(r Reader) error {
		if team, err = memberTeam(r, p, name); err != nil {
			return err
		}
		members = nil
		for _, id := range team.Members {
			a, err := r.Account(id)
			if err != nil {
				return err
			}
			a.PasswordHash = ""
			members = append(members, a)
		}
		return nil
	})
	slices.SortFunc(members, func(a, b Account) int { return strings.Compare(a.Email, b.Email) })
	return team, members, err
}

// CreateTeam makes a team with the caller as its member. The name is trimmed.
//
// Errors: invalid (name), exists
// Source: spec tsuru 1.8
func (c *Core) CreateTeam(ctx context.Context, p Principal, name string) (Team, error) {
	name = strings.TrimSpace(name)
	team := Team{Name: name, Members: []AccountID{p.Account.ID}, CreatedAt: c.now()}
	err := c.change(ctx, p, "team.create", name, func(tx Tx) error {
		if !teamPattern.MatchString(name) || len(name) > 100 {
			return Errorf(Invalid, ObjTeam, "Invalid team name: letters, digits and - @ _ . + only, beginning with a letter, at least two")
		}
		switch _, err := tx.Team(name); {
		case err == nil || name == c.adminTeam():
			return Errorf(Exists, ObjTeam, "This team already exists")
		case !isNotFound(err):
			return err
		}
		return tx.PutTeam(&team)
	})
	return team, err
}

// DeleteTeam ends a team.
//
// Errors: not_found (also when the caller is no member), forbidden (an app is shared with it, it is the team of
// administrators)
func (c *Core) DeleteTeam(ctx context.Context, p Principal, name string) error {
	return c.change(ctx, p, "team.delete", name, func(tx Tx) error {
		_, err := memberTeam(tx, p, name)
		if err != nil && KindOf(err) == Forbidden {
			return Errorf(NotFound, ObjTeam, "Team not found")
		}
		if err != nil {
			return err
		}
		if name == c.adminTeam() {
			return Errorf(Forbidden, ObjTeam, "the team of administrators cannot be removed")
		}
		apps, err := tx.TeamApps(name)
		if err != nil {
			return err
		}
		if len(apps) > 0 {
			return Errorf(Forbidden, ObjTeam, "This team cannot be removed because it has access to apps; remove the apps or revoke these accesses, and try again")
		}
		return tx.DeleteTeam(name)
	})
}

// AddTeamMember lets another account into a team of the caller.
//
// Errors: not_found (team, account), forbidden (not a member), exists
func (c *Core) AddTeamMember(ctx context.Context, p Principal, name, email string) error {
	return c.change(ctx, p, "team.member.add", name, func(tx Tx) error {
		team, account, err := c.teamAndAccount(tx, p, name, email)
		if err != nil {
			return err
		}
		if team.has(account.ID) {
			return Errorf(Exists, ObjTeam, "User is already member of this team")
		}
		team.Members = append(team.Members, account.ID)
		if err := tx.PutTeam(&team); err != nil || name != c.adminTeam() {
			return err
		}
		account.Admin = true
		return tx.PutAccount(&account)
	})
}

// RemoveTeamMember puts an account out of a team of the caller.
//
// Errors: not_found (team, account, not a member), forbidden (the caller is no member; the last member stays)
func (c *Core) RemoveTeamMember(ctx context.Context, p Principal, name, email string) error {
	return c.change(ctx, p, "team.member.remove", name, func(tx Tx) error {
		team, account, err := c.teamAndAccount(tx, p, name, email)
		if err != nil {
			return err
		}
		if !team.has(account.ID) {
			return Errorf(NotFound, ObjAccount, "User is not member of this team")
		}
		if len(team.Members) == 1 {
			return Errorf(Forbidden, ObjTeam, "You can not remove this user from this team, because it is the last user within the team, and a team can not be orphaned")
		}
		team.Members = slices.DeleteFunc(team.Members, func(id AccountID) bool { return id == account.ID })
		if err := tx.PutTeam(&team); err != nil || name != c.adminTeam() {
			return err
		}
		account.Admin = false
		return tx.PutAccount(&account)
	})
}

func (c *Core) teamAndAccount(r Reader, p Principal, name, email string) (Team, Account, error) {
	team, err := memberTeam(r, p, name)
	if err != nil {
		return team, Account{}, err
	}
	account, err := r.AccountByEmail(email)
	if isNotFound(err) || err == nil && !account.Active {
		err = Errorf(NotFound, ObjAccount, "User not found")
	}
	return team, account, err
}

// GrantApp shares an app of the caller with a team.
//
// Errors: not_found (app, team), forbidden, exists (it has access)
func (c *Core) GrantApp(ctx context.Context, p Principal, name, team string) error {
	return c.change(ctx, p, "app.grant", name, func(tx Tx) error {
		app, err := usableApp(tx, p, name)
		if err != nil {
			return err
		}
		if _, err := tx.Team(team); isNotFound(err) {
			return Errorf(NotFound, ObjTeam, "Team not found")
		} else if err != nil {
			return err
		}
		if slices.Contains(app.Teams, team) {
			return Errorf(Exists, ObjTeam, "team already have access to this app")
		}
		return tx.PutAppTeam(app.ID, team, len(app.Teams) == 0)
	})
}

// RevokeApp takes an app away from a team. When it owned the app, another of the app's teams owns it from then on.
//
// Errors: not_found (app, team, the team has no access), forbidden (the last team stays)
func (c *Core) RevokeApp(ctx context.Context, p Principal, name, team string) error {
	return c.change(ctx, p, "app.revoke", name, func(tx Tx) error {
		app, err := usableApp(tx, p, name)
		if err != nil {
			return err
		}
		if _, err := tx.Team(team); isNotFound(err) {
			return Errorf(NotFound, ObjTeam, "Team not found")
		} else if err != nil {
			return err
		}
		if !slices.Contains(app.Teams, team) {
			return Errorf(NotFound, ObjTeam, "team does not have access to this app")
		}
		if len(app.Teams) == 1 {
			return Errorf(Forbidden, ObjTeam, "You can not revoke the access from this team, because it is the unique team with access to the app, and an app can not be orphaned")
		}
		if err := tx.DeleteAppTeam(app.ID, team); err != nil || app.TeamOwner != team {
			return err
		}
		i := slices.IndexFunc(app.Teams, func(t string) bool { return t != team })
		return tx.PutAppTeam(app.ID, app.Teams[i], true)
	})
}

// SetTeamOwner gives an app to another team, which gets access to it.
//
// Errors: not_found (app, team), forbidden (not one of the caller's teams)
func (c *Core) SetTeamOwner(ctx context.Context, p Principal, name, team string) error {
	return c.change(ctx, p, "app.team-owner", name, func(tx Tx) error {
		app, err := usableApp(tx, p, name)
		if err != nil {
			return err
		}
		if _, err := memberTeam(tx, p, team); err != nil {
			return err
		}
		if app.TeamOwner != "" && app.TeamOwner != team {
			if err := tx.PutAppTeam(app.ID, app.TeamOwner, false); err != nil {
				return err
			}
		}
		return tx.PutAppTeam(app.ID, team, true)
	})
}

// ownerTeam picks the team that owns what the caller makes: the one that is asked for, or the only one there is.
//
// Errors: invalid (several teams and none is named), forbidden (not one of the caller's)
func ownerTeam(r Reader, p Principal, asked string) (owner string, teams []Team, err error) {
	if teams, err = r.Teams(p.Account.ID); err != nil {
		return "", nil, err
	}
	if asked != "" {
		_, err := memberTeam(r, p, asked)
		if err != nil && KindOf(err) == NotFound {
			err = Errorf(Forbidden, ObjTeam, "Team not found")
		}
		return asked, teams, err
	}
	switch len(teams) {
	case 0:
		return "", nil, Errorf(Invalid, ObjTeam, "In order to create an app, you should be member of at least one team")
	case 1:
		return teams[0].Name, teams, nil
	}
	return "", teams, Errorf(Invalid, ObjTeam, "You belong to more than one team, choose one to be owner for this app")
}

// CloseAccount ends the caller's account: its credentials, keys and memberships go, and its e-mail address is free again.
// Apps that it made stay with their teams.
//
// Errors: forbidden (it is the last member of a team, or owns apps that no team shares)
func (c *Core) CloseAccount(ctx context.Context, p Principal) error {
	return c.closeAccount(ctx, p, p.Account.ID)
}

// CloseAccountOf ends another's account, for administrators.
//
// Errors: not_found, forbidden
func (c *Core) CloseAccountOf(ctx context.Context, p Principal, email string) (AccountID, error) {
	id, err := view(ctx, c.Store, func(r Reader) (AccountID, error) {
		if err := known(p); err != nil {
			return "", err
		}
		account, err := r.AccountByEmail(email)
		if err == nil && account.ID == p.Account.ID {
			return account.ID, nil
		}
		if admin := requireAdmin(r, p); admin != nil {
			return "", admin
		}
		if isNotFound(err) {
			err = Errorf(NotFound, ObjAccount, "User not found")
		}
		return account.ID, err
	})
	if err != nil {
		return "", err
	}
	return id, c.closeAccount(ctx, p, id)
}

func (c *Core) closeAccount(ctx context.Context, p Principal, id AccountID) error {
	return c.change(ctx, p, "account.close", string(id), func(tx Tx) error {
		account, err := tx.Account(id)
		if err != nil {
			return err
		}
		teams, err := tx.Teams(id)
		if err != nil {
			return err
		}
		for _, team := range teams {
			if len(team.Members) == 1 {
				return Errorf(Forbidden, ObjTeam, "This user is the last member of the team %q, so it cannot be removed", team.Name)
			}
		}
		apps, err := tx.Apps(id, 0, 0)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(apps, func(a App) bool { return len(a.Teams) == 0 }); i >= 0 {
			return Errorf(Forbidden, ObjApp, "This user owns the app %q alone, so it cannot be removed", apps[i].Name)
		}
		for _, team := range teams {
			team.Members = slices.DeleteFunc(team.Members, func(m AccountID) bool { return m == id })
			if err := tx.PutTeam(&team); err != nil {
				return err
			}
		}
		keys, err := tx.SSHKeys(id)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := tx.DeleteSSHKey(key.Num); err != nil {
				return err
			}
		}
		credentials, err := tx.Credentials(id)
		if err != nil {
			return err
		}
		for _, cred := range credentials {
			if cred.Kind == CredentialApp { // the app goes on
				continue
			}
			if err := tx.DeleteCredential(cred.Hash); err != nil {
				return err
			}
		}
		account.Active, account.Admin, account.PasswordHash = false, false, ""
		account.Email = "closed-" + string(id)
		return tx.PutAccount(&account)
	})
}
