package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sampleStore is a Store of apps and samples; anything else panics.
type sampleStore struct {
	mu      sync.Mutex
	apps    []App
	samples map[NodeID][]Sample
	calls   []string
	fail    error
}

func (s *sampleStore) View(_ context.Context, fn func(Reader) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn(sampleTx{s: s})
}

func (s *sampleStore) Update(_ context.Context, fn func(Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	return fn(sampleTx{s: s})
}

func (s *sampleStore) of(id NodeID) []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.samples[id])
}

func (s *sampleStore) set(apps ...App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = apps
}

func (s *sampleStore) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *sampleStore) made() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

type sampleTx struct {
	Tx
	s *sampleStore
}

func (t sampleTx) Apps(AccountID, int, int) ([]App, error) { return slices.Clone(t.s.apps), nil }
func (t sampleTx) PutSamples(samples []Sample) error {
	for _, x := range samples {
		t.s.samples[x.Node] = append(t.s.samples[x.Node], x)
	}
	return nil
}
func (t sampleTx) ThinSamples(id NodeID, from, to time.Time, step time.Duration) error {
	if from.IsZero() {
		from = to.Add(-step)
	}
	t.s.calls = append(t.s.calls, fmt.Sprintf("thin %s %s–%s %s", id, from.Format("15:04"), to.Format("15:04"), step))
	return nil
}
func (t sampleTx) DeleteSamples(id NodeID, before time.Time) error {
	t.s.calls = append(t.s.calls, fmt.Sprintf("delete %s %s", id, before.Format("Jan 2")))
	return nil
}

// plainCloud knows nothing about its nodes' counters.
type plainCloud struct{ Cloud }

func (plainCloud) Sizes(context.Context) ([]Size, error) {
	return []Size{{ID: "m", CPUs: 4}, {ID: "odd"}}, nil
}

// metered counts its questions; err is what it answers.
type metered struct {
	plainCloud
	mu    sync.Mutex
	err   error
	asked int
	most  int
	now   int
	hold  time.Duration
}

func (m *metered) Meter(ctx context.Context, id string) (Counters, error) {
	m.mu.Lock()
	m.asked++
	m.now++
	m.most = max(m.most, m.now)
	c, err, hold := UnknownCounters(), m.err, m.hold
	c.CPUs, c.UserMicros = 2, int64(m.asked)
	m.mu.Unlock()
	if hold > 0 {
		select {
		case <-time.After(hold):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	m.mu.Lock()
	m.now--
	m.mu.Unlock()
	return c, err
}

type cloudsOf map[string]Cloud

func (c cloudsOf) Cloud(name string) (Cloud, bool) { cloud, ok := c[name]; return cloud, ok }
func (c cloudsOf) Canonical(name string) string    { return name }
func (c cloudsOf) Names() []string                 { return nil }

// countingAgent counts the calls of each method over all nodes.
type countingAgent struct {
	Agent
	mu    sync.Mutex
	calls map[string]int
	err   error
}

func (a *countingAgent) called(method string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls[method]++
	return a.err
}

func (a *countingAgent) count(method string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[method]
}

func (a *countingAgent) Counters(context.Context) (Counters, error) {
	c := UnknownCounters()
	c.UserMicros = 77
	return c, a.called("counters")
}
func (a *countingAgent) CPUs(context.Context) (int, error) { return 3, a.called("cpus") }
func (a *countingAgent) FSUse(_ context.Context, mount string) (int64, int64, error) {
	return 10, 100, a.called("fs " + mount)
}

type oneAgent struct{ *countingAgent }

func (o oneAgent) Agent(Node) (Agent, error) { return o.countingAgent, nil }

func appOn(cloud, size string, ids ...NodeID) App {
	a := App{ID: "app-" + AppID(ids[0])}
	for _, id := range ids {
		a.Nodes = append(a.Nodes, Node{ID: id, AppID: a.ID, Cloud: cloud, CloudID: string(id), Name: string(id), SizeID: size, State: NodeRunning})
	}
	return a
}

// samplerBed runs a sampler over made-up clouds inside a synctest bubble.
type samplerBed struct {
	store *sampleStore
	meter *metered
	agent *countingAgent
	stop  func()
}

func newSamplerBed(o SamplerOptions, apps ...App) *samplerBed {
	b := &samplerBed{store: &sampleStore{samples: map[NodeID][]Sample{}}, meter: &metered{}, agent: &countingAgent{calls: map[string]int{}}}
	b.store.set(apps...)
	c := New(Options{Store: b.store, Clouds: cloudsOf{"metered": b.meter, "plain": plainCloud{}, "default": plainCloud{}}, Agents: oneAgent{b.agent}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.NewSampler(o).Run(ctx) })
	b.stop = func() { cancel(); wg.Wait() }
	return b
}

// after lets time pass until everything of that moment is done.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestSamplerAsksEveryNodeOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSamplerBed(SamplerOptions{}, appOn("metered", "m", "a", "b"), appOn("metered", "m", "c"))
		defer b.stop()
		synctest.Wait()
		for _, id := range []NodeID{"a", "b", "c"} {
			if got := len(b.store.of(id)); got != 1 {
				t.Errorf("%s: got %d samples at once, want the first", id, got)
			}
		}
		after(10*time.Minute + time.Second)
		for _, id := range []NodeID{"a", "b", "c"} {
			got := b.store.of(id)
			if len(got) < 11 || len(got) > 12 { // its slot may be the first moment again
				t.Errorf("%s: got %d samples in ten minutes, want one a minute", id, len(got))
			}
			for i := 2; i < len(got); i++ {
				if d := got[i].At.Sub(got[i-1].At); d != time.Minute {
					t.Errorf("%s: got %s between two samples, want a minute", id, d)
				}
			}
		}
		if got := b.agent.count("counters"); got != 0 {
			t.Errorf("got %d questions for counters to agents, want none: the cloud knows", got)
		}
		if got := b.agent.count("fs /srv/data"); got < 6 || got > 9 {
			t.Errorf("got %d questions about the data volume of 3 nodes, want one each in five minutes", got)
		}
		s := b.store.of("a")[0]
		if s.CPUs != 2 || s.DataUsed != 10 || s.DataTotal != 100 || s.UserMicros == Unknown {
			t.Errorf("got sample %+v, want what the cloud and the agent said", s)
		}
	})
}

