package apachetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// Coordinator knows certificates and the sites of one host. It is what the handler asks, or what an agent's questions are
// answered from.
type Coordinator struct {
	mu    sync.Mutex // protects the fields below
	pairs map[string][3][]byte
	held  map[string]chan struct{}
	asked []string
	sites []agentapi.VHost
}

// Give adds a certificate.
func (c *Coordinator) Give(id string, cert, key, chain []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pairs == nil {
		c.pairs = map[string][3][]byte{}
	}
	c.pairs[id] = [3][]byte{cert, key, chain}
}

// SetSites sets the list of the host's sites.
func (c *Coordinator) SetSites(sites ...agentapi.VHost) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sites = sites
}

// Asked are the ids of the certificates that were asked for so far, and forgets them.
func (c *Coordinator) Asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.asked
	c.asked = nil
	return asked
}

// holdTimeout ends a wait that nobody releases because a call that should have been refused waits too.
const holdTimeout = 10 * time.Second

// hold lets the answer for a certificate wait until release is called.
func (c *Coordinator) hold(t testing.TB, id string) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := make(chan struct{})
	c.held = map[string]chan struct{}{id: wait}
	release = sync.OnceFunc(func() { close(wait) })
	t.Cleanup(release)
	return release
}

// Certificate implements web.Certificates.
func (c *Coordinator) Certificate(ctx context.Context, id string) (cert, key, chain []byte, err error) {
	c.mu.Lock()
	c.asked = append(c.asked, id)
	p, wait := c.pairs[id], c.held[id]
	c.mu.Unlock()
	if wait != nil {
		ctx, cancel := context.WithTimeout(ctx, holdTimeout)
		defer cancel()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, nil, nil, fmt.Errorf("wait for certificate %s: %w", id, ctx.Err())
		}
	}
	return p[0], p[1], p[2], nil
}

// VHosts implements apache.Sites.
func (c *Coordinator) VHosts(context.Context) ([]agentapi.VHost, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]agentapi.VHost{}, c.sites...), nil
}
