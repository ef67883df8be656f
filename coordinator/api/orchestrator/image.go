package orchestrator

import "github.com/reeve-paas/reeve/coordinator/core"

func serveImages(c *call) {
	_, cloud, ok := c.open()
	if !ok {
		return
	}
	images, err := cloud.Images(c.ctx())
	if err != nil {
		c.failWork(err)
		return
	}
	info := cloud.Info()
	c.answer(func(e *encoder) {
		list(e, "images", images, func(e *encoder, i *core.Image) {
			e.str("cloud_type", info.Name)
			e.str("id", i.ID)
			e.str("name", i.Name)
			e.str("provider", info.Type)
		})
		e.ok()
	})
}
