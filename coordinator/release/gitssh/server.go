package gitssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Logins check the passwords of logins of apps.
type Logins interface {
	// AppLogin's principal may do with one app what its owner may, and nothing else.
	AppLogin(ctx context.Context, name, password, from string) (core.Principal, error)
}

// Options configure a Server. All up to Addr are needed.
type Options struct {
	Core    *core.Core
	Files   core.Files
	Dir     string     // of the repositories; made when it is not there
	HostKey ssh.Signer // by which clients know us
	Addr    string     // host:port
	Logins  Logins     // nil: only keys let in
	Program string     // the coordinator's binary, which is also the hook; "" means the running one
	Log     *slog.Logger
	// MaxConnections bounds connections at once; 0 means 200.
	MaxConnections int
}

// Server serves repositories.
type Server struct {
	o        Options
	config   *ssh.ServerConfig
	listener net.Listener
	hooks    net.Listener
	making   sync.Mutex // one repository is made at a time
	wg       sync.WaitGroup

	mu     sync.Mutex // protects the fields below
	pushes map[string]push
	open   map[net.Conn]bool
}

const (
	handshakeLimit = 20 * time.Second
	sessionLimit   = time.Hour
	accountKey     = "account" // in the permissions of an authentication
	appKey         = "app"     // likewise, of a login of an app's
)

// New prepares a server: its directory, and the hook in it. It listens on no port yet.
func New(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 200
	}
	if o.Program == "" {
		var err error
		if o.Program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	s := &Server{o: o, pushes: map[string]push{}, open: map[net.Conn]bool{}}
	if err := os.MkdirAll(filepath.Join(o.Dir, "hooks"), 0o700); err != nil {
		return nil, err
	}
	hook := filepath.Join(o.Dir, "hooks", HookName)
	if err := os.Remove(hook); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.Symlink(o.Program, hook); err != nil {
		return nil, err
	}
	s.config = &ssh.ServerConfig{ServerVersion: "SSH-2.0-reeve", MaxAuthTries: 10, PublicKeyCallback: s.authenticate}
	if o.Logins != nil {
		s.config.PasswordCallback = s.checkPassword
	}
	s.config.AddHostKey(o.HostKey)
	return s, nil
}

// authenticate says whose key it is. A client may ask about several keys; the permissions of the one it then signs with are
// what counts, so identity is kept nowhere else.
func (s *Server) authenticate(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if isLogin(conn.User()) {
		p, err := s.o.Core.LoginByKey(ctx, conn.User(), key.Marshal())
		if err != nil {
			return nil, errors.New("the key does not let this login in")
		}
		return permissions(p), nil
	}
	account, _, err := s.o.Core.AccountBySSHKey(ctx, key.Marshal())
	if err != nil {
		return nil, errors.New("the key lets nobody in")
	}
	return permissions(core.Principal{Account: account}), nil
}

// checkPassword lets in logins of apps; accounts have keys.
func (s *Server) checkPassword(conn ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if !isLogin(conn.User()) {
		return nil, errors.New("only keys let in here")
	}
	from, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	p, err := s.o.Logins.AppLogin(ctx, conn.User(), string(password), from)
	if err != nil {
		return nil, errors.New("the password does not let this login in")
	}
	return permissions(p), nil
}

// isLogin says that a user is a login of an app's: those are numbers.
func isLogin(user string) bool { return user != "" && strings.Trim(user, "0123456789") == "" }

func permissions(p core.Principal) *ssh.Permissions {
	return &ssh.Permissions{Extensions: map[string]string{accountKey: string(p.Account.ID), appKey: string(p.App)}}
}

// Listen binds the address.
func (s *Server) Listen() error {
	if s.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.o.Addr)
	if err != nil {
		return fmt.Errorf("listen for git: %w", err)
	}
	socket := filepath.Join(s.o.Dir, "hook.sock")
	_ = os.Remove(socket) // of the last start
	hooks, err := net.Listen("unix", socket)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for hooks: %w", err), l.Close())
	}
	s.listener, s.hooks = l, hooks
	return os.Chmod(socket, 0o600)
}

// Addr is the bound address; nil before Listen.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Close frees what Listen bound when Run is not going to be called.
func (s *Server) Close() {
	if s.listener != nil {
		_ = s.listener.Close()
		_ = s.hooks.Close()
	}
}

// Run serves until ctx ends. Pushes that go on are cut off then; the deployments that they started are finished by the next
// start.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.wg.Go(func() { s.serveHooks(s.hooks) })
	s.wg.Go(func() { s.sweep(ctx) })
	s.wg.Go(func() {
		<-ctx.Done()
		s.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for conn := range s.open {
			_ = conn.Close()
		}
	})
	defer s.wg.Wait()
	for {
		conn, err := s.listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			cancel()
			return fmt.Errorf("serve git: %w", err)
		}
		if !s.take(conn) {
			_ = conn.Close()
			continue
		}
		s.wg.Go(func() {
			defer s.drop(conn)
			s.serve(ctx, conn)
		})
	}
}

func (s *Server) take(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= s.o.MaxConnections {
		return false
	}
	s.open[conn] = true
	return true
}

func (s *Server) drop(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
}

