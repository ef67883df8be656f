package core

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/coordinator/operation"
)

// handoverLimit is how long a caller waits for a node to be set up or cleaned; it goes on in the background.
const handoverLimit = 4 * time.Minute

// AssignNode gives a free node of the pool to a user for a kind of application: on clouds whose nodes run our agent the
// application's platform is set up on the node and the user gets a login there; it returns when that is done. A failure
// leaves the node free.
//
// The user is the name of an account (e-mail or handle), whose SSH keys are let in, or any other name, which gets the key
// that the node was started with. vmType is a platform or an app type: see ApplicationTypes.
//
// Errors: not_found (allocation), busy (assigned already), forbidden (another account's node), unauthenticated, invalid
// (user, vmType, or the node refuses; the reason is in the text), unavailable
// Effects: an operation
func (c *Core) AssignNode(ctx context.Context, p Principal, cloudName, nodeID, hostname, user, vmType string) (Allocation, error) {
	a, err := c.assignNode(ctx, p, cloudName, nodeID, hostname, user, vmType)
	if err != nil {
		c.refused(ctx, p, "node.assign", cloudName+"/"+cmp.Or(nodeID, hostname), err)
	}
	return a, err
}

func (c *Core) assignNode(ctx context.Context, p Principal, cloudName, nodeID, hostname, user, vmType string) (Allocation, error) {
	cloud, a, err := c.allocation(ctx, p, cloudName, nodeID, hostname)
	if err != nil {
		return a, err
	}
	stored, setUp := !cloud.Info().InMemory, cloud.Info().Agents
	key := ""
	if stored {
		n, err := cloud.Node(ctx, a.NodeID)
		if err != nil {
			return a, err
		}
		key = n.Key
	}
	var op operation.Record
	err = c.Store.Update(ctx, func(tx Tx) error {
		var node Node
		if stored {
			if node, err = storedNode(tx, a.Cloud, key); err != nil {
				return err
			}
			if err := mayUse(p, node); err != nil {
				return err
			}
		}
		if a, err = allocationNumbered(tx, a.Cloud, a.Num); err != nil {
			return err
		}
		if a.User != "" {
			return Errorf(Busy, ObjAllocation, "the node is assigned already")
		}
		a.User, a.VMType, a.State = user, vmType, AllocationAssigned
		if !setUp {
			if err := tx.PutAllocation(&a); err != nil {
				return err
			}
			return tx.Audit(c.auditRecord(p, "node.assign", a.Cloud+"/"+a.NodeID, "", "accepted"))
		}
		if _, err := c.application(vmType); err != nil {
			return err
		}
		if _, err := loginOf(user); err != nil {
			return err
		}
		a.State = AllocationAssigning
		if err := tx.PutAllocation(&a); err != nil {
			return err
		}
		secret, err := json.Marshal(appSecret{Database: string(randomWord())})
		if err != nil {
			return err
		}
		op, err = c.enqueueNodeSecret(tx, p, "node.assign", OpNodeAssign, nodeParams{NodeID: node.ID, NodeNum: node.Num, Allocation: a.Num}, secret)
		return err
	})
	if err != nil || !setUp {
		return a, err
	}
	if err := c.awaitHandover(ctx, op, "assigned"); err != nil {
		return a, err
	}
	num := a.Num
	return view(ctx, c.Store, func(r Reader) (Allocation, error) { return allocationNumbered(r, a.Cloud, num) })
}

