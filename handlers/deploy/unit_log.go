package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// Fields that systemd adds to each journal record of a unit's processes (LogExtraFields=).
const (
	fieldApp     = "REEVE_APP"
	fieldUnit    = "REEVE_UNIT"
	fieldProcess = "REEVE_PROCESS"
)

const (
	logLines    = 100
	maxLogLines = 5000
	maxJournal  = 16 << 20 // bytes of journalctl's output
	maxLogLine  = 8 << 10  // bytes of one message
)

var journalCursor = regexp.MustCompile(`^[A-Za-z0-9=;]{1,400}$`)

// UnitLog reads what an app's units printed.
func (s *Service) UnitLog(ctx context.Context, p agentapi.UnitLogParams) (agentapi.UnitLog, error) {
	if _, err := s.load(p.App); err != nil {
		return agentapi.UnitLog{}, err
	}
	if p.Lines == 0 {
		p.Lines = logLines
	}
	switch {
	case p.Unit != "" && !unitID.MatchString(p.Unit):
		return agentapi.UnitLog{}, invalid("a unit is 12 to 40 of a-f and 0-9, not %.80q", p.Unit)
	case p.Lines < 0 || p.Lines > maxLogLines:
		return agentapi.UnitLog{}, invalid("lines is 1 to %d, not %d", maxLogLines, p.Lines)
	case p.Cursor != "" && !journalCursor.MatchString(p.Cursor):
		return agentapi.UnitLog{}, invalid("%.80q is not a cursor", p.Cursor)
	}
	out := agentapi.UnitLog{Lines: []agentapi.UnitLogLine{}, Cursor: p.Cursor}
	records, err := s.journal(ctx, p)
	if err != nil {
		return out, err
	}
	for _, r := range records {
		if len(out.Lines) == p.Lines {
			break // the rest comes after this cursor
		}
		out.Cursor = r.Cursor
		if line, ok := r.line(p.App); ok {
			out.Lines = append(out.Lines, line)
		}
	}
	if out.Cursor == "" { // nothing yet: go on from the journal's present end
		last, err := s.journalctl(ctx, "--lines=1", "--output-fields=_PID")
		if err != nil {
			return out, err
		}
		if len(last) == 1 {
			out.Cursor = last[0].Cursor
		}
	}
	return out, nil
}

func (s *Service) journal(ctx context.Context, p agentapi.UnitLogParams) ([]journalRecord, error) {
	args := []string{"--output-fields=MESSAGE,_PID,_SYSTEMD_SLICE,_SYSTEMD_UNIT"}
	if p.Cursor != "" {
		args = append(args, "--after-cursor="+p.Cursor)
	} else {
		args = append(args, "--lines="+strconv.Itoa(p.Lines))
	}
	args = append(args, fieldApp+"="+p.App)
	if p.Unit != "" {
		args = append(args, fieldUnit+"="+p.Unit)
	}
	return s.journalctl(ctx, args...)
}

func (s *Service) journalctl(ctx context.Context, args ...string) ([]journalRecord, error) {
	out, err := s.host.Run(ctx, host.Cmd{Path: "journalctl", Args: append([]string{"--output=json", "--quiet", "--no-pager", "--all"}, args...), MaxOutput: maxJournal})
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	var records []journalRecord
	for text := range bytes.Lines(out.Stdout) {
		var r journalRecord
		if json.Unmarshal(text, &r) != nil {
			break // cut off at maxJournal
		}
		records = append(records, r)
	}
	return records, nil
}

// journalRecord is one record as journalctl prints it.
type journalRecord struct {
	Cursor  string          `json:"__CURSOR"`
	Time    string          `json:"__REALTIME_TIMESTAMP"` // µs
	Message json.RawMessage `json:"MESSAGE"`
	PID     string          `json:"_PID"`
	Slice   string          `json:"_SYSTEMD_SLICE"`
	Service string          `json:"_SYSTEMD_UNIT"`
}

// line is a record as a line of an app's log. What systemd says about the unit is none. Programs may write any field whose
// name does not begin with an underscore, so unit and process are taken from those that the journal itself fills in.
func (r journalRecord) line(app string) (agentapi.UnitLogLine, bool) {
	unit, ok := strings.CutPrefix(r.Slice, strings.TrimSuffix(unitSlice(app, ""), ".slice"))
	unit, ok2 := strings.CutSuffix(unit, ".slice")
	if !ok || !ok2 || !unitID.MatchString(unit) || r.PID == "1" {
		return agentapi.UnitLogLine{}, false
	}
	process := strings.TrimSuffix(strings.TrimPrefix(r.Service, "reeve-"+app+"-"+unit+"-"), ".service")
	us, err := strconv.ParseInt(r.Time, 10, 64)
	if err != nil {
		return agentapi.UnitLogLine{}, false
	}
	return agentapi.UnitLogLine{At: time.UnixMicro(us).UTC(), Unit: unit, Process: process, Message: r.text()}, true
}

// text is the message. The journal shows one that is not plain text as an array of bytes.
func (r journalRecord) text() string {
	var text string
	if json.Unmarshal(r.Message, &text) != nil {
		var codes []int
		_ = json.Unmarshal(r.Message, &codes) // neither: an empty line
		raw := make([]byte, len(codes))
		for i, c := range codes {
			raw[i] = byte(c)
		}
		text = string(raw)
	}
	return cutText(strings.TrimRight(text, " \t\r\n"), maxLogLine)
}

func cutText(text string, limit int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}

const (
	errorLines    = 20
	errorLineSize = 300
)

// lastLines is what a unit printed last, for an error. Without a journal it is empty.
func (s *Service) lastLines(ctx context.Context, app, unit string, since time.Time) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, _ = s.host.Run(ctx, host.Cmd{Path: "journalctl", Args: []string{"--sync"}}) // what was printed may be on its way
	records, err := s.journal(ctx, agentapi.UnitLogParams{App: app, Unit: unit, Lines: 3 * errorLines})
	if err != nil {
		s.log.Warn("read a unit's log", "app", app, "unit", unit, "err", err)
		return ""
	}
	var lines []string
	for _, r := range records {
		if l, ok := r.line(app); ok && !l.At.Before(since) {
			lines = append(lines, cutText(l.Message, errorLineSize))
		}
	}
	return strings.Join(lines[max(0, len(lines)-errorLines):], "\n")
}