func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("repositories of apps that are gone were not removed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// serve carries one connection.
func (s *Server) serve(ctx context.Context, raw net.Conn) {
	_ = raw.SetDeadline(time.Now().Add(handshakeLimit))
	conn, channels, requests, err := ssh.NewServerConn(raw, s.config)
	if err != nil {
		return // scanners, strangers
	}
	defer conn.Close()
	_ = raw.SetDeadline(time.Now().Add(sessionLimit))
	go ssh.DiscardRequests(requests)
	from, _, _ := net.SplitHostPort(raw.RemoteAddr().String())
	p, err := s.o.Core.PrincipalOf(ctx, core.AccountID(conn.Permissions.Extensions[accountKey]))
	if err != nil {
		return
	}
	p.Via, p.From, p.Dialect = "ssh_key", from, "git"
	if p.App = core.AppID(conn.Permissions.Extensions[appKey]); p.App != "" {
		p.Via = core.ViaLogin
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "only git is served here")
			continue
		}
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		wg.Go(func() { s.session(ctx, p, channel, requests) })
	}
}

// session waits for the one command of a session and runs it.
func (s *Server) session(ctx context.Context, p core.Principal, channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	protocol := ""
	for r := range requests {
		switch r.Type {
		case "env":
			var kv struct{ Name, Value string }
			ok := ssh.Unmarshal(r.Payload, &kv) == nil && kv.Name == "GIT_PROTOCOL" && protocolPattern.MatchString(kv.Value)
			if ok {
				protocol = kv.Value
			}
			_ = r.Reply(ok, nil)
		case "exec":
			var line struct{ Command string }
			if ssh.Unmarshal(r.Payload, &line) != nil {
				_ = r.Reply(false, nil)
				return
			}
			_ = r.Reply(true, nil)
			ctx, cancel := context.WithCancel(ctx)
			go func() { // whoever hangs up ends the command
				ssh.DiscardRequests(requests)
				cancel()
			}()
			code := s.execute(ctx, p, channel, line.Command, protocol)
			cancel()
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
			return
		case "shell", "pty-req":
			_ = r.Reply(r.Type == "shell", nil)
			if r.Type == "shell" {
				fmt.Fprintf(channel.Stderr(), "Hello %s! You are in, but there is no shell here: push to git@<this host>:<app>.git\r\n", p.Account.Email)
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{1}))
				return
			}
		default:
			_ = r.Reply(false, nil)
		}
	}
}

var (
	protocolPattern = regexp.MustCompile(`^version=[0-9]$`)
	commandPattern  = regexp.MustCompile(`^git[- ](upload-pack|receive-pack) '?/?([^' ]+?)(?:\.git)?/?'?$`)
	deployPattern   = regexp.MustCompile(`^deploy '?/?([^' ]+?)(?:\.git)?/?'?(?: '?([^' ]+)'?)?$`)
)

// target is a repository and who asked for it.
type target struct {
	p     core.Principal
	app   core.App
	route string // host name that it is for alone; "": it is the app's
}

// find finds a repository by the name that the client knows it by.
func (s *Server) find(ctx context.Context, p core.Principal, name string) (target, error) {
	if p.Via != core.ViaLogin {
		app, err := s.o.Core.AppByName(ctx, p, name)
		return target{p: p, app: app}, err
	}
	r, err := s.o.Core.RepositoryOf(ctx, p, name)
	return target{p, r.App, r.Route}, err
}

// execute runs git's half of a clone or push.
func (s *Server) execute(ctx context.Context, p core.Principal, channel ssh.Channel, line, protocol string) int {
	failed := func(text string) int {
		fmt.Fprintln(channel.Stderr(), text)
		return 1
	}
	if words := deployPattern.FindStringSubmatch(line); words != nil && p.Via == core.ViaLogin {
		if err := s.deployBranch(ctx, p, words[1], words[2], func(line string) { fmt.Fprintln(channel, line) }); err != nil {
			return failed(core.PublicError("", err))
		}
		return 0
	}
	words := commandPattern.FindStringSubmatch(line)
	if words == nil {
		return failed("only git push, fetch and clone are served here, and deploy <repository>.git [branch] for instances")
	}
	t, err := s.find(ctx, p, words[2])
	if err != nil {
		return failed(core.PublicError("", err))
	}
	dir, err := s.repository(ctx, t.app, t.route)
	if err != nil {
		s.o.Log.Error("a repository cannot be opened", "app", t.app.Name, "err", err)
		return failed("the repository cannot be opened")
	}
	env := []string{}
	if protocol != "" {
		env = append(env, "GIT_PROTOCOL="+protocol)
	}
	if words[1] == "receive-pack" {
		token, forget := s.expect(push{ctx, t, dir})
		defer forget()
		env = append(env, envSocket+"="+filepath.Join(s.o.Dir, "hook.sock"), envToken+"="+token)
	}
	cmd := s.command(ctx, env, words[1], dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		return failed("git cannot be started")
	}
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	if err := cmd.Start(); err != nil {
		s.o.Log.Error("git cannot be started", "err", err)
		return failed("git cannot be started")
	}
	go func() { // ends with the channel
		_, _ = io.Copy(in, channel)
		_ = in.Close()
	}()
	err = cmd.Wait()
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		return exit.ExitCode()
	}
	if !strings.Contains(err.Error(), "signal") {
		s.o.Log.Warn("git ended badly", "app", t.app.Name, "err", err)
	}
	return 1
}
