package gandi_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
)

// FuzzCalls checks that whatever a caller with a valid key sends gets an answer that a strict client reads, which is
// not our own bug. It begins with what stock clients sent.
func FuzzCalls(f *testing.F) {
	files, err := filepath.Glob("../../../test/wire/gandi/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no recorded exchanges: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range archive.Files {
			if strings.HasPrefix(part.Name, "request ") {
				f.Add(part.Data)
			}
		}
	}
	b := newBed(f)
	b.create()
	mux := http.NewServeMux()
	gandi.New(gandi.Options{Core: b.core, Auth: b.auth}).Register(mux)
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("POST", "/xmlrpc/", bytes.NewReader(bytes.ReplaceAll(body, []byte("{key}"), []byte(b.key)))))
		if w.Code != http.StatusOK {
			t.Fatalf("got status %d", w.Code)
		}
		_, err := xmlrpctest.Parse(w.Body.Bytes())
		switch code := xmlrpctest.CodeOf(err); {
		case code < 0:
			t.Fatalf("got a reply that a strict client cannot read: %v\n%s", err, w.Body)
		case code == 150000:
			t.Fatalf("got our own bug: %v", err)
		}
	})
}
