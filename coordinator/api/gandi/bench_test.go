package gandi_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc/xmlrpctest"
	"github.com/reeve-paas/reeve/coordinator/core"
)

const instances = 1000

// pythonServer asks us for all instances once, and then serves the same structure from memory with Python's own server.
const pythonServer = `
import os, sys, xmlrpc.client, xmlrpc.server
api = xmlrpc.client.ServerProxy(os.environ['URL'])
rows = [r for page in range(2) for r in api.paas.list(os.environ['KEY'], {'items_per_page': 500, 'page': page})]
assert len(rows) == 1000
server = xmlrpc.server.SimpleXMLRPCServer(('127.0.0.1', 0), allow_none=True, logRequests=False)
server.register_function(lambda key, opts: rows, 'paas.list')
print('http://127.0.0.1:%d/RPC2' % server.server_address[1], flush=True)
server.serve_forever()
`

// BenchmarkListOf1000 reads 1,000 instances from us, in two pages of the size that clients may ask for, and from Python's
// xmlrpc.server, by turns. The bar: x-python at least 20.
func BenchmarkListOf1000(b *testing.B) {
	bed := newBenchBed(b)
	python := startPython(b, bed)
	pages := [][]byte{listPage(bed.key, 0), listPage(bed.key, 1)}
	var ours, theirs time.Duration
	for b.Loop() {
		start := time.Now()
		for _, page := range pages {
			fetch(b, bed.url, page)
		}
		ours += time.Since(start)
		start = time.Now()
		fetch(b, python, pages[0])
		theirs += time.Since(start)
	}
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/1000-instances")
	b.ReportMetric(float64(theirs)/float64(ours), "x-python")
}

func listPage(key string, page int) []byte {
	return xmlrpctest.Encode("paas.list", key, map[string]any{"items_per_page": 500, "page": page})
}

func fetch(b *testing.B, url string, body []byte) {
	resp, err := http.Post(url, "text/xml", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err != nil || n < 100_000 {
		b.Fatalf("got %d bytes, %v", n, err)
	}
}

func startPython(b *testing.B, bed *bed) string {
	path, err := exec.LookPath("python3")
	if err != nil {
		b.Skip("python3 is not installed")
	}
	cmd := exec.CommandContext(b.Context(), path, "-c", pythonServer)
	cmd.Env = append(os.Environ(), "URL="+bed.url, "KEY="+bed.key)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("python3 did not start: %v", err)
	}
	return strings.TrimSpace(line)
}

// newBenchBed is a bed whose first account has 1,000 instances.
func newBenchBed(b *testing.B) *bed {
	bed := newBed(b)
	alice, err := bed.auth.APIKey(b.Context(), bed.key, "")
	bed.must(err)
	now := time.Now().UTC().Truncate(time.Second)
	bed.must(bed.store.Update(b.Context(), func(tx core.Tx) error {
		for i := range instances {
			app := core.App{ID: core.AppID(fmt.Sprint("app-", i)), AccountID: alice.Account.ID, Name: fmt.Sprint("instance ", i), Platform: "php", Engine: "mysql",
				SizeID: "m", LocationID: "fr", Cloud: "mem", State: core.AppRunning, Login: int64(2000 + i), BaseDiskGB: 10, StartsAt: now, EndsAt: core.AddMonths(now, 3), CreatedAt: now}
			if err := tx.PutApp(&app); err != nil {
				return err
			}
			node := core.Node{ID: core.NodeID(fmt.Sprint("node-", i)), AccountID: alice.Account.ID, AppID: app.ID, Cloud: "mem", CloudID: fmt.Sprint("c", i),
				Key: fmt.Sprint("k", i), Name: fmt.Sprint("rv-", i), ImageID: "debian", SizeID: "m", Roles: []core.Role{core.RoleApp, core.RoleDB},
				State: core.NodeRunning, Address: "10.1.2.3", AgentKey: make([]byte, 40), CreatedAt: now}
			if err := tx.PutNode(&node); err != nil {
				return err
			}
		}
		return nil
	}))
	return bed
}

// BenchmarkPage is one page of 500 instances over HTTP.
func BenchmarkPage(b *testing.B) {
	bed := newBenchBed(b)
	page := listPage(bed.key, 1)
	for b.Loop() {
		fetch(b, bed.url, page)
	}
}
