package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
)

const adminEmail = "admin@localhost"

// adminFile is admin.json.
type adminFile struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	APIKey   string `json:"api_key"`
	Token    string `json:"token"`
}

// firstStart makes the administrator and leaves the credentials in admin.json. They are written down, in admin.json.new,
// before the account is made from them: a start that was cut off is finished by the next one. An administrator without
// either file is one whose file somebody removed on purpose.
//
// Effects: admin.json, mode 0600, once
func (b *base) firstStart(ctx context.Context) error {
	path := filepath.Join(b.cfg.DataDir, "admin.json")
	pending := path + ".new"
	there, err := b.adminExists(ctx)
	if err != nil {
		return err
	}
	f, err := readAdmin(pending)
	switch {
	case errors.Is(err, fs.ErrNotExist) && there:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if f, err = writeAdmin(pending); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	if !there {
		c := auth.Credentials{Password: core.Secret(f.Password), APIKey: core.Secret(f.APIKey), Token: core.Secret(f.Token)}
		if _, err := b.auth.CreateAccountWith(ctx, f.Email, c, true); err != nil {
			return err
		}
	}
	if err := os.Rename(pending, path); err != nil {
		return err
	}
	b.log.Info("administrator made; the credentials are in a file", "path", path)
	return nil
}

func (b *base) adminExists(ctx context.Context) (bool, error) {
	err := b.store.View(ctx, func(r core.Reader) error { _, err := r.AccountByEmail(adminEmail); return err })
	if err != nil && core.KindOf(err) == core.NotFound {
		return false, nil
	}
	return err == nil, err
}

func readAdmin(path string) (f adminFile, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("%s is damaged; remove it and start again: %w", path, err)
	}
	return f, nil
}

func writeAdmin(path string) (adminFile, error) {
	c := auth.NewCredentials()
	f := adminFile{Email: adminEmail, Password: string(c.Password), APIKey: string(c.APIKey), Token: string(c.Token)}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return f, err
	}
	return f, renameio.WriteFile(path, append(data, '\n'), 0o600)
}
