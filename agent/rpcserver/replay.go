package rpcserver

import (
	"errors"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/crypto/envelope"
)

// replayGuard remembers the signatures of state-changing requests.
type replayGuard struct {
	max     int
	keep    time.Duration // 0 means until pushed out by newer ones
	started time.Time     // requests dated before are refused; zero when the memory survived the restart
	journal *journal      // nil means memory only

	mu    sync.Mutex // protects the fields below
	seen  map[envelope.MAC]struct{}
	queue []seenMAC // oldest first, from head on
	head  int
}

type seenMAC struct {
	mac     envelope.MAC
	expires int64 // Unix seconds; 0 means never
}

// errReplay refuses a request that was seen before, or may have been.
var errReplay = errors.New("request was already used")

// newReplayGuard keeps signatures for twice the clock window: a request may be dated one window ahead. Without a window
// they are kept until newer ones push them out.
func newReplayGuard(limit int, window time.Duration, j *journal, now time.Time) *replayGuard {
	g := &replayGuard{max: limit, keep: 2 * max(window, 0), journal: j, seen: map[envelope.MAC]struct{}{}}
	if j == nil {
		g.started = now.Truncate(time.Second) // dates are whole seconds
		return g
	}
	for _, s := range j.loaded {
		if s.expires == 0 || s.expires > now.Unix() {
			g.addLocked(s)
		}
	}
	j.loaded = nil
	return g
}

// use records a request and returns errReplay when it was recorded before. Two equal requests at once: one wins. Another
// error says that the record is in memory only.
func (g *replayGuard) use(mac envelope.MAC, date, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.keep > 0 && date.Before(g.started) {
		return errReplay
	}
	g.expireLocked(now)
	if _, seen := g.seen[mac]; seen {
		return errReplay
	}
	s := seenMAC{mac: mac}
	if g.keep > 0 {
		s.expires = now.Add(g.keep).Unix() + 1
	}
	g.addLocked(s)
	if g.journal == nil {
		return nil
	}
	return g.journal.add(s, g.queue[g.head:])
}

func (g *replayGuard) addLocked(s seenMAC) {
	for len(g.queue)-g.head >= g.max {
		g.dropLocked()
	}
	g.seen[s.mac] = struct{}{}
	g.queue = append(g.queue, s)
}

func (g *replayGuard) expireLocked(now time.Time) {
	for g.head < len(g.queue) && g.queue[g.head].expires != 0 && g.queue[g.head].expires <= now.Unix() {
		g.dropLocked()
	}
}

// dropLocked forgets the oldest, and moves the queue to the front of its array once half of that is unused.
func (g *replayGuard) dropLocked() {
	delete(g.seen, g.queue[g.head].mac)
	g.head++
	if g.head > len(g.queue)/2 {
		g.queue = g.queue[:copy(g.queue, g.queue[g.head:])]
		g.head = 0
	}
}

// size is how many requests are remembered.
func (g *replayGuard) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.seen)
}
