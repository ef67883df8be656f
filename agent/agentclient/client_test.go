package agentclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey(t testing.TB) envelope.Key {
	t.Helper()
	key, err := envelope.ParseKey(envelope.NewKeyText())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

type oneKey struct{ envelope.Key }

func (k oneKey) Get() (envelope.Key, error) { return k.Key, nil }

type methods = map[string]rpcserver.Method

// returns is a method that answers with a value.
func returns(v any) rpcserver.Method {
	return rpcserver.Method{Call: func(context.Context, json.RawMessage) (any, error) { return v, nil }}
}

func fails(err error) rpcserver.Method {
	return rpcserver.Method{Call: func(context.Context, json.RawMessage) (any, error) { return nil, err }}
}

// agent is a real RPC server in front of which wrap may stand.
func agent(t *testing.T, key envelope.Key, table rpcserver.Table, wrap func(http.Handler) http.Handler) (url string) {
	t.Helper()
	s, err := rpcserver.New(rpcserver.Options{Keys: oneKey{key}, Table: table})
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = s
	if wrap != nil {
		h = wrap(h)
	}
	web := httptest.NewServer(h)
	t.Cleanup(func() { web.Close(); s.Close() })
	return web.URL
}

func connect(t *testing.T, url string, key envelope.Key, o *agentclient.Options) *agentclient.Client {
	t.Helper()
	c, err := agentclient.New(url, key, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// wantError checks kind and reason of an error; why nil means a refusal of the agent's method.
func wantError(t *testing.T, err error, kind agentapi.Kind, why error, text string) {
	t.Helper()
	e, ok := errors.AsType[*agentapi.Error](err)
	if !ok {
		t.Fatalf("got %v (%T), want an *agentapi.Error", err, err)
	}
	if e.Kind != kind || !strings.Contains(e.Message(), text) {
		t.Errorf("got kind %s, %q, want %s, %q", e.Kind, e.Message(), kind, text)
	}
	if agentclient.Reached(err) != (why == nil) || why != nil && !errors.Is(err, why) {
		t.Errorf("got %v, want it to be %v", err, why)
	}
}

func TestEachMethodSendsItsNameAndReadsItsResult(t *testing.T) {
	var got struct{ path, method, params string }
	var answer any
	key := newKey(t)
	url := agent(t, key, rpcserver.Table{}, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			plaintext, err := envelope.Open(key, body, r.Header.Get("Date"), r.Header.Get("X-Signature"))
			if err != nil {
				t.Error(err)
			}
			var req struct {
				Method     string
				Params, ID json.RawMessage
			}
			if err := json.Unmarshal(plaintext, &req); err != nil {
				t.Error(err)
			}
			got.path, got.method, got.params = r.URL.Path, req.Method, string(req.Params)
			result, _ := json.Marshal(answer)
			reply(w, key, `{"result": `+string(result)+`, "id": `+string(req.ID)+`}`, time.Now())
		})
	})
	c := connect(t, url, key, nil)
	ctx := t.Context()
	for _, call := range []struct {
		path, method, params string
		answer               any
		do                   func() (any, error)
	}{
		{"/system", "get_hostname", "{}", "db1", func() (any, error) { return c.System().Hostname(ctx) }},
		{"/system", "set_hostname", `{"hostname":"x"}`, "x", func() (any, error) { return c.System().SetHostname(ctx, "x") }},
		{"/system", "reboot", "{}", nil, func() (any, error) { return nil, c.System().Reboot(ctx) }},
		{"/system", "cpu_stat", "{}", agentapi.CPUStat{User: 5}, func() (any, error) { return c.System().CPUStat(ctx) }},
		{"/system", "mem_info", "{}", agentapi.MemInfo{Cached: 5}, func() (any, error) { return c.System().MemInfo(ctx) }},
		{"/system", "load_average", "{}", [3]float64{1, 2, 3}, func() (any, error) { return c.System().LoadAverage(ctx) }},
		{"/system", "uname", "{}", agentapi.Uname{Machine: "m"}, func() (any, error) { return c.System().Uname(ctx) }},
		{"/system", "dist", "{}", agentapi.Dist{Release: "12"}, func() (any, error) { return c.System().Dist(ctx) }},
		{"/system", "disk_stats", "{}", map[string]agentapi.DiskStat{"vda": {}}, func() (any, error) { return c.System().DiskStats(ctx) }},
		{"/system", "net_stats", "{}", map[string]agentapi.NetStat{"lo": {}}, func() (any, error) { return c.System().NetStats(ctx) }},
		{"/system", "statvfs", `{"mpoints":["/","/x"]}`, map[string]*agentapi.FSSize{"/": {Total: 1}, "/x": nil},
			func() (any, error) { return c.System().StatVFS(ctx, "/", "/x") }},
		{"/system", "statvfs", `{"mpoints":[]}`, map[string]*agentapi.FSSize{}, func() (any, error) { return c.System().StatVFS(ctx) }},
		{"/system", "mounts", "{}", map[string]agentapi.Mount{"/": {}}, func() (any, error) { return c.System().Mounts(ctx) }},
		{"/system", "cpu_info", "{}", []map[string]string{{"processor": "0"}}, func() (any, error) { return c.System().CPUInfo(ctx) }},
		{"/system", "block_devices", "{}", []string{"vda"}, func() (any, error) { return c.System().BlockDevices(ctx) }},
		{"/system", "pythons", "{}", []string{"3.11.2"}, func() (any, error) { return c.System().Pythons(ctx) }},
		{"/system", "scaling_metrics", "{}", []agentapi.ScalingMetric{{ID: "1"}}, func() (any, error) { return c.System().ScalingMetrics(ctx) }},
		{"/system", "execute_scripts", `{"event_name":"E"}`, nil, func() (any, error) {
			id, err := c.System().ExecuteScripts(ctx, agentapi.ExecuteScriptsParams{EventName: "E"})
			if id != "" {
				return id, err
			}
			return nil, err
		}},
		{"/system", "get_script_logs", `{"exec_script_id":"7"}`, agentapi.ScriptLogs{Stdout: "x"},
			func() (any, error) { return c.System().ScriptLogs(ctx, agentapi.ScriptLogsParams{ExecScriptID: "7"}) }},
		{"/system", "get_log", "{}", "eA==\n", func() (any, error) { return c.System().Log(ctx) }},
		{"/operation", "result", `{"operation_id":"i"}`, agentapi.Operation{ID: "i"}, func() (any, error) { return c.Operations().Result(ctx, "i") }},
		{"/operation", "cancel", `{"operation_id":"i"}`, nil, func() (any, error) { return nil, c.Operations().Cancel(ctx, "i") }},
		{"/operation", "has_in_progress", "{}", true, func() (any, error) { return c.Operations().HasInProgress(ctx) }},
		{"/apache", "create_vhost", `{"hostname":"h","port":"80","template":"t","ssl":false}`, "/p",
			func() (any, error) {
				return c.Apache().CreateVHost(ctx, agentapi.CreateVHostParams{Hostname: "h", Port: "80", Template: "t"})
			}},
		{"/apache", "delete_vhosts", `{"vhosts":[["h","80"]]}`, nil, func() (any, error) {
			return nil, c.Apache().DeleteVHosts(ctx, agentapi.DeleteVHostsParams{VHosts: []agentapi.VHostRef{{Hostname: "h", Port: "80"}}})
		}},
		{"/apache", "list_served_virtual_hosts", "{}", []string{"a"}, func() (any, error) { return c.Apache().ListServedVirtualHosts(ctx) }},
		{"/apache", "start_service", "{}", nil, func() (any, error) { return nil, c.Apache().Start(ctx) }},
		{"/nginx", "stop_service", `{"reason":"r"}`, nil, func() (any, error) { return nil, c.Nginx().Stop(ctx, "r") }},
		{"/nginx", "restart_service", `{}`, nil, func() (any, error) { return nil, c.Nginx().Restart(ctx, "") }},
		{"/mysql", "reload_service", `{"reason":"r"}`, nil, func() (any, error) { return nil, c.MySQL().Reload(ctx, "r") }},
		{"/nginx", "configtest", "{}", nil, func() (any, error) { return nil, c.Nginx().ConfigTest(ctx) }},
		{"/postgresql", "get_service_status", "{}", 3, func() (any, error) { return c.Service("postgresql").Status(ctx) }},
		{"/nginx", "make_proxy", `{"hostname":"h"}`, nil, func() (any, error) { return nil, c.Nginx().MakeProxy(ctx, agentapi.ProxyParams{Hostname: "h"}) }},
		{"/nginx", "remove_proxy", `{"hostname":"h"}`, nil, func() (any, error) {
			return nil, c.Nginx().RemoveProxy(ctx, agentapi.RemoveProxyParams{Hostname: "h"})
		}},
		{"/nginx", "add_server", `{"backend":"b","server":"s"}`, nil, func() (any, error) {
			return nil, c.Nginx().AddServer(ctx, agentapi.UpstreamServerParams{Backend: "b", Server: "s"})
		}},
		{"/nginx", "remove_server", `{"backend":"b","server":"s"}`, nil, func() (any, error) {
			return nil, c.Nginx().RemoveServer(ctx, agentapi.UpstreamServerParams{Backend: "b", Server: "s"})
		}},
		{"/apache", "set_default_ssl_certificate", `{"id":"77"}`, nil, func() (any, error) {
			return nil, c.Apache().SetDefaultSSLCertificate(ctx, "77")
		}},
		{"/apache", "get_webserver_statistics", "{}", map[string]string{"Uptime": "1"}, func() (any, error) { return c.Apache().WebserverStatistics(ctx) }},
		{"/nginx", "recreate_proxying", `{"proxy_list":[{"hostname":"h"}]}`, nil, func() (any, error) {
			return nil, c.Nginx().RecreateProxying(ctx, []agentapi.ProxyParams{{Hostname: "h"}})
		}},
		{"/nginx", "reconfigure", `{"proxies":[]}`, "id", func() (any, error) { return c.Nginx().Reconfigure(ctx, nil) }},
		{"/nginx", "add_server_to_role", `{"server":"s","role_id":"1"}`, nil, func() (any, error) {
			return nil, c.Nginx().AddServerToRole(ctx, agentapi.RoleServerParams{Server: "s", RoleID: "1"})
		}},
		{"/nginx", "remove_server_from_role", `{"server":"s","role_id":"1"}`, nil, func() (any, error) {
			return nil, c.Nginx().RemoveServerFromRole(ctx, agentapi.RoleServerParams{Server: "s", RoleID: "1"})
		}},
		{"/nginx", "remove_server_from_all_backends", `{"server":"s"}`, nil, func() (any, error) {
			return nil, c.Nginx().RemoveServerFromAllBackends(ctx, agentapi.AllBackendsParams{Server: "s"})
		}},
		{"/mysql", "create_database", `{"name":"d"}`, nil, func() (any, error) {
			return nil, c.MySQL().CreateDatabase(ctx, agentapi.CreateDatabaseParams{Name: "d"})
		}},
		{"/mysql", "drop_database", `{"name":"d"}`, nil, func() (any, error) { return nil, c.MySQL().DropDatabase(ctx, "d") }},
		{"/mysql", "dump_database", `{"name":"d","target":{"url":"http://h","token":"t"}}`, nil, func() (any, error) {
			return nil, c.MySQL().DumpDatabase(ctx, agentapi.DumpDatabaseParams{Name: "d", Target: agentapi.Blob{URL: "http://h", Token: "t"}})
		}},
		{"/mysql", "load_dump", `{"name":"d","source":{"url":"http://h","token":"t"}}`, nil, func() (any, error) {
			return nil, c.MySQL().LoadDump(ctx, agentapi.LoadDumpParams{Name: "d", Source: agentapi.Blob{URL: "http://h", Token: "t"}})
		}},
		{"/mysql", "list_databases", "{}", []string{"d"}, func() (any, error) { return c.MySQL().ListDatabases(ctx) }},
		{"/mysql", "create_user", `{"name":"u","password":"hunter2"}`, nil, func() (any, error) {
			return nil, c.MySQL().CreateUser(ctx, agentapi.CreateDatabaseUserParams{Name: "u", Password: "hunter2"})
		}},
		{"/mysql", "drop_user", `{"name":"u"}`, nil, func() (any, error) {
			return nil, c.MySQL().DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "u"})
		}},
		{"/mysql", "list_users", "{}", []agentapi.DatabaseUser{{Name: "u"}}, func() (any, error) { return c.MySQL().ListUsers(ctx) }},
		{"/mysql", "reset_password", "{}", agentapi.Secret("p"), func() (any, error) { return c.MySQL().ResetPassword(ctx, agentapi.ResetPasswordParams{}) }},
		{"/postgresql", "replication_status", "{}", agentapi.ReplicationStatus{Slave: &agentapi.ReplicationRole{Up: true, Delay: agentapi.Ptr(3)}}, func() (any, error) {
			return c.PostgreSQL().ReplicationStatus(ctx)
		}},
		{"/postgresql", "create_backup", "{}", "id", func() (any, error) { return c.PostgreSQL().CreateBackup(ctx) }},
		{"/postgresql", "create_databundle", "{}", "id", func() (any, error) { return c.PostgreSQL().CreateDataBundle(ctx) }},
		{"/postgresql", "grow_volume", `{"volume":{"id":"v"},"growth":{"size":2}}`, map[string]json.RawMessage{"id": json.RawMessage(`"w"`)}, func() (any, error) {
			return c.PostgreSQL().GrowVolume(ctx, json.RawMessage(`{"id":"v"}`), json.RawMessage(`{"size":2}`))
		}},
		{"/mongodb", "enable_mms", `{"api_key":"k","secret_key":"g"}`, agentapi.MMSResult{Status: "Ok"}, func() (any, error) {
			return c.MongoDB().EnableMMS(ctx, agentapi.EnableMMSParams{APIKey: "k", SecretKey: "g"})
		}},
		{"/mongodb", "disable_mms", "{}", agentapi.MMSResult{Status: "Ok"}, func() (any, error) { return c.MongoDB().DisableMMS(ctx) }},
		{"/mongodb", "drop_user", `{"name":"u","database":"d"}`, nil, func() (any, error) {
			return nil, c.MongoDB().DropUser(ctx, agentapi.DropDatabaseUserParams{Name: "u", Database: "d"})
		}},
		{"/deploy", "mount_volume", `{"device":"/dev/x","mpoint":"/m"}`, agentapi.VolumeMount{Device: "/dev/x"}, func() (any, error) {
			return c.Deploy().MountVolume(ctx, agentapi.MountVolumeParams{Device: "/dev/x", MPoint: "/m"})
		}},
		{"/deploy", "unmount_volume", `{"mpoint":"/m"}`, nil, func() (any, error) {
			return nil, c.Deploy().UnmountVolume(ctx, agentapi.UnmountVolumeParams{MPoint: "/m"})
		}},
		{"/deploy", "create_app", `{"app":"a","platform":"php"}`, agentapi.AppPaths{Home: "/h"}, func() (any, error) {
			return c.Deploy().CreateApp(ctx, agentapi.CreateAppParams{App: "a", Platform: "php"})
		}},
		{"/deploy", "delete_app", `{"app":"a"}`, nil, func() (any, error) { return nil, c.Deploy().DeleteApp(ctx, agentapi.AppParams{App: "a"}) }},
		{"/deploy", "put_release", `{"app":"a","release":1,"archive":"eA=="}`, nil, func() (any, error) {
			return nil, c.Deploy().PutRelease(ctx, agentapi.PutReleaseParams{App: "a", Release: 1, Archive: []byte("x")})
		}},
		{"/deploy", "start_script", `{"app":"a","release":1,"script":"run.sh"}`, nil, func() (any, error) {
			return nil, c.Deploy().StartScript(ctx, agentapi.StartScriptParams{App: "a", Release: 1, Script: "run.sh"})
		}},
		{"/deploy", "stop_script", `{"app":"a","script":"run.sh"}`, nil, func() (any, error) {
			return nil, c.Deploy().StopScript(ctx, agentapi.ScriptParams{App: "a", Script: "run.sh"})
		}},
		{"/deploy", "list_scripts", `{"app":"a"}`, []agentapi.AppScript{{Script: "run.sh"}}, func() (any, error) {
			return c.Deploy().ListScripts(ctx, agentapi.AppParams{App: "a"})
		}},
		{"/deploy", "script_log", `{"app":"a"}`, agentapi.ScriptLog{Lines: []string{"l"}}, func() (any, error) {
			return c.Deploy().ScriptLog(ctx, agentapi.AppParams{App: "a"})
		}},
		{"/deploy", "switch_release", `{"app":"a","release":1}`, nil, func() (any, error) {
			return nil, c.Deploy().SwitchRelease(ctx, agentapi.SwitchReleaseParams{App: "a", Release: 1})
		}},
		{"/deploy", "list_apps", "{}", []agentapi.AppInfo{{App: "a"}}, func() (any, error) { return c.Deploy().ListApps(ctx) }},
	} {
		answer = call.answer
		result, err := call.do()
		if err != nil {
			t.Errorf("%s.%s: %v", call.path, call.method, err)
		}
		if got.path != call.path || got.method != call.method || got.params != call.params {
			t.Errorf("got %s %s %s, want %s %s %s", got.path, got.method, got.params, call.path, call.method, call.params)
		}
		gotJSON, _ := json.Marshal(result)
		wantJSON, _ := json.Marshal(call.answer)
		if string(gotJSON) != string(wantJSON) {
			t.Errorf("%s.%s: got result %s, want %s", call.path, call.method, gotJSON, wantJSON)
		}
	}
}

