package core

import (
	"cmp"
	"context"
	"hash/fnv"
	"sync"
	"time"
)

// Unknown is the value of a counter that nobody could read.
const Unknown = -1

// Counters are what a node has used since something began, and how full its data volume is. Any of them may be Unknown.
type Counters struct {
	// Epoch names what the counters count from, such as a boot. Counters of two epochs cannot be subtracted.
	Epoch int64
	CPUs  int64 // virtual CPUs

	UserMicros   int64 // CPU time of programs, all CPUs together, nice ones included
	SystemMicros int64 // CPU time of the kernel
	StealMicros  int64 // CPU time that was wanted and not given

	ReadBytes, WriteBytes, Reads, Writes   int64 // all disks together
	RxBytes, TxBytes, RxPackets, TxPackets int64 // all interfaces together, as the node sees them
	DataUsed, DataTotal                    int64 // bytes of the filesystem with the app's data; no counters
}

// UnknownCounters are counters nobody has read yet.
func UnknownCounters() Counters {
	return Counters{CPUs: Unknown, UserMicros: Unknown, SystemMicros: Unknown, StealMicros: Unknown,
		ReadBytes: Unknown, WriteBytes: Unknown, Reads: Unknown, Writes: Unknown,
		RxBytes: Unknown, TxBytes: Unknown, RxPackets: Unknown, TxPackets: Unknown, DataUsed: Unknown, DataTotal: Unknown}
}

// Sample is a node's counters at one time.
type Sample struct {
	Node NodeID
	At   time.Time // whole seconds
	Counters
}

// MeterCloud is a Cloud that knows what its nodes use. It is asked before the agent, because an agent sees the counters of
// the whole host where nodes share a kernel.
type MeterCloud interface {
	Cloud
	// Meter reads a node's counters; DataUsed and DataTotal may stay Unknown, the agent is asked for them.
	//
	// Errors: not_found, unavailable (the node is not running), unsupported (ask the agent instead)
	Meter(ctx context.Context, id string) (Counters, error)
}

// MeterAgent is what the sampler asks of an agent.
type MeterAgent interface {
	// Counters are the host's, without CPUs, DataUsed and DataTotal.
	Counters(ctx context.Context) (Counters, error)
	CPUs(ctx context.Context) (int, error)
	// FSUse is how much of a mounted filesystem is used, in bytes. Errors: not_found (nothing is mounted there)
	FSUse(ctx context.Context, mount string) (used, total int64, err error)
}

// How long samples are kept and how close together. Thinning takes whole steps, so that the first sample of each is kept.
const (
	SampleStep   = time.Minute
	CoarseStep   = 15 * time.Minute
	FineSamples  = 24 * time.Hour
	AllSamples   = 30 * 24 * time.Hour
	sampleSlots  = 6               // of an interval; each node has one by its id, so that work is a steady trickle
	dataInterval = 5 * time.Minute // between two looks at how full a data volume is: it costs a call to the agent
	thinAtOnce   = 50              // nodes thinned out in one transaction: after a long stop each has a month to look through
)

// SamplerOptions tune a Sampler; the zero value works.
type SamplerOptions struct {
	Interval    time.Duration // between two samples of the same node; 0 means SampleStep
	Concurrency int           // nodes at once; 0 means 16
	Timeout     time.Duration // for one node; 0 means 10 s
}

// Sampler writes down regularly what the nodes of apps use.
type Sampler struct {
	SamplerOptions
	core *Core
	// known is touched by Run alone; the goroutines of a pass each get an entry of their own.
	known map[NodeID]*sampled
}

// sampled is what the sampler remembers of a node.
type sampled struct {
	cpus    int64     // 0 until it was found out
	dataAt  time.Time // when the data volume was last looked at
	thinned time.Time // up to where samples are thinned out
}

// NewSampler makes a sampler of the core's nodes.
func (c *Core) NewSampler(o SamplerOptions) *Sampler {
	o.Interval = cmp.Or(o.Interval, SampleStep)
	o.Concurrency = cmp.Or(o.Concurrency, 16)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	return &Sampler{SamplerOptions: o, core: c, known: map[NodeID]*sampled{}}
}

