package orchestrator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/reeve-paas/reeve/coordinator/api"
)

// decodeJSON reads exactly one JSON value. Numbers stay as they were written.
func decodeJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("data after the value")
	}
	return v, nil
}

// readJSON reads the body, whatever its Content-Type says; no body is an empty object. When it returns false the call is
// answered. An object becomes c.body, so that its auth_token counts.
func (c *call) readJSON() (any, bool) {
	data, err := api.ReadBody(c.r)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			c.fail(http.StatusRequestEntityTooLarge, err.Error())
			return nil, false
		}
		c.fail(400, msgMalformed)
		return nil, false
	}
	if len(data) == 0 {
		c.body = map[string]any{}
		return c.body, true
	}
	v, err := decodeJSON(data)
	if err != nil {
		c.fail(400, msgMalformed)
		return nil, false
	}
	c.body, _ = v.(map[string]any)
	return v, true
}

// token finds the caller's token: body, then query, then headers. An empty one counts as absent.
func (c *call) token() (string, bool) {
	if v, ok := c.body["auth_token"]; ok && v != "" {
		text, _ := v.(string) // anything else is a token that cannot be valid
		return text, true
	}
	if c.r.URL.RawQuery != "" {
		if t := c.r.URL.Query().Get("auth_token"); t != "" {
			return t, true
		}
	}
	if h := c.r.Header["X-Auth-Token"]; len(h) > 0 && h[0] != "" {
		return h[0], true
	}
	if h := c.r.Header["Authorization"]; len(h) > 0 {
		if scheme, t, ok := strings.Cut(h[0], " "); ok && strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(t), true
		}
	}
	return "", false
}

// kind is what a member of a body must be.
type kind string

const (
	text    kind = "a string that is not empty"
	object  kind = "an object"
	boolean kind = "true or false"
)

// member is one line of a schema. Schemas are closed: what they do not list is a violation.
type member struct {
	name     string
	kind     kind
	required bool
}

// check compares a body with a schema. auth_token may be in every body. When it returns false the call is answered.
func (c *call) check(v any, schema []member) bool {
	problem := violation(v, schema)
	if problem == "" {
		return true
	}
	c.fail(400, msgSchema+problem)
	return false
}

func violation(v any, schema []member) string {
	body, ok := v.(map[string]any)
	if !ok {
		return "the body must be an object"
	}
	known := map[string]bool{"auth_token": true}
	for _, m := range schema {
		known[m.name] = true
		value, ok := body[m.name]
		switch {
		case !ok && m.required:
			return m.name + " is missing"
		case ok && !m.kind.holds(value):
			return m.name + " must be " + string(m.kind)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(body)) {
		if !known[name] {
			return fmt.Sprintf("%.64q is not known here", name)
		}
	}
	return ""
}

func (k kind) holds(v any) bool {
	switch v := v.(type) {
	case string:
		return k == text && v != ""
	case bool:
		return k == boolean
	case map[string]any:
		return k == object
	}
	return false
}

// field is a member that check found to be a string, "" when absent.
func (c *call) field(name string) string {
	s, _ := c.body[name].(string)
	return s
}

// truthy is what the original's language takes for true.
func truthy(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case string:
		return v != ""
	case json.Number:
		f, err := v.Float64()
		return err != nil || f != 0 // out of range is not zero
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}
