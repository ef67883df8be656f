package gitssh

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// HookName is the name under which the coordinator's binary is git's hook.
const HookName = "pre-receive"

// Variables that the hook gets from the server through git.
const (
	envSocket = "REEVE_HOOK_SOCKET"
	envToken  = "REEVE_HOOK_TOKEN"
)

// quarantine are the variables by which git finds objects of a push that is not accepted yet.
var quarantine = []string{"GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH"}

// hookCall is what the hook tells the server: which push, where its objects are, and its refs as git gave them.
type hookCall struct {
	Token string            `json:"token"`
	Env   map[string]string `json:"env"`
	Refs  []string          `json:"refs"` // "<old> <new> <name>"
}

// exitMark begins the last line of the server's answer; the exit status follows. It cannot be part of a line of output.
const exitMark = "\x00exit "

// Hook is the hook's whole program; it returns its exit status.
func Hook(stdin io.Reader, stdout io.Writer) int {
	call := hookCall{Token: os.Getenv(envToken), Env: map[string]string{}}
	for _, name := range quarantine {
		if v := os.Getenv(name); v != "" {
			call.Env[name] = v
		}
	}
	for in := bufio.NewScanner(stdin); in.Scan(); {
		call.Refs = append(call.Refs, in.Text())
	}
	conn, err := net.DialTimeout("unix", os.Getenv(envSocket), 10*time.Second)
	if err == nil {
		defer conn.Close()
		err = json.NewEncoder(conn).Encode(call)
	}
	if err != nil {
		fmt.Fprintln(stdout, "the coordinator does not answer; nothing was deployed")
		return 1
	}
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if rest, ok := strings.CutPrefix(line, exitMark); ok {
			if strings.TrimSpace(rest) == "0" {
				return 0
			}
			return 1
		}
		fmt.Fprint(stdout, line)
		if err != nil {
			fmt.Fprintln(stdout, "the coordinator went away; nothing was deployed")
			return 1
		}
	}
}

// push is a push that goes on.
type push struct {
	ctx context.Context
	target
	dir string
}

// expect lets a hook speak for a push until forget.
func (s *Server) expect(p push) (token string, forget func()) {
	token = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushes[token] = p
	return token, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.pushes, token)
	}
}

// serveHooks answers hooks until the listener is closed.
func (s *Server) serveHooks(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			defer conn.Close()
			s.serveHook(conn)
		})
	}
}

func (s *Server) serveHook(conn net.Conn) {
	var call hookCall
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := json.NewDecoder(io.LimitReader(conn, 4<<20)).Decode(&call); err != nil {
		return
	}
	s.mu.Lock()
	p, ok := s.pushes[call.Token]
	s.mu.Unlock()
	if !ok {
		return
	}
	say := func(line string) { _, _ = io.WriteString(conn, strings.ReplaceAll(line, "\x00", "")+"\n") }
	status := 0
	if err := s.deploy(p, call, say); err != nil {
		say("")
		say(core.PublicError("", err))
		status = 1
	}
	_, _ = fmt.Fprintf(conn, "%s%d\n", exitMark, status)
}

// deploy builds and deploys what a push brings to the branch that is deployed. Other branches are only kept.
func (s *Server) deploy(p push, call hookCall, say func(string)) error {
	if p.p.Via == core.ViaLogin { // spec gandi 3.2: a push only stores
		say("Stored. What is deployed is said by: deploy <repository>.git [branch]")
		return nil
	}
	commit := ""
	for _, ref := range call.Refs {
		words := strings.Fields(ref)
		if len(words) != 3 || !commitPattern.MatchString(words[1]) {
			return core.Errorf(core.Invalid, core.ObjRelease, "the push names a ref that cannot be read")
		}
		branch, deployed := words[2], words[2] == "refs/heads/master" || words[2] == "refs/heads/main"
		if strings.Trim(words[1], "0") == "" {
			continue // the branch is removed
		}
		if !deployed {
			say("---- " + branch + " is kept; master and main are deployed ----")
			continue
		}
		commit = words[1]
	}
	if commit == "" {
		return nil
	}
	var env []string
	for _, name := range quarantine {
		v := call.Env[name]
		for path := range strings.SplitSeq(v, ":") {
			if v != "" && path != p.dir && !strings.HasPrefix(filepath.Clean(path), p.dir+"/") {
				return core.Errorf(core.Invalid, core.ObjRelease, "the push keeps its objects somewhere else")
			}
		}
		if v != "" {
			env = append(env, name+"="+v)
		}
	}
	source, err := s.archive(p.ctx, p.dir, env, commit)
	if err != nil {
		return err
	}
	return s.release(p.ctx, p.target, source, commit, say)
}

// deployBranch deploys what was pushed to a branch; "" means master or, without one, main.
func (s *Server) deployBranch(ctx context.Context, p core.Principal, name, branch string, say func(string)) error {
	t, err := s.find(ctx, p, name)
	if err != nil {
		return err
	}
	source, head, err := s.archiveOf(ctx, t, cmp.Or(branch, "master"), "")
	if branch == "" && core.KindOf(err) == core.NotFound {
		source, head, err = s.archiveOf(ctx, t, "main", "")
	}
	if err != nil {
		return err
	}
	return s.release(ctx, t, source, head, say)
}

// release lets a commit serve, and tells what happens until it does.
func (s *Server) release(ctx context.Context, t target, source, commit string, say func(string)) error {
	rel, op, err := s.o.Core.Deploy(ctx, t.p, t.app.ID, core.DeploySpec{Source: source, Origin: core.OriginGit, Commit: commit, Route: t.route})
	if err != nil {
		return err
	}
	say(fmt.Sprintf("---- Deploying release %d of the app %q ----", rel.Number, t.app.Name))
	end, err := s.o.Core.FollowOperation(ctx, op, say)
	if err != nil {
		return err
	}
	if end.Status != operation.StatusCompleted {
		return core.Errorf(core.Invalid, core.ObjRelease, "%s", cmp.Or(end.Error, "the deployment was "+string(end.Status)))
	}
	say("")
	say("OK")
	return nil
}
