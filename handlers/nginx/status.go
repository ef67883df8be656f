package nginx

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

// StatusAddr is where nginx tells the installed agent how much it does. Nothing beyond this host reaches it.
const StatusAddr = "127.0.0.1:9811"

const (
	statusTimeout = 5 * time.Second
	statusLimit   = 4 << 10 // bytes
	statusTarget  = "/stub_status"
)

func (s *Service) statusPath() string { return path.Join(s.dir(), "reeve-status.include") }

// statusServer is the text of the file.
func statusServer(addr string) string {
	server := block([]string{"server"},
		dir("listen", addr),
		dir("access_log", "off"),
		dir("allow", "127.0.0.1"),
		dir("deny", "all"),
		block([]string{"location", "=", statusTarget}, dir("stub_status")),
		block([]string{"location", "/"}, dir("return", "404")),
	)
	return "# Counts requests for this host's metrics. Take its include out of nginx.conf to have none.\n" + newItem(server).raw + "\n"
}

// wantsStatus says that a change may bring the status server along: there never was one, and nobody else has its port. Whoever
// takes the include out of nginx.conf keeps it out: the file stays.
func (s *Service) wantsStatus(st *state) bool {
	if s.statusAddr == "" || s.host.Exists(s.statusPath()) || s.ourIncludes(st.confNodes)[s.statusPath()] != nil {
		return false
	}
	l, err := net.Listen("tcp", s.statusAddr)
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// stageWithStatus is stage, with the status server as part of the change where that is wanted. An nginx that does not take it,
// for want of the module, makes the change without it.
func (s *Service) stageWithStatus(ctx context.Context, st *state, steps []fileChange) (*host.Staged, error) {
	if s.wantsStatus(st) {
		with, err := s.withStatus(st, slices.Clone(steps))
		if err != nil {
			return nil, err
		}
		if staged, err := s.stage(ctx, st, with); err == nil {
			return staged, nil
		}
	}
	return s.stage(ctx, st, steps)
}

// withStatus adds the status server to the steps of a change. nginx.conf names it once it is there.
func (s *Service) withStatus(st *state, steps []fileChange) ([]fileChange, error) {
	conf := st.conf
	last := len(steps) - 1
	for _, step := range steps {
		if step.path == s.layout.NginxConf {
			conf = step.text
		}
	}
	nodes, err := parse(conf)
	if err != nil {
		return nil, inFile(err, s.layout.NginxConf)
	}
	at := slices.IndexFunc(nodes, func(n *node) bool { return n.name() == "http" && n.isBlock })
	if at < 0 {
		return steps, nil
	}
	conf = appendLine(conf, nodes[at].close, "\tinclude "+word(s.statusPath())+";\n")
	status := fileChange{path: s.statusPath(), text: statusServer(s.statusAddr)}
	if last >= 0 && steps[last].path == s.layout.NginxConf {
		steps[last].text = conf
		return slices.Insert(steps, last, status), nil
	}
	return append(steps, status, fileChange{path: s.layout.NginxConf, text: conf}), nil
}

// appendLine puts lines into a text before a position, on a line of their own.
func appendLine(text string, at int, lines string) string {
	before := text[:at]
	if !strings.HasSuffix(strings.TrimRight(before, " \t"), "\n") {
		before += "\n"
	}
	return before + lines + text[at:]
}

// Stats is what nginx counts, for metrics.
type Stats struct {
	Accepted, Handled, Requests       float64 // since nginx was started
	Active, Reading, Writing, Waiting float64 // connections now
}

// Stats asks a running nginx; ok is false when none runs, or when it has no status server.
//
// Errors: an nginx that runs and does not answer within ctx
func (s *Service) Stats(ctx context.Context) (stats Stats, ok bool, err error) {
	if s.statusAddr == "" || !s.host.Exists(s.statusPath()) {
		return stats, false, nil
	}
	state, err := s.host.Units().State(ctx, s.layout.NginxUnit)
	if err != nil || !state.Running() { // what else answers there is not asked
		return stats, false, ctx.Err()
	}
	ask, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	code, body, err := web.GetLocal(ask, s.statusAddr, statusTarget, statusLimit)
	if err != nil || code != http.StatusOK {
		return stats, false, ctx.Err()
	}
	stats, ok = parseStatus(string(body))
	return stats, ok, nil
}

// parseStatus reads the page of stub_status:
//
//	Active connections: 1
//	server accepts handled requests
//	 3 3 5
//	Reading: 0 Writing: 1 Waiting: 0
func parseStatus(text string) (s Stats, ok bool) {
	n, err := fmt.Sscanf(text, "Active connections: %g \nserver accepts handled requests\n %g %g %g \nReading: %g Writing: %g Waiting: %g",
		&s.Active, &s.Accepted, &s.Handled, &s.Requests, &s.Reading, &s.Writing, &s.Waiting)
	return s, n == 7 && err == nil
}
