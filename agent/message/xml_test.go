package message

import (
	"encoding/xml"
	"testing"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

func TestEncodeXML(t *testing.T) {
	for name, test := range map[string]struct {
		body any
		want string
	}{
		"a result": {
			map[string]any{"db_type": "postgresql", "status": "ok", "backup_parts": []map[string]any{{"path": "file:///b/a&b", "size": 12}}},
			`<backup_parts><item><path>file:///b/a&amp;b</path><size>12</size></item></backup_parts><db_type>postgresql</db_type><status>ok</status>`,
		},
		"members in their order": {agentapi.ExecScriptResult{ScriptName: "a"}, ""},
		"scalars":                {[]any{true, false, nil, 1.5, "", "x", []any{}, map[string]any{}}, `<item>1</item><item>0</item><item></item><item>1.5</item><item></item><item>x</item><item></item><item></item>`},
		"names that are none":    {map[string]any{"/dev/vdb": 1, "xml:a b": 2, "1": 3}, `<item name="/dev/vdb">1</item><item name="1">3</item><item name="xml:a b">2</item>`},
		"text that would be XML": {map[string]any{"a": "</a><b>&amp;\x01"}, "<a>&lt;/a&gt;&lt;b&gt;&amp;amp;\uFFFD</a>"},
		"no object":              {"just text", "just text"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := encodeXML(message{ID: "m-1", Name: "Test", Meta: meta{"1.0", "2026-11-28T12:00:00Z"}, Body: test.body})
			if err != nil {
				t.Fatal(err)
			}
			want := xml.Header + `<message id="m-1" name="Test"><meta><szr_version>1.0</szr_version><timestamp>2026-11-28T12:00:00Z</timestamp></meta><body>` + test.want + `</body></message>`
			if test.want != "" && string(got) != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			var any struct {
				XMLName xml.Name `xml:"message"`
			}
			if err := xml.Unmarshal(got, &any); err != nil {
				t.Errorf("got %s: %v", got, err)
			}
		})
	}
}
