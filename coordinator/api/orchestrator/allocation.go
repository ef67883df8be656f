package orchestrator

import (
	"hash/fnv"

	"github.com/reeve-paas/reeve/coordinator/core"
)

var assignSchema = []member{
	{"user", text, true}, {"vm_type", text, true},
	{"node", text, false}, {"hostname", text, false}, {"emulate", boolean, false},
}

var releaseSchema = []member{{"node", text, false}, {"hostname", text, false}, {"emulate", boolean, false}}

func serveAssign(c *call) {
	p, ok := c.openAllocation(assignSchema)
	if !ok {
		return
	}
	a, err := c.d.core.AssignNode(c.ctx(), p, c.cloudName, c.field("node"), c.field("hostname"), c.field("user"), c.field("vm_type"))
	c.answerAllocation(a, err, "Node "+a.Hostname+" assigned")
}

func serveRelease(c *call) {
	p, ok := c.openAllocation(releaseSchema)
	if !ok {
		return
	}
	a, destroyed, err := c.d.core.ReleaseNode(c.ctx(), p, c.cloudName, c.field("node"), c.field("hostname"))
	result := "Node " + a.Hostname + " released"
	if destroyed {
		result += " and deleted"
	}
	c.answerAllocation(a, err, result)
}

// openAllocation does what assign and release have in common. When it returns false the call is answered. A truthy
// emulate is answered with constants before anything is looked at, the caller included.
func (c *call) openAllocation(schema []member) (core.Principal, bool) {
	v, ok := c.readJSON()
	if !ok {
		return core.Principal{}, false
	}
	if truthy(c.body["emulate"]) {
		c.allocation(42, "-fake_id-", "Node -fake_id- assigned") // also for release
		return core.Principal{}, false
	}
	p, _, ok := c.open()
	if !ok || !c.check(v, schema) {
		return p, false
	}
	if c.field("node") == "" && c.field("hostname") == "" {
		c.fail(400, msgNodeNotFound)
		return p, false
	}
	return p, true
}

func (c *call) answerAllocation(a core.Allocation, err error, result string) {
	switch {
	case err == nil:
		c.allocation(a.Num, a.NodeID, result)
	case reasonOf(err).message == msgNoNode: // in the pool, but gone from its cloud
		c.fail(400, msgNodeNotFound)
	default:
		c.failWork(err)
	}
}

func (c *call) allocation(id int64, nodeID, result string) {
	c.answer(func(e *encoder) {
		e.int("id", id)
		e.str("id_vm", nodeID)
		e.str("result", result)
		e.ok()
	})
}

// statuses of allocations; only FREE is documented.
var statuses = map[core.AllocationState]struct {
	number int64
	desc   string
}{
	core.AllocationFree:      {1, "FREE"},
	core.AllocationAssigned:  {2, "ASSIGNED"},
	core.AllocationAssigning: {3, "ASSIGNING"},
	core.AllocationReleasing: {4, "RELEASING"},
}

// serveStatus lists the pool of a cloud; an empty one is an empty object.
func serveStatus(c *call) {
	p, _, ok := c.open()
	if !ok {
		return
	}
	rows, err := c.d.core.Allocations(c.ctx(), p, c.cloudName)
	if err != nil {
		c.failWork(err)
		return
	}
	c.answer(func(e *encoder) {
		if len(rows) == 0 {
			e.key("nodes")
			e.open('{')
			e.close('}')
		} else {
			list(e, "nodes", rows, func(e *encoder, a *core.Allocation) { e.assignment(c.cloudName, a) })
		}
		e.ok()
	})
}

func (e *encoder) assignment(cloud string, a *core.Allocation) {
	status := statuses[a.State]
	e.str("cloud", cloud)
	e.str("hostname", a.Hostname)
	e.int("id", a.Num)
	e.str("id_vm", a.NodeID)
	e.str("recipe", a.VMType)
	e.int("recipe_id", recipeID(a.VMType))
	e.int("status", status.number)
	e.str("status_desc", status.desc)
	e.str("user", a.User)
}

// recipeID is a number that stays the same for a kind of application; 0 is none.
func recipeID(vmType string) int64 {
	if vmType == "" {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(vmType))
	return int64(h.Sum32()&0x7FFFFFFF) | 1
}
