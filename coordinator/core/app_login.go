package core

import (
	"bytes"
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

// firstLogin is one less than the login of the app with number 1.
const firstLogin = 2000

// ViaLogin is how somebody came who is let onto an app's node.
const ViaLogin = "login"

// LoginNamed finds the app that a login is of. Its principal may do with that app what its owner may, and nothing else.
//
// Errors: not_found (also when the owner's account is closed)
func LoginNamed(r Reader, name string) (AppLogin, Principal, error) {
	missing := Errorf(NotFound, ObjApp, "there is no such login")
	n, err := strconv.ParseInt(name, 10, 64)
	if err != nil || n <= firstLogin || strconv.FormatInt(n, 10) != name {
		return AppLogin{}, Principal{}, missing
	}
	app, err := r.AppByNum(n - firstLogin)
	if err != nil {
		return AppLogin{}, Principal{}, err
	}
	if app.Login != n {
		return AppLogin{}, Principal{}, missing
	}
	account, err := r.Account(app.AccountID)
	if err != nil {
		return AppLogin{}, Principal{}, err
	}
	if !account.Active {
		return AppLogin{}, Principal{}, missing
	}
	login, err := r.AppLogin(app.ID)
	account.PasswordHash, account.Admin = "", false
	return login, Principal{Account: account, App: app.ID, Via: ViaLogin}, err
}

// LoginByKey finds who a login is that a key lets in, by the key's binary form.
//
// Errors: not_found
func (c *Core) LoginByKey(ctx context.Context, name string, blob []byte) (Principal, error) {
	return view(ctx, c.Store, func(r Reader) (Principal, error) {
		login, p, err := LoginNamed(r, name)
		if err != nil {
			return Principal{}, err
		}
		if !slices.ContainsFunc(login.Keys, func(line string) bool { return isKey(line, blob) }) {
			return Principal{}, Errorf(NotFound, ObjKey, "the key lets nobody in")
		}
		return p, nil
	})
}

// isKey says that a line of authorized_keys has a key in binary form.
func isKey(line string, blob []byte) bool {
	return slices.ContainsFunc(strings.Fields(line), func(word string) bool {
		data, err := base64.StdEncoding.DecodeString(word)
		return err == nil && bytes.Equal(data, blob)
	})
}

// Repository is one of an app's, for people who know it by the app's login.
type Repository struct {
	App   App
	Route string // host name that it is for alone; "": it is the app's
}

// DefaultRepository is the name of an app's own repository.
const DefaultRepository = "default"

// RepositoryOf finds a repository of the app that the caller's login is of: "default" or, where a web server serves the app, one
// of its host names without a wildcard.
//
// Errors: not_found
// Source: spec gandi 3.2
func (c *Core) RepositoryOf(ctx context.Context, p Principal, name string) (Repository, error) {
	app, err := view(ctx, c.Store, func(r Reader) (App, error) { return usableByID(r, p, p.App) })
	if err != nil || name == DefaultRepository {
		return Repository{App: app}, err
	}
	names := []string{DefaultRepository + ".git"}
	if app.hasVHosts() {
		hostname, _ := NormalHostname(name)
		for _, r := range app.Routes {
			if strings.HasPrefix(r.Hostname, "*.") {
				continue
			}
			if r.Hostname == hostname {
				return Repository{App: app, Route: hostname}, nil
			}
			names = append(names, r.Hostname+".git")
		}
	}
	return Repository{}, Errorf(NotFound, ObjApp, "there is no repository %s.git; there is %s", clip(name), strings.Join(names, ", "))
}
