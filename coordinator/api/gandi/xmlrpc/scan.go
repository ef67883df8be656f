package xmlrpc

import (
	"strconv"
	"strings"
)

// SyntaxError is a body that is not well-formed XML or not an XML-RPC call. Its text is for the caller.
type SyntaxError struct{ Msg string }

func (e *SyntaxError) Error() string { return e.Msg }

func syntaxError(msg string) error { return &SyntaxError{Msg: msg} }

// short cuts text of the request that an error repeats.
func short(s string) string {
	if len(s) > 40 {
		return s[:40]
	}
	return s
}

func quoteShort(s string) string { return strconv.QuoteToASCII(short(s)) }

type tokenKind uint8

const (
	startTag tokenKind = iota
	endTag
	charData
	endOfInput
)

// token is a tag with its name, or a run of text. Text of one element may come in several runs.
type token struct {
	kind tokenKind
	text string
}

// scanner cuts XML into tokens. It resolves references and CDATA, drops comments, processing instructions and attributes,
// and refuses document type declarations. An empty-element tag is a start and an end.
type scanner struct {
	s       string
	i       int
	closing string // name of an empty-element tag whose end comes next
}

func (s *scanner) next() (token, error) {
	if s.closing != "" {
		t := token{endTag, s.closing}
		s.closing = ""
		return t, nil
	}
	for s.i < len(s.s) {
		rest := s.s[s.i:]
		switch {
		case rest[0] != '<':
			return s.text()
		case strings.HasPrefix(rest, "<!--"):
			body, _, ok := strings.Cut(rest[4:], "--")
			if !ok || !strings.HasPrefix(rest[4+len(body):], "-->") {
				return token{}, syntaxError("a comment does not end, or holds two dashes")
			}
			s.i += len("<!--") + len(body) + len("-->")
		case strings.HasPrefix(rest, "<![CDATA["):
			body, _, ok := strings.Cut(rest[9:], "]]>")
			if !ok {
				return token{}, syntaxError("a CDATA section does not end")
			}
			s.i += len("<![CDATA[") + len(body) + len("]]>")
			return token{charData, body}, nil
		case strings.HasPrefix(rest, "<!"):
			return token{}, syntaxError("document type and entity declarations are refused")
		case strings.HasPrefix(rest, "<?"):
			if err := s.instruction(); err != nil {
				return token{}, err
			}
		case strings.HasPrefix(rest, "</"):
			return s.end()
		default:
			return s.start()
		}
	}
	return token{kind: endOfInput}, nil
}

func (s *scanner) instruction() error {
	s.i += len("<?")
	target := s.name()
	body, _, ok := strings.Cut(s.s[s.i:], "?>")
	switch {
	case target == "" || strings.EqualFold(target, "xml"):
		return syntaxError("the XML declaration must be the first thing in the request")
	case !ok || body != "" && !isSpace(body[0]):
		return syntaxError("a processing instruction does not end")
	}
	s.i += len(body) + len("?>")
	return nil
}

func (s *scanner) start() (token, error) {
	s.i++
	name := s.name()
	if name == "" {
		return token{}, syntaxError("a tag has no name")
	}
	for {
		spaces := s.skipSpace()
		switch rest := s.s[s.i:]; {
		case rest == "":
			return token{}, syntaxError("the request ends inside the tag <" + short(name) + ">")
		case rest[0] == '>':
			s.i++
			return token{startTag, name}, nil
		case strings.HasPrefix(rest, "/>"):
			s.i += 2
			s.closing = name
			return token{startTag, name}, nil
		case !spaces:
			return token{}, syntaxError("the tag <" + short(name) + "> is malformed")
		}
		if _, _, err := s.attribute(); err != nil {
			return token{}, err
		}
	}
}

func (s *scanner) end() (token, error) {
	s.i += len("</")
	name := s.name()
	s.skipSpace()
	if name == "" || s.i == len(s.s) || s.s[s.i] != '>' {
		return token{}, syntaxError("an end tag is malformed")
	}
	s.i++
	return token{endTag, name}, nil
}

// attribute reads name="value" and leaves the position after it.
func (s *scanner) attribute() (name, value string, err error) {
	name = s.name()
	s.skipSpace()
	if name == "" || s.i == len(s.s) || s.s[s.i] != '=' {
		return "", "", syntaxError("an attribute is malformed")
	}
	s.i++
	s.skipSpace()
	if s.i == len(s.s) || s.s[s.i] != '"' && s.s[s.i] != '\'' {
		return "", "", syntaxError("an attribute has no quoted value")
	}
	quote := s.s[s.i]
	s.i++
	length := strings.IndexByte(s.s[s.i:], quote)
	if length < 0 {
		return "", "", syntaxError("an attribute's value does not end")
	}
	raw := s.s[s.i : s.i+length]
	s.i += length + 1
	if strings.Contains(raw, "<") {
		return "", "", syntaxError("an attribute's value holds <")
	}
	value, err = resolve(raw)
	return name, value, err
}

func (s *scanner) text() (token, error) {
	raw, _, _ := strings.Cut(s.s[s.i:], "<")
	s.i += len(raw)
	if strings.Contains(raw, "]]>") {
		return token{}, syntaxError("text holds ]]> outside of a CDATA section")
	}
	text, err := resolve(raw)
	return token{charData, text}, err
}

// name reads an ASCII name; "" when there is none. XML-RPC knows no others.
func (s *scanner) name() string {
	begin := s.i
	for s.i < len(s.s) && isNameByte(s.s[s.i], s.i == begin) {
		s.i++
	}
	return s.s[begin:s.i]
}

func isNameByte(c byte, first bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' ||
		!first && (c >= '0' && c <= '9' || c == '-' || c == '.' || c == ':')
}

func (s *scanner) skipSpace() bool {
	begin := s.i
	for s.i < len(s.s) && isSpace(s.s[s.i]) {
		s.i++
	}
	return s.i > begin
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func isBlank(s string) bool {
	for i := range len(s) {
		if !isSpace(s[i]) {
			return false
		}
	}
	return true
}

// resolve replaces the five entities of XML and numeric character references. There are no others: nothing can declare them.
func resolve(raw string) (string, error) {
	before, rest, found := strings.Cut(raw, "&")
	if !found {
		return raw, nil
	}
	var out strings.Builder
	out.Grow(len(raw))
	for {
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		ref, after, ok := strings.Cut(rest, ";")
		if !ok {
			return "", syntaxError("a reference does not end: write & as &amp;")
		}
		r, ok := reference(ref)
		if !ok {
			return "", syntaxError("the reference " + quoteShort("&"+ref+";") + " is not defined")
		}
		out.WriteRune(r)
		before, rest, found = strings.Cut(after, "&")
	}
}

func reference(ref string) (rune, bool) {
	switch ref {
	case "amp":
		return '&', true
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return 0, false
	}
	base := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	return rune(n), err == nil && n <= 0x10ffff && isXMLChar(rune(n))
}
