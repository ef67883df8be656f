package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ServerOptions say where and how to listen.
type ServerOptions struct {
	Handler http.Handler // from NewHandler
	Log     *slog.Logger // nil: slog.Default

	// TLSAddr is where TLS is spoken, e.g. ":8443"; "" means nowhere. TLS must then hold a certificate.
	TLSAddr string
	TLS     *tls.Config

	// PlainAddr serves the same routes without TLS, e.g. "127.0.0.1:8080"; "" means nowhere. Anything but a loopback
	// address is refused unless AllowPlain is set.
	PlainAddr  string
	AllowPlain bool

	// OneRequest is for clients that read an answer to the end of the stream: HTTP/1 only, and every answer closes its
	// connection.
	OneRequest bool

	HeaderTimeout time.Duration // to read a request's header; 0 means 10 s
	ReadTimeout   time.Duration // to read a whole request; 0 means 5 min, because releases are uploaded
	WriteStall    time.Duration // for a client to take the next bytes of an answer; 0 means 60 s. Streams may pause longer
	IdleTimeout   time.Duration // between requests of a connection; 0 means 2 min
	StopTimeout   time.Duration // for requests to finish when asked to stop; 0 means 10 s
}

// Server listens and serves.
type Server struct {
	o         ServerOptions
	log       *slog.Logger
	listeners []net.Listener
	tlsAddr   net.Addr
	plainAddr net.Addr
}

// NewServer checks the options.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Handler == nil {
		return nil, errors.New("api server: no handler")
	}
	if o.TLSAddr == "" && o.PlainAddr == "" {
		return nil, errors.New("api server: no address to listen on")
	}
	if o.TLSAddr != "" && (o.TLS == nil || len(o.TLS.Certificates) == 0 && o.TLS.GetCertificate == nil && o.TLS.GetConfigForClient == nil) {
		return nil, fmt.Errorf("api server: no certificate for %s", o.TLSAddr)
	}
	if o.PlainAddr != "" && !o.AllowPlain && !loopback(o.PlainAddr) {
		return nil, fmt.Errorf("api server: %s is not a loopback address; plain HTTP elsewhere has to be allowed explicitly", o.PlainAddr)
	}
	s := &Server{o: o, log: o.Log}
	if s.log == nil {
		s.log = slog.Default()
	}
	return s, nil
}

// loopback says that the address names this machine only.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Listen binds the addresses, so that TLSAddr and PlainAddr are known before Run. Run does it when nobody did.
func (s *Server) Listen() error {
	if len(s.listeners) > 0 {
		return nil
	}
	if s.o.TLSAddr != "" {
		l, err := net.Listen("tcp", s.o.TLSAddr)
		if err != nil {
			return fmt.Errorf("listen for HTTPS: %w", err)
		}
		s.tlsAddr = l.Addr()
		s.listeners = append(s.listeners, tls.NewListener(s.stalling(l), s.protocols(s.o.TLS)))
	}
	if s.o.PlainAddr != "" {
		l, err := net.Listen("tcp", s.o.PlainAddr)
		if err != nil {
			s.Close()
			return fmt.Errorf("listen for HTTP: %w", err)
		}
		s.plainAddr = l.Addr()
		s.listeners = append(s.listeners, s.stalling(l))
	}
	s.log.Info("listening", "tls", addrText(s.tlsAddr), "plain", addrText(s.plainAddr))
	return nil
}

func (s *Server) stalling(l net.Listener) net.Listener {
	return stallListener{l, orDuration(s.o.WriteStall, time.Minute)}
}

// stallListener gives up on clients that do not take what they asked for. A timeout for whole answers, which net/http
// has, would cut off streams.
type stallListener struct {
	net.Listener
	limit time.Duration
}

func (l stallListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stallConn{Conn: conn, limit: l.limit}, nil
}

type stallConn struct {
	net.Conn
	limit time.Duration
	since atomic.Int64 // when the deadline was last moved, in nanoseconds of Unix time
}

// Write moves the deadline when an eighth of the limit is used up: doing so for each of many short replies costs a twentieth of
// them.
func (c *stallConn) Write(p []byte) (int, error) {
	now := time.Now()
	if now.UnixNano()-c.since.Load() > int64(c.limit/8) {
		if err := c.SetWriteDeadline(now.Add(c.limit)); err != nil {
			return 0, err
		}
		c.since.Store(now.UnixNano())
	}
	return c.Conn.Write(p)
}

func (s *Server) protocols(c *tls.Config) *tls.Config {
	c = c.Clone()
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	protocols := []string{"h2", "http/1.1", "http/1.0"} // a client that offers none of them is refused
	if s.o.OneRequest {
		protocols = protocols[1:]
	}
	for _, p := range protocols {
		if !slices.Contains(c.NextProtos, p) {
			c.NextProtos = append(c.NextProtos, p)
		}
	}
	return c
}

func addrText(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// TLSAddr is the bound TLS address, nil before Listen or without one.
func (s *Server) TLSAddr() net.Addr { return s.tlsAddr }

// PlainAddr is the bound plain address, nil before Listen or without one.
func (s *Server) PlainAddr() net.Addr { return s.plainAddr }

// Close frees addresses that Listen bound when Run is not going to be called.
func (s *Server) Close() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.listeners = nil
}

// Run serves until ctx is done, then stops accepting, lets requests finish for StopTimeout and cancels the rest. It
// returns nil when it was asked to stop, and leaves no goroutine behind.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	base, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	srv := &http.Server{
		Handler:           s.o.Handler,
		ReadHeaderTimeout: orDuration(s.o.HeaderTimeout, 10*time.Second),
		ReadTimeout:       orDuration(s.o.ReadTimeout, 5*time.Minute),
		IdleTimeout:       orDuration(s.o.IdleTimeout, 2*time.Minute),
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // handshakes of port scanners
		TLSConfig:         s.o.TLS,                                             // makes net/http speak HTTP/2 on the TLS listener
	}
	if srv.TLSConfig != nil {
		srv.TLSConfig = s.protocols(srv.TLSConfig)
	}
	if s.o.OneRequest {
		srv.SetKeepAlivesEnabled(false)
		srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // not nil: no HTTP/2
	}

	serveCtx, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	var wg sync.WaitGroup
	for _, l := range s.listeners {
		wg.Go(func() {
			if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed(fmt.Errorf("serve %s: %w", l.Addr(), err))
			}
		})
	}
	<-serveCtx.Done()

	stopCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), orDuration(s.o.StopTimeout, 10*time.Second))
	defer stop()
	if err := srv.Shutdown(stopCtx); err != nil {
		s.log.Warn("requests cut off at shutdown", "err", err)
		cancelRequests()
		_ = srv.Close()
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(serveCtx)
}

func orDuration(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