// reply writes a sealed reply.
func reply(w http.ResponseWriter, key envelope.Key, plaintext string, at time.Time) {
	body, date, signature := envelope.Seal(key, []byte(plaintext), at)
	w.Header()["Date"] = []string{date}
	w.Header().Set("X-Signature", signature)
	w.Write(body)
}

func TestRefusalsOfTheAgentKeepTheirKind(t *testing.T) {
	key := newKey(t)
	url := agent(t, key, rpcserver.Table{"x": methods{
		"conflict": fails(agentapi.Errorf(agentapi.KindConflict, "AlreadyInProgressError", "busy: now")),
		"plain":    fails(errors.New("boom")),
		"empty":    fails(&agentapi.Error{Kind: agentapi.KindInvalid, Class: "AssertionError"}),
	}}, nil)
	c := connect(t, url, key, nil)
	for _, e := range []struct {
		method, text string
		kind         agentapi.Kind
		code         int
	}{
		{"x.conflict", "AlreadyInProgressError: busy: now", agentapi.KindConflict, -32603},
		{"x.plain", "Exception: boom", agentapi.KindInternal, -32603},
		{"x.empty", "AssertionError: ", agentapi.KindInvalid, -32603},
		{"x.none", "RPCError: Method not found: none", agentapi.KindUnsupported, -32601},
		{"y.none", "RPCError: Namespace not found: y", agentapi.KindUnsupported, -32099},
	} {
		err := c.Call(t.Context(), e.method, nil, nil)
		wantError(t, err, e.kind, nil, e.text)
		if got, _ := errors.AsType[*agentapi.Error](err); got.Code != e.code || got.Message() != e.text {
			t.Errorf("%s: got %d %q, want %d %q", e.method, got.Code, got.Message(), e.code, e.text)
		}
	}
	wantError(t, c.Call(t.Context(), "x.plain", []int{1}, nil), agentapi.KindInvalid, nil, "TypeError")
	wantError(t, c.Call(t.Context(), "nodot", nil, nil), agentapi.KindInvalid, nil, "NAMESPACE.METHOD")
	wantError(t, c.Call(t.Context(), "x.plain", make(chan int), nil), agentapi.KindInvalid, nil, "parameters")
}

