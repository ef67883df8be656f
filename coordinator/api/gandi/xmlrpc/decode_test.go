package xmlrpc

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func one(value string) string {
	return "<methodCall><methodName>m</methodName><params><param>" + value + "</param></params></methodCall>"
}

func str(s string) Value { return Value{Kind: String, Text: s} }

func TestDecodeAcceptsEveryVariationOfAValue(t *testing.T) {
	emptyStruct, emptyArray := Value{Kind: Struct}, Value{Kind: Array}
	for name, tc := range map[string]struct {
		in   string
		want Value
	}{
		"untyped text is verbatim":             {"<value> a\n b </value>", str(" a\n b ")},
		"untyped blanks are a string":          {"<value>  </value>", str("  ")},
		"a closed value is empty":              {"<value/>", str("")},
		"blanks around a type are dropped":     {"<value>\n <string>x</string>\n</value>", str("x")},
		"an empty string":                      {"<value><string/></value>", str("")},
		"CDATA":                                {"<value><string><![CDATA[a<b&c]]></string></value>", str("a<b&c")},
		"empty CDATA":                          {"<value><string><![CDATA[]]></string></value>", str("")},
		"CDATA split around its own end":       {"<value><string><![CDATA[a]]]]><![CDATA[>b]]></string></value>", str("a]]>b")},
		"CDATA without a type":                 {"<value><![CDATA[x]]></value>", str("x")},
		"references":                           {"<value><string>&lt;&amp;&gt;&quot;&apos;&#233;&#xe9;</string></value>", str("<&>\"'éé")},
		"a comment inside text":                {"<value><string>a<!-- c -->b</string></value>", str("ab")},
		"newlines are normalised":              {"<value><string>a\r\nb\rc</string></value>", str("a\nb\nc")},
		"i4":                                   {"<value><i4>7</i4></value>", Value{Kind: Int, Text: "7"}},
		"int with a plus sign":                 {"<value><int>+5</int></value>", Value{Kind: Int, Text: "+5"}},
		"int with a minus sign":                {"<value><int>-5</int></value>", Value{Kind: Int, Text: "-5"}},
		"leading zeros are kept":               {"<value><i4>007</i4></value>", Value{Kind: Int, Text: "007"}},
		"i8":                                   {"<value><i8>9999999999</i8></value>", Value{Kind: Int, Text: "9999999999"}},
		"ex:i8":                                {"<value><ex:i8>1</ex:i8></value>", Value{Kind: Int, Text: "1"}},
		"ex:i8 with its namespace":             {`<value><ex:i8 xmlns:ex="http://ws.apache.org/x">1</ex:i8></value>`, Value{Kind: Int, Text: "1"}},
		"boolean":                              {"<value><boolean>1</boolean></value>", Value{Kind: Boolean, Text: "1"}},
		"boolean in words":                     {"<value><boolean>true</boolean></value>", Value{Kind: Boolean, Text: "true"}},
		"double":                               {"<value><double>-1.5e3</double></value>", Value{Kind: Double, Text: "-1.5e3"}},
		"date":                                 {"<value><dateTime.iso8601>20110914T14:36:30</dateTime.iso8601></value>", Value{Kind: DateTime, Text: "20110914T14:36:30"}},
		"nil":                                  {"<value><nil/></value>", Value{Kind: Nil}},
		"nil with an end tag":                  {"<value><nil></nil></value>", Value{Kind: Nil}},
		"ex:nil":                               {"<value><ex:nil/></value>", Value{Kind: Nil}},
		"a closed struct":                      {"<value><struct/></value>", emptyStruct},
		"an empty struct":                      {"<value><struct></struct></value>", emptyStruct},
		"a struct of blanks":                   {"<value><struct>\n</struct></value>", emptyStruct},
		"an array of closed data":              {"<value><array><data/></array></value>", emptyArray},
		"an array of empty data":               {"<value><array><data></data></array></value>", emptyArray},
		"members with the value first":         {"<value><struct><member><value>1</value><name>a</name></member></struct></value>", Value{Kind: Struct, Members: []Member{{"a", str("1")}}}},
		"the last of two members of one name":  {"<value><struct><member><name>a</name><value>1</value></member><member><name>b</name><value>2</value></member><member><name>a</name><value>3</value></member></struct></value>", Value{Kind: Struct, Members: []Member{{"b", str("2")}, {"a", str("3")}}}},
		"an array of mixed types, with spaces": {"<value> <array> <data> <value>a</value> <value><i4>1</i4></value> </data> </array> </value>", Value{Kind: Array, Items: []Value{str("a"), {Kind: Int, Text: "1"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			call, err := Decode([]byte(one(tc.in)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]Value{tc.want}, call.Params); diff != "" {
				t.Errorf("got params that differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeAcceptsEveryVariationOfTheDocument(t *testing.T) {
	const body = "<methodCall><methodName>a.b</methodName></methodCall>"
	for name, in := range map[string]string{
		"no declaration":                     body,
		"a declaration":                      `<?xml version="1.0"?>` + body,
		"a declaration with a blank":         `<?xml version="1.0" ?>` + body,
		"single quotes":                      `<?xml version='1.0' encoding='UTF-8'?>` + "\n" + body,
		"standalone":                         `<?xml version="1.0" encoding="utf-8" standalone="yes"?>` + body,
		"us-ascii":                           `<?xml version="1.0" encoding="us-ascii"?>` + body,
		"a byte order mark":                  "\ufeff" + `<?xml version="1.0"?>` + body,
		"blank lines before the declaration": "\r\n" + `<?xml version="1.0"?>` + body,
		"comments and instructions":          "<!-- a --><?php x?>" + body + "\n<!-- b -->\n",
		"indentation":                        "<methodCall>\n  <methodName>\n a.b \n</methodName>\n  <params>\n </params>\n</methodCall>\n",
		"closed params":                      "<methodCall><methodName>a.b</methodName><params/></methodCall>",
		"params first":                       "<methodCall><params/><methodName>a.b</methodName></methodCall>",
	} {
		t.Run(name, func(t *testing.T) {
			call, err := Decode([]byte(in))
			if err != nil {
				t.Fatal(err)
			}
			if call.Method != "a.b" || len(call.Params) != 0 {
				t.Errorf("got %+v, want a.b without parameters", call)
			}
		})
	}
}

func TestDecodeReadsDeclaredEncodings(t *testing.T) {
	for _, tc := range []struct{ encoding, raw, want string }{
		{"UTF-8", "\xc3\xa9", "é"},
		{"ISO-8859-1", "\xe9", "é"},
		{"iso-8859-1", "\x80", "\u0080"},
		{"windows-1252", "\x80\xe9\x81", "€é\u0081"},
		{"us-ascii", "&#233;", "é"},
		{"us-ascii", "\xc3\xa9", "é"},
	} {
		t.Run(tc.encoding, func(t *testing.T) {
			call, err := Decode([]byte(`<?xml version="1.0" encoding="` + tc.encoding + `"?>` + one("<value>"+tc.raw+"</value>")))
			if err != nil {
				t.Fatal(err)
			}
			if got := call.Params[0].Text; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	deep := func(n int, open, end string) string {
		return one(strings.Repeat("<value>"+open, n) + "<value>x</value>" + strings.Repeat(end+"</value>", n))
	}
	for name, in := range map[string]string{
		"nothing":                        "",
		"blanks":                         " \n",
		"text":                           "hello",
		"JSON":                           `{"method": "version.info"}`,
		"HTML":                           "<html></html>",
		"a reply":                        "<methodResponse><params/></methodResponse>",
		"a truncated declaration":        "<?xml version='1.0'",
		"a truncated call":               "<methodCall><methodName>version.in",
		"a truncated value":              one("<value><string>x")[:60],
		"a call without a name":          "<methodCall><params/></methodCall>",
		"two names":                      "<methodCall><methodName>a</methodName><methodName>b</methodName></methodCall>",
		"two params":                     "<methodCall><methodName>a</methodName><params/><params/></methodCall>",
		"two calls":                      one("<value/>") + one("<value/>"),
		"text after the call":            one("<value/>") + "x",
		"a param without a value":        one(""),
		"a param with two values":        one("<value/><value/>"),
		"an unknown type":                one("<value><float>1</float></value>"),
		"an unknown element":             one("<value><string><b/></string></value>"),
		"text beside a type":             one("<value>x<string>y</string></value>"),
		"text after a type":              one("<value><string>y</string>x</value>"),
		"two types":                      one("<value><i4>1</i4><i4>2</i4></value>"),
		"crossed tags":                   one("<value><string>x</value></string>"),
		"an int of letters":              one("<value><int>abc</int></value>"),
		"an empty int":                   one("<value><int></int></value>"),
		"an int of two signs":            one("<value><int>+-1</int></value>"),
		"an int with an underscore":      one("<value><int>1_000</int></value>"),
		"a hexadecimal double":           one("<value><double>0x1p3</double></value>"),
		"infinity":                       one("<value><double>inf</double></value>"),
		"a boolean of 2":                 one("<value><boolean>2</boolean></value>"),
		"a nil with text":                one("<value><nil>x</nil></value>"),
		"a member without a name":        one("<value><struct><member><value/></member></struct></value>"),
		"a member without a value":       one("<value><struct><member><name>a</name></member></struct></value>"),
		"a member with two values":       one("<value><struct><member><name>a</name><value/><value/></member></struct></value>"),
		"an array without data":          one("<value><array><value/></array></value>"),
		"an array of two data":           one("<value><array><data/><data/></array></value>"),
		"an undefined entity":            one("<value>&nbsp;</value>"),
		"a lone ampersand":               one("<value>a & b</value>"),
		"a reference to a forbidden one": one("<value>&#0;</value>"),
		"a reference to a surrogate":     one("<value>&#xd800;</value>"),
		"a reference beyond Unicode":     one("<value>&#99999999999;</value>"),
		"a control character":            one("<value>a\x01b</value>"),
		"a noncharacter":                 one("<value>\uffff</value>"),
		"invalid UTF-8":                  one("<value>\xe9</value>"),
		"invalid UTF-8 as us-ascii":      `<?xml version="1.0" encoding="us-ascii"?>` + one("<value>\xe9</value>"),
		"UTF-16":                         "\xff\xfe<\x00m\x00",
		"an unknown encoding":            `<?xml version="1.0" encoding="utf-7"?>` + one("<value/>"),
		"XML 1.1":                        `<?xml version="1.1"?>` + one("<value/>"),
		"a declaration in the middle":    one("<value/>") + `<?xml version="1.0"?>`,
		"the end of CDATA in text":       one("<value>]]></value>"),
		"an unclosed CDATA section":      one("<value><![CDATA[x</value>"),
		"an unclosed comment":            one("<value><!-- x</value>"),
		"an attribute without quotes":    one("<value a=b/>"),
		"a document type":                `<!DOCTYPE methodCall>` + one("<value/>"),
		"an external entity":             `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>` + one("<value>&a;</value>"),
		"65 arrays in each other":        deep(65, "<array><data>", "</data></array>"),
		"10,000 arrays in each other":    deep(10000, "<array><data>", "</data></array>"),
		"65 structs in each other":       deep(65, "<struct><member><name>a</name>", "</member></struct>"),
	} {
		t.Run(name, func(t *testing.T) {
			call, err := Decode([]byte(in))
			if _, ok := err.(*SyntaxError); !ok {
				t.Errorf("got %+v, error %v, want a *SyntaxError", call, err)
			}
		})
	}
}

func TestDecodeReadsSixtyFourLevels(t *testing.T) {
	in := one(strings.Repeat("<value><array><data>", 63) + "<value>x</value>" + strings.Repeat("</data></array></value>", 63))
	call, err := Decode([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	v, levels := call.Params[0], 1
	for v.Kind == Array {
		v, levels = v.Items[0], levels+1
	}
	if levels != 64 || v.Text != "x" {
		t.Errorf("got %d levels and %q, want 64 and x", levels, v.Text)
	}
}

func TestDecodeRefusesEntityExpansion(t *testing.T) {
	bomb := `<!DOCTYPE l [<!ENTITY a "lol">`
	for c := 'b'; c < 'k'; c++ {
		bomb += "<!ENTITY " + string(c) + ` "` + strings.Repeat("&"+string(c-1)+";", 10) + `">`
	}
	_, err := Decode([]byte(bomb + "]>" + one("<value>&j;</value>")))
	if err == nil || !strings.Contains(err.Error(), "declarations are refused") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestCoercions(t *testing.T) {
	num := func(s string) Value { return Value{Kind: Int, Text: s} }
	t.Run("to text", func(t *testing.T) {
		for want, v := range map[string]Value{"x": str("x"), "007": num("007"), "1.5": {Kind: Double, Text: " 1.5 "}} {
			if got, ok := v.AsString(); !ok || got != want {
				t.Errorf("%v: got %q %v, want %q", v, got, ok, want)
			}
		}
		for _, v := range []Value{{Kind: Boolean, Text: "1"}, {Kind: Nil}, {Kind: Struct}, {Kind: Array}, {Kind: Base64, Text: "eA=="}, {Kind: DateTime, Text: "20110914T14:36:30"}} {
			if got, ok := v.AsString(); ok {
				t.Errorf("%v: got %q, want a refusal", v, got)
			}
		}
	})
	t.Run("to an integer", func(t *testing.T) {
		for _, v := range []Value{num("42"), num("+42"), num("0042"), str("42"), str("+42"), {Kind: Double, Text: "42.0"}} {
			if got, ok := v.AsInt(); !ok || got != 42 {
				t.Errorf("%v: got %d %v, want 42", v, got, ok)
			}
		}
		for _, v := range []Value{num("2147483648"), num("99999999999999999999"), str("4x"), str(""), {Kind: Double, Text: "1.5"}, {Kind: Double, Text: "1e300"}, {Kind: Boolean, Text: "1"}, {Kind: Nil}} {
			if got, ok := v.AsInt(); ok {
				t.Errorf("%v: got %d, want a refusal", v, got)
			}
		}
	})
	t.Run("to a boolean", func(t *testing.T) {
		for _, v := range []Value{{Kind: Boolean, Text: "1"}, {Kind: Boolean, Text: "true"}, num("1"), str("1"), str("TRUE")} {
			if got, ok := v.AsBool(); !ok || !got {
				t.Errorf("%v: got %v %v, want true", v, got, ok)
			}
		}
		for _, v := range []Value{{Kind: Boolean, Text: "0"}, num("0"), str("0"), str("False")} {
			if got, ok := v.AsBool(); !ok || got {
				t.Errorf("%v: got %v %v, want false", v, got, ok)
			}
		}
		for _, v := range []Value{num("2"), str("yes"), str(""), {Kind: Double, Text: "1.0"}, {Kind: Nil}, {Kind: Array}} {
			if _, ok := v.AsBool(); ok {
				t.Errorf("%v: got a boolean, want a refusal", v)
			}
		}
	})
	t.Run("to a date", func(t *testing.T) {
		want := time.Date(2011, 9, 14, 14, 36, 30, 0, time.UTC)
		for _, v := range []Value{
			{Kind: DateTime, Text: "20110914T14:36:30"}, {Kind: DateTime, Text: "2011-09-14T14:36:30Z"}, {Kind: DateTime, Text: "20110914T16:36:30+0200"},
			str("2011-09-14 14:36:30"), str("2011-09-14T14:36:30"), str("2011-09-14T16:36:30+02:00"),
		} {
			if got, ok := v.AsTime(); !ok || !got.Equal(want) {
				t.Errorf("%v: got %v %v, want %v", v, got, ok, want)
			}
		}
		for _, v := range []Value{str("yesterday"), num("20110914"), {Kind: DateTime, Text: "20111350T99:00:00"}, {Kind: Nil}} {
			if got, ok := v.AsTime(); ok {
				t.Errorf("%v: got %v, want a refusal", v, got)
			}
		}
	})
	t.Run("to a struct", func(t *testing.T) {
		for _, tc := range []struct {
			v                  Value
			required, optional bool
		}{
			{Value{Kind: Struct}, true, true}, {Value{Kind: Array}, true, true},
			{Value{Kind: Nil}, false, true}, {str(""), false, true},
			{str("x"), false, false}, {Value{Kind: Array, Items: []Value{str("x")}}, false, false}, {num("1"), false, false},
		} {
			if _, ok := tc.v.AsStruct(false); ok != tc.required {
				t.Errorf("%v required: got %v, want %v", tc.v, ok, tc.required)
			}
			if _, ok := tc.v.AsStruct(true); ok != tc.optional {
				t.Errorf("%v optional: got %v, want %v", tc.v, ok, tc.optional)
			}
		}
	})
	t.Run("to a list", func(t *testing.T) {
		if got, ok := str("x").AsList(); !ok || len(got) != 1 || got[0].Text != "x" {
			t.Errorf("got %v %v, want a list of the scalar", got, ok)
		}
		if _, ok := (Value{Kind: Struct}).AsList(); ok {
			t.Error("got a list of a struct, want a refusal")
		}
	})
}

// FuzzDecode checks that nothing makes the decoder panic or hang, that what it accepts is well-formed in the eyes of an
// independent parser, and that a call survives being written and read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(one("<value><struct><member><name>a</name><value><i4>1</i4></value></member></struct></value>")))
	f.Add([]byte(`<?xml version="1.0" encoding="ISO-8859-1"?>` + one("<value>\xe9&amp;<![CDATA[x]]></value>")))
	f.Add([]byte(one("<value><array><data><value><nil/></value><value><double>1.5</double></value></data></array></value>")))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]>` + one("<value>&b;</value>")))
	f.Fuzz(func(t *testing.T, body []byte) {
		call, err := Decode(body)
		if err != nil {
			if _, ok := err.(*SyntaxError); !ok {
				t.Fatalf("got %T %v, want a *SyntaxError", err, err)
			}
			return
		}
		wellFormed(t, body)
		for _, v := range call.Params {
			again, err := Decode([]byte(one(rewrite(v))))
			if err != nil {
				t.Fatalf("%v written again: %v", v, err)
			}
			if diff := cmp.Diff(v, again.Params[0]); diff != "" {
				t.Fatalf("written and read again (-before +after):\n%s", diff)
			}
		}
	})
}

func wellFormed(t *testing.T, body []byte) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(body)))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) {
		data, err := io.ReadAll(r)
		return strings.NewReader(fromSingleBytes(string(data), false)), err
	}
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("accepted what is not well-formed: %v\n%q", err, body)
		}
	}
}

// rewrite writes a value as a client would.
func rewrite(v Value) string {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;").Replace
	var b strings.Builder
	b.WriteString("<value>")
	switch v.Kind {
	case Array:
		b.WriteString("<array><data>")
		for _, item := range v.Items {
			b.WriteString(rewrite(item))
		}
		b.WriteString("</data></array>")
	case Struct:
		b.WriteString("<struct>")
		for _, m := range v.Members {
			b.WriteString("<member><name>" + escape(m.Name) + "</name>" + rewrite(m.Value) + "</member>")
		}
		b.WriteString("</struct>")
	default:
		tag := v.Kind.String()
		b.WriteString("<" + tag + ">" + escape(v.Text) + "</" + tag + ">")
	}
	b.WriteString("</value>")
	return b.String()
}
