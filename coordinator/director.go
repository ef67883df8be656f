package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/api/director"
	"github.com/reeve-paas/reeve/coordinator/auth"
	"github.com/reeve-paas/reeve/crypto/authority"
)

// directorServer is the ConPaaS Director's listener and those of the managers of its services.
type directorServer struct {
	server   *api.Server
	managers *director.Managers
}

// newDirector binds the Director's address. It is nil when there shall be none, and when the address is somebody else's:
// the other APIs serve on.
func (c *coordinator) newDirector(registry prometheus.Registerer) (*directorServer, error) {
	if c.cfg.DirectorListen == "" {
		return nil, nil
	}
	ca, err := authority.Open(c.cfg.DataDir, authority.Director, c.sealer, nil)
	if err != nil {
		return nil, err
	}
	certificates := auth.NewCertificates(c.auth, ca)
	handler := func(mount api.Mount) (http.Handler, error) {
		return api.NewHandler(api.HandlerOptions{Log: c.log, Registry: registry}, mount)
	}
	d := &directorServer{}
	d.managers, err = director.NewManagers(director.ManagersOptions{Core: c.core, Certificates: certificates, Log: c.log, Handler: handler})
	if err != nil {
		return nil, err
	}
	boot := &bootstrap{path: filepath.Join(c.cfg.DataDir, "ConPaaS.tar.gz"), pack: func() string { return agentPackage(c.cfg) }, signer: ca,
		listener: func() []byte {
			if c.ca == nil {
				return nil // TLS is not spoken but here
			}
			return c.ca.Certificate()
		}}
	dialect := director.New(director.Options{Core: c.core, Auth: c.auth, Certificates: certificates, Log: c.log, MaxCredit: c.cfg.DirectorMaxCredit,
		Closed: c.cfg.DirectorClosed, Changed: d.managers.Changed, Bootstrap: boot.open})
	o := api.ServerOptions{Log: c.log, TLSAddr: c.cfg.DirectorListen, OneRequest: true}
	if o.Handler, err = handler(dialect.Mount()); err != nil {
		return nil, err
	}
	if o.TLS, err = certificates.DirectorConfig(directorNames(c.cfg)...); err != nil {
		return nil, err
	}
	if d.server, err = api.NewServer(o); err != nil {
		return nil, err
	}
	if err := d.server.Listen(); err != nil {
		c.log.Error("the ConPaaS Director does not listen; set director_listen to another address, or to none", "err", err)
		return nil, nil
	}
	return d, nil
}

// directorNames are what the Director is known under; the first is the common name of its certificate.
func directorNames(cfg Config) []string {
	names := append([]string{}, cfg.ServerNames...)
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	return append(names, ownNames()...)
}

// Run serves until ctx ends.
func (d *directorServer) Run(ctx context.Context) error {
	if d == nil {
		<-ctx.Done()
		return nil
	}
	return runAll(ctx, d.server.Run, d.managers.Run)
}

// Close frees the address when Run is not going to be called.
func (d *directorServer) Close() {
	if d != nil {
		d.server.Close()
	}
}

// uptime is the kernel's count of this boot's time, which goes on while the machine sleeps and which nobody can set.
func uptime() (boot string, up time.Duration) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return "", 0
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", 0
	}
	return strings.TrimSpace(string(id)), time.Duration(t.Nano())
}