func TestAnOldAgentsErrorsHaveAKindToo(t *testing.T) {
	key := newKey(t)
	var object string
	url := agent(t, key, rpcserver.Table{}, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			reply(w, key, `{"error": `+object+`, "id": ""}`, time.Now())
		})
	})
	c := connect(t, url, key, nil)
	for text, kind := range map[string]agentapi.Kind{
		`{"code": -32600, "message": "Invalid Request", "data": "'params'"}`: agentapi.KindInvalid,
		`{"code": -32700, "message": "Parse error", "data": null}`:           agentapi.KindInvalid,
		`{"code": -32603, "message": "KeyError: 'x'", "data": null}`:         agentapi.KindInternal,
		`{"code": -32603, "message": "x", "kind": "from_the_future"}`:        agentapi.KindInternal,
	} {
		object = text
		wantError(t, c.Call(t.Context(), "x.y", nil, nil), kind, nil, "")
	}
}

func TestRepliesThatAreNotTheAnswerAreRefused(t *testing.T) {
	key, other := newKey(t), newKey(t)
	var answer func(w http.ResponseWriter, id string)
	url := agent(t, key, rpcserver.Table{}, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			plaintext, err := envelope.Open(key, body, r.Header.Get("Date"), r.Header.Get("X-Signature"))
			if err != nil {
				t.Error(err)
			}
			var req struct{ ID json.RawMessage }
			if err := json.Unmarshal(plaintext, &req); err != nil {
				t.Error(err)
			}
			answer(w, string(req.ID))
		})
	})
	c := connect(t, url, key, nil)
	good := func(id string) string { return `{"result": 1, "id": ` + id + `}` }
	for name, a := range map[string]func(w http.ResponseWriter, id string){
		"sealed with another key": func(w http.ResponseWriter, id string) { reply(w, other, good(id), time.Now()) },
		"to another request":      func(w http.ResponseWriter, _ string) { reply(w, key, good(`"someone"`), time.Now()) },
		"without id":              func(w http.ResponseWriter, _ string) { reply(w, key, `{"result": 1}`, time.Now()) },
		"with a null id":          func(w http.ResponseWriter, _ string) { reply(w, key, good("null"), time.Now()) },
		"with an empty id":        func(w http.ResponseWriter, _ string) { reply(w, key, good(`""`), time.Now()) },
		"an hour old":             func(w http.ResponseWriter, id string) { reply(w, key, good(id), time.Now().Add(-time.Hour)) },
		"an hour early":           func(w http.ResponseWriter, id string) { reply(w, key, good(id), time.Now().Add(time.Hour)) },
		"not JSON":                func(w http.ResponseWriter, id string) { reply(w, key, "hello", time.Now()) },
		"a list":                  func(w http.ResponseWriter, id string) { reply(w, key, "[]", time.Now()) },
		"without result":          func(w http.ResponseWriter, id string) { reply(w, key, `{"id": `+id+`}`, time.Now()) },
		"unsigned":                func(w http.ResponseWriter, id string) { io.WriteString(w, good(id)) },
		"with a bad error":        func(w http.ResponseWriter, id string) { reply(w, key, `{"error": 5, "id": `+id+`}`, time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			answer = a
			var result int
			wantError(t, c.Call(t.Context(), "x.y", nil, &result), agentapi.KindUnavailable, agentclient.ErrReply, "")
			if result != 0 {
				t.Errorf("got result %d, want none", result)
			}
		})
	}
	answer = func(w http.ResponseWriter, id string) { reply(w, key, good(id), time.Now()) }
	var text string
	wantError(t, c.Call(t.Context(), "x.y", nil, &text), agentapi.KindInternal, nil, "another form")
	lenient := connect(t, url, key, &agentclient.Options{MaxClockSkew: -1})
	answer = func(w http.ResponseWriter, id string) { reply(w, key, good(id), time.Now().Add(-time.Hour)) }
	if err := lenient.Call(t.Context(), "x.y", nil, nil); err != nil {
		t.Errorf("got %v, want an old reply accepted when dates are not compared", err)
	}
}

