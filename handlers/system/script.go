package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/host"
)

const (
	codeTimeout    = 130 // return code of a script that was ended after its timeout
	codeNotStarted = 127 // as a shell says it
	termGrace      = 2 * time.Second
	maxTimeout     = 30 * 24 * time.Hour
)

// ExecuteScripts runs scripts in their order. An asynchronous one runs beside the rest. A synchronous one that cannot be
// started (no "#!" line, no such file or interpreter, download failed, unknown user) ends the list; one that exits with
// another code than 0, or takes too long, does not.
//
// Params:  agentapi.ExecuteScriptsParams
// Result:  null, or the id of the operation system.execute_scripts when async
// Errors:  KeyError, ValueError (before anything runs); how a script went is in its logs and in ExecScriptResult
// Source:  spec agent-core 4.2
func (s *Service) ExecuteScripts(ctx context.Context, p agentapi.ExecuteScriptsParams) (any, error) {
	scripts, err := plan(p)
	if err != nil {
		return nil, err
	}
	return s.opts.Operations.Start(ctx, operation.Task{
		Name: "system.execute_scripts", Async: bool(p.Async.Or(false)),
		Run: func(ctx context.Context, op *operation.Op) (any, error) {
			s.runScripts(ctx, op, scripts)
			return nil, nil
		},
	})
}

// script is one checked script.
type script struct {
	agentapi.Script
	async   bool
	timeout time.Duration
	event   string
	role    string
	env     []string
}

func plan(p agentapi.ExecuteScriptsParams) ([]script, error) {
	env, err := environment(p.GlobalVariables)
	if err != nil {
		return nil, err
	}
	scripts := make([]script, len(p.Scripts))
	for i, sc := range p.Scripts {
		if sc.Name == "" {
			return nil, agentapi.Errorf(agentapi.KindInvalid, "KeyError", "'name'")
		}
		if sc.Timeout == "" {
			return nil, agentapi.Errorf(agentapi.KindInvalid, "KeyError", "'timeout'")
		}
		seconds, err := strconv.ParseFloat(string(sc.Timeout), 64)
		if err != nil || !(seconds > 0 && seconds <= maxTimeout.Seconds()) {
			return nil, agentapi.Errorf(agentapi.KindInvalid, "ValueError", "script %.80q: timeout is %.40q, want seconds above 0", sc.Name, string(sc.Timeout))
		}
		if sc.ExecutionID != "" && !executionID.MatchString(string(sc.ExecutionID)) {
			return nil, agentapi.Errorf(agentapi.KindInvalid, "ValueError", "script %.80q: execution_id may hold letters, digits, dot, dash and underscore", sc.Name)
		}
		scripts[i] = script{
			Script: sc, async: bool(sc.Asynchronous.Or(false)), timeout: time.Duration(seconds * float64(time.Second)),
			event: p.EventName, role: p.RoleName, env: env,
		}
	}
	return scripts, nil
}

func environment(variables []agentapi.GlobalVariable) ([]string, error) {
	var env []string
	for _, v := range variables {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.Contains(string(v.Value), "\x00") {
			return nil, agentapi.Errorf(agentapi.KindInvalid, "ValueError", "global variable %.80q cannot be put into the environment", v.Name)
		}
		env = append(env, v.Name+"="+string(v.Value))
	}
	return env, nil
}

func (s *Service) runScripts(ctx context.Context, op *operation.Op, scripts []script) {
	for _, sc := range scripts {
		select {
		case <-op.Canceled():
			return
		default:
		}
		op.Log().Info("executing script", "script", sc.Name, "execution_id", string(sc.ExecutionID))
		if sc.async {
			s.scripts.start(func(ctx context.Context) {
				if err := s.execute(ctx, sc); err != nil {
					s.log.Error("script could not be started", "script", sc.Name, "err", err)
				}
			})
			continue
		}
		if err := s.execute(ctx, sc); err != nil {
			op.Log().Error("script could not be started, the rest is left out", "script", sc.Name, "err", err)
			return
		}
	}
}

