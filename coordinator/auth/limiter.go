package auth

import (
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// limiter slows down who guesses passwords, or makes accounts without end. It remembers a bounded number of rows; when they run out, the ones that matter
// least go first: expired ones, then those with the fewest wrong attempts.
type limiter struct {
	now   func() time.Time
	free  int
	first time.Duration
	most  time.Duration
	size  int

	mu   sync.Mutex // protects the field below
	rows map[limiterKey]*attempts
}

type limiterKey struct{ subject, from string }

type attempts struct {
	wrong int
	until time.Time // attempts before this are refused
	last  time.Time
}

// check refuses an attempt that comes too early. Errors: rate_limited
func (l *limiter) check(subject, from string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.checkLocked(subject, from)
}

// take counts an attempt, unless it comes too early. Errors: rate_limited
func (l *limiter) take(subject, from string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.checkLocked(subject, from); err != nil {
		return err
	}
	l.countLocked(subject, from)
	return nil
}

func (l *limiter) checkLocked(subject, from string) error {
	row := l.rows[limiterKey{subject, from}]
	if row == nil {
		return nil
	}
	wait := row.until.Sub(l.now())
	if wait <= 0 {
		return nil
	}
	return core.Errorf(core.RateLimited, core.ObjAccount,
		"too many attempts; try again in %d seconds", int((wait+time.Second-1)/time.Second))
}

// failed counts a wrong attempt.
func (l *limiter) failed(subject, from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.countLocked(subject, from)
}

func (l *limiter) countLocked(subject, from string) {
	now := l.now()
	key := limiterKey{subject, from}
	row := l.rows[key]
	if row == nil {
		if len(l.rows) >= l.size {
			l.shrinkLocked(now)
		}
		row = &attempts{}
		l.rows[key] = row
	}
	if now.Sub(row.last) > 2*l.most { // long ago
		row.wrong = 0
	}
	row.wrong++
	row.last = now
	if over := row.wrong - l.free; over > 0 {
		delay := l.most
		if over < 30 {
			delay = min(l.first<<(over-1), l.most)
		}
		row.until = now.Add(delay)
	}
}

func (l *limiter) succeeded(subject, from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.rows, limiterKey{subject, from})
}

// shrinkLocked frees at least an eighth of the rows.
func (l *limiter) shrinkLocked(now time.Time) {
	for key, row := range l.rows {
		if now.Sub(row.last) > 2*l.most {
			delete(l.rows, key)
		}
	}
	goal := l.size - l.size/8
	for wrong := 1; len(l.rows) > goal; wrong *= 2 {
		for key, row := range l.rows {
			if len(l.rows) <= goal {
				return
			}
			if row.wrong <= wrong {
				delete(l.rows, key)
			}
		}
	}
}
