package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/authority"
)

func (a *app) creditCommand() *cobra.Command {
	var email string
	var add int
	credit := &cobra.Command{Use: "credit --email E [--add N]", Short: "print an account's credit, after changing it", Args: cobra.NoArgs,
		Long: `Print how many hours of nodes an account can still pay. --add gives it more first, or takes some with a
negative number; nobody ever has less than nothing.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := a.beside(cmd.Context())
			if err != nil {
				return err
			}
			defer b.Close()
			left, err := b.auth.ChangeCredit(cmd.Context(), email, add)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, left)
			return err
		}}
	credit.Flags().StringVar(&email, "email", "", "e-mail address of the account (required)")
	credit.Flags().IntVar(&add, "add", 0, "credit to add, or to take when negative")
	credit.MarkFlagRequired("email")
	return credit
}

// managerCertificateCommand is for those who run a manager of their own, as ConPaaS 1.x did.
func (a *app) managerCertificateCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "manager-certificate SERVICE --dir D", Short: "write the certificate of a service's manager", Args: cobra.ExactArgs(1),
		Long: `Write cert.pem, key.pem and ca_cert.pem for a manager that runs elsewhere. With them it charges the owner's
credit and has certificates of agents signed. They count until the service ends.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.beside(cmd.Context())
			if err != nil {
				return err
			}
			defer b.Close()
			var num int64
			if _, err := fmt.Sscanf(args[0], "%d", &num); err != nil {
				return fmt.Errorf("%q is no number of a service", args[0])
			}
			var owner core.Account
			err = b.store.View(cmd.Context(), func(r core.Reader) error {
				app, err := r.AppByNum(num)
				if err != nil {
					return err
				}
				owner, err = r.Account(app.AccountID)
				return err
			})
			if err != nil {
				return err
			}
			ca, err := authority.Open(b.cfg.DataDir, authority.Director, b.sealer, nil)
			if err != nil {
				return err
			}
			pair, err := auth.NewCertificates(b.auth, ca).Manager(cmd.Context(), core.Principal{Account: owner, Dialect: "local"}, num)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			for name, data := range map[string][]byte{"cert.pem": pair.Cert, "key.pem": pair.Key, "ca_cert.pem": pair.CA} {
				if err := renameio.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					return err
				}
			}
			return nil
		}}
	c.Flags().StringVar(&dir, "dir", "", "directory to write to (required)")
	c.MarkFlagRequired("dir")
	return c
}
