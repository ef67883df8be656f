package hosttest

import (
	"context"
	"fmt"
	"os/exec"
	"path"
	"strings"
	"sync"

	"github.com/reeve-paas/reeve/handlers/host"
)

// Runner runs scripted programs. One that was not scripted is missing on the host.
type Runner struct {
	log *callLog

	mu       sync.Mutex // protects the fields below
	programs map[string]func(host.Cmd) (host.Output, error)
	cmds     []host.Cmd
}

// Handle scripts a program, named as the handler names it or by the last part of its path. A later call replaces it.
func (r *Runner) Handle(program string, fn func(host.Cmd) (host.Output, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.programs[program] = fn
}

// Succeed scripts programs that exit with 0 and print nothing.
func (r *Runner) Succeed(programs ...string) {
	for _, p := range programs {
		r.Handle(p, func(host.Cmd) (host.Output, error) { return host.Output{}, nil })
	}
}

// Print scripts a program that exits with 0 and prints stdout.
func (r *Runner) Print(program, stdout string) {
	r.Handle(program, func(host.Cmd) (host.Output, error) { return host.Output{Stdout: []byte(stdout)}, nil })
}

// Commands are the commands run so far, with everything that was passed to them.
func (r *Runner) Commands() []host.Cmd {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]host.Cmd(nil), r.cmds...)
}

// Run implements host.Runner.
func (r *Runner) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	fails := r.log.add("run " + strings.Join(append([]string{c.Path}, c.Args...), " "))
	r.mu.Lock()
	r.cmds = append(r.cmds, c)
	fn := r.programs[c.Path]
	if fn == nil {
		fn = r.programs[path.Base(c.Path)]
	}
	r.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return host.Output{Code: -1}, context.Cause(ctx)
	case fails:
		return host.Output{Code: 1, Stderr: []byte(ErrInjected.Error())}, nil
	case fn == nil:
		return host.Output{}, fmt.Errorf("%s: %w", c.Path, exec.ErrNotFound)
	}
	return fn(c)
}