// ReleaseNode takes a node back from its user. Where machines stay (CloudInfo.Permanent) what was set up is taken away and
// the node is free again; elsewhere the node is destroyed. A refusal changes nothing.
//
// Errors: not_found (allocation), and those of StopNode
// Effects: an operation on stored clouds
func (c *Core) ReleaseNode(ctx context.Context, p Principal, cloudName, nodeID, hostname string) (a Allocation, destroyed bool, err error) {
	cloud, a, err := c.allocation(ctx, p, cloudName, nodeID, hostname)
	if err != nil {
		c.refused(ctx, p, "node.release", cloudName+"/"+cmp.Or(nodeID, hostname), err)
		return a, false, err
	}
	if cloud.Info().Permanent {
		if err = c.freeNode(ctx, p, cloud, a); err != nil {
			c.refused(ctx, p, "node.release", cloudName+"/"+a.NodeID, err)
		}
	} else {
		_, err = c.stopNode(ctx, p, "node.release", cloudName, a.NodeID, "")
		destroyed = true
	}
	a.User, a.VMType, a.State = "", "", AllocationFree
	return a, destroyed, err
}

func (c *Core) freeNode(ctx context.Context, p Principal, cloud Cloud, a Allocation) error {
	n, err := cloud.Node(ctx, a.NodeID)
	if err != nil {
		return err
	}
	var op operation.Record
	err = c.Store.Update(ctx, func(tx Tx) error {
		node, err := storedNode(tx, a.Cloud, n.Key)
		if err != nil {
			return err
		}
		if err := mayUse(p, node); err != nil {
			return err
		}
		now, err := allocationNumbered(tx, a.Cloud, a.Num)
		if err != nil {
			return err
		}
		if now.User != "" {
			now.State = AllocationReleasing
			if err := tx.PutAllocation(&now); err != nil {
				return err
			}
		}
		if _, err := tx.RequestCancel(string(node.ID), ""); err != nil {
			return err
		}
		op, err = c.enqueueNodeSecret(tx, p, "node.release", OpNodeRelease, nodeParams{NodeID: node.ID, NodeNum: node.Num, Allocation: a.Num}, nil)
		return err
	})
	if err != nil {
		return err
	}
	return c.awaitHandover(ctx, op, "released")
}

// awaitHandover waits for the end of an operation and tells why it failed.
func (c *Core) awaitHandover(ctx context.Context, op operation.Record, what string) error {
	return c.await(ctx, handoverLimit, func(r Reader) (bool, error) {
		now, err := r.Operation(op.Num)
		if err != nil {
			return false, err
		}
		switch now.Status {
		case operation.StatusFailed, operation.StatusCanceled:
			return false, Errorf(Invalid, ObjAllocation, "the node could not be %s: %s", what, now.Error)
		}
		return now.Status.Final(), nil
	})
}

func allocationNumbered(r Reader, cloud string, num int64) (Allocation, error) {
	rows, err := r.Allocations(cloud)
	if err != nil {
		return Allocation{}, err
	}
	i := slices.IndexFunc(rows, func(a Allocation) bool { return a.Num == num })
	if i < 0 {
		return Allocation{}, Errorf(NotFound, ObjAllocation, "there is no such node in the pool")
	}
	return rows[i], nil
}

// application is what a node is set up for.
type application struct{ platform, engine string }

// servedAlone are the platforms that a single node serves by itself, with Apache.
var servedAlone = []string{"php", "static"}

