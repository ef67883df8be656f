package xmlrpc

import (
	"strings"
	"unicode/utf8"
)

// windows1252 holds what the bytes 0x80 to 0x9f mean in windows-1252; 0 stands for the five it leaves undefined.
var windows1252 = [32]rune{
	0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017d, 0,
	0, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0, 0x017e, 0x0178,
}

// toText turns a body into valid UTF-8 that holds only characters XML 1.0 allows, with newlines as XML normalises them, and
// without byte order mark and XML declaration. Declared encodings: UTF-8, US-ASCII, ISO-8859-1, windows-1252.
func toText(body []byte) (string, error) {
	text := strings.TrimPrefix(string(body), "\ufeff")
	text = strings.TrimLeft(text, " \t\r\n")
	encoding := "utf-8"
	if rest, ok := strings.CutPrefix(text, "<?xml"); ok && rest != "" && isSpace(rest[0]) {
		decl, after, ok := strings.Cut(rest, "?>")
		if !ok {
			return "", syntaxError("the XML declaration does not end")
		}
		declared, err := declaredEncoding(decl)
		if err != nil {
			return "", err
		}
		if declared != "" {
			encoding = declared
		}
		text = after
	}
	text, err := decodeCharset(text, encoding)
	if err != nil {
		return "", err
	}
	if err := checkCharacters(text); err != nil {
		return "", err
	}
	if strings.Contains(text, "\r") {
		text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	}
	return text, nil
}

// declaredEncoding reads version and encoding of an XML declaration.
func declaredEncoding(decl string) (string, error) {
	s := scanner{s: decl}
	encoding := ""
	for {
		s.skipSpace()
		if s.i == len(s.s) {
			return encoding, nil
		}
		name, value, err := s.attribute()
		if err != nil {
			return "", err
		}
		switch name {
		case "version":
			if value != "1.0" {
				return "", syntaxError("XML version " + quoteShort(value) + " is not supported: send 1.0")
			}
		case "encoding":
			encoding = strings.ToLower(value)
		}
	}
}

func decodeCharset(text, encoding string) (string, error) {
	switch encoding {
	case "utf-8", "utf8", "us-ascii", "ascii": // high bytes under us-ascii can only mean UTF-8
		if !utf8.ValidString(text) {
			return "", syntaxError("the request is not valid " + strings.ToUpper(encoding))
		}
		return text, nil
	case "iso-8859-1", "iso8859-1", "latin1", "latin-1":
		return fromSingleBytes(text, false), nil
	case "windows-1252", "cp1252":
		return fromSingleBytes(text, true), nil
	}
	return "", syntaxError("encoding " + quoteShort(encoding) + " is not supported: send UTF-8")
}

func fromSingleBytes(text string, windows bool) string {
	var out strings.Builder
	out.Grow(len(text) + len(text)/8)
	for i := range len(text) {
		r := rune(text[i])
		if windows && r >= 0x80 && r < 0xa0 && windows1252[r-0x80] != 0 {
			r = windows1252[r-0x80]
		}
		out.WriteRune(r)
	}
	return out.String()
}

func checkCharacters(text string) error {
	for i := range len(text) {
		switch c := text[i]; {
		case c < 0x20 && c != '\t' && c != '\n' && c != '\r',
			c == 0xef && (strings.HasPrefix(text[i:], "\ufffe") || strings.HasPrefix(text[i:], "\uffff")):
			return syntaxError("the request holds a character that XML does not allow")
		}
	}
	return nil
}

// isXMLChar says that XML 1.0 allows the character (section 2.2, Char).
func isXMLChar(r rune) bool {
	return r >= 0x20 && r <= 0xd7ff || r == '\t' || r == '\n' || r == '\r' ||
		r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}
