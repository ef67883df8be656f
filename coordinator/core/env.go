package core

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var envPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// protected says that a variable is the platform's or a service's: its owner cannot change it.
func (v EnvVar) protected() bool { return v.Tag != "" || strings.HasPrefix(v.Name, "TSURU_") }

// AppEnv lists an app's environment by name, values and all.
//
// Errors: not_found, forbidden
func (c *Core) AppEnv(ctx context.Context, p Principal, id AppID) ([]EnvVar, error) {
	return view(ctx, c.Store, func(r Reader) ([]EnvVar, error) {
		if _, err := usableByID(r, p, id); err != nil {
			return nil, err
		}
		return r.AppEnv(id)
	})
}

// SetEnv sets variables of an app. They are public, or private if asked for. A variable that is the platform's or a
// service's stays as it is, and so does a private one that would become public. Units see them once they are restarted.
//
// Errors: not_found, forbidden, invalid (a name, a value)
// Source: spec tsuru 1.1, 5.4
func (c *Core) SetEnv(ctx context.Context, p Principal, id AppID, vars map[string]string, private bool) error {
	names := slices.Sorted(maps.Keys(vars))
	err := c.change(ctx, p, "app.env.set", string(id), func(tx Tx) error {
		if _, err := usableByID(tx, p, id); err != nil {
			return err
		}
		for _, name := range names {
			if !envPattern.MatchString(name) {
				return Errorf(Invalid, ObjApp, "%q is no name of a variable: letters, digits and _, not beginning with a digit", clip(name))
			}
			if value := vars[name]; strings.ContainsAny(value, "\x00\n\r") || len(value) > 32<<10 {
				return Errorf(Invalid, ObjApp, "the value of %s has a line break or a NUL, or is longer than 32 KiB", name)
			}
		}
		old, err := tx.AppEnv(id)
		if err != nil {
			return err
		}
		total := 0
		for _, name := range names {
			v := EnvVar{Name: name, Value: Secret(vars[name]), Public: !private}
			i := slices.IndexFunc(old, func(o EnvVar) bool { return o.Name == name })
			if v.protected() || i >= 0 && (old[i].protected() || !old[i].Public && !private) {
				continue
			}
			total += len(name) + len(vars[name])
			if err := tx.PutEnv(id, v); err != nil {
				return err
			}
		}
		for _, o := range old {
			if _, replaced := vars[o.Name]; !replaced {
				total += len(o.Name) + len(o.Value)
			}
		}
		if total > 200<<10 {
			return Errorf(Invalid, ObjApp, "the environment would be larger than 200 KiB")
		}
		return nil
	})
	if err != nil {
		return err
	}
	line := fmt.Sprintf("setting %d environment variables", len(names))
	if !private {
		for _, name := range names {
			line += fmt.Sprintf("\n\t%s = %s", name, vars[name])
		}
	}
	return c.logApp(ctx, id, strings.Split(line, "\n")...)
}

// UnsetEnv removes variables of an app. Those of the platform and of services stay, and private ones unless asked for. Names
// that are not there are skipped.
//
// Errors: not_found, forbidden
func (c *Core) UnsetEnv(ctx context.Context, p Principal, id AppID, names []string, private bool) error {
	err := c.change(ctx, p, "app.env.unset", string(id), func(tx Tx) error {
		if _, err := usableByID(tx, p, id); err != nil {
			return err
		}
		old, err := tx.AppEnv(id)
		if err != nil {
			return err
		}
		for _, v := range old {
			if !slices.Contains(names, v.Name) || v.protected() || !v.Public && !private {
				continue
			}
			if err := tx.DeleteEnv(id, v.Name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.logApp(ctx, id, fmt.Sprintf("removing %d environment variables: %s", len(names), clip(strings.Join(names, ", "))))
}
