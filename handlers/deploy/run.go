package deploy

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/host"
)

const (
	runTimeout    = 10 * time.Minute
	maxRunTimeout = 24 * time.Hour
	maxPrinted    = 4 << 10 // bytes of one line of output
)

// RunCommand runs a command line of the app's owner beside the app's units.
func (s *Service) RunCommand(ctx context.Context, p agentapi.RunCommandParams) (any, error) {
	a, err := s.load(p.App)
	if err != nil {
		return nil, err
	}
	timeout := time.Duration(p.TimeoutSeconds) * time.Second
	if timeout == 0 {
		timeout = runTimeout
	}
	if timeout < 0 || timeout > maxRunTimeout {
		return nil, invalid("timeout_seconds is 1 to %d, not %d", int(maxRunTimeout.Seconds()), p.TimeoutSeconds)
	}
	if err := errors.Join(checkHook(p.Command), checkUnitEnv(p.Env)); err != nil {
		return nil, err
	}
	if err := s.wantRelease(a, p.Release); err != nil {
		return nil, err
	}
	return s.ops.Start(ctx, operation.Task{Name: "deploy.run_command", Async: bool(p.Async), Run: func(ctx context.Context, op *operation.Op) (any, error) {
		ctx, cancel := untilCanceled(ctx, op)
		defer cancel()
		code, err := s.runAs(ctx, task{
			app: a, dir: a.release(p.Release), env: processEnv(a, p.Env, 0), argv: shellOf(p.Command), timeout: timeout, line: op.Print,
		})
		return agentapi.CommandResult{ExitCode: code}, err
	}})
}

// errCanceled is why an operation's work ends that somebody cancelled.
var errCanceled = errors.New("canceled")

// untilCanceled is ctx until the operation is cancelled.
func untilCanceled(ctx context.Context, op *operation.Op) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-op.Canceled():
			cancel(errCanceled)
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(nil); wg.Wait() }
}

// task is a command that runs as an app's user in a sandbox, and ends.
type task struct {
	app      app
	dir      string // of the host; what the command sees as the app's directory
	writable bool   // it may write there
	binds    []string
	env      map[string]agentapi.Secret
	argv     []string
	slice    string   // "" means reeve.slice itself
	limits   []string // properties
	timeout  time.Duration
	line     func(string) // each line of its output as it comes
}

// runDir holds the environment of every running task, named as its unit: what a killed agent leaves is found here.
func (s *Service) runDir() string { return path.Join(s.dir, "run") }

// runAs runs a task as a transient unit of systemd and returns its exit code. The unit ends when the agent does, however
// that ends, so nothing of the task outlives its caller.
func (s *Service) runAs(ctx context.Context, t task) (code int, err error) {
	unit := "reeve-run-" + strings.ToLower(rand.Text()[:12]) + ".service"
	envFile := path.Join(s.runDir(), unit)
	if err := s.host.MkdirAll(s.runDir(), 0o700); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.host.Remove(envFile)) }()
	if err := s.host.WriteFile(envFile, renderEnvFile(t.env), 0o600); err != nil {
		return 0, err
	}
	if t.slice == "" {
		t.slice = "reeve.slice"
	}
	args := []string{"--quiet", "--wait", "--pipe", "--collect", "--service-type=exec", "--unit=" + unit, "--slice=" + t.slice,
		"--description=A command of app " + t.app.App}
	properties := append(sandbox(t.app, t.dir, t.writable, t.binds...), t.limits...)
	properties = append(properties, "EnvironmentFile="+envFile, "TimeoutStopSec=5", fmt.Sprintf("RuntimeMaxSec=%d", int(t.timeout.Seconds())))
	if own := s.host.OwnUnit(); own != "" {
		properties = append(properties, "BindsTo="+own, "After="+own)
	}
	for _, p := range properties {
		args = append(args, "--property="+p)
	}
	args = append(args, "--")
	for _, arg := range t.argv {
		args = append(args, strings.ReplaceAll(arg, "$", "$$")) // systemd would put variables in; the shell is to do that
	}
	began := s.now()
	code, err = s.runPiped(ctx, host.Cmd{Path: "systemd-run", Args: args, Timeout: t.timeout + 30*time.Second}, t.line, func(err error) error {
		if err == nil && ctx.Err() == nil {
			return nil
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		if stopErr := s.host.Units().Stop(stop, unit); stopErr != nil && !isKind(stopErr, agentapi.KindNotFound) {
			err = errors.Join(err, stopErr)
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		return code, context.Cause(ctx)
	case err == nil && code != 0 && s.now().Sub(began) >= t.timeout:
		return code, &agentapi.Error{Kind: agentapi.KindInvalid, Class: "BuildError", Text: fmt.Sprintf("the command was stopped after %s", t.timeout)}
	}
	return code, err
}

// runPiped runs a command whose both streams are read line by line. A code other than zero is no error. ended is called when
// the command has ended, and must see to it that nobody else keeps the streams open.
func (s *Service) runPiped(ctx context.Context, c host.Cmd, line func(string), ended func(error) error) (int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var reading sync.WaitGroup
	reading.Go(func() { eachLine(r, line) })
	c.StdoutFile, c.StderrFile = w, w
	out, err := s.host.Run(ctx, c)
	w.Close()
	if failed, ok := errors.AsType[*host.CommandError](err); ok && failed.Err == nil {
		err = nil
	}
	err = ended(err)
	reading.Wait()
	return out.Code, err
}

// eachLine reads to the end; a long line is cut into several.
func eachLine(r io.Reader, line func(string)) {
	br := bufio.NewReaderSize(r, maxPrinted)
	for {
		text, err := br.ReadSlice('\n')
		if len(text) > 0 && line != nil {
			line(strings.ToValidUTF8(strings.TrimRight(string(text), "\r\n"), "?"))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// endTasks stops the tasks of an agent that was killed, and removes their environments.
func (s *Service) endTasks(ctx context.Context) error {
	entries, err := s.host.ReadDir(s.runDir())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if err := s.host.Units().Stop(ctx, e.Name()); err != nil && !isKind(err, agentapi.KindNotFound) {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, s.host.Remove(path.Join(s.runDir(), e.Name())))
	}
	return errors.Join(errs...)
}

// lastOutput keeps the last lines that were printed, for an error.
type lastOutput struct {
	next  func(string)
	lines []string
}

func (l *lastOutput) print(line string) {
	if l.lines = append(l.lines, cutText(line, errorLineSize)); len(l.lines) > errorLines {
		l.lines = l.lines[1:]
	}
	if l.next != nil {
		l.next(line)
	}
}

func (l *lastOutput) String() string { return strings.Join(l.lines, "\n") }
