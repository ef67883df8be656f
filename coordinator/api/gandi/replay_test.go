package gandi_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
	"github.com/reeve-paas/reeve/coordinator/core"
)

var update = flag.Bool("update", false, "rewrite the replies of the recorded exchanges")

// TestRecordedExchanges replays what stock clients sent, in order, against the real core with one instance in it, and
// compares the replies byte by byte. Requests are as they came over the wire, but for the key.
func TestRecordedExchanges(t *testing.T) {
	files, err := filepath.Glob("../../../test/wire/gandi/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded exchanges: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { replay(t, file) })
	}
}

func replay(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2011, 9, 14, 14, 36, 30, 0, time.UTC)
	b := newBed(t, func(o *gandi.Options, co *core.Options) {
		co.Clock = func() time.Time { return start }
		co.Types = core.DefaultTypes()[:1] // more may come
		o.Clock = co.Clock
	})
	b.create()
	recorded := map[string]string{}
	var requests []txtar.File
	for _, f := range archive.Files {
		recorded[f.Name] = string(f.Data)
		if strings.HasPrefix(f.Name, "request ") {
			requests = append(requests, f)
		}
	}
	out := &txtar.Archive{Comment: archive.Comment}
	for i, request := range requests {
		got := b.exchange(string(request.Data))
		name := fmt.Sprintf("reply %d", i+1)
		out.Files = append(out.Files, request, txtar.File{Name: name, Data: []byte(got)})
		if want := recorded[name]; got != want && !*update {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
	if *update {
		b.must(os.WriteFile(file, txtar.Format(out), 0o644))
	}
}

var (
	uuids    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	accepted = regexp.MustCompile(`(<name>date_(?:created|updated)</name><value><dateTime.iso8601>)[^<]*`)
	tokens   = regexp.MustCompile(`vhost=[0-9a-f]{32}`)
)

// exchange sends a recorded request and returns the reply with what differs every time written as {…}.
func (b *bed) exchange(request string) string {
	b.Helper()
	resp, err := http.Post(b.url, "text/xml", strings.NewReader(strings.ReplaceAll(request, "{key}", b.key)))
	b.must(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	b.must(err)
	if _, err := xmlrpctest.Parse(data); xmlrpctest.CodeOf(err) < 0 {
		b.Error(err)
	}
	got := strings.ReplaceAll(string(data), b.server.URL, "{url}")
	got = uuids.ReplaceAllString(got, "{uuid}")
	got = tokens.ReplaceAllString(got, "vhost={token}")
	return accepted.ReplaceAllString(got, "${1}{now}")
}
