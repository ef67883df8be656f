package auth

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// zone is a real DNS server on loopback, UDP and TCP, with hand-made answers.
type zone struct {
	addr    string
	udp     atomic.Int64
	tcp     atomic.Int64
	answers map[string]func(q *dns.Msg, overTCP bool) *dns.Msg // by lower-case name; nil result: no reply at all
}

func startZone(t *testing.T, answers map[string]func(q *dns.Msg, overTCP bool) *dns.Msg) *zone {
	t.Helper()
	z := &zone{answers: answers}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Skipf("port %s is taken for UDP: %v", tcp.Addr(), err)
	}
	z.addr = tcp.Addr().String()
	for _, s := range []*dns.Server{{Listener: tcp}, {PacketConn: udp}} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		s.Handler = dns.HandlerFunc(z.serve)
		done := make(chan error, 1)
		go func() { done <- s.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return z
}

func (z *zone) serve(w dns.ResponseWriter, q *dns.Msg) {
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	if overTCP {
		z.tcp.Add(1)
	} else {
		z.udp.Add(1)
	}
	reply := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
	if f := z.answers[strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))]; f != nil {
		reply = f(q, overTCP)
	}
	if reply != nil {
		_ = w.WriteMsg(reply)
	}
}

// records answers with records in zone file form; the strings of one TXT stay separate.
func records(t *testing.T, lines ...string) func(*dns.Msg, bool) *dns.Msg {
	return func(q *dns.Msg, _ bool) *dns.Msg {
		reply := new(dns.Msg).SetReply(q)
		for _, line := range lines {
			rr, err := dns.NewRR(line)
			if err != nil {
				t.Error(err)
			}
			reply.Answer = append(reply.Answer, rr)
		}
		return reply
	}
}

func TestProven(t *testing.T) {
	const token = "2e5d8f0899053fffcd3ecf4ac5a6433b"
	const other = "ffffffffffffffffffffffffffffffff"
	rcode := func(code int) func(*dns.Msg, bool) *dns.Msg {
		return func(q *dns.Msg, _ bool) *dns.Msg { return new(dns.Msg).SetRcode(q, code) }
	}
	silence := func(*dns.Msg, bool) *dns.Msg { return nil }
	one := func(line string) map[string]func(*dns.Msg, bool) *dns.Msg {
		return map[string]func(*dns.Msg, bool) *dns.Msg{"www.shop.example.org": records(t, line)}
	}
	for _, tc := range []struct {
		name    string
		answers map[string]func(*dns.Msg, bool) *dns.Msg
		fqdn    string
		want    bool
		kind    core.Kind
	}{
		{"a TXT at the name proves it", one(`www.shop.example.org. 10800 IN TXT "vhost=` + token + `"`), "", true, ""},
		{"also in other case and with a final dot", one(`WWW.shop.example.org. 1 IN TXT "vhost=` + token + `"`), "WWW.Shop.Example.ORG.", true, ""},
		{"blanks and one pair of quotes around it do not matter", one(`www.shop.example.org. 1 IN TXT "  \"vhost=` + token + `\" "`), "", true, ""},
		{"two pairs of quotes do", one(`www.shop.example.org. 1 IN TXT "\"\"vhost=` + token + `\"\""`), "", false, ""},
		{"strings of one TXT are joined", one(`www.shop.example.org. 1 IN TXT "vhost=2e5d8f08" "99053fffcd3ecf4ac5a6433b"`), "", true, ""},
		{"another account's token does not prove it", one(`www.shop.example.org. 1 IN TXT "vhost=` + other + `"`), "", false, ""},
		{"the token alone does not prove it", one(`www.shop.example.org. 1 IN TXT "` + token + `"`), "", false, ""},
		{"text around the token does not prove it", one(`www.shop.example.org. 1 IN TXT "vhost=` + token + `0"`), "", false, ""},
		{"one of many records is enough", map[string]func(*dns.Msg, bool) *dns.Msg{"www.shop.example.org": records(t,
			`www.shop.example.org. 1 IN TXT "v=spf1 -all"`, `www.shop.example.org. 1 IN TXT "vhost=`+other+`"`, `www.shop.example.org. 1 IN TXT "vhost=`+token+`"`)}, "", true, ""},
		{"a parent's record proves it", map[string]func(*dns.Msg, bool) *dns.Msg{
			"example.org": records(t, `example.org. 1 IN TXT "vhost=`+token+`"`)}, "", true, ""},
		{"a top-level domain's record does not", map[string]func(*dns.Msg, bool) *dns.Msg{
			"org": records(t, `org. 1 IN TXT "vhost=`+token+`"`)}, "", false, ""},
		{"a wildcard is proven at its parent", map[string]func(*dns.Msg, bool) *dns.Msg{
			"shop.example.org": records(t, `shop.example.org. 1 IN TXT "vhost=`+token+`"`)}, "*.shop.example.org", true, ""},
		{"a TXT behind a CNAME does not prove it", map[string]func(*dns.Msg, bool) *dns.Msg{"www.shop.example.org": records(t,
			`www.shop.example.org. 1 IN CNAME target.example.net.`, `target.example.net. 1 IN TXT "vhost=`+token+`"`)}, "", false, ""},
		{"NXDOMAIN is not proven", nil, "", false, ""},
		{"no TXT is not proven", map[string]func(*dns.Msg, bool) *dns.Msg{"www.shop.example.org": records(t)}, "", false, ""},
		{"SERVFAIL is not proven, and says so", map[string]func(*dns.Msg, bool) *dns.Msg{"www.shop.example.org": rcode(dns.RcodeServerFailure)}, "", false, core.Unavailable},
		{"silence is not proven, and says so", map[string]func(*dns.Msg, bool) *dns.Msg{"www.shop.example.org": silence}, "", false, core.Unavailable},
		{"a silent zone does not hide a parent's proof", map[string]func(*dns.Msg, bool) *dns.Msg{"www.shop.example.org": silence,
			"example.org": records(t, `example.org. 1 IN TXT "vhost=`+token+`"`)}, "", true, ""},
		{"a name that is none is invalid", nil, "a..b", false, core.Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			z := startZone(t, tc.answers)
			p := &Prover{Resolver: z.addr, TryFor: 100 * time.Millisecond}
			fqdn := tc.fqdn
			if fqdn == "" {
				fqdn = "www.shop.example.org"
			}
			got, err := p.Proven(t.Context(), fqdn, "vhost="+token)
			if got != tc.want || (err != nil) != (tc.kind != "") || err != nil && core.KindOf(err) != tc.kind {
				t.Errorf("got %v, %v, want %v and an error of kind %q", got, err, tc.want, tc.kind)
			}
		})
	}
}