func TestWhatDoesNotReachTheAgentIsUnavailable(t *testing.T) {
	key := newKey(t)
	release := make(chan struct{})
	url := agent(t, key, rpcserver.Table{"x": methods{"big": returns(strings.Repeat("x", 1000))}}, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/hangs":
				<-release
			case "/breaks":
				w.Header().Set("Content-Length", "1000")
				io.WriteString(w, "x")
				panic(http.ErrAbortHandler)
			case "/busy":
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				h.ServeHTTP(w, r)
			}
		})
	})
	t.Cleanup(func() { close(release) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	short := &agentclient.Options{Timeout: 50 * time.Millisecond, MaxReply: 100}
	c := connect(t, url, key, short)
	gone := connect(t, "http://"+l.Addr().String(), key, short)
	wantError(t, gone.Call(t.Context(), "x.y", nil, nil), agentapi.KindUnavailable, agentclient.ErrTransport, "connection refused")
	hung := c.Call(t.Context(), "hangs.y", nil, nil)
	wantError(t, hung, agentapi.KindUnavailable, agentclient.ErrTransport, "deadline exceeded")
	if !errors.Is(hung, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline", hung)
	}
	wantError(t, c.Call(t.Context(), "breaks.y", nil, nil), agentapi.KindUnavailable, agentclient.ErrTransport, "EOF")
	wantError(t, c.Call(t.Context(), "x.big", nil, nil), agentapi.KindUnavailable, agentclient.ErrTransport, "too large")
	wantError(t, c.Call(t.Context(), "busy.y", nil, nil), agentapi.KindUnavailable, agentclient.ErrRejected, "503")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("node was deleted"))
	wantError(t, c.Call(ctx, "x.big", nil, nil), agentapi.KindUnavailable, agentclient.ErrTransport, "node was deleted")
}

