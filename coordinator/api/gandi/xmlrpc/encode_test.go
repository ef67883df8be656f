package xmlrpc_test

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
)

func field(name string) *xmlrpc.Field {
	f := xmlrpc.NewField(name)
	return &f
}

func reply(t *testing.T, write func(*xmlrpc.Encoder)) string {
	t.Helper()
	e := xmlrpc.NewEncoder()
	defer e.Free()
	e.BeginReply()
	write(e)
	e.EndReply()
	return string(e.Since(xmlrpc.Mark{}))
}

func TestEncoderWritesWhatEveryClientReads(t *testing.T) {
	for name, tc := range map[string]struct {
		write func(*xmlrpc.Encoder)
		want  string
	}{
		"an integer":       {func(e *xmlrpc.Encoder) { e.Int(-42) }, "<value><int>-42</int></value>"},
		"true":             {func(e *xmlrpc.Encoder) { e.Bool(true) }, "<value><boolean>1</boolean></value>"},
		"false":            {func(e *xmlrpc.Encoder) { e.Bool(false) }, "<value><boolean>0</boolean></value>"},
		"a whole double":   {func(e *xmlrpc.Encoder) { e.Double(10) }, "<value><double>10.0</double></value>"},
		"a huge double":    {func(e *xmlrpc.Encoder) { e.Double(1e21) }, "<value><double>1000000000000000000000.0</double></value>"},
		"a small double":   {func(e *xmlrpc.Encoder) { e.Double(-0.000001) }, "<value><double>-0.000001</double></value>"},
		"infinity":         {func(e *xmlrpc.Encoder) { e.Double(math.Inf(1)) }, "<value><double>0.0</double></value>"},
		"a nil":            {func(e *xmlrpc.Encoder) { e.Nil() }, "<value><nil/></value>"},
		"no date":          {func(e *xmlrpc.Encoder) { e.Time(time.Time{}) }, "<value><nil/></value>"},
		"an empty string":  {func(e *xmlrpc.Encoder) { e.String("") }, "<value><string></string></value>"},
		"an empty array":   {func(e *xmlrpc.Encoder) { e.BeginArray(); e.EndArray() }, "<value><array><data></data></array></value>"},
		"quotes":           {func(e *xmlrpc.Encoder) { e.String(`O'Neil "x"` + "\n<y> & é") }, "<value><string>O'Neil \"x\"\n&lt;y&gt; &amp; é</string></value>"},
		"forbidden chars":  {func(e *xmlrpc.Encoder) { e.String("a\x00b\x1fc\ufffed\xffe") }, "<value><string>abcde</string></value>"},
		"the real U+FFFD":  {func(e *xmlrpc.Encoder) { e.String("a\ufffdb") }, "<value><string>a\ufffdb</string></value>"},
		"a name with <":    {func(e *xmlrpc.Encoder) { e.BeginStruct(); field("a<b").Int(e, 1); e.EndStruct() }, "<value><struct><member><name>a&lt;b</name><value><int>1</int></value></member></struct></value>"},
		"a date in UTC":    {func(e *xmlrpc.Encoder) { e.Time(time.Date(2011, 9, 14, 16, 36, 30, 999, time.FixedZone("", 7200))) }, "<value><dateTime.iso8601>20110914T14:36:30</dateTime.iso8601></value>"},
		"a text or no nil": {func(e *xmlrpc.Encoder) { e.BeginStruct(); field("a").StringOrNil(e, "b"); e.EndStruct() }, "<value><struct><member><name>a</name><value><string>b</string></value></member></struct></value>"},
	} {
		t.Run(name, func(t *testing.T) {
			want := "<?xml version='1.0' encoding='UTF-8'?>\n<methodResponse><params><param>" + tc.want + "</param></params></methodResponse>\n"
			got := reply(t, tc.write)
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if _, err := xmlrpctest.Parse([]byte(got)); err != nil {
				t.Errorf("a strict client: %v", err)
			}
		})
	}
}

