package gandi_test

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// nameserver is a DNS server on loopback, over UDP and TCP, that is authoritative for example.org.
type nameserver struct {
	addr string

	mu     sync.Mutex          // protects the fields below
	lines  map[string][]string // records in zone file form, by lower-case name
	silent bool                // it answers nothing
}

func startNameserver(t *testing.T) *nameserver {
	t.Helper()
	n := &nameserver{lines: map[string][]string{}}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Skipf("port %s is taken for UDP: %v", tcp.Addr(), err)
	}
	n.addr = tcp.Addr().String()
	for _, s := range []*dns.Server{{Listener: tcp}, {PacketConn: udp}} {
		ready, done := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(ready) }
		s.Handler = dns.HandlerFunc(n.serve)
		go func() { done <- s.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return n
}

func (n *nameserver) serve(w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.silent {
		return
	}
	reply := new(dns.Msg).SetReply(q)
	lines, there := n.lines[strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))]
	if !there {
		reply.Rcode = dns.RcodeNameError
	}
	for _, line := range lines {
		if rr, err := dns.NewRR(line); err == nil && rr != nil {
			reply.Answer = append(reply.Answer, rr)
		}
	}
	// What does not fit into a datagram is cut off, as servers do; the rest comes over TCP.
	if _, overUDP := w.RemoteAddr().(*net.UDPAddr); overUDP {
		reply.Truncate(dns.MinMsgSize)
	}
	_ = w.WriteMsg(reply)
}

// publish replaces the records of a name; none removes it. target: further records that a CNAME leads to, in the same answer.
func (n *nameserver) publish(name string, lines ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.lines, name)
	if len(lines) > 0 {
		n.lines[name] = lines
	}
}