// execute runs one script and sends its result. Its error means that the script could not be started.
func (s *Service) execute(ctx context.Context, sc script) error {
	logs, err := s.openScriptLogs(sc)
	if err != nil {
		return err
	}
	defer logs.close()
	started := time.Now()
	path, code, failure := s.launch(ctx, sc, logs)
	if failure != nil {
		fmt.Fprintln(logs.stderr, failure)
	}
	if s.opts.Messages == nil {
		return failure
	}
	err = s.opts.Messages.Send(context.WithoutCancel(ctx), "log", "ExecScriptResult", agentapi.ExecScriptResult{
		Stdout: s.streamBase64(logs.stdout), Stderr: s.streamBase64(logs.stderr),
		ExecutionID: string(sc.ExecutionID), TimeElapsed: time.Since(started).Seconds(),
		ScriptName: sc.Name, ScriptPath: path, EventName: sc.event, ReturnCode: code, RunAs: sc.runAs(),
	})
	if err != nil {
		s.log.Error("send script result", "script", sc.Name, "err", err)
	}
	return failure
}

func (sc script) runAs() string {
	if sc.RunAs == "" {
		return "root"
	}
	return sc.RunAs
}

// launch prepares the script's file and runs it. An error means that the script did not run.
func (s *Service) launch(ctx context.Context, sc script, logs scriptLogs) (path string, code int, err error) {
	cmd := host.Cmd{Timeout: sc.timeout, TermGrace: termGrace, StdoutFile: logs.stdout, StderrFile: logs.stderr, Env: sc.env}
	if user := sc.runAs(); user != "root" {
		u, err := s.host.LookupUser(user)
		if err != nil {
			return sc.Path, codeNotStarted, err
		}
		cmd.UID, cmd.GID, cmd.Groups = u.UID, u.GID, u.Groups
		cmd.Env = append([]string{"HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name, "SHELL=" + u.Shell}, sc.env...)
	}
	path, remove, err := s.prepare(ctx, sc, int(cmd.UID), int(cmd.GID))
	if err != nil {
		return path, codeNotStarted, err
	}
	defer remove()
	cmd.Path = s.host.Path(path)
	_, err = s.host.Run(ctx, cmd)
	failed, _ := errors.AsType[*host.CommandError](err)
	switch {
	case err == nil:
		return path, 0, nil
	case errors.Is(err, host.ErrTimeout), errors.Is(err, context.Canceled):
		return path, codeTimeout, nil
	case failed != nil && failed.Err == nil:
		return path, failed.Output.Code, nil
	}
	return path, codeNotStarted, err
}

// prepare finds or makes the file to run. Its path is as the host sees it; remove takes away what was made.
func (s *Service) prepare(ctx context.Context, sc script, uid, gid int) (file string, remove func(), err error) {
	switch {
	case len(sc.Chef) > 0 && string(sc.Chef) != "null":
		return "", nil, errors.New("chef scripts are not supported by this agent; send the commands as a script body")
	case sc.Body != "":
		return s.writeScript(sc, []byte(sc.Body), uid, gid)
	case strings.HasPrefix(sc.Path, "http://"), strings.HasPrefix(sc.Path, "https://"):
		body, err := download(ctx, sc.Path)
		if err != nil {
			return sc.Path, nil, err
		}
		return s.writeScript(sc, body, uid, gid)
	case !strings.HasPrefix(sc.Path, "/"):
		return sc.Path, nil, fmt.Errorf("script %q has neither a body nor an absolute path", sc.Name)
	}
	st, err := os.Stat(s.host.Path(sc.Path))
	if err != nil {
		return sc.Path, nil, err
	}
	if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return sc.Path, nil, fmt.Errorf("%s is not executable", sc.Path)
	}
	return sc.Path, func() {}, nil
}

// writeScript puts a script into a directory of its own, which only the user that runs it can enter: a body may hold
// secrets.
func (s *Service) writeScript(sc script, body []byte, uid, gid int) (file string, remove func(), err error) {
	if !strings.HasPrefix(string(body[:min(len(body), 2)]), "#!") {
		return "", nil, fmt.Errorf(`script %q does not start with "#!" and an interpreter`, sc.Name)
	}
	if err := s.host.MkdirAll("/usr/local/bin", 0o755); err != nil {
		return "", nil, err
	}
	full, err := os.MkdirTemp(s.host.Path("/usr/local/bin"), "scalr-scripting.")
	if err != nil {
		return "", nil, err
	}
	remove = func() {
		if err := os.RemoveAll(full); err != nil {
			s.log.Error("remove a script", "path", full, "err", err)
		}
	}
	file = path.Join("/usr/local/bin", path.Base(full), fileName(sc.Name))
	if err := s.host.WriteFile(file, body, 0o555); err != nil {
		remove()
		return "", nil, err
	}
	if uid != os.Getuid() || gid != os.Getgid() {
		if err := os.Chown(full, uid, gid); err != nil {
			remove()
			return "", nil, err
		}
	}
	return file, remove, nil
}

// fileName makes one path element of a name that people typed.
func fileName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == '/' || r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(name, "_"))
	if len(name) > 80 { // a file name holds 255 bytes, and a log's has three parts
		name = strings.ToValidUTF8(name[:80], "")
	}
	if strings.HasPrefix(name, ".") {
		name = "_" + name[1:]
	}
	return name
}

