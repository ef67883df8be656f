package gandi

import (
	"slices"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Wire struct of paas.type.list: {name: string, language: string, database: string}, e.g. phpmysql, PHP, MySQL.
var typeColumns = []column[core.AppType]{
	{name: "name", kind: textColumn, value: func(t *core.AppType) cell { return textCell(t.Name) }},
	{name: "language", kind: textColumn, value: func(t *core.AppType) cell { return textCell(t.PlatformLabel) }},
	{name: "database", kind: textColumn, value: func(t *core.AppType) cell { return textCell(t.EngineLabel) }},
}

func (c *call) loadTypes(*query[core.AppType]) ([]core.AppType, error) {
	return slices.Clone(c.d.opts.Core.AppTypes()), nil
}

func (c *call) typeList() error {
	return serveList(c, typeColumns, c.loadTypes, func(c *call, t *core.AppType) {
		c.out.BeginStruct()
		fieldName.String(c.out, t.Name)
		fieldLanguage.String(c.out, t.PlatformLabel)
		fieldDatabase.String(c.out, t.EngineLabel)
		c.out.EndStruct()
	})
}

func (c *call) typeCount() error { return serveCount(c, typeColumns, c.loadTypes) }

// typeName is what an app's platform and database are called together.
func (c *call) typeName(a *core.App) string {
	for _, t := range c.d.opts.Core.AppTypes() {
		if t.Platform == a.Platform && t.Engine == a.Engine {
			return t.Name
		}
	}
	return a.Platform + a.Engine
}
