package agentapi

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Bool is a boolean as old callers send it: true, 1 and "1", also in words. null, "", 0, "0" and every other integer are
// false; other text is a ValueError (spec agent-web 1.2). A *Bool member that is absent has its documented default.
type Bool bool

// UnmarshalJSON reads any of the forms.
func (b *Bool) UnmarshalJSON(data []byte) error {
	word := string(bytes.Trim(data, `"`))
	switch word {
	case "true", "yes", "on", "True", "Yes", "On", "1":
		*b = true
		return nil
	case "false", "no", "off", "False", "No", "Off", "null", "":
		*b = false
		return nil
	}
	if _, err := strconv.Atoi(word); err == nil {
		*b = false
		return nil
	}
	return Errorf(KindInvalid, "ValueError", "not a boolean: %.40s", word)
}

// Or is the value, or the default when b is nil.
func (b *Bool) Or(def bool) bool {
	if b == nil {
		return def
	}
	return bool(*b)
}

// Ptr returns a pointer to a copy of v, for optional members.
func Ptr[T any](v T) *T { return &v }

// Text is a string that old callers may also send as a JSON number, such as a port or a certificate id. null is "".
type Text string

// UnmarshalJSON keeps a string, and the digits of a number as they were written.
func (t *Text) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(t))
	}
	switch {
	case string(data) == "null":
		*t = ""
	case len(data) > 0 && (data[0] == '-' || data[0] >= '0' && data[0] <= '9'):
		*t = Text(data)
	default:
		return Errorf(KindInvalid, "TypeError", "a string or a number was expected, not %.40s", data)
	}
	return nil
}

// Port reads t as a TCP port in canonical decimal.
func (t Text) Port() (int, error) {
	n, err := strconv.Atoi(string(t))
	if err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != string(t) {
		return 0, Errorf(KindInvalid, "ValueError", "invalid port: %.40q", string(t))
	}
	return n, nil
}
