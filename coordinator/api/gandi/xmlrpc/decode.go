package xmlrpc

import (
	"slices"
	"strings"
)

// MaxDepth is how deep values may be nested in each other.
const MaxDepth = 64

// Decode reads a methodCall. An error is always a *SyntaxError.
func Decode(body []byte) (Call, error) {
	text, err := toText(body)
	if err != nil {
		return Call{}, err
	}
	d := decoder{scanner{s: text}}
	return d.document()
}

// decoder reads by recursive descent: each method is called after the start tag of its element and returns after its end tag.
type decoder struct{ scanner }

func (d *decoder) document() (Call, error) {
	root, err := d.child("")
	if err != nil {
		return Call{}, err
	}
	if root != "methodCall" {
		return Call{}, syntaxError("the request is not a methodCall")
	}
	call, err := d.methodCall()
	if err != nil {
		return Call{}, err
	}
	if extra, err := d.child(""); err != nil || extra != "" {
		return Call{}, orElse(err, "the request goes on after the methodCall")
	}
	return call, nil
}

func (d *decoder) methodCall() (call Call, err error) {
	named, params := false, false
	for {
		name, err := d.child("methodCall")
		switch {
		case err != nil:
			return Call{}, err
		case name == "" && !named:
			return Call{}, syntaxError("the methodCall has no methodName")
		case name == "":
			return call, nil
		case name == "methodName" && !named:
			text, err := d.content("methodName")
			if err != nil {
				return Call{}, err
			}
			call.Method, named = strings.TrimSpace(text), true
		case name == "params" && !params:
			if call.Params, err = d.params(); err != nil {
				return Call{}, err
			}
			params = true
		default:
			return Call{}, unexpected(name, "methodCall")
		}
	}
}