// Run samples until ctx ends.
//
// Effects: one row per node of an app and interval; rows that got old are thinned out and deleted
func (s *Sampler) Run(ctx context.Context) error {
	tick := time.NewTicker(max(s.Interval/sampleSlots, time.Millisecond))
	defer tick.Stop()
	for slot := uint32(0); ; slot = (slot + 1) % sampleSlots {
		if err := s.pass(ctx, slot); err != nil && ctx.Err() == nil {
			s.core.Log.Warn("samples could not be stored; graphs have a gap", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// pass samples the nodes of one slot, and those that were never sampled: two samples are needed before anything shows.
func (s *Sampler) pass(ctx context.Context, slot uint32) error {
	apps, err := view(ctx, s.core.Store, func(r Reader) ([]App, error) { return r.Apps("", 0, 0) })
	if err != nil {
		return err
	}
	due := s.due(apps, slot)
	samples := s.read(ctx, due)
	if len(samples) == 0 || ctx.Err() != nil {
		return nil
	}
	return s.write(ctx, samples)
}

// due picks the nodes of the slot and forgets the ones that are gone.
func (s *Sampler) due(apps []App, slot uint32) []Node {
	var due []Node
	there := make(map[NodeID]bool, len(s.known))
	for i := range apps {
		for _, n := range apps[i].Nodes {
			if !n.alive() {
				continue
			}
			there[n.ID] = true
			if s.known[n.ID] == nil {
				s.known[n.ID] = &sampled{}
				due = append(due, n)
			} else if slotOf(n.ID) == slot {
				due = append(due, n)
			}
		}
	}
	for id := range s.known {
		if !there[id] {
			delete(s.known, id)
		}
	}
	return due
}

func slotOf(id NodeID) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32() % sampleSlots
}

// read asks the nodes, a few at once. Who gives no answer has no sample.
func (s *Sampler) read(ctx context.Context, nodes []Node) []Sample {
	answers := make([]Sample, len(nodes))
	turns := make(chan struct{}, s.Concurrency)
	var wg sync.WaitGroup
	for i, n := range nodes {
		turns <- struct{}{}
		known := s.known[n.ID]
		wg.Go(func() {
			defer func() { <-turns }()
			one, cancel := context.WithTimeout(ctx, s.Timeout)
			defer cancel()
			counters, err := s.counters(one, n, known)
			if err != nil {
				s.core.Log.Debug("node not sampled", "node", n.Name, "err", err)
				return
			}
			answers[i] = Sample{Node: n.ID, At: s.core.now().Truncate(time.Second), Counters: counters}
		})
	}
	wg.Wait()
	samples := answers[:0]
	for _, a := range answers {
		if a.Node != "" {
			samples = append(samples, a)
		}
	}
	return samples
}

// counters asks the cloud what the node uses, or the agent when the cloud cannot tell; and the agent how full the data
// volume is. An agent that does not answer costs only what it alone knows.
func (s *Sampler) counters(ctx context.Context, n Node, known *sampled) (Counters, error) {
	cloud, ok := s.core.Clouds.Cloud(n.Cloud)
	if !ok {
		return Counters{}, Errorf(NotFound, ObjCloud, "the cloud of node %s is not configured", n.Name)
	}
	c, err := UnknownCounters(), error(Errorf(Unsupported, ObjCloud, "the cloud does not meter its nodes"))
	if meter, ok := cloud.(MeterCloud); ok {
		c, err = meter.Meter(ctx, n.CloudID)
	}
	if err != nil && KindOf(err) != Unsupported {
		return c, err
	}
	metered := err == nil
	agent, err := s.agent(n)
	if !metered {
		if err == nil {
			c, err = agent.Counters(ctx)
		}
		if err != nil {
			return c, err
		}
	}
	if err != nil {
		return c, nil
	}
	if now := s.core.now(); c.DataTotal == Unknown && now.Sub(known.dataAt) >= dataInterval {
		if used, total, err := agent.FSUse(ctx, dataMount); err == nil {
			c.DataUsed, c.DataTotal, known.dataAt = used, total, now
		}
	}
	if c.CPUs == Unknown {
		s.countCPUs(ctx, n, cloud, agent, known)
		if known.cpus > 0 {
			c.CPUs = known.cpus
		}
	}
	return c, nil
}

// agent is the node's, if it answers as far as we know.
func (s *Sampler) agent(n Node) (MeterAgent, error) {
	if n.State != NodeRunning {
		return nil, Errorf(Unavailable, ObjNode, "the agent of %s does not answer", n.Name)
	}
	return s.core.Agents.Agent(n)
}

// countCPUs finds out once how many CPUs a node has: its size may tell, else its agent does.
func (s *Sampler) countCPUs(ctx context.Context, n Node, cloud Cloud, agent MeterAgent, known *sampled) {
	if known.cpus > 0 {
		return
	}
	if sizes, err := cloud.Sizes(ctx); err == nil {
		for _, size := range sizes {
			if size.ID == n.SizeID {
				known.cpus = int64(size.CPUs)
			}
		}
	}
	if known.cpus > 0 {
		return
	}
	if cpus, err := agent.CPUs(ctx); err == nil {
		known.cpus = int64(cpus)
	}
}

// write stores samples, and thins out and deletes the old ones of the same nodes. Only what got old since the last time is
// looked at, so a pass costs the same however many samples there are.
func (s *Sampler) write(ctx context.Context, samples []Sample) error {
	now := s.core.now()
	fine := now.Add(-FineSamples).Truncate(CoarseStep)
	var thinned []NodeID
	err := s.core.Store.Update(ctx, func(tx Tx) error {
		if err := tx.PutSamples(samples); err != nil {
			return err
		}
		thinned = thinned[:0]
		for _, sample := range samples {
			known := s.known[sample.Node]
			if !known.thinned.Before(fine) || len(thinned) == thinAtOnce {
				continue
			}
			if err := tx.ThinSamples(sample.Node, known.thinned, fine, CoarseStep); err != nil {
				return err
			}
			if err := tx.DeleteSamples(sample.Node, now.Add(-AllSamples)); err != nil {
				return err
			}
			thinned = append(thinned, sample.Node)
		}
		return nil
	})
	if err == nil {
		for _, id := range thinned {
			s.known[id].thinned = fine
		}
	}
	return err
}
