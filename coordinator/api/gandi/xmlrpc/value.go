package xmlrpc

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Kind is the declared type of a value.
type Kind uint8

// The declared types. A value without a type tag is a String.
const (
	String Kind = iota
	Int         // i4, int, i8, ex:i8
	Double
	Boolean
	DateTime
	Base64
	Nil
	Array
	Struct
)

var kindNames = [...]string{"string", "int", "double", "boolean", "dateTime.iso8601", "base64", "nil", "array", "struct"}

func (k Kind) String() string { return kindNames[k] }

// What is how a text calls the value, such as "an array".
func (v Value) What() string {
	switch v.Kind {
	case Int:
		if _, ok := v.AsInt(); !ok {
			return "an integer beyond 32 bits"
		}
		return "an int"
	case Array:
		return "an array"
	case Nil:
		return "nil"
	}
	return "a " + v.Kind.String()
}

// Value is one decoded value: what was declared, and the text or the parts.
type Value struct {
	Kind    Kind
	Text    string   // of scalars, exactly as sent, after references and CDATA were resolved
	Items   []Value  // of an Array
	Members []Member // of a Struct, in order; names are unique
}

// Member is one member of a struct.
type Member struct {
	Name  string
	Value Value
}

// Call is a decoded methodCall.
type Call struct {
	Method string
	Params []Value
}

// Member returns the member of a struct. A nil member counts as absent.
func (v Value) Member(name string) (Value, bool) {
	for _, m := range v.Members {
		if m.Name == name {
			return m.Value, m.Value.Kind != Nil
		}
	}
	return Value{}, false
}

// AsString takes the value as text. Numbers give the text they were sent as (007 stays 007): some clients turn every text
// that looks like a number into one.
func (v Value) AsString() (string, bool) {
	switch v.Kind {
	case String:
		return v.Text, true
	case Int, Double:
		return strings.TrimSpace(v.Text), true
	}
	return "", false
}

// AsInt takes the value as a signed 32-bit integer: an integer, a text of digits with an optional sign, or a double without
// a fraction. Booleans are not integers.
func (v Value) AsInt() (int64, bool) {
	switch v.Kind {
	case Int, String:
		n, err := strconv.ParseInt(strings.TrimSpace(v.Text), 10, 32)
		return n, err == nil
	case Double:
		f, err := strconv.ParseFloat(strings.TrimSpace(v.Text), 64)
		if err != nil || f != math.Trunc(f) || f < math.MinInt32 || f > math.MaxInt32 {
			return 0, false
		}
		return int64(f), true
	}
	return 0, false
}

// AsDouble takes the value as a finite number: a double, an integer, or a text that is one.
func (v Value) AsDouble() (float64, bool) {
	switch v.Kind {
	case Int, Double, String:
		f, err := strconv.ParseFloat(strings.TrimSpace(v.Text), 64)
		return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
	}
	return 0, false
}

// AsBool takes the value as a boolean: a boolean, the integers 0 and 1, or the texts 0, 1, true and false in any case.
func (v Value) AsBool() (value, ok bool) {
	switch v.Kind {
	case Boolean, Int, String:
	default:
		return false, false
	}
	text := strings.TrimSpace(v.Text)
	if v.Kind == Int {
		n, err := strconv.Atoi(text)
		return n == 1, err == nil && (n == 0 || n == 1)
	}
	switch {
	case text == "1" || strings.EqualFold(text, "true"):
		return true, true
	case text == "0" || strings.EqualFold(text, "false"):
		return false, true
	}
	return false, false
}

var timeLayouts = []string{
	"20060102T15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04:05",
	"20060102T15:04:05Z07:00", "2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05Z07:00",
	"20060102T15:04:05Z0700", "2006-01-02T15:04:05Z0700", "2006-01-02", "20060102",
}

// AsTime takes the value as a moment: a dateTime.iso8601 or a text in any of its usual spellings. Without a zone it is UTC.
func (v Value) AsTime() (time.Time, bool) {
	if v.Kind != DateTime && v.Kind != String {
		return time.Time{}, false
	}
	text := strings.TrimSpace(v.Text)
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// AsStruct takes the value as a struct. PHP sends an empty array for an empty struct. With optional set, nil and the empty
// text are empty structs too.
func (v Value) AsStruct(optional bool) (Value, bool) {
	switch {
	case v.Kind == Struct:
		return v, true
	case v.Kind == Array && len(v.Items) == 0,
		optional && v.Kind == Nil,
		optional && v.Kind == String && v.Text == "":
		return Value{Kind: Struct}, true
	}
	return Value{}, false
}

// AsList takes the value as a list. A scalar is a list of itself.
func (v Value) AsList() ([]Value, bool) {
	switch v.Kind {
	case Array:
		return v.Items, true
	case Struct, Nil:
		return nil, false
	}
	return []Value{v}, true
}
