package system

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

const (
	maxLog       = 5242880 // the size at which log files rotate
	maxScriptLog = 20000   // the reference's setting logs_truncate_over

	agentUnit    = "reeve-agent.service"
	journalLines = "20000"    // the newest
	maxJournal   = 4 * maxLog // a command's output is cut at its end, where the newest lines are: room for long ones
)

// rotatedAway is the exact text old callers show for a script log that is gone.
const rotatedAway = `Log file already rotatated and no more exists on server. You can increase "Rotate scripting logs" setting under "Advanced" tab in Farm Designer`

// GetLog is the agent's log: the file where an old agent wrote it, else what the journal has of the agent's unit.
//
// Params:  none
// Result:  base64 and a line feed, of the last 5242880 bytes; without a file and a journal the text says that the file
// cannot be read
// Source:  spec agent-core 4.3
func (s *Service) GetLog(ctx context.Context, _ handlers.NoParams) (string, error) {
	return s.readOwnLog(ctx, s.opts.LogFile), nil
}

// GetDebugLog is the agent's debug log, in the form of GetLog. The journal has only one log of both.
func (s *Service) GetDebugLog(ctx context.Context, _ handlers.NoParams) (string, error) {
	return s.readOwnLog(ctx, s.opts.DebugLogFile), nil
}

// GetUpdateLog is the log of the agent's updates, in the form of GetLog.
func (s *Service) GetUpdateLog(context.Context, handlers.NoParams) (string, error) {
	return s.readLog(s.opts.UpdateLogFile), nil
}

// readOwnLog is a log of the agent itself, which writes to the journal.
func (s *Service) readOwnLog(ctx context.Context, path string) string {
	if !s.host.Exists(path) {
		if text, ok := s.journal(ctx); ok {
			return encode(text)
		}
	}
	return s.readLog(path)
}

// journal is the end of what the journal has of the agent's unit. It is not ok on a host without a journal.
func (s *Service) journal(ctx context.Context) (text []byte, ok bool) {
	out, err := s.host.Run(ctx, host.Cmd{
		Path: "journalctl", Args: []string{"-u", agentUnit, "-o", "short-iso", "--no-pager", "-n", journalLines}, MaxOutput: maxJournal,
	})
	if err != nil {
		s.log.Debug("no journal to read", "err", err)
		return nil, false
	}
	return out.Stdout[max(0, len(out.Stdout)-maxLog):], true
}

func (s *Service) readLog(path string) string {
	data, err := tail(s.host.Path(path), maxLog)
	if err != nil {
		data = fmt.Appendf(nil, "Log file %s is not readable", path)
	}
	return encode(data)
}

// tail is at most the last max bytes of a regular file.
func tail(path string, max int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hold us
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if st.Size() > max {
		if _, err := f.Seek(-max, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, max))
}

// encode is the old wire's base64: one line and a line feed.
func encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) + "\n" }

// executionID keeps paths and patterns out.
var executionID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// GetScriptLogs is what a script printed.
//
// Params:  agentapi.ScriptLogsParams
// Result:  agentapi.ScriptLogs, of the first 20000 bytes each; an unknown id is said in the text
// Source:  spec agent-core 4.3
func (s *Service) GetScriptLogs(_ context.Context, p agentapi.ScriptLogsParams) (agentapi.ScriptLogs, error) {
	return agentapi.ScriptLogs{
		Stdout: encode(s.scriptLog(string(p.ExecScriptID), "out")),
		Stderr: encode(s.scriptLog(string(p.ExecScriptID), "err")),
	}, nil
}

// scriptLog is the beginning of one stream of a script, or the text that stands for a missing one. The directory is
// opened as a root: a link in it that leads elsewhere is not followed.
func (s *Service) scriptLog(id, stream string) []byte {
	if !executionID.MatchString(id) {
		return []byte(rotatedAway)
	}
	root, err := os.OpenRoot(s.host.Path(s.opts.ScriptLogDir))
	if err != nil {
		return []byte(rotatedAway)
	}
	defer root.Close()
	name := findScriptLog(root, id+"-"+stream+".log")
	data, err := s.readScriptLog(root, name)
	if err != nil {
		return []byte(rotatedAway)
	}
	return data
}

// findScriptLog is the first file whose name ends in suffix; one that has it as its whole last part is preferred.
func findScriptLog(root *os.Root, suffix string) string {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return ""
	}
	first := ""
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "."+suffix) {
			return e.Name()
		}
		if first == "" && strings.HasSuffix(e.Name(), suffix) {
			first = e.Name()
		}
	}
	return first
}

func (s *Service) readScriptLog(root *os.Root, name string) ([]byte, error) {
	if name == "" {
		return nil, fs.ErrNotExist
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxScriptLog+1))
	if err != nil || len(data) <= maxScriptLog {
		return data, err
	}
	text := strings.ToValidUTF8(string(data[:maxScriptLog]), "")
	return []byte(text + "... Truncated. See the full log in " + path.Join(s.opts.ScriptLogDir, name)), nil
}

// removeOldScriptLogs deletes script logs that were last written Options.KeepScripts ago.
func (s *Service) removeOldScriptLogs(now time.Time) error {
	root, err := os.OpenRoot(s.host.Path(s.opts.ScriptLogDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && strings.HasSuffix(e.Name(), ".log") && now.Sub(info.ModTime()) > s.opts.KeepScripts {
			errs = append(errs, root.Remove(e.Name()))
		}
	}
	return errors.Join(errs...)
}
