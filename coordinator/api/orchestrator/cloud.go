package orchestrator

// serveClouds lists the configured clouds, "default" first. A caller who may not use a cloud learns its name only.
func serveClouds(c *call) {
	p, err := c.caller()
	if err != nil {
		c.failCaller(err)
		return
	}
	names := c.d.core.CloudNames()
	c.answer(func(e *encoder) {
		list(e, "served_cloud", names, func(e *encoder, name *string) {
			var host, kind string
			if cloud, err := c.d.core.CloudFor(c.ctx(), p, *name); err == nil {
				info := cloud.Info()
				host, kind = info.Host, info.Type
			}
			e.str("host", host)
			e.str("name", *name)
			e.str("type", kind)
		})
		e.ok()
	})
}

// serveTenants describes the tenant of the cloud "default"; of any other there is one empty object.
func serveTenants(c *call) {
	if c.cloudName != "default" {
		if _, err := c.caller(); err != nil {
			c.failCaller(err)
			return
		}
		c.answer(func(e *encoder) {
			e.ok()
			list(e, "tenants", []struct{}{{}}, func(*encoder, *struct{}) {})
		})
		return
	}
	_, cloud, ok := c.open()
	if !ok {
		return
	}
	info := cloud.Info()
	c.answer(func(e *encoder) {
		e.ok()
		list(e, "tenants", []string{c.cloudName}, func(e *encoder, name *string) {
			e.str("cloud_type", info.Name)
			e.str("id", *name)
			e.str("name", *name)
			e.str("provider", info.Type)
		})
	})
}
