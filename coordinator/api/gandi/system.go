package gandi

import "github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"

// Limits of system.multicall.
const (
	maxCalls          = 64
	maxMulticallReply = 16 << 20
)

func (c *call) listMethods() error {
	c.out.BeginArray()
	for _, name := range c.d.names {
		c.out.String(name)
	}
	c.out.EndArray()
	return nil
}

func (c *call) methodArg() (*method, error) {
	name, err := c.argString(0)
	if err != nil {
		return nil, err
	}
	m, ok := c.d.methods[name]
	if !ok {
		return nil, unsupported(name)
	}
	return m, nil
}

func (c *call) methodSignature() error {
	m, err := c.methodArg()
	if err != nil {
		return err
	}
	c.out.BeginArray()
	for _, s := range m.signatures {
		c.out.BeginArray()
		for _, kind := range s {
			c.out.String(kind)
		}
		c.out.EndArray()
	}
	c.out.EndArray()
	return nil
}

func (c *call) methodHelp() error {
	m, err := c.methodArg()
	if err != nil {
		return err
	}
	c.out.String(m.help)
	return nil
}

// multicall carries out calls one after the other. Each has its own key and its own outcome.
func (c *call) multicall() error {
	if c.inner {
		return faultf(badParameter, "system.multicall cannot be called by system.multicall")
	}
	if c.params[0].Kind != xmlrpc.Array {
		return faultf(notList, "argument 1 must be an array of calls, not %s", c.params[0].What())
	}
	calls := c.params[0].Items
	if len(calls) > maxCalls {
		return faultf(tooLongList, "at most %d calls are made at once", maxCalls)
	}
	c.out.BeginArray()
	for _, one := range calls {
		mark := c.out.Mark()
		c.out.BeginArray()
		if err := c.innerCall(one, c.out.Len()); err != nil {
			c.out.Rewind(mark)
			f := faultOf(err)
			c.out.FaultStruct(f.number(), f.Error())
			continue
		}
		c.out.EndArray()
	}
	c.out.EndArray()
	return nil
}

func (c *call) innerCall(v xmlrpc.Value, written int) error {
	if written > maxMulticallReply {
		return faultf(serviceBusy, "the reply is too large already: make this call by itself")
	}
	if v.Kind != xmlrpc.Struct {
		return faultf(notStruct, "a call must be a struct, not %s", v.What())
	}
	name, ok := v.Member("methodName")
	if !ok {
		return faultf(missingKey, "missing mandatory key 'methodName'")
	}
	method, ok := name.AsString()
	if !ok {
		return faultf(notString, "methodName must be a string, not %s", name.What())
	}
	params, ok := v.Member("params")
	if ok && params.Kind != xmlrpc.Array {
		return faultf(notList, "params must be an array, not %s", params.What())
	}
	inner := &call{ctx: c.ctx, d: c.d, r: c.r, out: c.out, inner: true}
	return inner.do(method, params.Items)
}
