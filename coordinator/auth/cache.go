package auth

import (
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// cache remembers credentials that were found good, never ones that were not. Revoking through Auth forgets at once;
// what another process changes is seen after the TTL.
type cache struct {
	ttl  time.Duration
	size int
	now  core.Clock

	mu   sync.RWMutex // protects the fields below
	gen  uint64       // counts forgettings: a lookup that began before one must not be stored after it
	rows map[cacheKey]cached
}

type cacheKey struct {
	kind core.CredentialKind
	hash [32]byte
}

type cached struct {
	account core.Account
	until   time.Time
}

func newCache(ttl time.Duration, size int, now core.Clock) *cache {
	return &cache{ttl: ttl, size: size, now: now, rows: map[cacheKey]cached{}}
}

func (c *cache) get(kind core.CredentialKind, hash [32]byte) (core.Account, bool) {
	c.mu.RLock()
	row, ok := c.rows[cacheKey{kind, hash}]
	c.mu.RUnlock()
	if !ok || !c.now().Before(row.until) {
		return core.Account{}, false
	}
	return row.account, true
}

func (c *cache) generation() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.gen
}

func (c *cache) put(kind core.CredentialKind, hash [32]byte, account core.Account, expires time.Time, gen uint64) {
	if c.ttl <= 0 {
		return
	}
	now := c.now()
	until := now.Add(c.ttl)
	if !expires.IsZero() && expires.Before(until) {
		until = expires
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if gen != c.gen {
		return
	}
	if len(c.rows) >= c.size {
		c.shrinkLocked(now)
	}
	c.rows[cacheKey{kind, hash}] = cached{account, until}
}

func (c *cache) shrinkLocked(now time.Time) {
	for key, row := range c.rows {
		if !now.Before(row.until) {
			delete(c.rows, key)
		}
	}
	for key := range c.rows { // still full: any will do, it is looked up again
		if len(c.rows) < c.size {
			return
		}
		delete(c.rows, key)
	}
}

// forget drops what satisfies the condition.
func (c *cache) forget(drop func(cacheKey, core.Account) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	for key, row := range c.rows {
		if drop(key, row.account) {
			delete(c.rows, key)
		}
	}
}