func TestProvenUsesTCPWhenTheAnswerIsCutOff(t *testing.T) {
	z := startZone(t, map[string]func(*dns.Msg, bool) *dns.Msg{
		"example.org": func(q *dns.Msg, overTCP bool) *dns.Msg {
			reply := records(t, `example.org. 1 IN TXT "vhost=aa"`)(q, overTCP)
			if !overTCP {
				reply.Truncated, reply.Answer = true, nil
			}
			return reply
		},
	})
	p := &Prover{Resolver: z.addr}
	if got, err := p.Proven(t.Context(), "example.org", "aa"); !got || err != nil {
		t.Errorf("got %v, %v, want proven", got, err)
	}
	if z.udp.Load() != 1 || z.tcp.Load() != 1 {
		t.Errorf("got %d UDP and %d TCP questions, want one each", z.udp.Load(), z.tcp.Load())
	}
}

func TestProvenTriesTwice(t *testing.T) {
	var asked atomic.Int64
	z := startZone(t, map[string]func(*dns.Msg, bool) *dns.Msg{
		"example.org": func(q *dns.Msg, overTCP bool) *dns.Msg {
			if asked.Add(1) == 1 {
				return nil
			}
			return records(t, `example.org. 1 IN TXT "vhost=aa"`)(q, overTCP)
		},
	})
	p := &Prover{Resolver: z.addr, TryFor: 100 * time.Millisecond}
	if got, err := p.Proven(t.Context(), "example.org", "aa"); !got || err != nil {
		t.Errorf("got %v, %v, want proven by the second try", got, err)
	}
	if asked.Load() != 2 {
		t.Errorf("got %d questions, want 2", asked.Load())
	}
}

func TestProvenEndsInTime(t *testing.T) {
	z := startZone(t, map[string]func(*dns.Msg, bool) *dns.Msg{"example.org": func(*dns.Msg, bool) *dns.Msg { return nil }})
	p := &Prover{Resolver: z.addr, Timeout: 50 * time.Millisecond}
	start := time.Now()
	got, err := p.Proven(t.Context(), "example.org", "aa")
	if took := time.Since(start); got || core.KindOf(err) != core.Unavailable || took > time.Second {
		t.Errorf("got %v, %v after %v, want unavailable well before two tries of 2 s", got, err, took)
	}
}

func TestProofsAreRememberedForAMinuteAndTheirLackNotAtAll(t *testing.T) {
	var published atomic.Bool
	z := startZone(t, map[string]func(*dns.Msg, bool) *dns.Msg{
		"example.org": func(q *dns.Msg, overTCP bool) *dns.Msg {
			if !published.Load() {
				return new(dns.Msg).SetRcode(q, dns.RcodeNameError)
			}
			return records(t, `example.org. 1 IN TXT "vhost=aa"`)(q, overTCP)
		},
	})
	now := time.Now()
	p := &Prover{Resolver: z.addr, Clock: func() time.Time { return now }}
	check := func(when string, want bool) {
		t.Helper()
		if got, err := p.Proven(t.Context(), "example.org", "aa"); got != want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", when, got, err, want)
		}
	}
	check("before it is published", false)
	published.Store(true)
	check("right after it is published", true)
	published.Store(false)
	now = now.Add(59 * time.Second)
	check("59 s after it was seen", true)
	if got, _ := p.Proven(t.Context(), "example.org", "bb"); got {
		t.Error("a remembered proof counted for another token")
	}
	now = now.Add(time.Second)
	check("60 s after it was seen", false)
}
