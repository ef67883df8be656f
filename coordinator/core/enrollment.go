package core

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// MaxEnrollmentTTL is how long a token may wait for its machine.
const MaxEnrollmentTTL = 24 * time.Hour

// enrollAnswer is how long the agent of a machine that is being enrolled may take to answer for the first time.
const enrollAnswer = 2 * time.Minute

// adopter is a cloud that takes in machines whose administrators enrolled them (CloudInfo.Permanent).
type adopter interface {
	Cloud
	// Adopt writes down that the machine at an address is the node of spec. Idempotent by spec.Key.
	Adopt(ctx context.Context, spec NodeSpec, address string) (CloudNode, error)
}

// NewEnrollment makes a token that lets one machine into a cloud of existing machines, once.
//
// Errors: not_found (cloud), unsupported (a cloud that makes its machines), invalid (name, ttl), exists (name), unauthenticated
func (c *Core) NewEnrollment(ctx context.Context, p Principal, cloudName, name string, ttl time.Duration) (Secret, error) {
	token := "enroll-" + strings.ToLower(rand.Text())
	err := c.newEnrollment(ctx, p, cloudName, name, ttl, token)
	if err != nil {
		c.refused(ctx, p, "enrollment.create", "", err)
		return "", err
	}
	return Secret(token), nil
}

func (c *Core) newEnrollment(ctx context.Context, p Principal, cloudName, name string, ttl time.Duration, token string) error {
	if err := known(p); err != nil {
		return err
	}
	if _, err := c.adopterFor(ctx, p, cloudName); err != nil {
		return err
	}
	cloudName = c.Clouds.Canonical(cloudName)
	switch {
	case !goodNodeName(name):
		return errNodeName
	case ttl <= 0 || ttl > MaxEnrollmentTTL:
		return Errorf(Invalid, ObjEnrollment, "a token lives for more than nothing and at most %s", MaxEnrollmentTTL)
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		if err := nodeNameFree(tx, cloudName, name); err != nil {
			return err
		}
		e := Enrollment{Hash: sha256.Sum256([]byte(token)), Cloud: cloudName, Name: name, AccountID: p.Account.ID, CreatedAt: c.now(), ExpiresAt: c.now().Add(ttl)}
		if err := tx.PutEnrollment(e); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "enrollment.create", cloudName+"/"+name, "", "accepted"))
	})
}

func (c *Core) adopterFor(ctx context.Context, p Principal, cloudName string) (adopter, error) {
	cloud, err := c.CloudFor(ctx, p, cloudName)
	if err != nil {
		return nil, err
	}
	a, ok := cloud.(adopter)
	if !ok {
		return nil, Errorf(Unsupported, ObjCloud, "the cloud %q makes its machines itself; only a cloud of engine static takes in others", cloudName)
	}
	return a, nil
}

func nodeNameFree(r Reader, cloudName, name string) error {
	taken, err := r.Nodes(NodeFilter{Cloud: cloudName})
	if err == nil && slices.ContainsFunc(taken, func(n Node) bool { return n.Name == name }) {
		err = Errorf(Exists, ObjNode, "a node of this name exists")
	}
	return err
}

// Redeem exchanges a token for the identity of a node: its id, its name and the key of its agent. The token is spent even
// when the answer is lost. An operation then waits for the agent at address; when that does not answer, the node is
// forgotten.
//
// Errors: unauthenticated (no such token: unknown, spent, expired), invalid (address), exists (name)
func (c *Core) Redeem(ctx context.Context, p Principal, token, address string) (Node, error) {
	var node Node
	hash := sha256.Sum256([]byte(token))
	err := c.Store.Update(ctx, func(tx Tx) error {
		e, err := tx.Enrollment(hash)
		if isNotFound(err) || err == nil && !c.now().Before(e.ExpiresAt) {
			return Errorf(Unauthenticated, ObjEnrollment, "the token is not valid: it was used, or has expired")
		}
		if err != nil {
			return err
		}
		if address == "" || strings.ContainsAny(address, "/ \n") {
			return Errorf(Invalid, ObjNode, "the machine's address is not one")
		}
		if err := nodeNameFree(tx, e.Cloud, e.Name); err != nil {
			return err
		}
		node = c.newNode(e.AccountID, e.Cloud, "", "", RoleApp)
		node.Name, node.Address, node.State = e.Name, address, NodeEnrolling
		if err := tx.PutNode(&node); err != nil {
			return err
		}
		p.Account.ID = e.AccountID
		if err := c.enqueueNode(tx, p, "node.enroll", OpNodeEnroll, nodeParams{NodeID: node.ID, NodeNum: node.Num}); err != nil {
			return err
		}
		return tx.DeleteEnrollment(hash)
	})
	if err != nil {
		c.refused(ctx, p, "node.enroll", "", err)
	}
	return node, err
}

