package systemd

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// bus is systemd as a Manager sees it. Each connection to it is a busConn.
type bus struct {
	calls   []string
	results map[string]string // job result by verb; "" leaves the job running for ever
	refuse  error             // what every job request is answered with
	die     int               // so many connections die with their next job, before or after it was taken
	taken   bool              // a dying connection took the job first
	units   map[string]dbus.UnitStatus
	jobEnds time.Time // until then every unit has a job
	dials   int
	dialErr error
}

type busConn struct {
	conn // methods that no test calls
	bus  *bus
	dead bool
}

func manager(b *bus) *Manager {
	return &Manager{dial: func() (conn, error) {
		b.dials++
		if b.dialErr != nil {
			return nil, b.dialErr
		}
		return &busConn{bus: b}, nil
	}}
}

func (c *busConn) Close()          { c.dead = true }
func (c *busConn) Connected() bool { return !c.dead }

var errClosed = errors.New("dbus: connection closed")

func (c *busConn) job(verb, unit string, ch chan<- string) (int, error) {
	b := c.bus
	if b.die > 0 {
		b.die--
		c.dead = true
		if !b.taken {
			return 0, errClosed
		}
		b.calls = append(b.calls, verb+" "+unit)
		return 1, nil
	}
	if c.dead {
		return 0, errClosed
	}
	b.calls = append(b.calls, verb+" "+unit)
	if b.refuse != nil {
		return 0, b.refuse
	}
	if r := b.results[verb]; r != "" {
		ch <- r
	}
	return 1, nil
}

func (c *busConn) StartUnitContext(_ context.Context, unit, _ string, ch chan<- string) (int, error) {
	return c.job("start", unit, ch)
}
func (c *busConn) StopUnitContext(_ context.Context, unit, _ string, ch chan<- string) (int, error) {
	return c.job("stop", unit, ch)
}
func (c *busConn) RestartUnitContext(_ context.Context, unit, _ string, ch chan<- string) (int, error) {
	return c.job("restart", unit, ch)
}
func (c *busConn) ReloadUnitContext(_ context.Context, unit, _ string, ch chan<- string) (int, error) {
	return c.job("reload", unit, ch)
}
func (c *busConn) ListUnitsByNamesContext(_ context.Context, units []string) ([]dbus.UnitStatus, error) {
	if c.dead {
		return nil, errClosed
	}
	var list []dbus.UnitStatus
	for _, u := range units {
		s, ok := c.bus.units[u]
		if !ok {
			s = dbus.UnitStatus{LoadState: "not-found", ActiveState: "inactive", SubState: "dead"}
		}
		if time.Now().Before(c.bus.jobEnds) {
			s = dbus.UnitStatus{LoadState: "loaded", ActiveState: "activating", JobId: 7}
		}
		list = append(list, s)
	}
	return list, nil
}
func (c *busConn) EnableUnitFilesContext(_ context.Context, files []string, _, _ bool) (bool, []dbus.EnableUnitFileChange, error) {
	c.bus.calls = append(c.bus.calls, "enable "+files[0])
	return true, nil, c.bus.refuse
}
func (c *busConn) ReloadContext(context.Context) error {
	c.bus.calls = append(c.bus.calls, "daemon-reload")
	return nil
}

func TestEachVerbWaitsForItsJob(t *testing.T) {
	b := &bus{results: map[string]string{"start": "done", "stop": "done", "restart": "done", "reload": "done"}}
	m := manager(b)
	for _, do := range []func(context.Context, string) error{m.Start, m.Stop, m.Restart, m.Reload} {
		if err := do(t.Context(), "a.service"); err != nil {
			t.Error(err)
		}
	}
	want := []string{"start a.service", "stop a.service", "restart a.service", "reload a.service"}
	if !slices.Equal(b.calls, want) || b.dials != 1 {
		t.Errorf("got %q over %d connections, want %q over one", b.calls, b.dials, want)
	}
}

func TestAJobThatFailsNamesUnitAndResult(t *testing.T) {
	for _, result := range []string{"failed", "timeout", "canceled", "dependency", "skipped"} {
		err := manager(&bus{results: map[string]string{"restart": result}}).Restart(t.Context(), "nginx.service")
		job, ok := errors.AsType[*JobError](err)
		if !ok || job.Result != result || err.Error() != "restart nginx.service: job "+result {
			t.Errorf("%s: got %v", result, err)
		}
	}
}

