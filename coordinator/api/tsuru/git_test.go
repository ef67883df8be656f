package tsuru_test

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/reeve-paas/reeve/coordinator/api/tsuru"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/coordinator/release/gitssh"
)

// TestMain is also git's hook: the server links the running program under the hook's name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == gitssh.HookName {
		os.Exit(gitssh.Hook(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// lateGit are repositories that are there once the server is.
type lateGit struct{ *gitssh.Server }

func (l *lateGit) Archive(ctx context.Context, app core.App, version, commit string) (string, string, error) {
	return l.Server.Archive(ctx, app, version, commit)
}

// laptop is a stock git and ssh of one person.
type laptop struct {
	*bed
	dir, key, known, port string
	public                string
}

func (b *bed) laptop(server *gitssh.Server, hostKey ssh.PublicKey) *laptop {
	b.Helper()
	l := &laptop{bed: b, dir: b.TempDir()}
	public, private, err := ed25519.GenerateKey(nil)
	b.must(err)
	block, err := ssh.MarshalPrivateKey(private, "laptop")
	b.must(err)
	l.key, l.known = filepath.Join(l.dir, "id"), filepath.Join(l.dir, "known")
	b.must(os.WriteFile(l.key, pem.EncodeToMemory(block), 0o600))
	line, err := ssh.NewPublicKey(public)
	b.must(err)
	l.public = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line)))
	_, l.port, _ = net.SplitHostPort(server.Addr().String())
	b.must(os.WriteFile(l.known, fmt.Appendf(nil, "[127.0.0.1]:%s %s", l.port, ssh.MarshalAuthorizedKey(hostKey)), 0o600))
	return l
}

