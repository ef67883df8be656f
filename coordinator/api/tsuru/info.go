package tsuru

import "net/http"

// serveHealth answers only when the store does.
func serveHealth(c *call) error {
	if err := c.d.core.Healthy(c.ctx()); err != nil {
		return err
	}
	return c.text(http.StatusOK, "WORKING")
}

func serveInfo(c *call) error {
	return c.json(http.StatusOK, map[string]string{"version": "0.7.0"})
}

// schemas are the shapes that answers with a profile point to.
var schemas = map[string]any{
	"app": map[string]any{
		"$schema": "http://json-schema.org/draft-04/schema#", "title": "app schema", "type": "object",
		"properties": map[string]any{
			"name": typed("string"), "platform": typed("string"), "ip": typed("string"), "cname": arrayOf("string"),
			"teams": arrayOf("string"), "repository": typed("string"), "owner": typed("string"), "deploys": typed("number"),
			"units": map[string]any{"type": "array", "items": map[string]any{"type": "object"}},
		},
		"links": []map[string]string{
			{"href": "/apps/{name}", "method": "GET", "rel": "self"}, {"href": "/apps/{name}", "method": "DELETE", "rel": "delete"},
			{"href": "/apps/{name}/log", "method": "GET", "rel": "log"}, {"href": "/apps/{name}/env", "method": "GET", "rel": "get_env"},
			{"href": "/apps/{name}/env", "method": "POST", "rel": "set_env"}, {"href": "/apps/{name}/restart", "method": "POST", "rel": "restart"},
			{"href": "/apps/{name}/run", "method": "POST", "rel": "run"},
		},
	},
	"service": map[string]any{
		"$schema": "http://json-schema.org/draft-04/schema#", "title": "service schema", "type": "object",
		"properties": map[string]any{"name": typed("string"), "endpoint": typed("object"), "status": typed("string"), "doc": typed("string"), "teams": arrayOf("string")},
	},
	"services": map[string]any{
		"$schema": "http://json-schema.org/draft-04/schema#", "title": "service collection schema", "type": "array",
		"items": map[string]string{"$ref": "/schema/service"},
	},
}

func typed(kind string) map[string]any { return map[string]any{"type": kind} }
func arrayOf(kind string) map[string]any {
	return map[string]any{"type": "array", "items": typed(kind)}
}

func serveSchema(c *call) error {
	schema, ok := schemas[c.vars["name"]]
	if !ok {
		return &status{http.StatusNotFound, "404 page not found"}
	}
	return c.json(http.StatusOK, schema)
}
