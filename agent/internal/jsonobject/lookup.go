package jsonobject

import (
	"bytes"
	"encoding/json"
)

// Lookup finds the members of a JSON object by their names, the last one of a name, and leaves those that are not there
// nil. The values are parts of object. object must be valid JSON; ok is false when it is no object.
func Lookup(object []byte, names []string, values []json.RawMessage) (ok bool) {
	rest := skipSpace(object)
	if len(rest) == 0 || rest[0] != '{' {
		return false
	}
	rest = skipSpace(rest[1:])
	for rest[0] != '}' {
		key := rest[:stringLen(rest)]
		rest = skipSpace(rest[len(key):])
		rest = skipSpace(rest[1:]) // the colon
		value := rest[:valueLen(rest)]
		rest = skipSpace(rest[len(value):])
		if i := indexKey(names, key); i >= 0 {
			values[i] = value
		}
		if rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
	return true
}

// indexKey finds a quoted key among names.
func indexKey(names []string, quoted []byte) int {
	key := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(key, '\\') >= 0 {
		var plain string
		if json.Unmarshal(quoted, &plain) != nil {
			return -1
		}
		key = []byte(plain)
	}
	for i, name := range names {
		if string(key) == name {
			return i
		}
	}
	return -1
}

func skipSpace(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\t' || text[0] == '\n' || text[0] == '\r') {
		text = text[1:]
	}
	return text
}

// stringLen is the length of the string, with its quotes, that valid JSON text starts with.
func stringLen(text []byte) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// valueLen is the length of the value that valid JSON text starts with.
func valueLen(text []byte) int {
	switch text[0] {
	case '"':
		return stringLen(text)
	case '{', '[':
		nesting := 0
		for i := 0; ; i++ {
			switch text[i] {
			case '"':
				i += stringLen(text[i:]) - 1
			case '{', '[':
				nesting++
			case '}', ']':
				if nesting--; nesting == 0 {
					return i + 1
				}
			}
		}
	}
	for i, c := range text {
		switch c {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			return i
		}
	}
	return len(text)
}
