package host

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/systemd"
)

type journalctl struct {
	args   []string
	stdout string
}

func (j *journalctl) Run(_ context.Context, c Cmd) (Output, error) {
	j.args = append([]string{c.Path}, c.Args...)
	return Output{Stdout: []byte(j.stdout)}, nil
}

func TestAJobThatFailsCarriesTheUnitsLastLines(t *testing.T) {
	j := &journalctl{stdout: strings.Repeat(`{"MESSAGE":"earlier","_PID":"7"}`+"\n", 4) + `{"MESSAGE":"Starting nginx.service...","_PID":"1"}
{"MESSAGE":"nginx: [emerg] unknown directive \"foo\" in /etc/nginx/x:1 "}
{"MESSAGE":[98,97,100,32,255]}
{"MESSAGE":null}
not json
{"MESSAGE":"` + strings.Repeat("x", 400) + `"}
`}
	u := &SystemdUnits{journal: j}
	err := u.explain(t.Context(), "nginx.service", time.Unix(1700000000, 0), &systemd.JobError{Verb: "restart", Unit: "nginx.service", Result: "failed"})
	e, ok := err.(*agentapi.Error)
	want := `InitdError: restart nginx.service: job failed: earlier | earlier | nginx: [emerg] unknown directive "foo" in /etc/nginx/x:1 | bad ? | ` + strings.Repeat("x", 300) + "…"
	if !ok || e.Message() != want || e.Kind != agentapi.KindInternal {
		t.Errorf("got %v, want %s", err, want)
	}
	if got := strings.Join(j.args, " "); got != "journalctl --output=json --quiet --no-pager --unit=nginx.service --since=@1700000000 --lines=30" {
		t.Errorf("got %s", got)
	}
}

func TestOtherUnitErrorsAskNoJournal(t *testing.T) {
	j := &journalctl{}
	u := &SystemdUnits{journal: j}
	err := u.explain(t.Context(), "x.service", time.Now(), &systemd.NotFoundError{Unit: "x.service"})
	if e, ok := err.(*agentapi.Error); !ok || e.Kind != agentapi.KindNotFound || e.Message() != "InitdError: unit x.service not found" || j.args != nil {
		t.Errorf("got %v, journal %q", err, j.args)
	}
	if err := u.explain(t.Context(), "x.service", time.Now(), nil); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
