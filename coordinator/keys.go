package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func (a *app) keyCommand() *cobra.Command {
	key := &cobra.Command{Use: "key", Short: "SSH keys of accounts", Long: `SSH keys of accounts: those of tsuru key-add, too. The Orchestrator API names them as keyname, and lets the users of
assigned nodes in with them.`}
	key.AddCommand(a.keyAddCommand(), a.keyListCommand(), a.keyDeleteCommand())
	return key
}

// owned opens the rules beside a running coordinator for the account of an e-mail address.
func (a *app) owned(ctx context.Context, email string) (*core.Core, core.Principal, func() error, error) {
	b, err := a.beside(ctx)
	if err != nil {
		return nil, core.Principal{}, nil, err
	}
	p := core.Principal{Via: "local", Dialect: "local"}
	err = b.store.View(ctx, func(r core.Reader) (err error) { p.Account, err = r.AccountByEmail(email); return err })
	if core.KindOf(err) == core.NotFound {
		err = fmt.Errorf("there is no account %q; make one with: reeve-coordinator user create --email %s", email, email)
	}
	if err != nil {
		return nil, p, nil, errors.Join(err, b.Close())
	}
	return core.New(core.Options{Store: b.store, Log: b.log}), p, b.Close, nil
}

func (a *app) keyAddCommand() *cobra.Command {
	var email, name string
	add := &cobra.Command{Use: "add --user E --name N FILE", Short: "keep a public key of an account", Args: cobra.ExactArgs(1),
		Long:    "Keep the public key in FILE under a name; - reads standard input. It prints the key's fingerprint.",
		Example: "  reeve-coordinator key add --user ann@example.com --name laptop ~/.ssh/id_ed25519.pub",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if args[0] == "-" {
				text, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), 64<<10))
			}
			if err != nil {
				return err
			}
			c, p, done, err := a.owned(cmd.Context(), email)
			if err != nil {
				return err
			}
			if !core.UsableSSHKey(string(text)) {
				return errors.Join(fmt.Errorf("%s holds no public key: one line such as \"ssh-ed25519 AAAA… comment\" is expected", args[0]), done())
			}
			k, err := c.AddSSHKey(cmd.Context(), p, name, string(text))
			if err = errors.Join(err, done()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, k.Fingerprint)
			return err
		}}
	userFlag(add, &email)
	add.Flags().StringVar(&name, "name", "", "name of the key, which keyname says (required)")
	add.MarkFlagRequired("name")
	return add
}

func userFlag(cmd *cobra.Command, email *string) {
	cmd.Flags().StringVar(email, "user", "", "e-mail address of the account (required)")
	cmd.MarkFlagRequired("user")
}

func (a *app) keyListCommand() *cobra.Command {
	var email string
	list := &cobra.Command{Use: "list --user E", Short: "list the keys of an account", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, done, err := a.owned(cmd.Context(), email)
			if err != nil {
				return err
			}
			keys, err := c.AccountSSHKeys(cmd.Context(), p)
			if err = errors.Join(err, done()); err != nil {
				return err
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tFINGERPRINT\tKEY")
			for _, k := range keys {
				fmt.Fprintf(w, "%s\t%s\t%s\n", k.Name, k.Fingerprint, k.Key)
			}
			return w.Flush()
		}}
	userFlag(list, &email)
	return list
}

func (a *app) keyDeleteCommand() *cobra.Command {
	var email string
	del := &cobra.Command{Use: "delete --user E NAME", Short: "forget a key; nodes that have it keep it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, done, err := a.owned(cmd.Context(), email)
			if err != nil {
				return err
			}
			keys, err := c.AccountSSHKeys(cmd.Context(), p)
			if err == nil {
				i := slices.IndexFunc(keys, func(k core.SSHKey) bool { return k.Name == args[0] })
				if i < 0 {
					err = fmt.Errorf("%s has no key %q", email, args[0])
				} else {
					err = c.RemoveSSHKeyNum(cmd.Context(), p, keys[i].Num)
				}
			}
			return errors.Join(err, done())
		}}
	userFlag(del, &email)
	return del
}