// scriptLogs are the files that a running script prints to.
type scriptLogs struct{ stdout, stderr *os.File }

func (l scriptLogs) close() { l.stdout.Close(); l.stderr.Close() }

// openScriptLogs makes <name>.<event>.<execution id>-out.log and -err.log; without an execution id the role and a random
// part take its place.
func (s *Service) openScriptLogs(sc script) (scriptLogs, error) {
	if err := s.host.MkdirAll(s.opts.ScriptLogDir, 0o700); err != nil {
		return scriptLogs{}, err
	}
	root, err := os.OpenRoot(s.host.Path(s.opts.ScriptLogDir))
	if err != nil {
		return scriptLogs{}, err
	}
	defer root.Close()
	parts := []string{fileName(sc.Name), fileName(sc.event), string(sc.ExecutionID)}
	if sc.ExecutionID == "" {
		role := sc.role
		if role == "" {
			role = "unknown_role"
		}
		parts = slices.Concat(parts[:2], []string{fileName(role), randomID()})
	}
	base := strings.Join(parts, ".")
	const flags = os.O_CREATE | os.O_TRUNC | os.O_RDWR
	stdout, err := root.OpenFile(base+"-out.log", flags, 0o600)
	if err != nil {
		return scriptLogs{}, err
	}
	stderr, err := root.OpenFile(base+"-err.log", flags, 0o600)
	if err != nil {
		stdout.Close()
		return scriptLogs{}, err
	}
	return scriptLogs{stdout, stderr}, nil
}

// streamBase64 is the beginning of what a script printed, as messages carry it.
func (s *Service) streamBase64(f *os.File) string {
	root, err := os.OpenRoot(s.host.Path(s.opts.ScriptLogDir))
	if err != nil {
		return encode([]byte(rotatedAway))
	}
	defer root.Close()
	data, err := s.readScriptLog(root, path.Base(f.Name()))
	if err != nil {
		return encode([]byte(rotatedAway))
	}
	return encode(data)
}

// background runs functions that outlive the request that started them, and ends them with the agent.
type background struct {
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

func (b *background) init() { b.ctx, b.cancel = context.WithCancel(context.Background()) }

func (b *background) start(fn func(context.Context)) { b.wg.Go(func() { fn(b.ctx) }) }

func (b *background) stop() { b.cancel(); b.wg.Wait() }
