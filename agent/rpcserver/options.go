package rpcserver

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reeve-paas/reeve/crypto/envelope"
)

// Keys is where the server finds its key for each request.
type Keys interface {
	Get() (envelope.Key, error)
}

// Options configure a Server. Keys and Table are required.
type Options struct {
	Keys  Keys
	Table Table

	Listen    []string    // addresses of the plain listeners, host:port; port 0 picks a free one
	TLSListen []string    // addresses with TLS around the same envelope
	TLS       *tls.Config // for TLSListen: certificates, and client CAs when peers must show theirs

	AllowFrom []netip.Prefix // source networks; empty means everyone

	MaxClockSkew time.Duration // either way; 0 means 300 s, negative means dates are not compared with the clock
	StateDir     string        // keeps the memory of seen requests; "" means memory only
	MaxSeen      int           // remembered requests; 0 means 100,000, the oldest goes first

	MaxBody        int64         // bytes; 0 means 8 MiB
	MaxHeader      int           // bytes; 0 means 16 KiB
	MaxDepth       int           // nesting of a request's JSON; 0 means 64
	MaxConnections int           // open at once over all listeners; 0 means 256
	ReadTimeout    time.Duration // for a whole request to arrive; 0 means 30 s
	WriteTimeout   time.Duration // for a reply to be taken; 0 means 30 s
	IdleTimeout    time.Duration // between requests of one connection; 0 means 2 min
	StopTimeout    time.Duration // for running methods at shutdown; 0 means 20 s

	Log     *slog.Logger          // nil means discard
	Metrics prometheus.Registerer // nil means not exported
	Now     func() time.Time      // nil means time.Now
}

func (o Options) withDefaults() Options {
	defaultTo(&o.MaxClockSkew, 300*time.Second)
	defaultTo(&o.MaxSeen, 100_000)
	defaultTo(&o.MaxBody, 8<<20)
	defaultTo(&o.MaxHeader, 16<<10)
	defaultTo(&o.MaxDepth, 64)
	defaultTo(&o.MaxConnections, 256)
	defaultTo(&o.ReadTimeout, 30*time.Second)
	defaultTo(&o.WriteTimeout, 30*time.Second)
	defaultTo(&o.IdleTimeout, 2*time.Minute)
	defaultTo(&o.StopTimeout, 20*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func defaultTo[T comparable](value *T, def T) {
	var zero T
	if *value == zero {
		*value = def
	}
}
