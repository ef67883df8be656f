package gitssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

var (
	commitPattern = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)
	branchPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$`)
	idPattern     = regexp.MustCompile(`^[a-z0-9-]{1,100}$`)
)

// maxPush is the most bytes that one push may bring.
const maxPush = 1 << 30

// command prepares a program of git. extra are further variables of its environment.
func (s *Server) command(ctx context.Context, extra []string, args ...string) *exec.Cmd {
	args = append([]string{"-c", "core.hooksPath=" + filepath.Join(s.o.Dir, "hooks"), "-c", fmt.Sprintf("receive.maxInputSize=%d", int64(maxPush)),
		"-c", "transfer.fsckObjects=true", "-c", "receive.denyDeletes=false", "-c", "gc.auto=0"}, args...)
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.o.Dir, "LC_ALL=C.UTF-8", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_TERMINAL_PROMPT=0"}, extra...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) } // git's children too
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// repository is where an app's repository is, or the one of a route of it alone; it is made when it is not there.
func (s *Server) repository(ctx context.Context, app core.App, route string) (string, error) {
	name := string(app.ID)
	if route != "" {
		name += "." + route
	}
	if !idPattern.MatchString(string(app.ID)) || strings.ContainsAny(route, "/\\\x00") {
		return "", fmt.Errorf("%q is no name of a directory", name)
	}
	dir := filepath.Join(s.o.Dir, name+".git")
	s.making.Lock()
	defer s.making.Unlock()
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err == nil {
		return dir, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	fresh := dir + ".new" // renamed when it is whole: a kill leaves none that is half made
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	if out, err := s.command(ctx, nil, "init", "-q", "--bare", "--initial-branch=master", "--", fresh).CombinedOutput(); err != nil {
		return "", fmt.Errorf("git init: %w: %s", err, out)
	}
	return dir, os.Rename(fresh, dir)
}

// Archive stores the state of a branch, tag or commit of an app's repository as tar.gz in core's files.
//
// Errors: not_found (nothing of that name was pushed)
func (s *Server) Archive(ctx context.Context, app core.App, version, commit string) (source, head string, err error) {
	return s.archiveOf(ctx, target{app: app}, version, commit)
}

func (s *Server) archiveOf(ctx context.Context, t target, version, commit string) (source, head string, err error) {
	dir, err := s.repository(ctx, t.app, t.route)
	if err != nil {
		return "", "", err
	}
	name := version
	if commit != "" {
		name = commit
	}
	if !branchPattern.MatchString(name) || strings.Contains(name, "..") {
		return "", "", core.Errorf(core.Invalid, core.ObjRelease, "%.60q is no branch and no commit", name)
	}
	out, err := s.command(ctx, nil, "--git-dir", dir, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}").Output()
	head = strings.TrimSpace(string(out))
	if err != nil || !commitPattern.MatchString(head) {
		return "", "", core.Errorf(core.NotFound, core.ObjRelease, "the repository has no %s", name)
	}
	source, err = s.archive(ctx, dir, nil, head)
	return source, head, err
}

// archive stores the files of a commit. env has what lets git find objects of a push that is not accepted yet.
func (s *Server) archive(ctx context.Context, dir string, env []string, commit string) (string, error) {
	cmd := s.command(ctx, env, "--git-dir", dir, "archive", "--format=tar.gz", commit+"^{tree}") // of a tree: without a header that names the commit
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("git archive: %w", err)
	}
	source, _, err := s.o.Files.Put(ctx, out)
	_, _ = io.Copy(io.Discard, out)
	if werr := cmd.Wait(); werr != nil && err == nil {
		err = fmt.Errorf("git archive: %w: %s", werr, complaints.Bytes())
	}
	return source, err
}

// Sweep removes repositories of apps that are gone.
func (s *Server) Sweep(ctx context.Context) error {
	entries, err := os.ReadDir(s.o.Dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".git")
		if !ok || !e.IsDir() {
			continue
		}
		id, _, _ := strings.Cut(name, ".")
		gone, err := s.o.Core.AppGone(ctx, core.AppID(id))
		if err == nil && gone {
			err = os.RemoveAll(filepath.Join(s.o.Dir, e.Name()))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
