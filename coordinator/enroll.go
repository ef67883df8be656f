package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/reeve-paas/reeve/coordinator/api/enroll"
	"github.com/reeve-paas/reeve/coordinator/cloud"
	"github.com/reeve-paas/reeve/coordinator/cloud/static"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

const enrollLong = `Take in a machine that exists already, as a node of a cloud of engine static. Three ways:

Over SSH (--host): the agent's package is uploaded and installed, the node's key is written, the agent is started and has
to answer a sealed call. The machine's host key is compared with --host-key or your known_hosts; on first contact its
fingerprint is printed, and nothing else happens. A failure leaves the machine as it was, and the command may be repeated.

With a token (--token): prints a token, and what the machine's administrator runs with it. It works once.

An agent that runs already (--address, --key-file): it has to answer a call that is sealed with the key in the file,
which is its /etc/reeve/keys/default. A Scalarizr agent's key will do, too.`

type enrollFlags struct {
	name, cloud, owner       string
	host, user, key, hostKey string
	knownHosts               string
	port                     int
	sudo, token              bool
	ttl                      time.Duration
	address, keyFile         string
}

func (a *app) nodeEnrollCommand() *cobra.Command {
	var f enrollFlags
	cmd := &cobra.Command{
		Use: "enroll --name N {--host H | --token | --address A --key-file F}", Short: "take in a machine that exists already", Args: cobra.NoArgs, Long: enrollLong,
		Example: `  reeve-coordinator node enroll --name web-1 --host 192.0.2.7 --key ~/.ssh/id_ed25519
  reeve-coordinator node enroll --name web-2 --token
  reeve-coordinator node enroll --name old-1 --address 192.0.2.9 --key-file ./old-1.key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ways := 0
			for _, chosen := range []bool{f.host != "", f.token, f.address != "" || f.keyFile != ""} {
				if chosen {
					ways++
				}
			}
			switch {
			case ways != 1:
				return errors.New("say how: --host for SSH, --token for a one-time token, or --address and --key-file for an agent that runs")
			case f.host != "":
				return a.enrollOverSSH(cmd.Context(), f)
			case f.token:
				return a.enrollWithToken(cmd.Context(), f)
			}
			return a.enrollAgent(cmd.Context(), f)
		},
	}
	s := cmd.Flags()
	s.StringVar(&f.name, "name", "", "name of the node (required)")
	s.StringVar(&f.cloud, "cloud", "static", "cloud of engine static that takes it in")
	s.StringVar(&f.owner, "owner", "", "e-mail address of the account that owns it (default: the administrator)")
	s.StringVar(&f.host, "host", "", "address of the machine, to be enrolled over SSH")
	s.IntVar(&f.port, "port", 22, "port of its SSH server")
	s.StringVar(&f.user, "user", "root", "user to log in as")
	s.StringVar(&f.key, "key", "", "file of the private SSH key (default: the SSH agent); it is read again to reboot or to un-enrol the machine")
	s.StringVar(&f.hostKey, "host-key", "", "the machine's host key, \"ssh-ed25519 AAAA…\" or its fingerprint \"SHA256:…\"")
	s.StringVar(&f.knownHosts, "known-hosts", "", "file to look the host key up in (default ~/.ssh/known_hosts)")
	s.BoolVar(&f.sudo, "sudo", false, "become root with sudo")
	s.BoolVar(&f.token, "token", false, "make a one-time token")
	s.DurationVar(&f.ttl, "ttl", 15*time.Minute, "how long the token may wait")
	s.StringVar(&f.address, "address", "", "address of an agent that runs already")
	s.StringVar(&f.keyFile, "key-file", "", "file with the key of an agent that runs already")
	cmd.MarkFlagRequired("name")
	return cmd
}

// enrolling opens what enrolment needs beside a running coordinator: the rules, one static cloud, and who owns the node.
type enrolling struct {
	*base
	core  *core.Core
	cloud *static.Driver
	owner core.Principal
}

func (a *app) enrolling(ctx context.Context, f enrollFlags) (*enrolling, error) {
	b, err := a.beside(ctx)
	if err != nil {
		return nil, err
	}
	e, err := b.enrolling(ctx, f)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return e, nil
}

func (b *base) enrolling(ctx context.Context, f enrollFlags) (*enrolling, error) {
	c, ok := b.cfg.Clouds[f.cloud]
	if !ok || c.Engine != "static" {
		return nil, fmt.Errorf("there is no cloud %q of engine static; add it under clouds in the configuration", f.cloud)
	}
	e := &enrolling{base: b, owner: core.Principal{Via: "local", Dialect: "local"}}
	var err error
	if e.cloud, err = static.Open(ctx, staticOptions(b.cfg, f.cloud, c, b.log)); err != nil {
		return nil, err
	}
	set, err := cloud.NewSet(f.cloud, cloud.Named{Name: f.cloud, Driver: e.cloud})
	if err != nil {
		return nil, err
	}
	e.core = core.New(core.Options{Store: b.store, Clouds: set, Agents: b.agents, Log: b.log, SSHKeys: b.cfg.SSHKeys,
		AgentConfig: func(n core.Node) []core.BootstrapFile {
			n.Address = f.host
			return b.fromBeside().files(n)
		}})
	err = b.store.View(ctx, func(r core.Reader) error {
		accounts, err := r.Accounts()
		i := slices.IndexFunc(accounts, func(a core.Account) bool {
			return f.owner != "" && strings.EqualFold(a.Email, f.owner) || f.owner == "" && a.Admin
		})
		if err == nil && i < 0 {
			err = fmt.Errorf("there is no account %q", f.owner)
		}
		if err == nil {
			e.owner.Account = accounts[i]
		}
		return err
	})
	return e, err
}

func (a *app) enrollOverSSH(ctx context.Context, f enrollFlags) error {
	e, err := a.enrolling(ctx, f)
	if err != nil {
		return err
	}
	defer e.Close()
	h := static.Host{Name: f.name, Address: f.host, Port: f.port, User: f.user, Sudo: f.sudo}
	if f.key != "" {
		if h.KeyFile, err = filepath.Abs(f.key); err != nil {
			return err
		}
	}
	if h.HostKey, err = f.pinnedKey(ctx, h); err != nil {
		return err
	}
	what, err := static.Probe(ctx, h)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "%s answers: %s\n", f.host, what)
	if err := e.cloud.Add(ctx, h); err != nil {
		return err
	}
	n, err := e.core.EnrollNode(ctx, e.owner, f.cloud, f.name, func(ctx context.Context, spec core.NodeSpec) (core.CloudNode, error) {
		return e.cloud.Enroll(ctx, f.name, spec)
	})
	if err != nil {
		return errors.Join(err, e.cloud.Remove(context.WithoutCancel(ctx), f.name))
	}
	_, err = fmt.Fprintf(a.stdout, "%s is enrolled; its agent answers at %s\n", n.Name, n.Address)
	return err
}

// pinnedKey is the host key that the caller vouches for. On first contact the machine's own is told in the error.
func (f enrollFlags) pinnedKey(ctx context.Context, h static.Host) (string, error) {
	if f.hostKey != "" && !strings.HasPrefix(f.hostKey, "SHA256:") {
		return f.hostKey, nil
	}
	_, err := static.Probe(ctx, h)
	first, ok := errors.AsType[*static.UnknownHostKey](err)
	if !ok {
		return "", err
	}
	if f.hostKey == first.Fingerprint {
		return first.Key, nil
	}
	if f.hostKey != "" {
		return "", fmt.Errorf("%s shows the host key %s, and not the one you gave: somebody may stand in between", f.host, first.Fingerprint)
	}
	if err := f.known(first); err != nil {
		return "", err
	}
	return first.Key, nil
}

// known looks a machine's host key up in known_hosts.
func (f enrollFlags) known(shown *static.UnknownHostKey) error {
	file := f.knownHosts
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return err
		}
		file = filepath.Join(home, ".ssh", "known_hosts")
	}
	unknown := fmt.Errorf("%s shows the host key %s, which is not in %s. Compare it with the machine's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then repeat with --host-key %s",
		f.host, shown.Fingerprint, file, shown.Fingerprint)
	check, err := knownhosts.New(file)
	if errors.Is(err, fs.ErrNotExist) && f.knownHosts == "" {
		return unknown
	}
	if err != nil {
		return err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(shown.Key))
	if err != nil {
		return err
	}
	at := net.JoinHostPort(f.host, strconv.Itoa(f.port))
	remote := &net.TCPAddr{IP: net.ParseIP(f.host), Port: f.port}
	if remote.IP == nil {
		remote.IP = net.IPv4zero
	}
	err = check(at, remote, key)
	if e, ok := errors.AsType[*knownhosts.KeyError](err); ok && len(e.Want) == 0 {
		return unknown
	}
	return err
}

func (a *app) enrollWithToken(ctx context.Context, f enrollFlags) error {
	e, err := a.enrolling(ctx, f)
	if err != nil {
		return err
	}
	defer e.Close()
	if e.cfg.Listen == "" {
		return errors.New("the coordinator speaks no TLS (listen is empty), so no machine can ask it for a key")
	}
	token, err := e.core.NewEnrollment(ctx, e.owner, f.cloud, f.name, f.ttl)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(e.cfg.DataDir, "ca.crt"))
	if err != nil {
		return err
	}
	_, scriptSum := enroll.Script()
	_, err = fmt.Fprintf(a.stdout, `%s

This token is good once, for %s. On the machine that becomes %s, as root:

  curl -fsSk %[4]s/agent/enroll.sh -o enroll.sh
  echo "%[5]s  enroll.sh" | sha256sum -c -
  sh enroll.sh %[4]s %[6]x

It asks for the token. Where reeve-agent is installed already:

  reeve-agent enroll --url %[4]s --ca-sha256 %[6]x
`, string(token), f.ttl, f.name, e.publicURL(), scriptSum, sha256.Sum256(ca))
	return err
}

// publicURL is where other machines reach us.
func (b *base) publicURL() string {
	if b.cfg.PublicURL != "" {
		return strings.TrimRight(b.cfg.PublicURL, "/")
	}
	host, port, err := net.SplitHostPort(b.cfg.Listen)
	if err != nil {
		port = "8443"
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			host = "localhost"
		}
	}
	return "https://" + net.JoinHostPort(host, port)
}

// enrollAgent takes in an agent that runs, over the wire alone.
func (a *app) enrollAgent(ctx context.Context, f enrollFlags) error {
	if f.address == "" || f.keyFile == "" {
		return errors.New("--address and --key-file are needed together")
	}
	text, err := os.ReadFile(f.keyFile)
	if err != nil {
		return err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err == nil {
		_, err = envelope.NewKey(key)
	}
	if err != nil {
		return fmt.Errorf("%s holds no agent key: base64 of at least 24 bytes is expected", f.keyFile)
	}
	e, err := a.enrolling(ctx, f)
	if err != nil {
		return err
	}
	defer e.Close()
	n, err := e.core.AdoptAgent(ctx, e.owner, f.cloud, f.name, f.address, key)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s is enrolled\n", n.Name)
	return err
}

func (a *app) nodeForgetCommand() *cobra.Command {
	var f enrollFlags
	cmd := &cobra.Command{Use: "forget NAME", Short: "forget a machine of a static cloud without touching it", Args: cobra.ExactArgs(1),
		Long: `Forget a machine that is gone for good: its node is no longer listed. Nothing is done on the machine, which keeps the
agent's key if it ever comes back. A machine that still answers is un-enrolled by stopping its node instead.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.enrolling(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer e.Close()
			n, err := e.core.ForgetNode(cmd.Context(), e.owner, f.cloud, args[0])
			if err != nil {
				return err
			}
			if err := e.cloud.Forget(cmd.Context(), n.CloudID); err != nil {
				return err
			}
			return json.NewEncoder(a.stdout).Encode(map[string]any{"forgotten": n.Name})
		}}
	cmd.Flags().StringVar(&f.cloud, "cloud", "static", "its cloud")
	return cmd
}
