package rpcserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/crypto/keyring"
	"github.com/reeve-paas/reeve/handlers/host"
	"github.com/reeve-paas/reeve/handlers/system"
)

// BenchmarkCPUStatAgainstEcho makes signed, encrypted system.cpu_stat round trips through the agent's own handler, which
// reads the kernel's counters, with the key file looked at for each, and in turn with them plain JSON ones, so that
// whatever else the machine does slows both. The bar is the metric %-of-echo: at least 60.
//
//	go test -run - -bench AgainstEcho ./agent/rpcserver
func BenchmarkCPUStatAgainstEcho(b *testing.B) {
	registry, err := operation.Open(operation.Options{})
	if err != nil {
		b.Fatal(err)
	}
	methods := system.New(system.Options{Host: host.New(host.Options{}), Operations: registry}).Methods()
	keyFile := filepath.Join(b.TempDir(), "key")
	if err := keyring.WriteFile(keyFile, envelope.NewKeyText(), false); err != nil {
		b.Fatal(err)
	}
	keys := keyring.NewFile(envelope.ParseKey, keyFile)
	s := start(b, func(o *rpcserver.Options) {
		o.Keys = keys
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		o.Table = rpcserver.Table{"system": {"cpu_stat": rpcserver.Method(methods["cpu_stat"])}}
	})
	key, err := keys.Get()
	if err != nil {
		b.Fatal(err)
	}
	transport := agentclient.NewTransport(nil)
	defer transport.CloseIdleConnections()
	client, err := agentclient.New(s.URL, key, &agentclient.Options{Transport: transport})
	if err != nil {
		b.Fatal(err)
	}
	url := startEcho(b)
	e := echo{Method: "cpu_stat", Params: map[string]string{"padding": strings.Repeat("x", 50)}, ID: "ABCDEFGHIJKL-12345"}
	const batch = 20
	var sealed, plain []time.Duration
	for b.Loop() {
		from := time.Now()
		for range batch {
			if _, err := client.System().CPUStat(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		between := time.Now()
		for range batch {
			roundTrip(b, transport, url, e)
		}
		sealed = append(sealed, between.Sub(from))
		plain = append(plain, time.Since(between))
	}
	b.ReportMetric(float64(median(sealed).Nanoseconds())/batch, "ns/call")
	b.ReportMetric(float64(median(plain).Nanoseconds())/batch, "ns/echo")
	b.ReportMetric(100*float64(median(plain))/float64(median(sealed)), "%-of-echo")
}

func median(times []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(times))[len(times)/2]
}

// echo is a JSON object that is as long as the sealed bodies of a cpu_stat call.
type echo struct {
	Method string            `json:"method"`
	Params map[string]string `json:"params"`
	ID     string            `json:"id"`
}

// startEcho is what HTTP and JSON alone cost: a server that decodes what it gets and encodes it again.
func startEcho(b *testing.B) (url string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e echo
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(e); err != nil {
			b.Error(err)
		}
	}))
	b.Cleanup(server.Close)
	return server.URL + "/system"
}

func roundTrip(b *testing.B, transport http.RoundTripper, url string, e echo) {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	body, err := json.Marshal(e)
	if err != nil {
		b.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	var got echo
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.ID != e.ID {
		b.Fatal(got, err)
	}
}
