package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/reeve-paas/reeve/coordinator/cloud/nspawn"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/handlers/deploy/platform"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// beside opens the data for a short command next to a running coordinator.
func (a *app) beside(ctx context.Context) (*base, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	return openBase(ctx, cfg, a.logger(cfg), true)
}

func (a *app) userCommand() *cobra.Command {
	user := &cobra.Command{Use: "user", Short: "accounts"}
	var email string
	var admin, passwordStdin bool
	create := &cobra.Command{
		Use: "create --email E [--admin]", Short: "make an account and print its credentials as JSON", Args: cobra.NoArgs,
		Long: `Make an account and print {"email", "password", "api_key"} as JSON.
The password is made up unless --password-stdin gives one. It is shown only now.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := a.beside(cmd.Context())
			if err != nil {
				return err
			}
			defer b.Close()
			password := ""
			if passwordStdin {
				if password, err = readLine(cmd.InOrStdin()); err != nil {
					return fmt.Errorf("read the password from standard input: %w", err)
				}
			}
			account, plain, key, err := b.auth.CreateAccount(cmd.Context(), email, password, admin)
			if err != nil {
				return err
			}
			return json.NewEncoder(a.stdout).Encode(map[string]string{"email": account.Email, "password": string(plain), "api_key": string(key)})
		},
	}
	create.Flags().StringVar(&email, "email", "", "e-mail address, also the login name (required)")
	create.Flags().BoolVar(&admin, "admin", false, "let the account manage everything")
	create.Flags().BoolVar(&passwordStdin, "password-stdin", false, "read the password from standard input")
	create.MarkFlagRequired("email")
	user.AddCommand(create, a.creditCommand())
	return user
}

// readLine reads the first line, which may have spaces; an empty one is an error.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); line != "" {
		return line, nil
	}
	if err == nil {
		err = errors.New("the line is empty")
	}
	return "", err
}

func (a *app) nodeCommand() *cobra.Command {
	node := &cobra.Command{Use: "node", Short: "nodes and their agents"}
	node.AddCommand(a.nodeListCommand(), a.nodeEnrollCommand(), a.nodeForgetCommand(), a.nodeCallCommand())
	return node
}

func (a *app) nodeListCommand() *cobra.Command {
	var asJSON bool
	list := &cobra.Command{Use: "list", Short: "list all nodes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := a.beside(cmd.Context())
			if err != nil {
				return err
			}
			defer b.Close()
			nodes, err := b.nodes(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return a.printNodesJSON(nodes)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tSTATE\tADDRESS\tCLOUD\tSIZE\tROLES\tAPP\tSEEN")
			for _, n := range nodes {
				seen := "never"
				if !n.SeenAt.IsZero() {
					seen = n.SeenAt.Local().Format(time.DateTime)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, n.State, n.Address, n.Cloud, n.SizeID, roles(n), n.AppID, seen)
			}
			return w.Flush()
		}}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return list
}

func (b *base) nodes(ctx context.Context) (nodes []core.Node, err error) {
	err = b.store.View(ctx, func(r core.Reader) error { nodes, err = r.Nodes(core.NodeFilter{}); return err })
	return nodes, err
}

func roles(n core.Node) string {
	var words []string
	for _, r := range n.Roles {
		words = append(words, string(r))
	}
	return strings.Join(words, ",")
}

func (a *app) printNodesJSON(nodes []core.Node) error {
	rows := make([]map[string]any, 0, len(nodes)) // never the key
	for _, n := range nodes {
		rows = append(rows, map[string]any{"id": n.ID, "num": n.Num, "name": n.Name, "state": n.State, "address": n.Address, "cloud": n.Cloud,
			"size": n.SizeID, "roles": n.Roles, "app": n.AppID})
	}
	return json.NewEncoder(a.stdout).Encode(rows)
}

func (a *app) nodeCallCommand() *cobra.Command {
	return &cobra.Command{
		Use: "call NODE NAMESPACE.METHOD [JSON-PARAMS]", Short: "call a method of a node's agent and print the result", Args: cobra.RangeArgs(2, 3),
		Example: `  reeve-coordinator node call rv-1a2b3c system.load_average
  reeve-coordinator node call rv-1a2b3c system.statvfs '{"mpoints": ["/"]}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.beside(cmd.Context())
			if err != nil {
				return err
			}
			defer b.Close()
			nodes, err := b.nodes(cmd.Context())
			if err != nil {
				return err
			}
			params := json.RawMessage("{}")
			if len(args) == 3 {
				params = json.RawMessage(args[2])
				if !json.Valid(params) {
					return errors.New("the parameters are not valid JSON")
				}
			}
			for _, n := range nodes {
				if n.Name != args[0] && string(n.ID) != args[0] && n.Address != args[0] {
					continue
				}
				agent, err := b.agents.Agent(n)
				if err != nil {
					return err
				}
				var result json.RawMessage
				if err := agent.Call(cmd.Context(), args[1], params, &result); err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.stdout, "%s\n", result)
				return err
			}
			return fmt.Errorf("there is no node %q; \"reeve-coordinator node list\" shows all", args[0])
		},
	}
}

