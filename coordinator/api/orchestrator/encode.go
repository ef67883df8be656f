package orchestrator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"
)

// encoder writes JSON in the one layout of this API: keys in the order they are given, which callers keep sorted, two
// blanks per level, everything beyond ASCII escaped. It knows the few types the API has and no reflection, because lists
// of nodes are what clients poll.
type encoder struct {
	buf   []byte
	depth int
	first bool // nothing written yet on this level
	plain bool // one line, as XMLHttpRequest callers get it
}

var encoders = sync.Pool{New: func() any { return &encoder{buf: make([]byte, 0, 2048)} }}

// Shared header values; http.Header takes slices, and these are never changed.
var contentTypeJSON = []string{"application/json"}

// answer sends a successful body.
func (c *call) answer(write func(e *encoder)) { c.send(http.StatusOK, write, nil) }

// plain says that the caller wants one line, as the original gives XMLHttpRequest.
func (c *call) plain() bool {
	with := c.r.Header["X-Requested-With"]
	return len(with) > 0 && with[0] == "XMLHttpRequest"
}

// send writes an answer whose body is one object. write adds its members in sorted order; keep, which may be nil, gets a copy
// of the body.
func (c *call) send(status int, write func(e *encoder), keep func(body []byte)) {
	e := encoders.Get().(*encoder)
	e.buf, e.depth, e.first, e.plain = e.buf[:0], 0, true, c.plain()
	e.open('{')
	write(e)
	e.close('}')
	c.write(status, e.buf)
	if keep != nil {
		keep(bytes.Clone(e.buf))
	}
	if cap(e.buf) <= 1<<20 { // one huge answer must not stay in memory for ever
		encoders.Put(e)
	}
}

// write sends a body that is complete.
func (c *call) write(status int, body []byte) {
	h := c.w.Header()
	h["Content-Type"] = contentTypeJSON
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(body) // the client may be gone; nobody is left to tell
	}
}

func (e *encoder) open(bracket byte) {
	e.buf = append(e.buf, bracket)
	e.depth++
	e.first = true
}

func (e *encoder) close(bracket byte) {
	e.depth--
	if !e.first {
		e.line()
	}
	e.buf = append(e.buf, bracket)
	e.first = false
}

func (e *encoder) line() {
	if e.plain {
		return
	}
	const blanks = "\n                                                                "
	if n := 1 + 2*e.depth; n <= len(blanks) {
		e.buf = append(e.buf, blanks[:n]...)
		return
	}
	e.buf = append(e.buf, '\n')
	for range e.depth {
		e.buf = append(e.buf, ' ', ' ')
	}
}

// item begins the next element of a list or member of an object.
func (e *encoder) item() {
	if !e.first {
		e.buf = append(e.buf, ',')
		if e.plain {
			e.buf = append(e.buf, ' ')
		}
	}
	e.first = false
	e.line()
}

func (e *encoder) key(key string) {
	e.item()
	e.text(key)
	e.buf = append(e.buf, ':', ' ')
}

func (e *encoder) str(key, value string) {
	e.key(key)
	e.text(value)
}

func (e *encoder) int(key string, value int64) {
	e.key(key)
	e.buf = strconv.AppendInt(e.buf, value, 10)
}

func (e *encoder) ok() { e.str("status", "ok") }

func (e *encoder) strs(key string, values []string) {
	e.key(key)
	e.open('[')
	for _, v := range values {
		e.item()
		e.text(v)
	}
	e.close(']')
}

// list writes a member whose value is a list of objects.
func list[T any](e *encoder, key string, values []T, write func(e *encoder, v *T)) {
	e.key(key)
	e.open('[')
	for i := range values {
		e.item()
		e.open('{')
		write(e, &values[i])
		e.close('}')
	}
	e.close(']')
}

const hexDigits = "0123456789abcdef"

// text writes a string. Like the original it escapes everything beyond ASCII; invalid UTF-8 becomes U+FFFD.
func (e *encoder) text(s string) {
	e.buf = append(e.buf, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b >= ' ' && b < utf8.RuneSelf && b != '"' && b != '\\' {
			i++
			continue
		}
		e.buf = append(e.buf, s[start:i]...)
		size := 1
		switch {
		case b == '"' || b == '\\':
			e.buf = append(e.buf, '\\', b)
		case b == '\n':
			e.buf = append(e.buf, '\\', 'n')
		case b == '\r':
			e.buf = append(e.buf, '\\', 'r')
		case b == '\t':
			e.buf = append(e.buf, '\\', 't')
		case b == '\b':
			e.buf = append(e.buf, '\\', 'b')
		case b == '\f':
			e.buf = append(e.buf, '\\', 'f')
		default:
			var r rune
			r, size = utf8.DecodeRuneInString(s[i:])
			e.escape(r)
		}
		i += size
		start = i
	}
	e.buf = append(e.buf, s[start:]...)
	e.buf = append(e.buf, '"')
}

// escape writes \uXXXX, twice for what lies beyond the basic plane.
func (e *encoder) escape(r rune) {
	if r > 0xFFFF {
		r -= 0x10000
		e.escape(0xD800 + r>>10)
		e.escape(0xDC00 + r&0x3FF)
		return
	}
	e.buf = append(e.buf, '\\', 'u', hexDigits[r>>12&0xF], hexDigits[r>>8&0xF], hexDigits[r>>4&0xF], hexDigits[r&0xF])
}

// value writes what a driver put into a node's extra. Types it does not know go through encoding/json.
func (e *encoder) value(v any) {
	switch v := v.(type) {
	case nil:
		e.buf = append(e.buf, "null"...)
	case string:
		e.text(v)
	case bool:
		e.buf = strconv.AppendBool(e.buf, v)
	case int:
		e.buf = strconv.AppendInt(e.buf, int64(v), 10)
	case int64:
		e.buf = strconv.AppendInt(e.buf, v, 10)
	case json.Number:
		e.buf = append(e.buf, v...)
	case map[string]any:
		e.open('{')
		for _, k := range sortedKeys(v) {
			e.key(k)
			e.value(v[k])
		}
		e.close('}')
	case map[string]string:
		e.open('{')
		for _, k := range sortedKeys(v) {
			e.str(k, v[k])
		}
		e.close('}')
	case []any:
		e.open('[')
		for _, one := range v {
			e.item()
			e.value(one)
		}
		e.close(']')
	case []string:
		e.open('[')
		for _, one := range v {
			e.item()
			e.text(one)
		}
		e.close(']')
	default:
		e.value(generic(v))
	}
}

// sortedKeys makes one allocation; nodes' extras are small and many.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// generic turns any value into the types that value knows.
func generic(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		return nil // a channel or a function: nothing that could be shown
	}
	switch decoded, err := decodeJSON(data); decoded := decoded.(type) {
	case nil, string, bool, json.Number, map[string]any, []any:
		if err != nil {
			return nil
		}
		return decoded
	default:
		return nil
	}
}
