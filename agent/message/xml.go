package message

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"regexp"
	"strings"
)

// encodeXML is the wire's older form of a message:
//
//	<message id="…" name="…"><meta><szr_version>…</szr_version>…</meta><body>…</body></message>
//
// A member is an element, a list has an <item> for each of its elements, null is empty, and true is 1. What is no name of an
// element becomes <item name="…">.
//
// Source: spec agent-core A.3
func encodeXML(m message) ([]byte, error) {
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	root := xml.StartElement{Name: xml.Name{Local: "message"}, Attr: []xml.Attr{{Name: xml.Name{Local: "id"}, Value: m.ID}, {Name: xml.Name{Local: "name"}, Value: m.Name}}}
	if err := e.EncodeToken(root); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		name  string
		value any
	}{{"meta", m.Meta}, {"body", m.Body}} {
		data, err := json.Marshal(part.value)
		if err != nil {
			return nil, err
		}
		if err := encodeValue(e, data, xml.StartElement{Name: xml.Name{Local: part.name}}); err != nil {
			return nil, err
		}
	}
	if err := e.EncodeToken(root.End()); err != nil {
		return nil, err
	}
	if err := e.Flush(); err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), b.Bytes()...), nil
}

// elementName is what may name an element without surprise.
var elementName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,100}$`)

// encodeValue writes one JSON value as the content of an element. Members keep their order.
func encodeValue(e *xml.Encoder, data json.RawMessage, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	token, err := dec.Token()
	if err != nil {
		return err
	}
	text := ""
	switch v := token.(type) {
	case json.Delim:
		for dec.More() {
			child := xml.StartElement{Name: xml.Name{Local: "item"}}
			if v == '{' {
				name, err := dec.Token()
				if err != nil {
					return err
				}
				if elementName.MatchString(name.(string)) {
					child.Name.Local = name.(string)
				} else {
					child.Attr = []xml.Attr{{Name: xml.Name{Local: "name"}, Value: name.(string)}}
				}
			}
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil {
				return err
			}
			if err := encodeValue(e, raw, child); err != nil {
				return err
			}
		}
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		if text = "0"; v {
			text = "1"
		}
	}
	if text != "" {
		if err := e.EncodeToken(xml.CharData(strings.ToValidUTF8(text, "\uFFFD"))); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}