// adoptNode enters the machine of a redeemed token into its cloud.
func (c *Core) adoptNode(ctx context.Context, run *operation.Run) error {
	n, cloud, err := c.nodeOf(ctx, run)
	if err != nil {
		return err
	}
	a, ok := cloud.(adopter)
	if !ok {
		return Errorf(Unsupported, ObjCloud, "the cloud %q does not take in machines any more", n.Cloud)
	}
	created, err := a.Adopt(ctx, NodeSpec{Key: n.Key, Name: n.Name}, n.Address)
	if err != nil {
		return cloudFailure(err, Internal, ObjNode, "take in the machine")
	}
	_, err = c.updateNode(ctx, n.ID, func(n *Node) { n.CloudID = created.ID })
	return err
}

// poolNode enters the node of a finished enrolment into the pool.
func (c *Core) poolNode(ctx context.Context, run *operation.Run) error {
	n, _, err := c.nodeOf(ctx, run)
	if err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error {
		return allocate(tx, Allocation{Cloud: n.Cloud, Hostname: n.Name, NodeID: n.CloudID})
	})
}

// EnrollNode enrols a machine while the caller waits: create is the cloud's way of doing it, under the key of the spec that
// it is given. The node is there and in the pool when its agent has answered a sealed call; a failure leaves nothing. A
// node of this name that is enrolled already, and answers, is returned as it is.
//
// Errors: invalid (name), exists (a node of this name that does not answer), unavailable (the agent does not answer), those of create
func (c *Core) EnrollNode(ctx context.Context, p Principal, cloudName, name string, create func(context.Context, NodeSpec) (CloudNode, error)) (Node, error) {
	n, err := c.enrollNode(ctx, p, cloudName, name, create)
	if err != nil {
		c.refused(ctx, p, "node.enroll", "", err)
	}
	return n, err
}

func (c *Core) enrollNode(ctx context.Context, p Principal, cloudName, name string, create func(context.Context, NodeSpec) (CloudNode, error)) (Node, error) {
	cloud, err := c.CloudFor(ctx, p, cloudName)
	if err != nil {
		return Node{}, err
	}
	cloudName = c.Clouds.Canonical(cloudName)
	if !goodNodeName(name) {
		return Node{}, errNodeName
	}
	same, err := view(ctx, c.Store, func(r Reader) ([]Node, error) { return r.Nodes(NodeFilter{Cloud: cloudName}) })
	if err != nil {
		return Node{}, err
	}
	if i := slices.IndexFunc(same, func(n Node) bool { return n.Name == name }); i >= 0 {
		agent, err := c.Agents.Agent(same[i])
		if err == nil {
			_, err = agent.Hostname(ctx)
		}
		if err != nil {
			return Node{}, Wrap(Exists, ObjNode, err, "a node of this name exists and does not answer")
		}
		return same[i], nil
	}
	n := c.newNode(p.Account.ID, cloudName, "", "", RoleApp)
	n.Name = name
	// A try that was killed left its key on the machine: what the cloud has under our name is taken over.
	if all, err := cloud.Nodes(ctx); err == nil {
		for _, cn := range all {
			if cn.Name == name && cn.Key != "" {
				n.Key = cn.Key
			}
		}
	}
	created, err := create(ctx, NodeSpec{Key: n.Key, Name: name, SSHKeys: c.SSHKeys, Files: c.bootstrap(n)})
	if err == nil {
		n.CloudID, n.Address, n.State = created.ID, address(created), NodeRunning
		err = c.firstAnswer(ctx, n)
	}
	if err == nil {
		n.SeenAt = c.now()
		err = c.Store.Update(ctx, func(tx Tx) error {
			n.Num = 0
			if err := nodeNameFree(tx, cloudName, name); err != nil {
				return err
			}
			if err := tx.PutNode(&n); err != nil {
				return err
			}
			if err := allocate(tx, Allocation{Cloud: cloudName, Hostname: name, NodeID: n.CloudID}); err != nil {
				return err
			}
			return tx.Audit(c.auditRecord(p, "node.enroll", string(n.ID), "", "accepted"))
		})
	}
	if err != nil {
		return n, c.unenroll(ctx, cloud, n.Key, err)
	}
	return n, nil
}

// unenroll takes back what a failed enrolment left, and says so when that fails too.
func (c *Core) unenroll(ctx context.Context, cloud Cloud, key string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	all, err := cloud.Nodes(ctx)
	for _, n := range all {
		if n.Key == key {
			err = cloud.DestroyNode(ctx, n.ID)
		}
	}
	if err != nil {
		return Wrap(KindOf(cause), ObjNode, cause, "the machine could not be left as it was (%s); try again", PublicError("", err))
	}
	return cause
}