func TestNilAsString(t *testing.T) {
	e := xmlrpc.NewEncoder()
	e.NilAsString = true
	e.Nil()
	field("a").Nil(e)
	field("a").Time(e, time.Time{})
	field("a").StringOrNil(e, "")
	const empty = "<value><string></string></value>"
	if got, want := string(e.Since(xmlrpc.Mark{})), empty+strings.Repeat("<member><name>a</name>"+empty+"</member>", 3); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	e.Free()
	if e := xmlrpc.NewEncoder(); e.NilAsString || e.Len() != 0 {
		t.Error("got an encoder that remembers its last reply")
	}
}

func TestFaultsAreStructsOfCodeAndText(t *testing.T) {
	e := xmlrpc.NewEncoder()
	defer e.Free()
	e.Fault(510150, "Error on object : OBJECT_ACCOUNT (CAUSE_NORIGHT) [<&>]")
	_, err := xmlrpctest.Parse(e.Since(xmlrpc.Mark{}))
	want := &xmlrpctest.Fault{Code: 510150, Text: "Error on object : OBJECT_ACCOUNT (CAUSE_NORIGHT) [<&>]"}
	if diff := cmp.Diff(error(want), err); diff != "" {
		t.Errorf("got a fault that differs (-want +got):\n%s", diff)
	}
}

// FuzzEncode checks that any text and number arrives at a strict client as it was, without what XML cannot carry.
func FuzzEncode(f *testing.F) {
	f.Add("O'Neil \"x\" <y> & é", int32(-1), 1.5, int64(1316011000))
	f.Add("a\x00\xff\ufffe\r\n]]>", int32(math.MaxInt32), math.MaxFloat64, int64(0))
	f.Fuzz(func(t *testing.T, text string, n int32, d float64, unix int64) {
		at := time.Unix(unix%253402300800, 0).UTC()
		if at.Year() < 1 || at.Year() > 9999 || at.IsZero() {
			at = time.Unix(0, 0).UTC()
		}
		got, err := xmlrpctest.Parse([]byte(reply(t, func(e *xmlrpc.Encoder) {
			e.BeginStruct()
			field("text").String(e, text)
			field("parts").Strings(e, text, "|", text)
			field("int").Int(e, int64(n))
			field("double").Double(e, d)
			field("at").Time(e, at)
			e.EndStruct()
		})))
		if err != nil {
			t.Fatal(err)
		}
		if math.IsNaN(d) || math.IsInf(d, 0) {
			d = 0
		}
		want := map[string]any{"text": carried(text), "parts": carried(text + "|" + text), "int": int(n), "double": d, "at": at}
		if diff := cmp.Diff(any(want), got); diff != "" {
			t.Errorf("got what differs (-want +got):\n%s", diff)
		}
	})
}

// carried is a text as XML carries it: no forbidden characters, newlines normalised.
func carried(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		bad := r == utf8.RuneError && n == 1 || r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
		if !bad {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(b.String())
}

func TestValuesOfBeforeStandWhereTheyWereAppended(t *testing.T) {
	e := xmlrpc.NewEncoder()
	defer e.Free()
	e.Int(1)
	start := e.Mark()
	e.Append([]byte("<a/>"))
	e.Int(2)
	e.Append([]byte("<b/>"))
	e.Append([]byte("<c/>"))
	dropped := e.Mark()
	e.Append([]byte("<d/>"))
	e.Int(3)
	e.Rewind(dropped)
	const one, rest = "<value><int>1</int></value>", "<a/><value><int>2</int></value><b/><c/>"
	kept := e.Since(start)
	e.Rewind(start)
	e.Append(kept)
	if string(kept) != rest {
		t.Errorf("since the mark: got %s, want %s", kept, rest)
	}
	var b strings.Builder
	n, err := e.WriteTo(&b)
	if b.String() != one+rest || n != int64(len(one+rest)) || err != nil || e.Len() != len(one+rest) {
		t.Errorf("got %s (%d bytes of %d, %v), want %s", b.String(), n, e.Len(), err, one+rest)
	}
	e.Rewind(start)
	if got := string(e.Since(xmlrpc.Mark{})); got != one {
		t.Errorf("rewound: got %s, want %s", got, one)
	}
}