func TestAnotherKeyIsRejectedWithAHint(t *testing.T) {
	url := agent(t, newKey(t), rpcserver.Table{}, nil)
	c := connect(t, url, newKey(t), nil)
	err := c.Call(t.Context(), "x.y", nil, nil)
	wantError(t, err, agentapi.KindInvalid, agentclient.ErrRejected, "same key")
}

func TestClocksThatAreApartAreUnavailable(t *testing.T) {
	key := newKey(t)
	url := agent(t, key, rpcserver.Table{}, nil)
	c := connect(t, url, key, &agentclient.Options{Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	wantError(t, c.Call(t.Context(), "x.y", nil, nil), agentapi.KindUnavailable, agentclient.ErrRejected, "host's clock")
}

func TestAConnectionIsUsedAgain(t *testing.T) {
	key := newKey(t)
	var opened atomic.Int32
	s, err := rpcserver.New(rpcserver.Options{Keys: oneKey{key}, Table: rpcserver.Table{"x": methods{"y": returns(1)}}})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(s)
	web.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	web.Start()
	defer web.Close()
	defer s.Close()
	c := connect(t, web.URL, key, nil)
	for range 10 {
		if err := c.Call(t.Context(), "x.y", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := opened.Load(); got != 1 {
		t.Errorf("got %d connections, want 1", got)
	}
}

// TestARequestIsCarriedOutOnce lets the connection die after the agent did its work, so that the transport sends the same
// bytes again.
func TestARequestIsCarriedOutOnce(t *testing.T) {
	key := newKey(t)
	var done, received atomic.Int32
	table := rpcserver.Table{"x": methods{
		"warm": {ReadOnly: true, Call: func(context.Context, json.RawMessage) (any, error) { return nil, nil }},
		"y":    {Call: func(context.Context, json.RawMessage) (any, error) { done.Add(1); return nil, nil }},
	}}
	url := agent(t, key, table, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n := received.Add(1); n == 2 {
				h.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler) // the reply is lost
			}
			h.ServeHTTP(w, r)
		})
	})
	c := connect(t, url, key, nil)
	if err := c.Call(t.Context(), "x.warm", nil, nil); err != nil { // the transport repeats only on a used connection
		t.Fatal(err)
	}
	err := c.Call(t.Context(), "x.y", nil, nil)
	wantError(t, err, agentapi.KindUnavailable, agentclient.ErrRejected, "may have been carried out")
	if received.Load() != 3 || done.Load() != 1 {
		t.Errorf("got %d requests and %d effects, want 3 and 1", received.Load(), done.Load())
	}
}

func TestBadURLsAreRefused(t *testing.T) {
	key := newKey(t)
	for _, url := range []string{"", "127.0.0.1:8010", "ftp://x:1", "http://", "http://x:1/system", ":"} {
		if _, err := agentclient.New(url, key, nil); err == nil {
			t.Errorf("%q: got no error", url)
		}
	}
	if _, err := agentclient.New("http://x:1", envelope.Key{}, nil); err == nil {
		t.Error("no key: got no error")
	}
}
