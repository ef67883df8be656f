package nginx

import (
	"context"
	"slices"
	"strconv"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/web"
)

// EnableSSL serves a proxy over TLS too. Repeating the call changes nothing; another certificate replaces the present one.
// An unknown or empty hostname is no error and changes nothing.
//
// Result:  null
// Errors:  Exception (the port serves plain HTTP), ValueError (certificate), PopenError, InitdError
// Effects: proxies.include, certificate files; reloads nginx if something changed and ReloadService
// Source:  spec agent-web 3.9
func (s *Service) EnableSSL(ctx context.Context, p agentapi.EnableSSLParams) (handlers.Null, error) {
	port := 443
	if p.SSLPort != nil && *p.SSLPort != "" {
		var err error
		if port, err = p.SSLPort.Port(); err != nil {
			return handlers.Null{}, err
		}
	}
	return handlers.Null{}, s.editServer(ctx, p.Hostname, p.UpdateConf, p.ReloadService, func(ctx context.Context, c *host.Change, proxies *file, at int) error {
		server := proxies.items[at].n
		for _, other := range serversOf(proxies, p.Hostname) {
			if listensPlain(other.n, port) {
				return exception("port %d of %s serves plain HTTP", port, p.Hostname)
			}
		}
		files, err := web.StoreCertificate(ctx, s.host, c, s.certificates, s.privateDir, certificateID(p.SSLCertificateID))
		if err != nil {
			return err
		}
		out := &node{args: server.args, isBlock: true}
		placed := false
		place := func() {
			if !placed {
				out.block = append(out.block, tlsNodes(port, files.Cert, files.Key)...)
				placed = true
			}
		}
		for _, n := range server.block {
			if isTLS(n) {
				place()
				continue
			}
			if n.name() == "include" || n.name() == "location" {
				place()
			}
			out.block = append(out.block, n)
		}
		place()
		if changed := newItem(out); changed.raw != newItem(server).raw { // else what stands there, blank lines and all, says the same
			proxies.items[at] = changed
		}
		return nil
	})
}

// DisableSSL takes TLS from a proxy. One that then listens nowhere gets its redirector's port, else 80.
//
// Result:  null, also for a proxy without TLS and for an unknown hostname
// Errors:  PopenError, InitdError
// Effects: proxies.include; reloads nginx if something changed and ReloadService
// Source:  spec agent-web 3.9
func (s *Service) DisableSSL(ctx context.Context, p agentapi.DisableSSLParams) (handlers.Null, error) {
	return handlers.Null{}, s.editServer(ctx, p.Hostname, p.UpdateConf, p.ReloadService, func(_ context.Context, _ *host.Change, proxies *file, at int) error {
		server := proxies.items[at].n
		if !slices.ContainsFunc(server.block, isTLS) {
			return nil
		}
		out := &node{args: server.args, isBlock: true, block: slices.DeleteFunc(slices.Clone(server.block), isTLS)}
		if len(out.children("listen")) > 0 {
			proxies.items[at] = newItem(out)
			return nil
		}
		port := "80"
		redirectors := slices.DeleteFunc(serversOf(proxies, p.Hostname), func(it *item) bool { return !isRedirector(it.n) })
		for _, it := range redirectors {
			for _, l := range it.n.children("listen") {
				port = l.arg(1)
			}
		}
		name := slices.IndexFunc(out.block, func(n *node) bool { return n.name() == "server_name" })
		out.block = slices.Insert(out.block, name, dir("listen", port))
		proxies.items[at] = newItem(out)
		proxies.replace(func(it *item) bool { return slices.Contains(redirectors, it) }, nil)
		return nil
	})
}

// editServer changes the first server of a host name that is no redirector. Nothing happens, not even a reload, when there
// is none or edit changes no byte.
func (s *Service) editServer(ctx context.Context, hostname string, update, reload *agentapi.Bool,
	edit func(ctx context.Context, c *host.Change, proxies *file, at int) error) error {
	if hostname == "" {
		return nil
	}
	if err := web.CheckHostname(hostname); err != nil {
		return err
	}
	return s.change(ctx, reload.Or(true), func(ctx context.Context, c *host.Change, st *state) (*file, *file, error) {
		proxies := st.proxies.clone()
		at := slices.IndexFunc(proxies.items, func(it *item) bool {
			return it.n.name() == "server" && hasName(it.n, hostname) && !isRedirector(it.n)
		})
		if at < 0 {
			return nil, nil, nil
		}
		if err := edit(ctx, c, proxies, at); err != nil {
			return nil, nil, err
		}
		if !update.Or(true) || proxies.text() == st.proxies.text() {
			return nil, nil, nil
		}
		return st.upstreams, proxies, nil
	})
}

// isTLS says that a directive belongs to TLS: a listener with ssl, or a certificate file.
func isTLS(n *node) bool {
	switch n.name() {
	case "ssl_certificate", "ssl_certificate_key":
		return true
	case "listen":
		return slices.Contains(n.args, "ssl")
	}
	return false
}

func listensPlain(server *node, port int) bool {
	return slices.ContainsFunc(server.children("listen"), func(l *node) bool {
		addr, own := splitAddress(l.arg(1))
		return !slices.Contains(l.args, "ssl") && (own == port || addr == strconv.Itoa(port))
	})
}