func TestSamplerAsksTheAgentWhereTheCloudCannotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSamplerBed(SamplerOptions{}, appOn("plain", "m", "a"), appOn("plain", "odd", "b"))
		defer b.stop()
		after(3 * time.Minute)
		if s := b.store.of("a"); len(s) < 3 || s[0].UserMicros != 77 || s[0].CPUs != 4 {
			t.Errorf("got samples %+v, want the agent's counters and the size's CPUs", s)
		}
		if s := b.store.of("b"); len(s) < 3 || s[2].CPUs != 3 {
			t.Errorf("got samples %+v, want the agent's CPUs", s)
		}
		if got := b.agent.count("cpus"); got != 1 {
			t.Errorf("got %d questions for the number of CPUs, want one: it stays", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newSamplerBed(SamplerOptions{}, appOn("metered", "m", "a"))
		defer b.stop()
		b.meter.mu.Lock()
		b.meter.err = Errorf(Unsupported, ObjNode, "no accounting")
		b.meter.mu.Unlock()
		after(2 * time.Minute)
		if s := b.store.of("a"); len(s) == 0 || s[len(s)-1].UserMicros != 77 {
			t.Errorf("a cloud that does not account: got samples %+v, want the agent's", s)
		}
	})
}

func TestSamplerLeavesAGapWhereNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away, booting := appOn("plain", "m", "away"), appOn("metered", "m", "booting")
		away.Nodes[0].State, booting.Nodes[0].State = NodeUnreachable, NodeBooting
		cut := appOn("metered", "m", "cut")
		cut.Nodes[0].State = NodeUnreachable
		b := newSamplerBed(SamplerOptions{}, away, booting, cut, appOn("gone", "m", "lost"))
		defer b.stop()
		after(2 * time.Minute)
		for _, id := range []NodeID{"away", "booting", "lost"} {
			if s := b.store.of(id); len(s) != 0 {
				t.Errorf("%s: got samples %+v, want none", id, s)
			}
		}
		s := b.store.of("cut")
		if len(s) < 2 || s[0].UserMicros == Unknown || s[0].DataTotal != Unknown {
			t.Errorf("unreachable, but metered: got samples %+v, want the cloud's without the data volume", s)
		}
		if len(b.agent.calls) != 0 {
			t.Errorf("got calls %v to agents that do not answer", b.agent.calls)
		}
		b.meter.mu.Lock()
		b.meter.err = Errorf(Unavailable, ObjNode, "it reboots")
		b.meter.mu.Unlock()
		before := len(b.store.of("cut"))
		after(2 * time.Minute)
		if got := len(b.store.of("cut")); got != before {
			t.Errorf("got %d samples of a node that reboots, want none", got-before)
		}
	})
}

func TestSamplerAsksAFewAtOnceAndNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := make([]NodeID, 40)
		for i := range ids {
			ids[i] = NodeID(fmt.Sprint("n", i))
		}
		b := newSamplerBed(SamplerOptions{Concurrency: 5, Timeout: 2 * time.Second})
		defer b.stop()
		b.meter.mu.Lock()
		b.meter.hold = time.Hour
		b.meter.mu.Unlock()
		b.store.set(appOn("metered", "m", ids...))
		after(10*time.Second + 16*time.Second + time.Millisecond) // 8 rounds of 2 s after the next slot
		b.meter.mu.Lock()
		asked, most := b.meter.asked, b.meter.most
		b.meter.mu.Unlock()
		if most != 5 || asked < 40 {
			t.Errorf("got %d at once and %d asked in time, want 5 and all 40", most, asked)
		}
		for _, id := range ids {
			if s := b.store.of(id); len(s) != 0 {
				t.Errorf("%s: got samples %+v without an answer", id, s)
			}
		}
	})
}

func TestSamplerThinsOutWhatGotOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time starts at midnight, 1 January 2000
		b := newSamplerBed(SamplerOptions{}, appOn("metered", "m", "a"))
		defer b.stop()
		after(31*time.Minute + time.Second)
		want := []string{"thin a 23:45–00:00 15m0s", "delete a Dec 2", "thin a 00:00–00:15 15m0s", "delete a Dec 2", "thin a 00:15–00:30 15m0s", "delete a Dec 2"}
		if got := b.store.made(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestSamplerGoesOnAfterAFailureAndForgetsWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSamplerBed(SamplerOptions{}, appOn("metered", "m", "a"))
		defer b.stop()
		synctest.Wait()
		b.store.failWith(errors.New("disk full"))
		after(3 * time.Minute)
		b.store.failWith(nil)
		before := len(b.store.of("a"))
		after(2 * time.Minute)
		if got := len(b.store.of("a")) - before; got < 1 {
			t.Errorf("got %d samples after the store worked again, want some", got)
		}
		b.store.set()
		after(time.Minute)
		before = len(b.store.of("a"))
		after(2 * time.Minute)
		if got := len(b.store.of("a")); got != before {
			t.Errorf("got %d samples of a node that is gone", got-before)
		}
	})
}
