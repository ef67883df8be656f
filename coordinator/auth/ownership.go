package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Prover looks up the TXT record that proves that an account owns a DNS name (spec gandi 4.3). The zero value asks the
// resolver of resolv.conf.
type Prover struct {
	Resolver string        // host:port; "" means the first name server of /etc/resolv.conf
	Timeout  time.Duration // for one call; 0 means 5 s
	TryFor   time.Duration // for one question; 0 means 2 s. There are two tries
	Log      *slog.Logger  // questions without an answer, at debug level; nil: not logged
	Clock    core.Clock

	mu     sync.Mutex // protects the field below
	proven map[provenKey]time.Time
}

type provenKey [sha256.Size]byte

// provenFor is how long a found proof is believed. What is not found is asked for again each time.
const provenFor = 60 * time.Second

// mostProven bounds the memory of found proofs.
const mostProven = 10000

// Proven says whether the TXT value "vhost=<token>" stands at the name or at one of its parents of two labels or more.
// CNAMEs are not followed: the owner of the target would otherwise own every name that dangles towards it. token may be
// given with or without "vhost=".
//
// A resolver that does not answer counts as not proven; the reason is in the error, which is then Unavailable.
func (p *Prover) Proven(ctx context.Context, name, token string) (bool, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	want := "vhost=" + strings.TrimPrefix(token, "vhost=")
	if _, ok := dns.IsDomainName(name); !ok || token == "" {
		return false, core.Errorf(core.Invalid, core.ObjRoute, "not a DNS name")
	}
	key := provenKey(sha256.Sum256([]byte(name + "\x00" + want)))
	if p.remembered(key) {
		return true, nil
	}
	resolver, err := p.resolver()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, orDuration(p.Timeout, 5*time.Second))
	defer cancel()
	found, err := p.askAll(ctx, resolver, queried(name), want)
	if found {
		p.remember(key)
		return true, nil
	}
	if err != nil {
		return false, core.Wrap(core.Unavailable, core.ObjRoute, err, "the DNS resolver gave no answer for the name")
	}
	return false, nil
}

// queried lists the name, without a leading wildcard, and its parents of at least two labels.
func queried(name string) []string {
	name = strings.TrimPrefix(name, "*.")
	names := []string{name}
	for {
		_, parent, ok := strings.Cut(name, ".")
		if !ok || !strings.Contains(parent, ".") {
			return names
		}
		names = append(names, parent)
		name = parent
	}
}

// askAll asks for all names at once, so that one dead zone does not use up the time of the others.
func (p *Prover) askAll(ctx context.Context, resolver string, names []string, want string) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		hit  bool
		errs []error
	)
	turns := make(chan struct{}, 8) // a name has at most 127 labels; resolvers dislike floods
	for _, name := range names {
		wg.Go(func() {
			select {
			case turns <- struct{}{}:
				defer func() { <-turns }()
			case <-ctx.Done():
				return
			}
			values, err := p.txt(ctx, resolver, name)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case matches(values, want):
				hit = true
				cancel()
			case err != nil:
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	wg.Wait()
	if hit {
		return true, nil
	}
	return false, errors.Join(errs...)
}

// matches compares without telling by its duration how much of a value was right.
func matches(values []string, want string) bool {
	found := 0
	for _, v := range values {
		v = strings.Trim(v, " \t")
		if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
			v = v[1 : len(v)-1]
		}
		found |= subtle.ConstantTimeCompare([]byte(v), []byte(want))
	}
	return found == 1
}

// txt asks over UDP, over TCP when the answer was cut off, and once more when there was none.
func (p *Prover) txt(ctx context.Context, resolver, name string) ([]string, error) {
	var last error
	for range 2 {
		values, err := p.txtOnce(ctx, resolver, name)
		if err == nil {
			return values, nil
		}
		last = err
		if p.Log != nil {
			p.Log.Debug("no answer from DNS", "name", name, "resolver", resolver, "err", err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

func (p *Prover) txtOnce(ctx context.Context, resolver, name string) ([]string, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), dns.TypeTXT)
	q.SetEdns0(1232, false) // the size that passes every path unfragmented
	tryCtx, cancel := context.WithTimeout(ctx, orDuration(p.TryFor, 2*time.Second))
	defer cancel()
	timeout := orDuration(p.TryFor, 2*time.Second) // miekg/dns has deadlines of its own beside the context's
	reply, _, err := (&dns.Client{Net: "udp", Timeout: timeout}).ExchangeContext(tryCtx, q, resolver)
	if err == nil && reply.Truncated {
		reply, _, err = (&dns.Client{Net: "tcp", Timeout: timeout}).ExchangeContext(tryCtx, q, resolver)
	}
	if err != nil {
		return nil, err
	}
	switch reply.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		return nil, nil
	default:
		return nil, fmt.Errorf("answer %s", dns.RcodeToString[reply.Rcode])
	}
	var values []string
	for _, rr := range reply.Answer {
		// What a resolver found behind a CNAME has another owner name.
		if txt, ok := rr.(*dns.TXT); ok && strings.EqualFold(txt.Hdr.Name, dns.Fqdn(name)) {
			values = append(values, unescape(strings.Join(txt.Txt, "")))
		}
	}
	return values, nil
}

// unescape undoes the zone file escapes that the DNS library puts before quotes and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(s)
}

func (p *Prover) resolver() (string, error) {
	if p.Resolver != "" {
		return p.Resolver, nil
	}
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(conf.Servers) == 0 {
		return "", core.Wrap(core.Unavailable, core.ObjRoute, err, "no DNS resolver is configured")
	}
	return net.JoinHostPort(conf.Servers[0], conf.Port), nil
}

func (p *Prover) remembered(key provenKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.proven[key]
	return ok && p.now().Sub(at) < provenFor
}

func (p *Prover) remember(key provenKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.proven == nil || len(p.proven) >= mostProven {
		p.proven = map[provenKey]time.Time{}
	}
	for old, at := range p.proven {
		if now.Sub(at) >= provenFor {
			delete(p.proven, old)
		}
	}
	p.proven[key] = now
}

func (p *Prover) now() time.Time {
	if p.Clock != nil {
		return p.Clock()
	}
	return time.Now()
}

func orDuration(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
