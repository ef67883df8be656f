// Package xmlrpctest is the other side of the wire for tests: a client as stock clients are, and a reader of replies that
// accepts only what the most limited of them understands. It shares no code with the encoder that it judges.
package xmlrpctest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Fault is a reply that is a fault.
type Fault struct {
	Code int
	Text string
}

func (f *Fault) Error() string { return fmt.Sprintf("fault %d: %s", f.Code, f.Text) }

// CodeOf is the number of the fault that err is, 0 for none and -1 for another error.
func CodeOf(err error) int {
	if err == nil {
		return 0
	}
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.Code
	}
	return -1
}

// Call sends a call as Python's client does and reads the reply strictly. Parameters: string, int, bool, float64, nil,
// []any, []string, map[string]any, and Raw.
func Call(url, method string, params ...any) (any, error) {
	return Post(url, Encode(method, params...))
}

// Post sends a body and reads the reply strictly, its HTTP form too.
func Post(url string, body []byte) (any, error) {
	resp, err := http.Post(url, "text/xml", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("got HTTP status %s, want 200", resp.Status)
	case !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/xml"):
		return nil, fmt.Errorf("got content type %q, want text/xml", resp.Header.Get("Content-Type"))
	case resp.ContentLength != int64(len(data)):
		return nil, fmt.Errorf("got Content-Length %d for %d bytes", resp.ContentLength, len(data))
	case resp.Header.Get("Content-Encoding") != "":
		return nil, errors.New("got a Content-Encoding")
	}
	return Parse(data)
}

// Raw is a value written as it stands, e.g. "<value><i4>1</i4></value>".
type Raw string

// Encode writes a methodCall.
func Encode(method string, params ...any) []byte {
	var b bytes.Buffer
	b.WriteString("<?xml version='1.0'?>\n<methodCall>\n<methodName>" + method + "</methodName>\n<params>\n")
	for _, p := range params {
		b.WriteString("<param>\n")
		encode(&b, p)
		b.WriteString("</param>\n")
	}
	b.WriteString("</params>\n</methodCall>\n")
	return b.Bytes()
}

func encode(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case Raw:
		b.WriteString(string(v))
	case nil:
		b.WriteString("<value><nil/></value>")
	case string:
		b.WriteString("<value><string>")
		_ = xml.EscapeText(b, []byte(v))
		b.WriteString("</string></value>\n")
	case int:
		fmt.Fprintf(b, "<value><int>%d</int></value>\n", v)
	case float64:
		fmt.Fprintf(b, "<value><double>%v</double></value>\n", v)
	case bool:
		fmt.Fprintf(b, "<value><boolean>%d</boolean></value>\n", map[bool]int{true: 1}[v])
	case []string:
		items := make([]any, len(v))
		for i := range v {
			items[i] = v[i]
		}
		encode(b, items)
	case []any:
		b.WriteString("<value><array><data>\n")
		for _, item := range v {
			encode(b, item)
		}
		b.WriteString("</data></array></value>\n")
	case map[string]any:
		b.WriteString("<value><struct>\n")
		for name, member := range v {
			b.WriteString("<member>\n<name>")
			_ = xml.EscapeText(b, []byte(name))
			b.WriteString("</name>\n")
			encode(b, member)
			b.WriteString("</member>\n")
		}
		b.WriteString("</struct></value>\n")
	default:
		panic(fmt.Sprintf("xmlrpctest: a %T cannot be sent", v))
	}
}

const prologue = "<?xml version='1.0' encoding='UTF-8'?>\n"

// Parse reads a reply. It returns string, int, bool, float64, time.Time, nil, []any or map[string]any, and a *Fault as the
// error. What any known client cannot read is an error too.
func Parse(body []byte) (any, error) {
	text := string(body)
	rest, ok := strings.CutPrefix(text, prologue)
	if !ok {
		return nil, fmt.Errorf("got a reply that does not begin with the declaration: %.80q", text)
	}
	for _, bad := range []string{"&#", "&quot;", "&apos;", "<i8", "ex:", "<string/>", "<nil></nil>", "<array/>", "<data/>", "<struct/>"} {
		if strings.Contains(rest, bad) {
			return nil, fmt.Errorf("got a reply with %q, which some clients cannot read", bad)
		}
	}
	p := &parser{xml.NewDecoder(strings.NewReader(rest))}
	v, err := p.reply()
	if err != nil {
		return nil, err
	}
	if _, err := p.Token(); err != nil && err != io.EOF {
		return nil, err
	}
	return v, nil
}

type parser struct{ *xml.Decoder }

