package nginxtest

import (
	"context"
	"sync"

	"github.com/reeve-paas/reeve/handlers/web"
)

// Location is where the host is, as the coordinator names it.
const Location = "here"

// Coordinator knows certificates and the servers of roles. It is what the handler asks, or what an agent's questions are
// answered from.
type Coordinator struct {
	mu    sync.Mutex // protects the fields below
	pairs map[string][3][]byte
	roles map[string][]web.RoleServer
}

// NewCoordinator knows nothing yet.
func NewCoordinator() *Coordinator {
	return &Coordinator{pairs: map[string][3][]byte{}, roles: map[string][]web.RoleServer{}}
}

// Give adds a certificate.
func (c *Coordinator) Give(id string, cert, key, chain []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pairs[id] = [3][]byte{cert, key, chain}
}

// SetRole sets the servers of a role.
func (c *Coordinator) SetRole(id string, servers ...web.RoleServer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roles[id] = servers
}

// Certificate implements web.Certificates.
func (c *Coordinator) Certificate(_ context.Context, id string) (cert, key, chain []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pairs[id]
	return p[0], p[1], p[2], nil
}

// Servers implements web.Roles.
func (c *Coordinator) Servers(_ context.Context, id string) ([]web.RoleServer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.roles[id], nil
}