// ApplicationTypes lists what nodes can be assigned for: platforms, and app types of those platforms.
func (c *Core) ApplicationTypes() []string {
	names := slices.Clone(servedAlone)
	for _, t := range c.Types {
		if slices.Contains(servedAlone, t.Platform) && !slices.Contains(names, t.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}

func (c *Core) application(vmType string) (application, error) {
	if !slices.Contains(c.ApplicationTypes(), vmType) {
		return application{}, Errorf(Invalid, ObjAllocation, "there is no application %.64q; there are %s", vmType, strings.Join(c.ApplicationTypes(), ", "))
	}
	for _, t := range c.Types {
		if t.Name == vmType {
			return application{t.Platform, t.Engine}, nil
		}
	}
	return application{platform: vmType}, nil
}

var notInLogin = regexp.MustCompile(`[^a-z0-9_-]`)

// loginOf makes a user's Unix name: what stands before the @, in lower case, with dashes for what no such name has.
//
// Errors: invalid
func loginOf(user string) (string, error) {
	name, _, _ := strings.Cut(strings.ToLower(user), "@")
	name = notInLogin.ReplaceAllString(name, "-")
	if name == "" || len(name) > 32 || name[0] == '-' || name[0] >= '0' && name[0] <= '9' {
		return "", Errorf(Invalid, ObjAllocation, "the user %.64q cannot log in under this name: it has to begin with a letter and have at most 32", user)
	}
	return name, nil
}

// keysOf are the public keys that let a user in.
func keysOf(r Reader, a Allocation) ([]string, error) {
	accounts, err := r.Accounts()
	if err != nil {
		return nil, err
	}
	for _, account := range accounts {
		if !strings.EqualFold(account.Email, a.User) && !strings.EqualFold(account.Handle, a.User) {
			continue
		}
		keys, err := r.SSHKeys(account.ID)
		var lines []string
		for _, k := range keys {
			if line, ok := authorizedLine(k.Key); ok {
				lines = append(lines, line)
			}
		}
		return lines, err
	}
	if a.PublicKey != "" {
		return []string{a.PublicKey}, nil
	}
	return nil, nil
}

// keyTypes are the kinds of keys that sshd accepts today.
var keyTypes = []string{"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
	"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"}

// authorizedLine is a public key as a node's authorized_keys may have it: type, key and comment, and never an option. ok is
// false for a text that lets nobody in.
func authorizedLine(text string) (line string, ok bool) {
	fields := strings.Fields(text)
	if len(fields) < 2 || !slices.Contains(keyTypes, fields[0]) {
		return "", false
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil || len(blob) < 4 {
		return "", false
	}
	if n := binary.BigEndian.Uint32(blob); uint64(n) > uint64(len(blob)-4) || string(blob[4:4+n]) != fields[0] || len(blob) < 4+int(n)+32 {
		return "", false // RFC 4253 §6.6: the blob begins with the key's type
	}
	comment := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.Join(fields[2:], " "))
	return strings.TrimRight(fields[0]+" "+fields[1]+" "+comment[:min(len(comment), 100)], " "), true
}

// keyNamed is the line of an account's key.
//
// Errors: not_found (there is none of this name, or it lets nobody in)
func keyNamed(r Reader, account AccountID, name string) (string, error) {
	keys, err := r.SSHKeys(account)
	if err != nil {
		return "", err
	}
	for _, k := range keys {
		if line, ok := authorizedLine(k.Key); ok && k.Name == name {
			return line, nil
		}
	}
	return "", Errorf(NotFound, ObjKey, "there is no such key")
}

// handedOver is what steps of assigning and releasing work on.
type handedOver struct {
	node  Node
	row   Allocation
	app   application
	agent Agent
}

func (h handedOver) name() string { return fmt.Sprintf("n%d", h.node.Num) }

func (h handedOver) database() string { return fmt.Sprintf("n%d", h.node.Num) }

func (c *Core) handedOver(ctx context.Context, run *operation.Run) (h handedOver, cloud Cloud, err error) {
	var p nodeParams
	if err = run.Params(&p); err != nil {
		return h, nil, err
	}
	if h.node, cloud, err = c.nodeOf(ctx, run); err != nil {
		return h, cloud, err
	}
	if h.row, err = view(ctx, c.Store, func(r Reader) (Allocation, error) { return allocationNumbered(r, h.node.Cloud, p.Allocation) }); err != nil {
		return h, cloud, err
	}
	h.app, _ = c.application(h.row.VMType) // a type that is gone since had no more than these two could have
	h.agent, err = c.Agents.Agent(h.node)
	return h, cloud, err
}

// setUpApplication makes the application and its user's login on the node.
func (c *Core) setUpApplication(ctx context.Context, run *operation.Run) error {
	h, cloud, err := c.handedOver(ctx, run)
	if err != nil {
		return err
	}
	err = c.setUp(ctx, run, h)
	if err != nil && KindOf(err) == Unavailable { // no use waiting for a node that was destroyed meanwhile
		if _, gone := cloud.Node(ctx, h.node.CloudID); isNotFound(gone) {
			return Wrap(Internal, ObjNode, err, "%s", lostReason)
		}
	}
	return err
}

func (c *Core) setUp(ctx context.Context, run *operation.Run, h handedOver) error {
	secret, err := appSecretOf(run)
	if err != nil {
		return err
	}
	// A login in the row says that something may be on the node; without one there is nothing to take back from it.
	if h.row.Login, err = loginOf(h.row.User); err != nil {
		return err
	}
	err = c.changeAllocation(ctx, h.row, func(a *Allocation) { a.Login = h.row.Login })
	if err != nil {
		return err
	}
	params := agentapi.CreateAppParams{App: h.name(), Platform: h.app.platform, Base: appsBase, Env: map[string]agentapi.Secret{},
		Login: &agentapi.AppLogin{User: h.row.Login, Shell: true}}
	if params.Login.Keys, err = view(ctx, c.Store, func(r Reader) ([]string, error) { return keysOf(r, h.row) }); err != nil {
		return err
	}
	if h.app.engine != "" {
		si := ServiceInstance{Engine: h.app.engine, Database: h.database(), User: h.database()}
		if err := c.setUpDatabase(ctx, h, si, secret.Database); err != nil {
			return err
		}
		params.Env = vhostEnv(si, secret.Database)
	}
	if err := c.noteService(ctx, h, "apache"); err != nil { // a new virtual host starts it
		return classified(err, Internal, ObjNode, "prepare the web server")
	}
	paths, err := h.agent.CreateApp(ctx, params)
	if err != nil {
		return classified(err, Internal, ObjNode, "make the application and the login")
	}
	if _, err := h.agent.CreateVHost(ctx, agentapi.CreateVHostParams{Hostname: h.node.Name, Port: "80", Template: nodeVHost(h.node, paths)}); err != nil {
		return classified(err, Internal, ObjNode, "make the virtual host")
	}
	return classified(startForGood(ctx, h.agent, "apache"), Internal, ObjNode, "start the web server")
}

func (c *Core) setUpDatabase(ctx context.Context, h handedOver, si ServiceInstance, password string) error {
	if err := c.noteService(ctx, h, si.Engine); err != nil {
		return classified(err, Internal, ObjNode, "prepare the database server")
	}
	if err := startForGood(ctx, h.agent, si.Engine); err != nil {
		return classified(err, Internal, ObjNode, "start the database server")
	}
	if err := h.agent.CreateDatabase(ctx, si.Engine, agentapi.CreateDatabaseParams{Name: si.Database}); err != nil {
		return classified(err, Internal, ObjNode, "create the database")
	}
	user := agentapi.CreateDatabaseUserParams{Name: si.User, Password: agentapi.Secret(password), Database: si.Database}
	return classified(h.agent.CreateDatabaseUser(ctx, si.Engine, user), Internal, ObjNode, "create the database user")
}

// nodeVHost answers to whatever name the node's address is called by, before the packaged site does: that one takes the
// address for its own name.
func nodeVHost(n Node, paths agentapi.AppPaths) string {
	text := vhostTemplate(n.Name, paths)
	host := n.Address
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if net.ParseIP(host) == nil {
		return text
	}
	return strings.Replace(text, "<VirtualHost *:80>", "<VirtualHost *:80 "+net.JoinHostPort(host, "80")+">", 1)
}

// noteService enables a service of the node that does not run yet, and writes down that it did not, before anything starts
// it: so it is stopped when the node comes back. A machine's own services are its own business.
func (c *Core) noteService(ctx context.Context, h handedOver, service string) error {
	var status int
	if err := h.agent.Call(ctx, service+".get_service_status", struct{}{}, &status); err != nil || status == 0 {
		return err
	}
	// Fails where the service is not installed, before anything is written down.
	if err := h.agent.EnableService(ctx, agentapi.EnableServiceParams{Service: service}); err != nil {
		return err
	}
	return c.changeAllocation(ctx, h.row, func(a *Allocation) {
		if !slices.Contains(a.Services, service) {
			a.Services = append(a.Services, service)
		}
	})
}

func (c *Core) changeAllocation(ctx context.Context, row Allocation, change func(*Allocation)) error {
	return c.Store.Update(ctx, func(tx Tx) error {
		a, err := allocationNumbered(tx, row.Cloud, row.Num)
		if err != nil {
			return err
		}
		change(&a)
		return tx.PutAllocation(&a)
	})
}

func (c *Core) handOver(ctx context.Context, run *operation.Run) error {
	h, _, err := c.handedOver(ctx, run)
	if err != nil {
		return err
	}
	return c.changeAllocation(ctx, h.row, func(a *Allocation) {
		if a.State == AllocationAssigning {
			a.State = AllocationAssigned
		}
	})
}

// takeBack takes from the node what was set up for its user, and makes it free. A node that is gone has nothing left.
func (c *Core) takeBack(ctx context.Context, run *operation.Run) error {
	h, cloud, err := c.handedOver(ctx, run)
	switch {
	case isNotFound(err) && (h.node.ID == "" || h.row.Num == 0 && cloud != nil):
		return nil // forgotten, and its allocation with it
	case err != nil && KindOf(err) != Unavailable:
		return err
	}
	if _, gone := cloud.Node(ctx, h.node.CloudID); !isNotFound(gone) {
		if err != nil { // the agent has no address
			return err
		}
		if err := c.clean(ctx, h); err != nil {
			return err
		}
	}
	return ignoreNotFound(c.changeAllocation(ctx, h.row, func(a *Allocation) {
		a.User, a.VMType, a.Login, a.State, a.Services = "", "", "", AllocationFree, nil
	}))
}

// clean undoes setUpApplication, however far it came.
func (c *Core) clean(ctx context.Context, h handedOver) error {
	if h.row.User == "" || h.row.Login == "" {
		return nil
	}
	vhost := agentapi.DeleteVHostsParams{VHosts: []agentapi.VHostRef{{Hostname: h.node.Name, Port: "80"}}}
	if err := h.agent.DeleteVHosts(ctx, vhost); err != nil && KindOf(err) != NotFound && KindOf(err) != Unsupported { // no web server, no hosts
		return classified(err, Internal, ObjNode, "remove the virtual host")
	}
	if err := h.agent.DeleteApp(ctx, agentapi.AppParams{App: h.name()}); err != nil {
		return classified(err, Internal, ObjNode, "remove the application and the login")
	}
	if h.app.engine != "" {
		if err := c.dropDatabase(ctx, h); err != nil {
			return classified(err, Internal, ObjNode, "remove the database")
		}
	}
	for _, service := range slices.Backward(h.row.Services) {
		if err := h.agent.Call(ctx, "deploy.disable_service", agentapi.EnableServiceParams{Service: service}, nil); err != nil {
			return classified(err, Internal, ObjNode, "disable "+service)
		}
		if err := h.agent.Call(ctx, service+".stop_service", struct{}{}, nil); err != nil {
			return classified(err, Internal, ObjNode, "stop "+service)
		}
	}
	return nil
}

func (c *Core) dropDatabase(ctx context.Context, h handedOver) error {
	engine := h.app.engine
	var status int
	if err := h.agent.Call(ctx, engine+".get_service_status", struct{}{}, &status); err != nil {
		return err
	}
	if status != 0 && !slices.Contains(h.row.Services, engine) {
		return nil // it never ran for this user
	}
	if err := h.agent.StartService(ctx, engine); err != nil { // nothing can be dropped while it is down
		return err
	}
	if err := h.agent.DropDatabaseUser(ctx, engine, agentapi.DropDatabaseUserParams{Name: h.database()}); err != nil {
		return err
	}
	return h.agent.DropDatabase(ctx, engine, h.database())
}