func (p *parser) reply() (any, error) {
	if err := p.open("methodResponse"); err != nil {
		return nil, err
	}
	kind, err := p.start()
	if err != nil {
		return nil, err
	}
	switch kind {
	case "fault":
		v, err := p.value("fault")
		if err != nil {
			return nil, err
		}
		m, _ := v.(map[string]any)
		f := &Fault{}
		var ok1, ok2 bool
		f.Code, ok1 = m["faultCode"].(int)
		f.Text, ok2 = m["faultString"].(string)
		if !ok1 || !ok2 || len(m) != 2 {
			return nil, fmt.Errorf("got a fault of %v", v)
		}
		return nil, f
	case "params":
		if err := p.open("param"); err != nil {
			return nil, err
		}
		v, err := p.value("param")
		if err != nil {
			return nil, err
		}
		if err := p.close("params"); err != nil {
			return nil, err
		}
		return v, p.close("methodResponse")
	}
	return nil, fmt.Errorf("got <%s> in methodResponse", kind)
}

// value reads <value>…</value> and the end of parent.
func (p *parser) value(parent string) (any, error) {
	if err := p.open("value"); err != nil {
		return nil, err
	}
	v, err := p.inside()
	if err != nil {
		return nil, err
	}
	return v, p.close(parent)
}

var (
	datePattern   = regexp.MustCompile(`^\d{8}T\d\d:\d\d:\d\d$`)
	doublePattern = regexp.MustCompile(`^-?\d+\.\d+$`)
)

// inside reads what a value holds, and the end of the value.
func (p *parser) inside() (v any, err error) {
	kind, err := p.start()
	if err != nil {
		return nil, err
	}
	switch kind {
	case "array":
		v, err = p.array()
	case "struct":
		v, err = p.structure()
	default:
		var text string
		if text, err = p.text(kind); err == nil {
			v, err = scalar(kind, text)
		}
	}
	if err != nil {
		return nil, err
	}
	return v, p.close("value")
}

func scalar(kind, text string) (any, error) {
	switch kind {
	case "string":
		return text, nil
	case "int":
		n, err := strconv.ParseInt(text, 10, 32)
		return int(n), err
	case "boolean":
		if text != "0" && text != "1" {
			return nil, fmt.Errorf("got boolean %q", text)
		}
		return text == "1", nil
	case "double":
		if !doublePattern.MatchString(text) {
			return nil, fmt.Errorf("got double %q", text)
		}
		return strconv.ParseFloat(text, 64)
	case "dateTime.iso8601":
		if !datePattern.MatchString(text) {
			return nil, fmt.Errorf("got date %q", text)
		}
		return time.Parse("20060102T15:04:05", text)
	case "nil":
		return nil, nil
	}
	return nil, fmt.Errorf("got a value of type %q", kind)
}

func (p *parser) array() (any, error) {
	if err := p.open("data"); err != nil {
		return nil, err
	}
	out := []any{}
	for {
		kind, err := p.startOrEnd("data")
		if err != nil {
			return nil, err
		}
		if kind == "" {
			return out, p.close("array")
		}
		if kind != "value" {
			return nil, fmt.Errorf("got <%s> in data", kind)
		}
		v, err := p.inside()
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
}

func (p *parser) structure() (any, error) {
	out := map[string]any{}
	for {
		kind, err := p.startOrEnd("struct")
		if err != nil || kind == "" {
			return out, err
		}
		if kind != "member" {
			return nil, fmt.Errorf("got <%s> in struct", kind)
		}
		if err := p.open("name"); err != nil {
			return nil, err
		}
		name, err := p.text("name")
		if err != nil {
			return nil, err
		}
		v, err := p.value("member")
		if err != nil {
			return nil, err
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("got member %q twice", name)
		}
		out[name] = v
	}
}

// text reads up to the end of an element that holds only text.
func (p *parser) text(parent string) (string, error) {
	text := ""
	for {
		t, err := p.Token()
		switch t := t.(type) {
		case xml.CharData:
			text += string(t)
		case xml.EndElement:
			return text, nil
		default:
			return "", fmt.Errorf("got %T in %s: %v", t, parent, err)
		}
	}
}

func (p *parser) open(name string) error {
	got, err := p.start()
	if err == nil && got != name {
		err = fmt.Errorf("got <%s>, want <%s>", got, name)
	}
	return err
}

func (p *parser) start() (string, error) {
	name, err := p.startOrEnd("")
	if err == nil && name == "" {
		err = errors.New("got an end tag, want a start tag")
	}
	return name, err
}

func (p *parser) close(name string) error {
	got, err := p.startOrEnd(name)
	if err == nil && got != "" {
		err = fmt.Errorf("got <%s>, want </%s>", got, name)
	}
	return err
}

// startOrEnd returns the name of the next start tag, or "" at an end tag. There must be no blanks between.
func (p *parser) startOrEnd(parent string) (string, error) {
	t, err := p.Token()
	switch t := t.(type) {
	case xml.StartElement:
		if len(t.Attr) > 0 || t.Name.Space != "" {
			return "", fmt.Errorf("got attributes or a namespace on <%s>", t.Name.Local)
		}
		return t.Name.Local, nil
	case xml.EndElement:
		return "", nil
	}
	return "", fmt.Errorf("got %T %q in %s: %v", t, t, parent, err)
}
