package xmlrpc

import (
	"bytes"
	"io"
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
//	version.String(e, "3.3.42") // version is a Field
//	e.EndStruct()
//	e.EndReply()
//
// Take one with [NewEncoder] and give it back with Free.
type Encoder struct {
	buf    []byte
	shared []piece
	// NilAsString writes an empty string where a nil belongs, for clients that do not know nil.
	NilAsString bool
}

// piece is text of somebody else that comes after so many bytes of the buffer.
type piece struct {
	at   int
	text []byte
}

var encoders = sync.Pool{New: func() any { return &Encoder{buf: make([]byte, 0, 16<<10)} }}

// NewEncoder returns an empty encoder.
func NewEncoder() *Encoder { return encoders.Get().(*Encoder) }

// Free gives the encoder back; its bytes must not be used any more. A buffer that one huge reply made grow is dropped.
func (e *Encoder) Free() {
	if cap(e.buf) > 4<<20 {
		return
	}
	e.Rewind(Mark{})
	e.NilAsString = false
	encoders.Put(e)
}

// Len is the number of bytes written so far.
func (e *Encoder) Len() int {
	n := len(e.buf)
	for _, p := range e.shared {
		n += len(p.text)
	}
	return n
}

// WriteTo implements io.WriterTo. The encoder keeps what it wrote.
func (e *Encoder) WriteTo(w io.Writer) (written int64, err error) {
	from := 0
	write := func(b []byte) {
		if err == nil && len(b) > 0 {
			var n int
			n, err = w.Write(b)
			written += int64(n)
		}
	}
	for _, p := range e.shared {
		write(e.buf[from:p.at])
		write(p.text)
		from = p.at
	}
	write(e.buf[from:])
	return written, err
}

// Since is a copy of what was written after a mark.
func (e *Encoder) Since(m Mark) []byte {
	after := Encoder{buf: e.buf[m.buf:]}
	for _, p := range e.shared[m.shared:] {
		after.shared = append(after.shared, piece{p.at - m.buf, p.text})
	}
	var b bytes.Buffer
	b.Grow(after.Len())
	_, _ = after.WriteTo(&b) // a buffer takes everything
	return b.Bytes()
}

// Append writes values that an encoder wrote before. They must not change until Free: nothing is copied.
func (e *Encoder) Append(values []byte) { e.shared = append(e.shared, piece{len(e.buf), values}) }

// Mark is a place in what an encoder writes. The zero Mark is its beginning.
type Mark struct{ buf, shared int }

// Mark and Rewind drop what was written since: a result that turns into a fault.
func (e *Encoder) Mark() Mark { return Mark{len(e.buf), len(e.shared)} }

// Rewind goes back to a mark.
func (e *Encoder) Rewind(m Mark) {
	clear(e.shared[m.shared:])
	e.buf, e.shared = e.buf[:m.buf], e.shared[:m.shared]
}

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
	faultCode.Int(e, int64(code))
	faultString.String(e, text)
	e.EndStruct()
}

// BeginArray opens an array; values follow.
func (e *Encoder) BeginArray() { e.raw("<value><array><data>") }

// EndArray closes it.
func (e *Encoder) EndArray() { e.raw("</data></array></value>") }

// BeginStruct opens a struct; members follow, see Field.
func (e *Encoder) BeginStruct() { e.raw("<value><struct>") }

// EndStruct closes it.
func (e *Encoder) EndStruct() { e.raw("</struct></value>") }

// EndMember closes what Field.Begin opened.
func (e *Encoder) EndMember() { e.raw("</member>") }

// String writes a text. Characters that XML does not allow are dropped.
func (e *Encoder) String(s string) {
	b := appendText(append(e.buf, "<value><string>"...), s)
	e.buf = append(b, "</string></value>"...)
}

// Int writes an integer; it must fit 32 bits, the widest type every client reads.
func (e *Encoder) Int(n int64) {
	b := strconv.AppendInt(append(e.buf, "<value><int>"...), n, 10)
	e.buf = append(b, "</int></value>"...)
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
	if bytes.IndexByte(e.buf[before:], '.') < 0 {
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
	b := appendTime(append(e.buf, "<value><dateTime.iso8601>"...), t)
	e.buf = append(b, "</dateTime.iso8601></value>"...)
}

func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	return append(b, digit(year/1000), digit(year/100), digit(year/10), digit(year),
		digit(int(month)/10), digit(int(month)), digit(day/10), digit(day), 'T',
		digit(hour/10), digit(hour), ':', digit(minute/10), digit(minute), ':', digit(second/10), digit(second))
}

func digit(n int) byte { return byte('0' + n%10) }

// Nil writes that there is nothing.
func (e *Encoder) Nil() {
	if e.NilAsString {
		e.raw("<value><string></string></value>")
		return
	}
	e.raw("<value><nil/></value>")
}

func (e *Encoder) raw(s string) { e.buf = append(e.buf, s...) }

// plain holds the bytes that text copies as they are: ASCII without markup and without forbidden controls.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '&' && c != '<' && c != '>'
	}
	t['\t'], t['\n'], t['\r'] = true, true, true
	return t
}()

// appendText appends s escaped: only &, < and > are written as entities, everything else as it is.
func appendText(b []byte, s string) []byte {
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
		b = append(b, s[begin:i]...)
		b = append(b, escaped...)
		i += size
		begin = i
	}
	return append(b, s[begin:]...)
}
