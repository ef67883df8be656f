package orchestrator

import "github.com/reeve-paas/reeve/coordinator/core"

// serveSizes answers /sizes and /flavors, both under the key flavors. disk is in GB, ram in MB.
func serveSizes(c *call) {
	_, cloud, ok := c.open()
	if !ok {
		return
	}
	sizes, err := cloud.Sizes(c.ctx())
	if err != nil {
		c.failWork(err)
		return
	}
	info := cloud.Info()
	c.answer(func(e *encoder) {
		list(e, "flavors", sizes, func(e *encoder, s *core.Size) {
			e.str("cloud_type", info.Name)
			e.int("cpu", int64(s.CPUs))
			e.int("disk", int64(s.DiskGB))
			e.str("id", s.ID)
			e.str("name", s.Name)
			e.str("provider", info.Type)
			e.int("ram", int64(s.MemoryMB))
		})
		e.ok()
	})
}