// firstAnswer waits until an agent that was just started answers.
func (c *Core) firstAnswer(ctx context.Context, n Node) error {
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, enrollAnswer)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		call, done := context.WithTimeout(ctx, 3*time.Second)
		_, err := agent.Hostname(call)
		done()
		if err == nil || KindOf(err) != Unavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return Wrap(Unavailable, ObjNode, err, "the agent was started, and does not answer at %s; is its port 8010 open for us?", n.Address)
		case <-tick.C:
		}
	}
}

// AdoptAgent takes in a machine whose agent runs already, if that answers a call sealed with the key.
//
// Errors: those of EnrollNode, invalid (the address)
func (c *Core) AdoptAgent(ctx context.Context, p Principal, cloudName, name, addr string, key []byte) (Node, error) {
	n, err := c.adoptAgent(ctx, p, cloudName, name, addr, key)
	if err != nil {
		c.refused(ctx, p, "node.enroll", "", err)
	}
	return n, err
}

func (c *Core) adoptAgent(ctx context.Context, p Principal, cloudName, name, addr string, key []byte) (Node, error) {
	cloud, err := c.adopterFor(ctx, p, cloudName)
	if err != nil {
		return Node{}, err
	}
	cloudName = c.Clouds.Canonical(cloudName)
	if !goodNodeName(name) {
		return Node{}, errNodeName
	}
	n := c.newNode(p.Account.ID, cloudName, "", "", RoleApp)
	n.Name, n.Address, n.AgentKey, n.State, n.SeenAt = name, addr, key, NodeRunning, c.now()
	agent, err := c.Agents.Agent(n)
	if err != nil {
		return n, err
	}
	call, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := agent.Hostname(call); err != nil {
		return n, Wrap(KindOf(err), ObjNode, err, "the agent at %s does not answer with this key", addr)
	}
	created, err := cloud.Adopt(ctx, NodeSpec{Key: n.Key, Name: name}, addr)
	if err != nil {
		return n, err
	}
	n.CloudID = created.ID
	err = c.Store.Update(ctx, func(tx Tx) error {
		n.Num = 0
		if err := nodeNameFree(tx, cloudName, name); err != nil {
			return err
		}
		if err := tx.PutNode(&n); err != nil {
			return err
		}
		if err := allocate(tx, Allocation{Cloud: cloudName, Hostname: name, NodeID: n.CloudID}); err != nil {
			return err
		}
		return tx.Audit(c.auditRecord(p, "node.enroll", string(n.ID), "", "accepted"))
	})
	if err != nil {
		return n, c.unenroll(ctx, cloud, n.Key, err)
	}
	return n, nil
}

// ForgetNode drops what is stored of a node of a cloud of existing machines, without touching the machine. The caller
// lets the cloud forget it too.
//
// Errors: not_found, unsupported (a cloud that makes its machines), busy (an operation works on it), forbidden
func (c *Core) ForgetNode(ctx context.Context, p Principal, cloudName, name string) (Node, error) {
	var n Node
	_, err := c.adopterFor(ctx, p, cloudName)
	if err == nil {
		cloudName = c.Clouds.Canonical(cloudName)
		err = c.Store.Update(ctx, func(tx Tx) error {
			all, err := tx.Nodes(NodeFilter{Cloud: cloudName})
			if err != nil {
				return err
			}
			i := slices.IndexFunc(all, func(n Node) bool { return n.Name == name })
			if i < 0 {
				return Errorf(NotFound, ObjNode, "there is no node %q in cloud %q", name, cloudName)
			}
			n = all[i]
			if err := mayUse(p, n); err != nil {
				return err
			}
			busy, err := tx.Operations(OperationFilter{Subject: string(n.ID), Unfinished: true})
			if err == nil && len(busy) > 0 {
				err = Errorf(Busy, ObjNode, "operation %s works on the node; try again when it has ended", busy[0].Kind)
			}
			if err != nil {
				return err
			}
			if err := forgetNode(tx, n); err != nil {
				return err
			}
			return tx.Audit(c.auditRecord(p, "node.forget", string(n.ID), "", "accepted"))
		})
	}
	if err != nil {
		c.refused(ctx, p, "node.forget", "", err)
	}
	return n, err
}

// forgetNode deletes a node and its place in the pool.
func forgetNode(tx Tx, n Node) error {
	rows, err := tx.Allocations(n.Cloud)
	if err != nil {
		return err
	}
	for _, a := range rows {
		if a.NodeID == n.CloudID && n.CloudID != "" {
			if err := tx.DeleteAllocation(a.Num); err != nil {
				return err
			}
		}
	}
	return tx.DeleteNode(n.ID)
}
