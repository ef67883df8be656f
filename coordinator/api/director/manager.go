package director

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// ManagersOptions configure Managers. Core and Certificates are needed.
type ManagersOptions struct {
	Core         Core
	Certificates Certificates
	Log          *slog.Logger                          // nil: nothing is logged
	Port         int                                   // 0 means 443, the only one clients know
	Handler      func(api.Mount) (http.Handler, error) // puts the plumbing around the managers
}

// Managers answers for the managers of services, each at the address of its service, with a certificate of its own. What is
// not there yet cannot be connected to, which clients try again; what is there can answer.
type Managers struct {
	o       ManagersOptions
	log     *slog.Logger
	handler http.Handler
	wake    chan chan struct{}

	mu      sync.Mutex // protects the fields below
	running map[string]*running
	failed  map[string]bool // addresses that could not be bound, and were complained of
	seen    int64           // version of what is stored that was followed, -1: none
}

// running is one manager's listener.
type running struct {
	manager core.Manager
	stop    context.CancelFunc
}

// NewManagers builds Managers.
func NewManagers(o ManagersOptions) (*Managers, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Port = cmp.Or(o.Port, 443)
	m := &Managers{o: o, log: o.Log.With("dialect", "manager"), running: map[string]*running{}, failed: map[string]bool{}, wake: make(chan chan struct{}), seen: -1}
	var err error
	m.handler, err = o.Handler(m.Mount())
	return m, err
}

// Mount is how the managers go into a handler.
func (m *Managers) Mount() api.Mount {
	return api.Mount{Name: "manager", Prefixes: []string{"/"}, Dialect: m, Fail: Fail, MaxBody: maxUpload}
}

// Register adds the managers to a mux.
func (m *Managers) Register(mux *http.ServeMux) { mux.Handle("/", m) }

// Changed lets listeners follow the services at once, while Run runs, and waits for it.
func (m *Managers) Changed(ctx context.Context) {
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case m.wake <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Run keeps a listener for every service that has an address, until ctx ends.
func (m *Managers) Run(ctx context.Context) error {
	var servers sync.WaitGroup
	defer servers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		m.follow(ctx, &servers)
		var done chan struct{}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case done = <-m.wake:
			m.follow(ctx, &servers)
			close(done)
		}
	}
}

// follow opens and closes listeners.
func (m *Managers) follow(ctx context.Context, servers *sync.WaitGroup) {
	version, known := m.o.Core.Version(ctx) // before what it is the version of
	m.mu.Lock()
	same := known && version == m.seen && len(m.failed) == 0
	m.mu.Unlock()
	if same {
		return
	}
	all, err := m.o.Core.Managers(ctx)
	if err != nil {
		if ctx.Err() == nil {
			m.log.Warn("services could not be listed", "err", err)
		}
		return
	}
	wanted := map[string]core.Manager{}
	for _, one := range all {
		wanted[one.Service.Address] = one
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = version
	for address, r := range m.running {
		if w, ok := wanted[address]; !ok || w.Service.AppID != r.manager.Service.AppID {
			r.stop()
			delete(m.running, address)
		}
	}
	for address := range m.failed {
		if _, ok := wanted[address]; !ok {
			delete(m.failed, address)
		}
	}
	for address, one := range wanted {
		if r := m.running[address]; r != nil {
			r.manager = one
			continue
		}
		r, err := m.open(ctx, one, servers)
		if err != nil {
			if !m.failed[address] {
				m.log.Warn("a manager cannot be answered for", "address", address, "service", one.Service.App.Num, "err", err)
			}
			m.failed[address] = true
			continue
		}
		delete(m.failed, address)
		m.running[address] = r
	}
}

func (m *Managers) open(ctx context.Context, one core.Manager, servers *sync.WaitGroup) (*running, error) {
	conf, err := m.o.Certificates.ManagerConfig(one.Owner, one.Service.App.Num, one.Service.Address)
	if err != nil {
		return nil, err
	}
	server, err := api.NewServer(api.ServerOptions{Handler: m.handler, Log: slog.New(slog.DiscardHandler), TLS: conf, OneRequest: true,
		TLSAddr: net.JoinHostPort(one.Service.Address, strconv.Itoa(m.o.Port)), StopTimeout: 2 * time.Second})
	if err != nil {
		return nil, err
	}
	if err := server.Listen(); err != nil {
		return nil, err
	}
	serve, stop := context.WithCancel(ctx)
	servers.Go(func() {
		if err := server.Run(serve); err != nil && serve.Err() == nil {
			m.log.Warn("a manager is not answered for any more", "address", one.Service.Address, "err", err)
		}
	})
	return &running{manager: one, stop: stop}, nil
}
