package static

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/reeve-paas/reeve/coordinator/core"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 20 * time.Second
	keepAlive        = 15 * time.Second
	maxOutput        = 64 << 10
)

// remote is a machine we are logged in to.
type remote struct {
	client *ssh.Client
	name   string
	sudo   bool
	stop   func() bool
	done   chan struct{}
}

// parseHostKey reads a host's pinned key; nil when there is none.
func parseHostKey(h Host) (ssh.PublicKey, error) {
	if h.HostKey == "" {
		return nil, nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(h.HostKey))
	if err != nil {
		return nil, core.Errorf(core.Invalid, core.ObjNode, "the host key of %s is not of the form \"ssh-ed25519 AAAA…\"", h.Name)
	}
	return key, nil
}

// UnknownHostKey is the error of a first contact: the machine's host key is not pinned. Somebody has to compare it.
type UnknownHostKey struct {
	Name        string
	Key         string // as Host.HostKey has it
	Fingerprint string // e.g. "SHA256:…"
}

func (e *UnknownHostKey) Error() string {
	return fmt.Sprintf("%s shows the host key %s, which nobody has confirmed", e.Name, e.Fingerprint)
}

// dial logs in. Everything ends with ctx.
func dial(ctx context.Context, h Host) (*remote, error) {
	pinned, err := parseHostKey(h)
	if err != nil {
		return nil, err
	}
	auth, closeAuth, err := authOf(h)
	if err != nil {
		return nil, err
	}
	defer closeAuth()
	var unknown *UnknownHostKey
	config := &ssh.ClientConfig{User: h.User, Auth: []ssh.AuthMethod{auth}, Timeout: dialTimeout,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if pinned != nil && bytes.Equal(pinned.Marshal(), key.Marshal()) {
				return nil
			}
			if pinned != nil {
				return errHostKey
			}
			unknown = &UnknownHostKey{h.Name, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), ssh.FingerprintSHA256(key)}
			return unknown
		}}
	if config.User == "" {
		config.User = "root"
	}
	if pinned != nil { // the server may offer another type otherwise, and a correct pin fails
		config.HostKeyAlgorithms = algorithms(pinned.Type())
	}
	port := h.Port
	if port == 0 {
		port = 22
	}
	addr := net.JoinHostPort(h.Address, strconv.Itoa(port))
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, core.Wrap(core.Unavailable, core.ObjNode, err, "no SSH server answers at %s", addr)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout)) // Timeout is for the TCP connection only
	c, channels, requests, err := ssh.NewClientConn(conn, addr, config)
	if err != nil {
		stop()
		conn.Close()
		switch {
		case unknown != nil:
			return nil, core.Wrap(core.Invalid, core.ObjNode, unknown, "the host key of %s is not known", h.Name)
		case errors.Is(err, errHostKey) || strings.Contains(err.Error(), errHostKey.Error()):
			return nil, core.Wrap(core.Invalid, core.ObjNode, err, "the host key of %s is not the one that was confirmed: somebody may stand in between, or the machine was installed anew", h.Name)
		case strings.Contains(err.Error(), "unable to authenticate"):
			return nil, core.Wrap(core.Unauthenticated, core.ObjNode, err, "%s does not let %s in with this key", h.Name, config.User)
		}
		return nil, core.Wrap(core.Unavailable, core.ObjNode, err, "the SSH server of %s does not answer", h.Name)
	}
	_ = conn.SetDeadline(time.Time{})
	r := &remote{client: ssh.NewClient(c, channels, requests), name: h.Name, sudo: h.Sudo, stop: stop, done: make(chan struct{})}
	go r.keepAlive()
	return r, nil
}

var errHostKey = errors.New("host key mismatch")

func algorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// authOf is how we prove who we are: the host's key file, or the agent of whoever called us.
func authOf(h Host) (ssh.AuthMethod, func(), error) {
	if h.KeyFile != "" {
		data, err := os.ReadFile(h.KeyFile)
		if err != nil {
			return nil, nil, core.Wrap(core.Unauthenticated, core.ObjNode, err, "read the SSH key of %s", h.Name)
		}
		signer, err := ssh.ParsePrivateKey(data)
		if err != nil {
			return nil, nil, core.Wrap(core.Unauthenticated, core.ObjNode, err, "the file %s is no SSH key without a passphrase", h.KeyFile)
		}
		return ssh.PublicKeys(signer), func() {}, nil
	}
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, nil, core.Errorf(core.Unauthenticated, core.ObjNode, "there is no SSH key for %s: name a key file, or run an SSH agent", h.Name)
	}
	conn, err := net.DialTimeout("unix", socket, dialTimeout)
	if err != nil {
		return nil, nil, core.Wrap(core.Unauthenticated, core.ObjNode, err, "the SSH agent does not answer")
	}
	return ssh.PublicKeysCallback(agent.NewClient(conn).Signers), func() { conn.Close() }, nil
}

// keepAlive ends a connection whose other side is gone.
func (r *remote) keepAlive() {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-tick.C:
			if _, _, err := r.client.SendRequest("keepalive@openssh.com", true, nil); err != nil {
				r.client.Close()
				return
			}
		}
	}
}

func (r *remote) close() {
	close(r.done)
	r.stop()
	r.client.Close()
}

// failedCommand is a script that ended with a code other than 0.
type failedCommand struct {
	code int
	said string // its standard error, at most its last lines
}

func (e *failedCommand) Error() string { return fmt.Sprintf("exit status %d: %s", e.code, e.said) }

// run runs one script as root. Scripts are constants without single quotes; what differs is read from stdin.
func (r *remote) run(doing, script string, stdin io.Reader) (string, error) {
	session, err := r.client.NewSession()
	if err != nil {
		return "", core.Wrap(core.Unavailable, core.ObjNode, err, "%s on %s", doing, r.name)
	}
	defer session.Close()
	var out, errs limited
	session.Stdin, session.Stdout, session.Stderr = stdin, &out, &errs
	command := "sh -c '" + script + "'" // whatever the login shell is
	if r.sudo {
		command = "sudo -n " + command
	}
	err = session.Run(command)
	if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
		failed := &failedCommand{exit.ExitStatus(), strings.TrimSpace(errs.tail())}
		return out.String(), core.Wrap(core.Internal, core.ObjNode, failed, "%s on %s: %s", doing, r.name, failed.said)
	}
	if err != nil { // the connection died: nobody knows how far it came
		return out.String(), core.Wrap(core.Unavailable, core.ObjNode, err, "the connection to %s ended during: %s", r.name, doing)
	}
	return out.String(), nil
}

// limited keeps the last of what is written.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len() > maxOutput {
		l.Next(l.Len() - maxOutput/2)
	}
	return l.Buffer.Write(p)
}

func (l *limited) tail() string {
	text := l.String()
	return text[max(0, len(text)-800):]
}
