package orchestrator

import (
	"encoding/json"

	"github.com/reeve-paas/reeve/coordinator/core"
)

var startSchema = []member{
	{"name", text, true}, {"image", text, true}, {"size", text, true},
	{"keyname", text, false}, {"metadata", object, false},
}

// serveStart starts a node and answers with it as its cloud returned it, booting or not. Every failure is a 500.
func serveStart(c *call) {
	v, ok := c.readJSON()
	if !ok {
		return
	}
	p, err := c.caller()
	if err == nil {
		_, err = c.d.core.CloudFor(c.ctx(), p, c.cloudName)
		if core.KindOf(err) != core.Unauthenticated {
			err = nil // StartNode reports it; a bad body is reported first
		}
	}
	if err != nil {
		c.failCaller(err)
		return
	}
	if !c.check(v, startSchema) {
		return
	}
	n, err := c.d.core.StartNode(c.ctx(), p, c.cloudName, core.NodeSpec{
		Name: c.field("name"), ImageID: c.field("image"), SizeID: c.field("size"),
		KeyName: c.field("keyname"), Metadata: metadata(c.body["metadata"]),
	})
	if err != nil {
		c.failStart(err)
		return
	}
	cloud, err := c.d.core.CloudFor(c.ctx(), p, c.cloudName)
	if err != nil {
		c.failStart(err)
		return
	}
	info := cloud.Info()
	c.answer(func(e *encoder) {
		e.key("nodes") // one object, for all its name
		e.open('{')
		e.node(info, &n)
		e.close('}')
		e.ok()
	})
}

// metadata takes text as it is and anything else as its JSON.
func metadata(v any) map[string]string {
	members, _ := v.(map[string]any)
	out := make(map[string]string, len(members))
	for k, one := range members {
		if s, ok := one.(string); ok {
			out[k] = s
			continue
		}
		data, _ := json.Marshal(one) // it came out of JSON
		out[k] = string(data)
	}
	return out
}

var stopSchema = []member{{"node", text, false}, {"hostname", text, false}}

// serveStop destroys a node.
func serveStop(c *call) {
	v, ok := c.readJSON()
	if !ok {
		return
	}
	p, _, ok := c.open()
	if !ok || !c.check(v, stopSchema) {
		return
	}
	node, hostname := c.field("node"), c.field("hostname")
	if node == "" && hostname == "" {
		c.fail(400, msgNoNodeGiven)
		return
	}
	n, err := c.d.core.StopNode(c.ctx(), p, c.cloudName, node, hostname)
	if err != nil {
		c.failWork(err)
		return
	}
	c.answer(func(e *encoder) {
		e.str("result", "Node "+n.ID+" deleted")
		e.ok()
	})
}
