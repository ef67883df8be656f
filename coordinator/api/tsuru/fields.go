package tsuru

import (
	"bytes"
	"encoding/json"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// fields are the members of a request, from a JSON object or a form. Names are lower case: spelling does not matter.
type fields struct {
	json map[string]json.RawMessage
	form map[string][]string
}

// fields reads the body as a JSON object; if it is none and calls itself a form, as a form. An empty body leaves the query.
// Errors: 400
func (c *call) fields() (fields, error) {
	data, err := c.body()
	if err != nil {
		return fields{}, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return formFields(c.r.URL.Query()), nil
	}
	f := fields{json: map[string]json.RawMessage{}}
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) == nil && object != nil {
		for k, v := range object {
			f.json[strings.ToLower(k)] = v
		}
		return f, nil
	}
	if form, err := c.form(data); err == nil {
		return formFields(form), nil
	}
	return fields{}, badRequest("Invalid JSON")
}

func (c *call) contentType() string {
	kind, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	return kind
}

// form reads a body as a form, of several parts or of one, if that is what it calls itself and what it looks like. Files in it
// are left out.
func (c *call) form(data []byte) (url.Values, error) {
	if kind, params, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type")); kind == "multipart/form-data" {
		form, err := multipart.NewReader(bytes.NewReader(data), params["boundary"]).ReadForm(maxBody)
		if err != nil {
			return nil, err
		}
		return form.Value, form.RemoveAll()
	}
	text := strings.TrimSpace(string(data))
	if c.contentType() != "application/x-www-form-urlencoded" || !strings.Contains(text, "=") || strings.ContainsAny(text, "{}[]\"") {
		return nil, http.ErrNotSupported
	}
	return url.ParseQuery(text)
}

func formFields(form url.Values) fields {
	f := fields{form: map[string][]string{}}
	for k, v := range form {
		k = strings.ToLower(k)
		f.form[k] = append(f.form[k], v...)
	}
	return f
}

// str is a member as text: a string, number or boolean. What is missing, or something else, is "".
func (f fields) str(names ...string) string {
	for _, name := range names {
		if raw, ok := f.json[name]; ok {
			if s, ok := scalar(raw); ok {
				return s
			}
		}
		if v := f.form[name]; len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// name is a member as text, or, as clients from 0.13 on write plans, the name in an object.
func (f fields) name(member string) string {
	var object struct{ Name string }
	if json.Unmarshal(f.json[member], &object) == nil {
		return object.Name
	}
	return f.str(member)
}

// flag is a switch among the members, or, as clients from 0.13 on put it beside a body, in the query.
func (c *call) flag(f fields, name string) bool {
	return truth(f.str(name)) || truth(formFields(c.r.URL.Query()).str(name))
}

// list is a member as texts: an array of scalars, one scalar, or a repeated member of a form.
func (f fields) list(name string) ([]string, bool) {
	raw, ok := f.json[name]
	if !ok {
		return f.form[name], len(f.form[name]) > 0
	}
	return texts(raw)
}

func texts(raw json.RawMessage) ([]string, bool) {
	if s, ok := scalar(raw); ok {
		return []string{s}, true
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil || items == nil {
		return nil, false
	}
	all := make([]string, 0, len(items))
	for _, item := range items {
		s, ok := scalar(item)
		if !ok {
			return nil, false
		}
		all = append(all, s)
	}
	return all, true
}

// scalar is the text of a JSON string, number or boolean.
func scalar(raw json.RawMessage) (string, bool) {
	raw = bytes.TrimSpace(raw)
	switch {
	case len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || string(raw) == "null":
		return "", false
	case raw[0] == '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err == nil
	}
	return string(raw), true
}

// names are the names in a JSON array in the body, and in the query member given: what clients of two generations send. none
// is true when there are neither.
func (c *call) names(query string) (all []string, none bool, err error) {
	data, err := c.body()
	if err != nil {
		return nil, false, err
	}
	all = slices.Clone(c.r.URL.Query()[query])
	if data = bytes.TrimSpace(data); len(data) == 0 || string(data) == "null" {
		return all, len(all) == 0, nil
	}
	if data[0] == '[' {
		more, ok := texts(data)
		if !ok {
			return nil, false, badRequest("Invalid JSON")
		}
		return append(all, more...), false, nil
	}
	if form, err := c.form(data); err == nil {
		return append(all, form[query]...), false, nil
	}
	return nil, false, badRequest("Invalid JSON")
}
