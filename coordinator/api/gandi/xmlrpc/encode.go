package xmlrpc

import (
	"math"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

const prologue = "<?xml version='1.0' encoding='UTF-8'?>\n"

// Encoder writes one methodResponse into a buffer. Calls must nest as the document does:
//
//	e.BeginReply()
//	e.BeginStruct()
//	e.MemberString("api_version", "3.3.42")
//	e.EndStruct()
//	e.EndReply()
//
// Take one with [NewEncoder] and give it back with Free.
type Encoder struct {
	buf []byte
	// NilAsString writes an empty string where a nil belongs, for clients that do not know nil.
	NilAsString bool
}

var encoders = sync.Pool{New: func() any { return &Encoder{buf: make([]byte, 0, 16<<10)} }}

// NewEncoder returns an empty encoder.
func NewEncoder() *Encoder { return encoders.Get().(*Encoder) }

// Free gives the encoder back; its bytes must not be used any more. A buffer that one huge reply made grow is dropped.
func (e *Encoder) Free() {
	if cap(e.buf) > 4<<20 {
		return
	}
	e.buf, e.NilAsString = e.buf[:0], false
	encoders.Put(e)
}

// Bytes is what was written so far.
func (e *Encoder) Bytes() []byte { return e.buf }

// Mark and Rewind drop what was written since: a result that turns into a fault.
func (e *Encoder) Mark() int { return len(e.buf) }

// Rewind goes back to a mark.
func (e *Encoder) Rewind(mark int) { e.buf = e.buf[:mark] }

// BeginReply opens a response with one result.
func (e *Encoder) BeginReply() {
	e.raw(prologue + "<methodResponse><params><param>")
}

// EndReply closes what BeginReply opened.
func (e *Encoder) EndReply() { e.raw("</param></params></methodResponse>\n") }

// Fault writes a whole response that is a fault.
func (e *Encoder) Fault(code int, text string) {
	e.raw(prologue + "<methodResponse><fault>")
	e.FaultStruct(code, text)
	e.raw("</fault></methodResponse>\n")
}

// FaultStruct writes a fault as a value, as the results of system.multicall hold it.
func (e *Encoder) FaultStruct(code int, text string) {
	e.BeginStruct()
	e.MemberInt("faultCode", int64(code))
	e.MemberString("faultString", text)
	e.EndStruct()
}

// BeginArray opens an array; values follow.
func (e *Encoder) BeginArray() { e.raw("<value><array><data>") }

// EndArray closes it.
func (e *Encoder) EndArray() { e.raw("</data></array></value>") }

// BeginStruct opens a struct; members follow.
func (e *Encoder) BeginStruct() { e.raw("<value><struct>") }

// EndStruct closes it.
func (e *Encoder) EndStruct() { e.raw("</struct></value>") }

// BeginMember opens a member whose value, an array or struct, follows.
func (e *Encoder) BeginMember(name string) {
	e.raw("<member><name>")
	e.text(name)
	e.raw("</name>")
}

// EndMember closes it.
func (e *Encoder) EndMember() { e.raw("</member>") }

// String writes a text. Characters that XML does not allow are dropped.
func (e *Encoder) String(s string) {
	e.raw("<value><string>")
	e.text(s)
	e.raw("</string></value>")
}

// Int writes an integer; it must fit 32 bits, the widest type every client reads.
func (e *Encoder) Int(n int64) {
	e.raw("<value><int>")
	e.buf = strconv.AppendInt(e.buf, n, 10)
	e.raw("</int></value>")
}

// Bool writes a boolean.
func (e *Encoder) Bool(b bool) {
	if b {
		e.raw("<value><boolean>1</boolean></value>")
	} else {
		e.raw("<value><boolean>0</boolean></value>")
	}
}

// Double writes a finite number in fixed notation with at least one decimal.
func (e *Encoder) Double(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		f = 0
	}
	e.raw("<value><double>")
	before := len(e.buf)
	e.buf = strconv.AppendFloat(e.buf, f, 'f', -1, 64)
	for _, c := range e.buf[before:] {
		if c == '.' {
			before = -1
			break
		}
	}
	if before >= 0 {
		e.raw(".0")
	}
	e.raw("</double></value>")
}

// Time writes a moment in UTC, and nil for the zero time.
func (e *Encoder) Time(t time.Time) {
	if t.IsZero() {
		e.Nil()
		return
	}
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	e.raw("<value><dateTime.iso8601>")
	e.twoDigits(year / 100 % 100)
	e.twoDigits(year % 100)
	e.twoDigits(int(month))
	e.twoDigits(day)
	e.raw("T")
	e.twoDigits(hour)
	e.raw(":")
	e.twoDigits(minute)
	e.raw(":")
	e.twoDigits(second)
	e.raw("</dateTime.iso8601></value>")
}

func (e *Encoder) twoDigits(n int) { e.buf = append(e.buf, byte('0'+n/10), byte('0'+n%10)) }

// Nil writes that there is nothing.
func (e *Encoder) Nil() {
	if e.NilAsString {
		e.raw("<value><string></string></value>")
		return
	}
	e.raw("<value><nil/></value>")
}

// MemberString writes a member that is a text.
func (e *Encoder) MemberString(name, s string) { e.BeginMember(name); e.String(s); e.EndMember() }

// MemberStringOrNil writes a member that is a text, or nil when the text is empty.
func (e *Encoder) MemberStringOrNil(name, s string) {
	if s == "" {
		e.MemberNil(name)
		return
	}
	e.MemberString(name, s)
}

// MemberInt writes a member that is an integer.
func (e *Encoder) MemberInt(name string, n int64) { e.BeginMember(name); e.Int(n); e.EndMember() }

// MemberBool writes a member that is a boolean.
func (e *Encoder) MemberBool(name string, b bool) { e.BeginMember(name); e.Bool(b); e.EndMember() }

// MemberDouble writes a member that is a double.
func (e *Encoder) MemberDouble(name string, f float64) {
	e.BeginMember(name)
	e.Double(f)
	e.EndMember()
}

// MemberTime writes a member that is a moment, or nil when it is zero.
func (e *Encoder) MemberTime(name string, t time.Time) { e.BeginMember(name); e.Time(t); e.EndMember() }

// MemberNil writes a member that is nil.
func (e *Encoder) MemberNil(name string) { e.BeginMember(name); e.Nil(); e.EndMember() }

func (e *Encoder) raw(s string) { e.buf = append(e.buf, s...) }

// plain holds the bytes that text copies as they are: ASCII without markup and without forbidden controls.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '&' && c != '<' && c != '>'
	}
	t['\t'], t['\n'], t['\r'] = true, true, true
	return t
}()

// text appends s escaped: only &, < and > are written as entities, everything else as it is.
func (e *Encoder) text(s string) {
	begin := 0
	for i := 0; i < len(s); {
		if plain[s[i]] {
			i++
			continue
		}
		escaped, size := "", 1
		switch s[i] {
		case '&':
			escaped = "&amp;"
		case '<':
			escaped = "&lt;"
		case '>':
			escaped = "&gt;"
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if isXMLChar(r) && (r != utf8.RuneError || n > 1) {
				i += n
				continue
			}
			size = n // not allowed: dropped
		}
		e.buf = append(e.buf, s[begin:i]...)
		e.buf = append(e.buf, escaped...)
		i += size
		begin = i
	}
	e.buf = append(e.buf, s[begin:]...)
}