func (a *app) imageCommand() *cobra.Command {
	image := &cobra.Command{Use: "image", Short: "node images"}
	var baseOnly bool
	var with []string
	optional := strings.Join(platform.Optional(), ", ")
	build := &cobra.Command{
		Use: "build [--with PLATFORM]...", Short: "build the node image of the nspawn cloud", Args: cobra.NoArgs,
		Long: `Build the image that nodes of the nspawn cloud boot from: a Debian with the servers apps need, and the agent.
What is there already is used again, so a second call takes moments.

With --with a second image is built too, which has the platforms named besides. Nodes for apps and services of these platforms
boot from it, all others from the first; until it is there, the platforms are not offered. They are: ` + optional + `.
Name them again when the agent was upgraded.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			extras, err := imageExtras(with)
			if err != nil {
				return err
			}
			deb := agentPackage(cfg)
			if baseOnly {
				deb = ""
			} else if deb == "" {
				return errors.New("no agent package found; name one with --agent-package")
			}
			bar := newProgress(a.stderr)
			images := []nspawn.ImageOptions{{CacheDir: cfg.ImageCache, AgentDeb: deb}}
			if len(extras) > 0 {
				images = append(images, nspawn.ImageOptions{CacheDir: cfg.ImageCache, AgentDeb: deb, Extras: extras})
			}
			for _, o := range images {
				image, err := nspawn.BuildImage(cmd.Context(), o, bar.update)
				bar.end()
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintln(a.stdout, image.ID); err != nil {
					return err
				}
			}
			return nil
		},
	}
	build.Flags().StringSliceVar(&with, "with", nil, "build an image with this platform, too: "+optional)
	build.Flags().BoolVar(&baseOnly, "base-only", false, "build only what the agent is put on top of")
	image.AddCommand(build)
	return image
}

// imageExtras is what an image needs to have platforms.
func imageExtras(names []string) ([]nspawn.Extra, error) {
	var extras []nspawn.Extra
	for _, name := range names {
		if !slices.Contains(platform.Optional(), name) {
			return nil, fmt.Errorf("--with: %q is none of %s", name, strings.Join(platform.Optional(), ", "))
		}
		p, _ := platform.Get(name)
		extras = append(extras, nspawn.Extra{Name: name, Packages: p.Packages})
	}
	return extras, nil
}

// teardownCommand is for demos and tests: an operator deletes apps and nodes through an API.
func (a *app) teardownCommand() *cobra.Command {
	return &cobra.Command{Use: "teardown", Short: "destroy every node, volume and network of this machine's clouds", Args: cobra.NoArgs, Hidden: true,
		Long: "Destroy every node, volume and network of the nspawn clouds below the data directory. No coordinator may be running on it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			var errs []error
			for name, c := range cfg.Clouds {
				if c.Engine != "nspawn" {
					continue
				}
				o, err := nspawnOptions(cfg, name, c, a.logger(cfg))
				if err == nil {
					err = nspawn.Teardown(cmd.Context(), o)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		}}
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{Use: "doctor", Short: "tell what this machine lacks, and the command that mends it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			missing := 0
			for _, f := range nspawn.Doctor(cmd.Context()) {
				if !f.Missing {
					fmt.Fprintf(a.stdout, "ok       %s\n", f.What)
					continue
				}
				missing++
				fmt.Fprintf(a.stdout, "missing  %s\n         mend with: %s\n", f.What, f.Fix)
			}
			if missing > 0 {
				return fmt.Errorf("%d things are missing", missing)
			}
			return nil
		}}
}
