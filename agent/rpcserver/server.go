package rpcserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// largeBody is the size in bytes above which a request takes one of largeBodies places while it is being read, so that
// unsigned requests cannot fill the memory.
const (
	largeBody   = 64 << 10
	largeBodies = 8
)

// Server answers RPC calls. It is an http.Handler too, for callers that bring their own listener.
type Server struct {
	opts     Options
	table    map[string]map[string]*entry
	changing map[string]bool // method names that change state in some namespace
	metrics  *metrics
	guard    *replayGuard
	large    chan struct{}
	usage    usage
	warnings *rate.Limiter // of log lines that anybody can cause

	stopping context.Context // ends when running methods must give up
	giveUp   context.CancelFunc
	calls    sync.WaitGroup

	ready chan struct{}
	addrs []net.Addr // set before ready is closed
}

// New builds a Server. It opens the journal below StateDir; one that cannot be opened is logged, and the memory of seen
// requests then starts empty under the rule for a restart without one.
func New(o Options) (*Server, error) {
	o = o.withDefaults()
	if o.Keys == nil || o.Table == nil {
		return nil, errors.New("rpcserver: Keys and Table are required")
	}
	if len(o.TLSListen) > 0 && o.TLS == nil {
		return nil, errors.New("rpcserver: TLSListen needs TLS")
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("rpcserver: %w", err)
	}
	s := &Server{
		opts:     o,
		table:    o.Table.entries(),
		changing: o.Table.stateChanging(),
		metrics:  m,
		large:    make(chan struct{}, largeBodies),
		warnings: rate.NewLimiter(10, 50),
		ready:    make(chan struct{}),
	}
	s.stopping, s.giveUp = context.WithCancel(context.Background())
	s.guard = newReplayGuard(o.MaxSeen, o.MaxClockSkew, s.openJournal(), o.Now())
	return s, nil
}

func (s *Server) openJournal() *journal {
	if s.opts.StateDir == "" {
		return nil
	}
	j, err := openJournal(s.opts.StateDir, s.opts.MaxSeen)
	if err != nil {
		s.opts.Log.Warn("seen requests are not kept over a restart", "err", err)
		return nil
	}
	return j
}

// Ready is closed once every listener is bound.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addrs are the bound addresses: those of Listen in order, then those of TLSListen. It is nil before Ready.
func (s *Server) Addrs() []net.Addr {
	select {
	case <-s.ready:
		return s.addrs
	default:
		return nil
	}
}

// Run listens and serves until ctx ends, then stops accepting, lets running calls finish for StopTimeout and cancels the
// rest. It may be called once. The error says which address could not be bound, or why a listener failed.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	listeners, err := s.listen(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:                      s,
		DisableGeneralOptionsHandler: true,
		ReadTimeout:                  s.opts.ReadTimeout,
		IdleTimeout:                  s.opts.IdleTimeout,
		MaxHeaderBytes:               s.opts.MaxHeader,
		ErrorLog:                     slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug),
		Protocols:                    new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, l := range listeners {
		s.addrs = append(s.addrs, l.Addr())
		serving.Go(func() { failed <- server.Serve(l) })
	}
	close(s.ready)
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.shutdown(server)
	serving.Wait()
	return err
}

func (s *Server) shutdown(server *http.Server) {
	patience, cancel := context.WithTimeout(context.Background(), s.opts.StopTimeout)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		s.opts.Log.Warn("calls did not end in time and are cancelled", "err", err)
		s.giveUp()
		s.waitForCalls(5 * time.Second)
		replies, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if server.Shutdown(replies) != nil { // a connection is idle once its reply is out
			server.Close()
		}
	}
}

// waitForCalls gives cancelled methods a moment to undo what they did.
func (s *Server) waitForCalls(patience time.Duration) {
	done := make(chan struct{})
	go func() { // ends with the last call, which the process outlives only if a method ignores its context
		s.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		s.opts.Log.Error("a method ignores its cancellation")
	}
}

// Close cancels running methods and closes the journal. Run calls it; only a Server used as an http.Handler needs it.
func (s *Server) Close() error {
	s.giveUp()
	if s.guard.journal != nil {
		return s.guard.journal.close()
	}
	return nil
}

func (s *Server) listen(ctx context.Context) (_ []net.Listener, err error) {
	var listeners []net.Listener
	defer func() {
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
		}
	}()
	g := &gate{allow: s.opts.AllowFrom, slots: make(chan struct{}, s.opts.MaxConnections), rejected: s.rejectedConn}
	bind := func(addr string, wrap func(net.Listener) net.Listener) error {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("rpc listener: %w", err)
		}
		listeners = append(listeners, wrap(gatedListener{l, g}))
		return nil
	}
	for _, addr := range s.opts.Listen {
		if err := bind(addr, func(l net.Listener) net.Listener { return l }); err != nil {
			return listeners, err
		}
	}
	for _, addr := range s.opts.TLSListen {
		config := s.opts.TLS.Clone()
		config.NextProtos = []string{"http/1.1"}
		if err := bind(addr, func(l net.Listener) net.Listener { return tls.NewListener(l, config) }); err != nil {
			return listeners, err
		}
	}
	if len(listeners) == 0 {
		return nil, errors.New("rpc listener: no address to listen on")
	}
	return listeners, nil
}

func (s *Server) rejectedConn(why reason, peer net.Addr) {
	s.metrics.rejected[why].Inc()
	if s.warnings.Allow() {
		s.opts.Log.Warn("rpc connection refused", "reason", string(why), "remote", peer.String())
	}
}