func TestAUnitThatDoesNotExist(t *testing.T) {
	err := manager(&bus{refuse: errors.New("Unit x.service not found.")}).Start(t.Context(), "x.service")
	if _, ok := errors.AsType[*NotFoundError](err); !ok || err.Error() != "start x.service: unit x.service not found" {
		t.Errorf("got %v", err)
	}
}

func TestTheContextBoundsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		err := manager(&bus{}).Start(ctx, "slow.service")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
		if want := "start slow.service: job not finished: context deadline exceeded"; err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	})
}

func TestADeadConnectionIsReplaced(t *testing.T) {
	b := &bus{results: map[string]string{"reload": "done"}, die: 1}
	if err := manager(b).Reload(t.Context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	if b.dials != 2 || !slices.Equal(b.calls, []string{"reload a.service"}) {
		t.Errorf("got %d connections and calls %q", b.dials, b.calls)
	}
	b = &bus{die: 5}
	if err := manager(b).Reload(t.Context(), "a.service"); !errors.Is(err, errClosed) || b.dials != 2 {
		t.Errorf("a bus that is gone: got %v after %d connections, want an error after two", err, b.dials)
	}
	b = &bus{dialErr: errors.New("connect to systemd: no such file")}
	if err := manager(b).Reload(t.Context(), "a.service"); err == nil || b.dials != 1 {
		t.Errorf("no systemd: got %v after %d dials", err, b.dials)
	}
}

func TestAConnectionThatDiesDuringAJob(t *testing.T) {
	for _, test := range []struct {
		verb, active, sub string
		want              string
	}{
		{"start", "active", "running", ""},
		{"start", "inactive", "dead", ""}, // a oneshot that finished
		{"start", "failed", "failed", "start a.service: job ended unseen, unit is failed"},
		{"restart", "inactive", "dead", ""},
		{"reload", "inactive", "dead", "reload a.service: job ended unseen, unit is inactive"},
		{"stop", "inactive", "dead", ""},
		{"stop", "active", "running", "stop a.service: job ended unseen, unit is active"},
	} {
		t.Run(test.verb+" "+test.active, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bus{die: 1, taken: true, jobEnds: time.Now().Add(10 * time.Second), units: map[string]dbus.UnitStatus{
					"a.service": {LoadState: "loaded", ActiveState: test.active, SubState: test.sub},
				}}
				m := manager(b)
				do := map[string]func(context.Context, string) error{"start": m.Start, "stop": m.Stop, "restart": m.Restart, "reload": m.Reload}
				err := do[test.verb](t.Context(), "a.service")
				if (err == nil) != (test.want == "") || err != nil && err.Error() != test.want {
					t.Errorf("got %v, want %q", err, test.want)
				}
				if len(b.calls) != 1 {
					t.Errorf("got calls %q, want the job asked for once", b.calls)
				}
			})
		})
	}
}

func TestStates(t *testing.T) {
	b := &bus{units: map[string]dbus.UnitStatus{
		"mysql.service": {Name: "mariadb.service", LoadState: "loaded", ActiveState: "inactive", SubState: "dead"}, // an alias
	}}
	got, err := manager(b).States(t.Context(), "mysql.service", "none.service")
	want := []State{
		{Unit: "mysql.service", Load: "loaded", Active: "inactive", Sub: "dead"},
		{Unit: "none.service", Load: "not-found", Active: "inactive", Sub: "dead"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := manager(b).States(t.Context()); got != nil || err != nil || b.dials != 1 {
		t.Errorf("no units: got %v, %v over %d connections", got, err, b.dials)
	}
}

func TestEnableSparesAReload(t *testing.T) {
	b := &bus{}
	if err := manager(b).Enable(t.Context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"enable a.service"}; !slices.Equal(b.calls, want) {
		t.Errorf("got %q, want %q", b.calls, want)
	}
}

func TestAClosedManagerRefuses(t *testing.T) {
	b := &bus{results: map[string]string{"start": "done"}}
	m := manager(b)
	if err := m.Start(t.Context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Start(t.Context(), "a.service"); err == nil || b.dials != 1 {
		t.Errorf("got %v over %d connections, want a refusal", err, b.dials)
	}
}