// git runs stock git, with stock ssh to the server's port.
func (l *laptop) git(dir string, args ...string) (string, error) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = filepath.Join(l.dir, dir)
	cmd.Env = append(os.Environ(), "GIT_SSH_COMMAND=ssh -F /dev/null -p "+l.port+" -o IdentitiesOnly=yes -o UserKnownHostsFile="+l.known+" -i "+l.key,
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@b.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@b.org", "GIT_CONFIG_GLOBAL=/dev/null", "SSH_AUTH_SOCK=", "SSH_ASKPASS=", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (l *laptop) mustGit(dir string, args ...string) string {
	l.Helper()
	out, err := l.git(dir, args...)
	if err != nil {
		l.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return out
}

// commit puts files into a repository.
func (l *laptop) commit(dir string, files ...string) {
	l.Helper()
	for _, name := range files {
		l.must(os.WriteFile(filepath.Join(l.dir, dir, name), []byte(name+time.Now().String()), 0o600))
	}
	l.mustGit(dir, "add", "-A")
	l.mustGit(dir, "commit", "-qm", "more")
}

func TestGit(t *testing.T) {
	for _, program := range []string{"git", "ssh"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	late := &lateGit{}
	b := newBed(t, func(o *tsuru.Options, _ *core.Options) { o.Git = late }).work()
	_, hostKey, err := ed25519.GenerateKey(nil)
	b.must(err)
	signer, err := ssh.NewSignerFromKey(hostKey)
	b.must(err)
	repositories := t.TempDir()
	server, err := gitssh.New(gitssh.Options{Core: b.core, Files: b.world, Dir: repositories, HostKey: signer, Addr: "127.0.0.1:0"})
	b.must(err)
	b.must(server.Listen())
	late.Server = server
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })

	ann, bob := b.as(b.ann), b.as(b.bob)
	ann.create("shop")
	anns, bobs := b.laptop(server, signer.PublicKey()), b.laptop(server, signer.PublicKey())
	ann.post("/users/keys", fmt.Sprintf(`{"key":%q}`, anns.public)).want(200)
	bob.post("/users/keys", fmt.Sprintf(`{"key":%q}`, bobs.public)).want(200)
	anns.mustGit("", "init", "-q", "-b", "master", "work")
	anns.mustGit("work", "remote", "add", "tsuru", "git@127.0.0.1:shop.git")
	anns.commit("work", "app.py", "Procfile")

	t.Run("a push deploys, and its output is the pusher's", func(t *testing.T) {
		out := anns.mustGit("work", "push", "tsuru", "master")
		for _, want := range []string{"remote: building Procfile app.py", "remote: OK"} {
			if !strings.Contains(out, want) {
				t.Errorf("got %q, want %q in it", out, want)
			}
		}
		if got := ann.info("shop"); got.Deploys != 1 || len(got.Units) != 1 {
			t.Errorf("got %+v", got)
		}
		ann.get("/deploys?app=shop").want(200).has(`"Origin":"git"`)
	})
	t.Run("a push that fails to build is refused", func(t *testing.T) {
		anns.commit("work", "fail")
		out, err := anns.git("work", "push", "tsuru", "master")
		if err == nil || !strings.Contains(out, "remote: build the release: the build failed: exit status 7") || !strings.Contains(out, "[remote rejected] master -> master") {
			t.Errorf("got %v, %q", err, out)
		}
		if got := ann.info("shop"); got.Deploys != 1 {
			t.Errorf("got %d deploys", got.Deploys)
		}
		anns.mustGit("work", "reset", "-q", "--hard", "HEAD~1")
		anns.commit("work", "again")
		anns.mustGit("work", "push", "tsuru", "master")
	})
	t.Run("branches that are not deployed are kept", func(t *testing.T) {
		if out := anns.mustGit("work", "push", "tsuru", "master:feature"); !strings.Contains(out, "is kept") {
			t.Errorf("got %q", out)
		}
		if got := ann.info("shop"); got.Deploys != 2 {
			t.Errorf("got %d deploys", got.Deploys)
		}
		ann.with(form).post("/apps/shop/deploy", "version=origin/feature").want(200).has("again").has("\nOK\n")
		ann.with(form).post("/apps/shop/deploy", "version=origin/nope").want(404)
		ann.with(form).post("/apps/shop/deploy", "version=--output=x").want(400)
		anns.mustGit("work", "push", "tsuru", ":feature")
	})
	t.Run("what was pushed can be cloned", func(t *testing.T) {
		anns.mustGit("", "clone", "-q", "git@127.0.0.1:shop.git", "copy")
		if _, err := os.Stat(filepath.Join(anns.dir, "copy", "again")); err != nil {
			t.Error(err)
		}
	})
	t.Run("access is by team", func(t *testing.T) {
		if out, err := bobs.git("", "clone", "-q", "git@127.0.0.1:shop.git", "copy"); err == nil || !strings.Contains(out, "User does not have access to this app") {
			t.Errorf("got %v, %q", err, out)
		}
		ann.put("/apps/shop/teams/blue").want(200)
		bobs.mustGit("", "clone", "-q", "git@127.0.0.1:shop.git", "copy")
		ann.delete("/apps/shop/teams/blue").want(200)
		if out, err := bobs.git("copy", "fetch"); err == nil {
			t.Errorf("got %q after the team lost access", out)
		}
		if out, err := anns.git("", "clone", "-q", "git@127.0.0.1:nope.git", "x"); err == nil || !strings.Contains(out, "App nope not found.") {
			t.Errorf("got %v, %q", err, out)
		}
	})
	t.Run("strangers and other commands", func(t *testing.T) {
		stranger := b.laptop(server, signer.PublicKey())
		if out, err := stranger.git("", "ls-remote", "git@127.0.0.1:shop.git"); err == nil || !strings.Contains(out, "Permission denied") {
			t.Errorf("got %v, %q", err, out)
		}
		for _, command := range []string{"id", "git-receive-pack '/etc'; id", "git-upload-pack '../../x'", "git-upload-archive 'shop.git'", "git-receive-pack $(id)"} {
			cmd := exec.CommandContext(t.Context(), "ssh", "-F", "/dev/null", "-p", anns.port, "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile="+anns.known, "-i", anns.key, "git@127.0.0.1", command)
			if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "uid=") {
				t.Errorf("%s: got %v, %q", command, err, out)
			}
		}
		ann.delete("/users/keys", fmt.Sprintf(`{"key":%q}`, anns.public)).want(200)
		if out, err := anns.git("work", "fetch", "tsuru"); err == nil {
			t.Errorf("got %q after the key was removed", out)
		}
	})
	t.Run("the repository goes with the app", func(t *testing.T) {
		ann.delete("/apps/shop").want(200)
		b.until("the app's end", func() bool { return ann.get("/apps/shop").code == 404 })
		b.must(server.Sweep(t.Context()))
		left, err := filepath.Glob(filepath.Join(repositories, "*.git"))
		if err != nil || len(left) != 0 {
			t.Errorf("got %q left, %v", left, err)
		}
	})
}
