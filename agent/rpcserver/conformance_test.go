package rpcserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/agent/rpcserver/rpctest"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/handlers"
)

func plusEffect(t testing.TB, effects *[]string) func(*rpcserver.Options) {
	return func(o *rpcserver.Options) {
		o.MaxClockSkew = 300 * time.Second
		note := func(where string) map[string]rpcserver.Method {
			return map[string]rpcserver.Method{
				"restart_service": change("restart_service", func(context.Context, agentapi.ReasonParams) (handlers.Null, error) {
					*effects = append(*effects, where)
					return handlers.Null{}, nil
				}),
			}
		}
		o.Table["nginx"], o.Table["postgresql"] = note("nginx"), note("postgresql")
	}
}

// tried is the server as the items of the checklist see it.
func (s *server) tried(effects *[]string, bound int) *rpctest.Server {
	return &rpctest.Server{
		Client: s.Client,
		SetKey: func(t testing.TB, raw []byte) {
			t.Helper()
			key, err := envelope.NewKey(raw)
			if err != nil {
				t.Fatal(err)
			}
			s.keys.set(key, nil)
		},
		Change: func(id string) (path, plaintext string) {
			return "/nginx", `{"method": "restart_service", "params": {}, "id": "` + id + `"}`
		},
		Changes: func(testing.TB) int { return len(*effects) },
		Seen:    func(testing.TB) (int, int) { return s.Seen(), bound },
		Log: func(t testing.TB, until string) string {
			t.Helper()
			wait(t, until+" in the log", func() bool { return strings.Contains(s.log.String(), until) })
			return s.log.String()
		},
	}
}

// overTLS is the same server at its second address.
func (s *server) overTLS(roots *x509.CertPool) *rpctest.Client {
	transport := s.HTTP.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	transport.ForceAttemptHTTP2 = true // must fall back
	return &rpctest.Client{URL: "https://" + s.Addrs()[1].String(), HTTP: &http.Client{Transport: transport, Timeout: s.HTTP.Timeout}, Key: s.Key}
}

// TestConformance is the checklist of spec agent-core 8, items 1 to 33.
func TestConformance(t *testing.T) {
	config, roots := selfSigned(t)
	var effects []string
	const bound = 100
	s := start(t, func(o *rpcserver.Options) {
		plusEffect(t, &effects)(o)
		o.MaxSeen, o.TLSListen, o.TLS = bound, []string{"127.0.0.1:0"}, config
	})
	tried := s.tried(&effects, bound)
	rpctest.Conformance(t, tried)
	t.Run("33 TLS carries the same envelope, and the plain listener is unaffected", func(t *testing.T) {
		plain := tried.Client
		tried.Client = s.overTLS(roots)
		defer tried.HTTP.CloseIdleConnections()
		rpctest.Conformance(t, tried)
		plain.WantAlive(t)
	})
}

func TestVectors(t *testing.T) {
	s := start(t, func(o *rpcserver.Options) { o.MaxClockSkew = -1 })
	rpctest.Vectors(t, s.tried(nil, 0), "../../crypto/envelope/testdata/envelope.json")
}

func TestCredentialsReachTheMethodApartFromItsParameters(t *testing.T) {
	var seen string
	var access struct{ Key string }
	s := start(t, with("deploy", map[string]rpcserver.Method{
		"raw": {Command: true, Call: func(ctx context.Context, params json.RawMessage) (any, error) {
			seen = string(params)
			d, ok := agentapi.PlatformAccessDataFrom(ctx)
			if !ok {
				return nil, errors.New("no credentials in the context")
			}
			return fmt.Sprint(d), d.Decode(&access)
		}},
		"fails": {Command: true, Call: func(ctx context.Context, params json.RawMessage) (any, error) {
			d, _ := agentapi.PlatformAccessDataFrom(ctx)
			return nil, fmt.Errorf("with %v %+v", d, d)
		}},
	}))
	for name, member := range map[string]string{"plain": "_platform_access_data", "escaped": `\u005fplatform_access_data`} {
		t.Run(name, func(t *testing.T) {
			params := `{"` + member + `": {"key": "AKSECRET", "key_id": "AKIDSECRET"}, "n": 1.50}`
			r := s.Call(t, "/deploy", `{"method": "raw", "params": `+params+`, "id": "`+name+`"}`).Reply(t)
			if r.Error != nil {
				t.Fatalf("got %v, want a result", r.Error)
			}
			if seen != `{"n":1.50}` || access.Key != "AKSECRET" {
				t.Errorf("got params %s and key %q, want the rest and the credentials apart", seen, access.Key)
			}
			s.Call(t, "/deploy", `{"method": "fails", "params": `+params+`, "id": "`+name+`"}`).Reply(t)
		})
	}
	s.stop()
	if log := s.log.String(); strings.Contains(log, "SECRET") || !strings.Contains(log, "method=raw") {
		t.Errorf("got log %s, want the call without credentials", log)
	}
}
