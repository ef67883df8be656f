package xmlrpc

import (
	"strconv"
	"time"
)

// Field is the name of a struct's member, with what surrounds each type of value ready to be copied: replies consist
// mostly of that. Make fields once, as package variables.
type Field struct {
	begin                     string // up to the value
	text, integer, date       string // into the value of a type
	yes, no, null, nullString string // whole members
}

// NewField prepares a member's name.
func NewField(name string) Field {
	begin := string(appendText([]byte("<member><name>"), name)) + "</name>"
	whole := func(value string) string { return begin + "<value>" + value + "</value></member>" }
	return Field{
		begin: begin, text: begin + "<value><string>", integer: begin + "<value><int>", date: begin + "<value><dateTime.iso8601>",
		yes: whole("<boolean>1</boolean>"), no: whole("<boolean>0</boolean>"), null: whole("<nil/>"), nullString: whole("<string></string>"),
	}
}

// Begin opens a member whose value, an array or struct, follows; Encoder.EndMember closes it.
func (f *Field) Begin(e *Encoder) { e.raw(f.begin) }

// String writes a member that is a text.
func (f *Field) String(e *Encoder, s string) {
	b := appendText(append(e.buf, f.text...), s)
	e.buf = append(b, "</string></value></member>"...)
}

// Strings writes a member that is a text made of parts.
func (f *Field) Strings(e *Encoder, parts ...string) {
	b := append(e.buf, f.text...)
	for _, s := range parts {
		b = appendText(b, s)
	}
	e.buf = append(b, "</string></value></member>"...)
}

// List writes a member that is an array of texts.
func (f *Field) List(e *Encoder, texts []string) {
	f.Begin(e)
	e.BeginArray()
	for _, s := range texts {
		e.String(s)
	}
	e.EndArray()
	e.EndMember()
}

// StringOrNil writes a member that is a text, or nil when the text is empty.
func (f *Field) StringOrNil(e *Encoder, s string) {
	if s == "" {
		f.Nil(e)
		return
	}
	f.String(e, s)
}

// Int writes a member that is an integer of at most 32 bits.
func (f *Field) Int(e *Encoder, n int64) {
	b := strconv.AppendInt(append(e.buf, f.integer...), n, 10)
	e.buf = append(b, "</int></value></member>"...)
}

// Bool writes a member that is a boolean.
func (f *Field) Bool(e *Encoder, b bool) {
	if b {
		e.raw(f.yes)
	} else {
		e.raw(f.no)
	}
}

// Double writes a member that is a double.
func (f *Field) Double(e *Encoder, v float64) {
	f.Begin(e)
	e.Double(v)
	e.EndMember()
}

// Time writes a member that is a moment, or nil when it is zero.
func (f *Field) Time(e *Encoder, t time.Time) {
	if t.IsZero() {
		f.Nil(e)
		return
	}
	b := appendTime(append(e.buf, f.date...), t)
	e.buf = append(b, "</dateTime.iso8601></value></member>"...)
}

// Nil writes a member that is nil.
func (f *Field) Nil(e *Encoder) {
	if e.NilAsString {
		e.raw(f.nullString)
	} else {
		e.raw(f.null)
	}
}

// faultCode and faultString are the members of every fault.
var (
	faultCode   = NewField("faultCode")
	faultString = NewField("faultString")
)
