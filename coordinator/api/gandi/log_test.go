package gandi_test

import (
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
)

func TestOneLinePerCallWithoutItsParameters(t *testing.T) {
	b := newBed(t)
	b.create("name", "a secret name")
	_, _ = b.try("paas.info", 424242)
	_, _ = b.try("paas.\nforged=yes")
	_, _ = xmlrpctest.Call(b.url, "paas.list", "abcdefghijklmnopqrstuvwx")
	_, _ = xmlrpctest.Post(b.url, []byte("junk"))
	_, _ = xmlrpctest.Call(b.url, "system.multicall", []any{map[string]any{"methodName": "paas.count", "params": []any{b.key}}})
	lines := []string{}
	for line := range strings.Lines(b.log.String()) {
		if strings.Contains(line, "msg=call ") {
			lines = append(lines, line)
		}
	}
	want := []string{
		"method=paas.create principal=RV1-REEVE kind=ok fault=0 ",
		"method=paas.info principal=RV1-REEVE kind=not_found fault=537542 ",
		"method=unknown principal=anonymous kind=unsupported fault=1 ",
		"method=paas.list principal=anonymous kind=unauthenticated fault=510150 ",
		"method=unknown principal=anonymous kind=invalid fault=501620 ",
		"method=paas.count principal=RV1-REEVE kind=ok fault=0 ",
		"method=system.multicall principal=anonymous kind=ok fault=0 ",
	}
	if len(lines) != len(want) {
		t.Fatalf("got %d lines, want %d:\n%s", len(lines), len(want), strings.Join(lines, ""))
	}
	for i := range want {
		for _, part := range []string{want[i], " duration=", " from=127.0.0.1 ", " request_id="} {
			if !strings.Contains(lines[i], part) {
				t.Errorf("line %d: got %s, want %s", i, lines[i], part)
			}
		}
	}
	for _, private := range []string{"a secret name", "424242", "forged", "vhost.hosted.test"} {
		if strings.Contains(b.log.String(), private) {
			t.Errorf("the log contains %q", private)
		}
	}
	b.noSecrets()
}
