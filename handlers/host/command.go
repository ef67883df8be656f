package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Cmd is one command, as an argument vector. There is no shell.
type Cmd struct {
	Path      string        // program: absolute, or a name looked up in the system directories
	Args      []string      // without the program itself
	Env       []string      // added to a minimal environment (PATH, LC_ALL=C, HOME=/)
	Dir       string        // working directory; "" means /
	Stdin     []byte        // secrets go here, never into Args
	Timeout   time.Duration // 0 means 30 s. The whole process group is killed when it passes.
	MaxOutput int           // bytes kept of each stream; 0 means 1 MiB
	UID, GID  uint32        // run as; 0 means root
	Groups    []uint32      // supplementary groups of UID; without them it has none

	StdinFile *os.File // read instead of Stdin. Optional.
	// StdoutFile and StderrFile get the streams instead of Output. Optional.
	StdoutFile, StderrFile *os.File
	// TermGrace makes Timeout, or the end of the context, send SIGTERM to the process group and kill what is left of it
	// this much later. 0 kills at once.
	TermGrace time.Duration
}

// ErrTimeout is the cause of a command's error when Cmd.Timeout passed.
var ErrTimeout = errors.New("timed out")

// ErrNoProgram is the cause of a command's error when its program is not on this host.
var ErrNoProgram = exec.ErrNotFound

// Output is what a command left behind.
type Output struct {
	Stdout, Stderr []byte
	Code           int
}

// CommandError is a command that could not run, or ended with a code other than zero. Its text follows the form old
// callers know: "<program> (code: <rc>) <out>: <stdout> <err>: <stderr> <args>: <argv>".
type CommandError struct {
	Cmd    Cmd
	Output Output
	Err    error // nil when the command ran and exited by itself
}

func (e *CommandError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Cmd.Path, e.Err)
	}
	return fmt.Sprintf("%s (code: %d) <out>: %s <err>: %s <args>: %v", e.Cmd.Path, e.Output.Code,
		bytes.TrimSpace(e.Output.Stdout), bytes.TrimSpace(e.Output.Stderr), append([]string{e.Cmd.Path}, e.Cmd.Args...))
}

func (e *CommandError) Unwrap() error { return e.Err }

// As shows the error to RPC callers under the class they know, PopenError.
func (e *CommandError) As(target any) bool {
	t, ok := target.(**agentapi.Error)
	if ok {
		*t = &agentapi.Error{Kind: agentapi.KindInternal, Class: "PopenError", Text: e.Error(), Err: e.Err}
	}
	return ok
}

// Runner runs commands. A non-zero exit is not an error of the Runner.
type Runner interface {
	Run(ctx context.Context, c Cmd) (Output, error)
}

func run(ctx context.Context, r Runner, c Cmd) (Output, error) {
	out, err := r.Run(ctx, c)
	if err != nil || out.Code != 0 {
		return out, &CommandError{Cmd: c, Output: out, Err: err}
	}
	return out, nil
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

type execRunner struct{}

// Run runs the command. A program that was written just now may look busy for a moment: a child that another command is
// starting still holds the descriptor it was written through (golang.org/issue/22315). That is tried again.
func (r execRunner) Run(ctx context.Context, c Cmd) (Output, error) {
	for attempt := 1; ; attempt++ {
		out, err := r.runOnce(ctx, c)
		if !errors.Is(err, syscall.ETXTBSY) || attempt == 10 {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(time.Duration(attempt) * 10 * time.Millisecond):
		}
	}
}

func (execRunner) runOnce(ctx context.Context, c Cmd) (Output, error) {
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.MaxOutput == 0 {
		c.MaxOutput = 1 << 20
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("%w after %s", ErrTimeout, c.Timeout))
	defer cancel()
	path, err := lookPath(c.Path)
	if err != nil {
		return Output{}, err
	}
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Env = append([]string{"PATH=" + searchPath, "LC_ALL=C", "HOME=/"}, c.Env...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Stdin = bytes.NewReader(c.Stdin)
	if c.StdinFile != nil {
		cmd.Stdin = c.StdinFile
	}
	stdout, stderr := &capped{max: c.MaxOutput}, &capped{max: c.MaxOutput}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if c.StdoutFile != nil {
		cmd.Stdout = c.StdoutFile
	}
	if c.StderrFile != nil {
		cmd.Stderr = c.StderrFile
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.UID != 0 || c.GID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
	}
	killGroup := func(sig syscall.Signal) error { return syscall.Kill(-cmd.Process.Pid, sig) }
	cmd.Cancel = func() error { return killGroup(syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second // a daemon that kept our pipes must not hold us
	if c.TermGrace > 0 {
		cmd.Cancel = func() error { return killGroup(syscall.SIGTERM) }
		cmd.WaitDelay = c.TermGrace
	}
	err = cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		killGroup(syscall.SIGKILL) // children that outlived their parent
	}
	out := Output{Stdout: stdout.buf.Bytes(), Stderr: stderr.buf.Bytes(), Code: -1}
	if cmd.ProcessState != nil {
		out.Code = cmd.ProcessState.ExitCode()
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return out, context.Cause(ctx)
	case errors.As(err, &exit) && out.Code >= 0, errors.Is(err, exec.ErrWaitDelay):
		return out, nil
	}
	return out, err
}

// lookPath ignores the agent's own environment: only the system directories hold commands we run.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(searchPath, ":") {
		p := dir + "/" + name
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// capped keeps the first max bytes. The buffer is not embedded: its ReadFrom would go around Write.
type capped struct {
	buf bytes.Buffer
	max int
}

func (b *capped) Write(p []byte) (int, error) {
	if room := b.max - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