func (d *decoder) params() ([]Value, error) {
	var out []Value
	for {
		name, err := d.child("params")
		switch {
		case err != nil:
			return nil, err
		case name == "":
			return out, nil
		case name != "param":
			return nil, unexpected(name, "params")
		}
		v, err := d.only("param")
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
}

// only reads an element that holds exactly one value.
func (d *decoder) only(parent string) (Value, error) {
	if name, err := d.child(parent); err != nil || name != "value" {
		return Value{}, orElse(err, "<"+parent+"> must hold one <value>")
	}
	v, err := d.value(1)
	if err != nil {
		return Value{}, err
	}
	if name, err := d.child(parent); err != nil || name != "" {
		return Value{}, orElse(err, "<"+parent+"> must hold one <value>")
	}
	return v, nil
}

// value reads the inside of a value: text, which is a string as it stands, or one typed element with blanks around it.
func (d *decoder) value(depth int) (Value, error) {
	if depth > MaxDepth {
		return Value{}, syntaxError("values are nested too deeply: at most 64 levels are read")
	}
	text, tag, err := d.textUntilTag()
	if err != nil {
		return Value{}, err
	}
	if tag.kind == endTag {
		return Value{Kind: String, Text: text}, ended(tag, "value")
	}
	if !isBlank(text) {
		return Value{}, syntaxError("a <value> holds both text and a type")
	}
	v, err := d.typed(tag.text, depth)
	if err != nil {
		return Value{}, err
	}
	if name, err := d.child("value"); err != nil || name != "" {
		return Value{}, orElse(err, "a <value> holds more than one type")
	}
	return v, nil
}

var scalarKinds = map[string]Kind{
	"string": String, "i4": Int, "int": Int, "i8": Int, "ex:i8": Int, "double": Double, "boolean": Boolean,
	"dateTime.iso8601": DateTime, "base64": Base64, "nil": Nil, "ex:nil": Nil,
}

func (d *decoder) typed(tag string, depth int) (Value, error) {
	switch tag {
	case "array":
		return d.array(depth)
	case "struct":
		return d.structure(depth)
	}
	kind, ok := scalarKinds[tag]
	if !ok {
		return Value{}, syntaxError("<value> does not know the type " + quoteShort(tag))
	}
	text, err := d.content(tag)
	if err != nil {
		return Value{}, err
	}
	if !validScalar(kind, strings.TrimSpace(text)) {
		return Value{}, syntaxError("a <" + tag + "> holds something else")
	}
	return Value{Kind: kind, Text: text}, nil
}

// validScalar checks the text of a scalar without its surrounding blanks. Ranges belong to whoever uses the value.
func validScalar(kind Kind, text string) bool {
	switch kind {
	case Int:
		return digitsOnly(strings.TrimLeft(text, "+-")) && len(text)-len(strings.TrimLeft(text, "+-")) <= 1
	case Double:
		return validDouble(text)
	case Boolean:
		return text == "0" || text == "1" || strings.EqualFold(text, "true") || strings.EqualFold(text, "false")
	case Nil:
		return text == ""
	}
	return true
}

func digitsOnly(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func validDouble(text string) bool {
	if text != "" && (text[0] == '+' || text[0] == '-') {
		text = text[1:]
	}
	mantissa, exponent := text, "0"
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, exponent = text[:i], text[i+1:]
		if exponent != "" && (exponent[0] == '+' || exponent[0] == '-') {
			exponent = exponent[1:]
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	return digitsOnly(whole+fraction) && digitsOnly(exponent)
}

func (d *decoder) array(depth int) (Value, error) {
	v := Value{Kind: Array}
	name, err := d.child("array")
	if err != nil || name == "" {
		return v, err
	}
	if name != "data" {
		return v, unexpected(name, "array")
	}
	for {
		name, err := d.child("data")
		if err != nil {
			return v, err
		}
		if name == "" {
			break
		}
		if name != "value" {
			return v, unexpected(name, "data")
		}
		item, err := d.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.Items = append(v.Items, item)
	}
	if name, err := d.child("array"); err != nil || name != "" {
		return v, orElse(err, "an <array> holds more than one <data>")
	}
	return v, nil
}

func (d *decoder) structure(depth int) (Value, error) {
	var members []Member
	for {
		name, err := d.child("struct")
		switch {
		case err != nil:
			return Value{}, err
		case name == "":
			return Value{Kind: Struct, Members: uniqueMembers(members)}, nil
		case name != "member":
			return Value{}, unexpected(name, "struct")
		}
		m, err := d.member(depth)
		if err != nil {
			return Value{}, err
		}
		members = append(members, m)
	}
}

// uniqueMembers keeps the last of several members of one name, at its own place.
func uniqueMembers(members []Member) []Member {
	last := make(map[string]int, len(members))
	for i, m := range members {
		last[m.Name] = i
	}
	if len(last) == len(members) {
		return members
	}
	i := -1
	return slices.DeleteFunc(members, func(m Member) bool {
		i++
		return last[m.Name] != i
	})
}

func (d *decoder) member(depth int) (m Member, err error) {
	named, valued := false, false
	for {
		name, err := d.child("member")
		switch {
		case err != nil:
			return Member{}, err
		case name == "" && !(named && valued):
			return Member{}, syntaxError("a <member> needs a <name> and a <value>")
		case name == "":
			return m, nil
		case name == "name" && !named:
			if m.Name, err = d.content("name"); err != nil {
				return Member{}, err
			}
			named = true
		case name == "value" && !valued:
			if m.Value, err = d.value(depth + 1); err != nil {
				return Member{}, err
			}
			valued = true
		default:
			return Member{}, unexpected(name, "member")
		}
	}
}

// child skips blanks and returns the name of the next element inside parent, or "" at parent's end. With parent "" it is the
// document, which ends with the input.
func (d *decoder) child(parent string) (string, error) {
	for {
		t, err := d.next()
		switch {
		case err != nil:
			return "", err
		case t.kind == startTag:
			return t.text, nil
		case t.kind == charData && isBlank(t.text):
		case t.kind == charData:
			return "", syntaxError("there is text between tags")
		case t.kind == endOfInput && parent == "":
			return "", nil
		default:
			return "", ended(t, parent)
		}
	}
}

// content reads an element that holds only text.
func (d *decoder) content(parent string) (string, error) {
	text, tag, err := d.textUntilTag()
	if err != nil {
		return "", err
	}
	if tag.kind == startTag {
		return "", unexpected(tag.text, parent)
	}
	return text, ended(tag, parent)
}

// textUntilTag joins the text up to the next tag or the end of the input.
func (d *decoder) textUntilTag() (string, token, error) {
	text := ""
	var joined *strings.Builder
	for {
		t, err := d.next()
		if err != nil {
			return "", t, err
		}
		switch {
		case t.kind != charData && joined != nil:
			return joined.String(), t, nil
		case t.kind != charData:
			return text, t, nil
		case text == "" && joined == nil:
			text = t.text
		case joined == nil: // a second run: collect, so that a thousand runs do not cost a million copies
			joined = new(strings.Builder)
			joined.WriteString(text)
			fallthrough
		default:
			joined.WriteString(t.text)
		}
	}
}

// ended checks that a token is the end tag of an element.
func ended(t token, parent string) error {
	switch {
	case t.kind == endOfInput:
		return syntaxError("the request ends before </" + orDocument(parent) + ">")
	case t.kind != endTag || t.text != parent:
		return syntaxError("</" + orDocument(parent) + "> was expected, not </" + short(t.text) + ">")
	}
	return nil
}

func orDocument(parent string) string {
	if parent == "" {
		return "methodCall"
	}
	return parent
}

func unexpected(name, parent string) error {
	return syntaxError("<" + parent + "> must not hold <" + short(name) + ">")
}

func orElse(err error, msg string) error {
	if err != nil {
		return err
	}
	return syntaxError(msg)
}