// 68-78: ownership through the API, with the prover and a name server that talk DNS to one another.
func TestOwnershipThroughTheDNS(t *testing.T) {
	n := startNameserver(t)
	b := newBed(t, func(_ *gandi.Options, co *core.Options) {
		co.Prover = &auth.Prover{Resolver: n.addr, TryFor: 200 * time.Millisecond}
	}).work()
	id, ops := b.create("vhosts", []any{})
	for _, op := range ops {
		b.await(op["id"])
	}
	ask := func(name string, more ...any) map[string]any {
		v := map[string]any{"paas_id": id, "vhost": name}
		for i := 0; i < len(more); i += 2 {
			v[more[i].(string)] = more[i+1]
		}
		return v
	}
	// token is what has to stand in a TXT record, as the dry run says; "" when nothing has to.
	token := func(t *testing.T, name string) string {
		t.Helper()
		items := structs(b.call("paas.vhost.create", ask(name, "--dry-run", true)))
		if len(items) == 0 {
			return ""
		}
		attr := items[0]["attr"].([]any)
		if len(items) != 1 || items[0]["field"] != "vhost" || items[0]["reason"] != "You must put a TXT value in your zone" || attr[0] != name {
			t.Errorf("got %v", items)
		}
		return attr[1].(string)
	}
	unproven := func(t *testing.T, name string) {
		t.Helper()
		before := b.call("operation.count")
		if token(t, name) == "" {
			t.Errorf("%s counts as proven", name)
		}
		b.faults(537650, "paas.vhost.create", ask(name))
		if after := b.call("operation.count"); after != before {
			t.Errorf("%s: a refusal started an operation", name)
		}
	}
	served := func(t *testing.T, name string, more ...any) {
		t.Helper()
		if got := token(t, name); got != "" {
			t.Errorf("%s has to be proven still", name)
		}
		if op := b.await(b.call("paas.vhost.create", ask(name, more...)).(map[string]any)["id"]); op["step"] != "DONE" {
			t.Errorf("%s: got %v %v", name, op["step"], op["last_error"])
		}
		if got := b.call("paas.vhost.info", strings.ToLower(strings.TrimSuffix(name, "."))).(map[string]any)["state"]; got != "running" {
			t.Errorf("%s is %v", name, got)
		}
	}
	t.Run("a record at the name, as the document shows it", func(t *testing.T) {
		const name = "shop.example.org"
		unproven(t, name)
		n.publish(name, name+`. 10800 IN TXT "`+token(t, name)+`"`)
		served(t, name)
	})
	t.Run("one of many records, in pieces, and too long for a datagram", func(t *testing.T) {
		const name = "many.example.org"
		value := token(t, name)
		lines := []string{name + `. 60 IN TXT "v=spf1 -all"`, name + `. 60 IN TXT "` + value[:9] + `" "` + value[9:] + `"`}
		for range 4 {
			lines = append(lines, name+`. 60 IN TXT "`+strings.Repeat("x", 200)+`"`)
		}
		slices.Reverse(lines)
		n.publish(name, lines...)
		served(t, name)
	})
	t.Run("a record of the parent, also for a wildcard", func(t *testing.T) {
		unproven(t, "www.parent.example.org")
		n.publish("parent.example.org", `parent.example.org. 60 IN TXT "`+token(t, "www.parent.example.org")+`"`)
		served(t, "www.parent.example.org")
		unproven(t, "*.parent.example.org") // a token is of one name
		n.publish("parent.example.org", `parent.example.org. 60 IN TXT "`+token(t, "*.parent.example.org")+`"`)
		served(t, "*.parent.example.org")
	})
	t.Run("a record behind a CNAME is another's", func(t *testing.T) {
		const name = "alias.example.org"
		n.publish(name, name+`. 60 IN CNAME evil.example.net.`, `evil.example.net. 60 IN TXT "`+token(t, name)+`"`)
		unproven(t, name)
	})
	t.Run("another account's token", func(t *testing.T) {
		const name = "two.example.org"
		mine := token(t, name)
		key := b.key
		b.key = b.other
		theirs := structs(b.call("paas.create", spec("vhosts", []string{name}, "--dry-run", true)))[0]["attr"].([]any)[1].(string)
		b.key = key
		if theirs == mine {
			t.Fatal("two accounts have one token")
		}
		n.publish(name, name+`. 60 IN TXT "`+theirs+`"`)
		unproven(t, name)
		n.publish(name, name+`. 60 IN TXT "`+theirs+`"`, name+`. 60 IN TXT "`+mine+`"`)
		served(t, name)
		t.Run("takes the name over with override, and only then", func(t *testing.T) {
			b.key = b.other
			defer func() { b.key = key }()
			otherID, ops := b.create("name", "Bob's", "vhosts", []any{})
			for _, op := range ops {
				b.await(op["id"])
			}
			take := map[string]any{"paas_id": otherID, "vhost": name}
			b.faults(537641, "paas.vhost.create", take)
			take["override"] = true
			if op := b.await(b.call("paas.vhost.create", take).(map[string]any)["id"]); op["step"] != "DONE" {
				t.Errorf("got %v %v", op["step"], op["last_error"])
			}
			if got := b.call("paas.vhost.info", name).(map[string]any)["paas_id"]; got != otherID {
				t.Errorf("got the name at %v, want %v", got, otherID)
			}
			b.key = key
			b.faults(537642, "paas.vhost.info", name)
		})
	})
	t.Run("capitals and a final dot are the same name", func(t *testing.T) {
		value := token(t, "capital.example.org")
		n.publish("capital.example.org", `CAPITAL.example.org. 60 IN TXT "`+value+`"`)
		served(t, "CaPiTaL.Example.ORG.")
	})
	t.Run("paas.create: nothing while one name is missing, all of it afterwards", func(t *testing.T) {
		names := []string{"one.example.org", "three.example.org"}
		s := spec("name", "both", "vhosts", names, "--dry-run", true)
		items := structs(b.call("paas.create", s))
		if len(items) != 2 {
			t.Fatalf("got %v, want an item for each name", items)
		}
		publish := func(i int) {
			n.publish(names[i], names[i]+`. 60 IN TXT "`+items[i]["attr"].([]any)[1].(string)+`"`)
		}
		publish(0)
		if left := structs(b.call("paas.create", s)); len(left) != 1 || left[0]["attr"].([]any)[0] != names[1] {
			t.Errorf("got %v, want the other name alone", left)
		}
		before := b.call("paas.count")
		s["--dry-run"] = false
		b.faults(537650, "paas.create", s)
		if after := b.call("paas.count"); after != before {
			t.Error("an instance was created")
		}
		publish(1)
		if ops := structs(b.call("paas.create", s)); len(ops) != 3 {
			t.Errorf("got %v", ops)
		}
	})
	t.Run("a name server that says nothing proves nothing, in time", func(t *testing.T) {
		n.mu.Lock()
		n.silent = true
		n.mu.Unlock()
		start := time.Now()
		b.faults(537650, "paas.vhost.create", ask("silent.example.org"))
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
		n.mu.Lock()
		n.silent = false
		n.mu.Unlock()
		unproven(t, "silent.example.org")
		n.publish("silent.example.org", `silent.example.org. 60 IN TXT "`+token(t, "silent.example.org")+`"`)
		served(t, "silent.example.org")
	})
}
