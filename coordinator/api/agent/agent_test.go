package agent

import (
	"bytes"
	"context"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// fakeCore has one node, and two of its role.
type fakeCore struct {
	node   core.Node
	filter core.NodeRoleFilter
	noted  []core.AgentMessage
	seen   map[string]bool
	err    error
	volume core.NodeVolume
	change core.VolumeChange // the last that was asked for
}

func (f *fakeCore) AgentNode(_ context.Context, id string) (core.Node, error) {
	if id != string(f.node.ID) {
		return core.Node{}, core.Errorf(core.NotFound, core.ObjNode, "there is no such node")
	}
	return f.node, f.err
}

func (f *fakeCore) NodeRoles(_ context.Context, _ core.Node, filter core.NodeRoleFilter) ([]core.NodeRole, error) {
	f.filter = filter
	return []core.NodeRole{{ID: 72, Name: "shop-app", Behaviour: "app", Hosts: []core.Node{
		{Address: "10.66.0.7", State: core.NodeRunning, Cloud: "default"}, {Address: "10.66.0.8", State: core.NodeBooting, Cloud: "default"}}}}, nil
}

func (f *fakeCore) NodeSites(context.Context, core.Node) ([]core.NodeSite, error) {
	return []core.NodeSite{{Hostname: "a.test", Template: "<VirtualHost *:80>\nServerName a.test # & more\n</VirtualHost>\n"}}, nil
}

func (f *fakeCore) NodeCertificate(_ context.Context, _ core.Node, id string) (core.RouteCertificate, error) {
	if id != "route-1" {
		return core.RouteCertificate{}, core.Errorf(core.NotFound, core.ObjCertificate, "there is no such certificate")
	}
	return core.RouteCertificate{Chain: []byte(certificatePEM("leaf") + certificatePEM("issuer") + certificatePEM("root")), Key: []byte("the key")}, nil
}

func certificatePEM(content string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(content)}))
}

func (f *fakeCore) ServesSites(context.Context, core.Node) (bool, error) { return true, nil }

func (f *fakeCore) NodeVariables(context.Context, core.Node) ([]core.EnvVar, error) {
	return []core.EnvVar{{Name: "GREETING", Value: "a<b & c", Public: true}, {Name: "PASSWORD", Value: "s3cret"}}, f.err
}

func (f *fakeCore) NodeMetrics(core.Node) []core.ScalingMetric {
	return []core.ScalingMetric{{ID: 1, Name: "queue", Path: "/usr/local/bin/queue"}, {ID: 3, Name: "load", Path: "/proc/loadavg", Read: true}}
}

func (f *fakeCore) VolumeKind(core.Node) string { return "nspawn" }

func (f *fakeCore) NodeVolume(_ context.Context, _ core.Node, ref core.VolumeRef) (core.NodeVolume, error) {
	f.change = core.VolumeChange{VolumeRef: ref}
	return f.volume, f.err
}

func (f *fakeCore) changeVolume(_ context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error) {
	if p.From != "192.0.2.9" || p.Via != "agent" || n.ID != "node-1" {
		return core.NodeVolume{}, fmt.Errorf("got caller %+v of %s", p, n.ID)
	}
	f.change = ch
	return f.volume, f.err
}

func (f *fakeCore) CreateNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error) {
	return f.changeVolume(ctx, p, n, ch)
}

func (f *fakeCore) AttachNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error) {
	return f.changeVolume(ctx, p, n, ch)
}

func (f *fakeCore) DetachNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error) {
	return f.changeVolume(ctx, p, n, ch)
}

func (f *fakeCore) GrowNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error) {
	return f.changeVolume(ctx, p, n, ch)
}

func (f *fakeCore) DestroyNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error) {
	return f.changeVolume(ctx, p, n, ch)
}

func (f *fakeCore) SnapshotNodeVolume(_ context.Context, _ core.Principal, _ core.Node, ch core.VolumeChange) (core.CloudSnapshot, error) {
	f.change = ch
	return core.CloudSnapshot{ID: "s-1", SizeBytes: 4096}, f.err
}

func (f *fakeCore) DestroyNodeSnapshot(_ context.Context, _ core.Principal, _ core.Node, ch core.VolumeChange) error {
	f.change = ch
	return f.err
}

func (f *fakeCore) NoteAgentMessage(_ context.Context, p core.Principal, _ core.Node, m core.AgentMessage) (bool, error) {
	if p.From != "192.0.2.9" || p.Dialect != "agent" {
		return false, fmt.Errorf("got caller %+v", p)
	}
	if f.seen[m.ID] {
		return false, nil
	}
	f.seen[m.ID] = true
	f.noted = append(f.noted, m)
	return true, nil
}

type bed struct {
	*testing.T
	core *fakeCore
	key  envelope.Key
	h    http.Handler
}

func newBed(t *testing.T) *bed {
	t.Helper()
	raw := bytes.Repeat([]byte("k1"), 20)
	key, err := envelope.NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeCore{node: core.Node{ID: "node-1", Name: "web-1", AgentKey: raw}, seen: map[string]bool{}}
	log := slog.New(slog.DiscardHandler)
	h, err := api.NewHandler(api.HandlerOptions{Log: log}, New(Options{Core: f, Log: log, Now: func() time.Time { return now }}).Mount())
	if err != nil {
		t.Fatal(err)
	}
	return &bed{t, f, key, h}
}

func (b *bed) post(path, body, date, signature string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.9:4711"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Date", date)
	r.Header.Set("X-Signature", signature)
	r.Header.Set("X-Server-Id", "node-1")
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, r)
	return w
}

func (b *bed) ask(command string, params map[string]string) *httptest.ResponseRecorder {
	all := map[string]string{"operation": command, "version": "2012-04-17"}
	form := url.Values{}
	for name, value := range params {
		all[name] = value
	}
	for name, value := range all {
		form.Set(name, value)
	}
	date := envelope.FormatDate(now)
	return b.post("/agent/queryenv/2012-04-17/"+command, form.Encode(), date, envelope.SignQuery(b.key, all, date))
}

func TestAnswers(t *testing.T) {
	for command, want := range map[string]string{
		"get-latest-version": `<response><version>2012-07-01</version></response>`,
		"get-scaling-metrics": `<response><metrics><metric id="1"><name>queue</name><path>/usr/local/bin/queue</path><retrieve-method>execute</retrieve-method></metric>` +
			`<metric id="3"><name>load</name><path>/proc/loadavg</path><retrieve-method>read</retrieve-method></metric></metrics></response>`,
		"get-https-certificate": `<response><virtualhost></virtualhost></response>`,
		"list-global-variables": `<response><variables><variable name="GREETING" private="0">a&amp;lt;b &amp;amp; c</variable><variable name="PASSWORD" private="1">s3cret</variable></variables></response>`,
		"list-farm-role-params": `<response><app></app></response>`,
		"list-roles": `<response><roles><role id="72" name="shop-app" behaviour="app"><hosts>` +
			`<host index="1" replication-master="0" internal-ip="10.66.0.7" external-ip="" status="Running" cloud-location="default" shard-index="" replica-set-index=""></host>` +
			`<host index="2" replication-master="0" internal-ip="10.66.0.8" external-ip="" status="Initializing" cloud-location="default" shard-index="" replica-set-index=""></host></hosts></role></roles></response>`,
	} {
		t.Run(command, func(t *testing.T) {
			w := newBed(t).ask(command, nil)
			if got := strings.TrimPrefix(w.Body.String(), xml.Header); w.Code != 200 || got != want {
				t.Errorf("got %d %s, want %s", w.Code, got, want)
			}
		})
	}
	b := newBed(t)
	b.ask("list-roles", map[string]string{"behaviour": "app", "farm-role-id": "72", "role": "shop-app", "showInitServers": "1"})
	if want := (core.NodeRoleFilter{ID: "72", Name: "shop-app", Behaviour: "app", Starting: true}); b.core.filter != want {
		t.Errorf("got %+v", b.core.filter)
	}
}

func TestACertificateIsItsOwnItsKeyAndItsChain(t *testing.T) {
	w := newBed(t).ask("get-https-certificate", map[string]string{"id": "route-1"})
	var got struct {
		Cert  string `xml:"virtualhost>cert"`
		Key   string `xml:"virtualhost>pkey"`
		Chain string `xml:"virtualhost>ca_cert"`
	}
	if err := xml.Unmarshal([]byte(html.UnescapeString(w.Body.String())), &got); err != nil {
		t.Fatal(err)
	}
	if got.Cert != certificatePEM("leaf") || got.Key != "the key" || got.Chain != certificatePEM("issuer")+certificatePEM("root") || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %+v of %s", got, w.Body)
	}
}

// A reader decodes entities once and then parses.
func TestATemplateSurvivesTheReader(t *testing.T) {
	w := newBed(t).ask("list-virtualhosts", nil)
	var reply struct {
		Sites []struct {
			Hostname string `xml:"hostname,attr"`
			Raw      string `xml:"raw"`
		} `xml:"vhosts>vhost"`
	}
	if err := xml.Unmarshal([]byte(html.UnescapeString(w.Body.String())), &reply); err != nil {
		t.Fatal(err, w.Body)
	}
	if len(reply.Sites) != 1 || reply.Sites[0].Hostname != "a.test" || reply.Sites[0].Raw != "<VirtualHost *:80>\nServerName a.test # & more\n</VirtualHost>\n" {
		t.Errorf("got %+v", reply)
	}
}

func TestOnlyTheNodeItselfIsAnswered(t *testing.T) {
	b := newBed(t)
	params := map[string]string{"operation": "list-roles", "version": "2012-04-17"}
	form := "operation=list-roles&version=2012-04-17"
	const path = "/agent/queryenv/2012-04-17/list-roles"
	date := envelope.FormatDate(now)
	good := envelope.SignQuery(b.key, params, date)
	other, err := envelope.NewKey(bytes.Repeat([]byte("x"), 40))
	if err != nil {
		t.Fatal(err)
	}
	old := envelope.FormatDate(now.Add(-6 * time.Minute))
	for _, test := range []struct {
		name                        string
		path, form, date, signature string
		server                      string
		want                        int
	}{
		{"as it should be", path, form, date, good, "node-1", 200},
		{"another node's key", path, form, date, envelope.SignQuery(other, params, date), "node-1", 403},
		{"an unknown node", path, form, date, good, "node-2", 403},
		{"no node", path, form, date, good, "", 403},
		{"no signature", path, form, date, "", "node-1", 403},
		{"another date than was signed", path, form, envelope.FormatDate(now.Add(time.Minute)), good, "node-1", 403},
		{"an old date", path, form, old, envelope.SignQuery(b.key, params, old), "node-1", 403},
		{"a parameter that was not signed", path, form + "&role=x", date, good, "node-1", 403},
		{"a parameter twice", path, form + "&operation=list-roles", date, good, "node-1", 400},
		{"a parameter in the URL", path + "?role=x", form, date, good, "node-1", 400},
		{"another command than was signed", "/agent/queryenv/2012-04-17/list-virtualhosts", form, date, good, "node-1", 400},
		{"another version than was signed", "/agent/queryenv/2012-07-01/list-roles", form, date, good, "node-1", 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := b.post(test.path, test.form, test.date, test.signature, func(r *http.Request) { r.Header.Set("X-Server-Id", test.server) })
			if w.Code != test.want || w.Code == 403 && strings.TrimSpace(w.Body.String()) != "Signature doesn't match" {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, test.want)
			}
		})
	}
}

func TestVolumes(t *testing.T) {
	b := newBed(t)
	answers := func(w *httptest.ResponseRecorder, code int, want string) {
		t.Helper()
		if got := strings.TrimPrefix(w.Body.String(), xml.Header); w.Code != code || strings.TrimSpace(got) != want {
			t.Errorf("got %d %s, want %d %s", w.Code, got, code, want)
		}
	}
	answers(b.ask("list-volume-types", nil), 200, `<response><volumes><type>nspawn</type></volumes></response>`)
	b.core.volume = core.NodeVolume{CloudVolume: core.CloudVolume{ID: "v-1", SizeBytes: 4096, Device: "/dev/reeve/v-1"}, Here: true}
	const attached = `<response><volume id="v-1" size="4096" here="1" device="/dev/reeve/v-1"></volume></response>`
	answers(b.ask("get-volume", map[string]string{"type": "nspawn", "id": "v-1"}), 200, attached)
	for _, command := range []string{"create-volume", "attach-volume", "detach-volume", "grow-volume", "delete-volume"} {
		answers(b.ask(command, map[string]string{"type": "nspawn", "key": "k", "size": "4096", "request": "r-" + command}), 200, attached)
		if want := (core.VolumeChange{VolumeRef: core.VolumeRef{Kind: "nspawn", Key: "k"}, Request: "r-" + command, SizeBytes: 4096}); b.core.change != want {
			t.Errorf("%s: got %+v, want %+v", command, b.core.change, want)
		}
	}
	answers(b.ask("create-snapshot", map[string]string{"type": "nspawn", "id": "v-1", "snapshot-key": "k", "request": "r"}), 200, `<response><snapshot id="s-1" size="4096"></snapshot></response>`)
	if want := (core.VolumeChange{VolumeRef: core.VolumeRef{Kind: "nspawn", ID: "v-1"}, Request: "r", SnapshotKey: "k"}); b.core.change != want {
		t.Errorf("got %+v, want %+v", b.core.change, want)
	}
	answers(b.ask("delete-snapshot", map[string]string{"type": "nspawn", "snapshot": "s-1", "request": "r"}), 200, `<response><snapshot></snapshot></response>`)
	if want := (core.VolumeChange{VolumeRef: core.VolumeRef{Kind: "nspawn"}, Request: "r", SnapshotID: "s-1"}); b.core.change != want {
		t.Errorf("got %+v, want %+v", b.core.change, want)
	}
	answers(b.ask("grow-volume", map[string]string{"type": "nspawn", "id": "v-1", "size": "big", "request": "r"}), 400, "size is no number of bytes")
}

// Each failure of a volume is either repeated by an agent, final, or that there is none.
func TestFailuresOfVolumes(t *testing.T) {
	b := newBed(t)
	n := b.core.node
	for kind, want := range map[core.Kind]int{core.NotFound: 200, core.Invalid: 400, core.Forbidden: 400, core.Quota: 400, core.Unsupported: 400, core.Busy: 503, core.Unavailable: 503, core.Internal: 500} {
		failing := changeVolume(func(context.Context, core.Principal, core.Node, core.VolumeChange) (core.NodeVolume, error) {
			return core.NodeVolume{}, core.Errorf(kind, core.ObjVolume, "why")
		})
		d := New(Options{Core: b.core, Log: slog.New(slog.DiscardHandler)})
		content, err := failing(t.Context(), n, nil)
		w := httptest.NewRecorder()
		w.Code = 200
		if err != nil {
			d.fail(w, err)
		} else if content != (volume{}) {
			t.Errorf("%s: got %+v", kind, content)
		}
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", kind, w.Code, want)
		}
	}
}

func TestMessagesAreTakenOnce(t *testing.T) {
	b := newBed(t)
	send := func(queue, text string, at time.Time) int {
		body, date, signature := envelope.Seal(b.key, []byte(text), at)
		return b.post("/agent/messages/"+queue, string(body), date, signature).Code
	}
	operation := `{"id": "m-1", "name": "OperationResult", "meta": {}, "body": {"id": "m-1", "name": "storage.create", "status": "failed", "result": {"password": "x"}}}`
	for _, test := range []struct {
		name, queue, text string
		at                time.Time
		want              int
	}{
		{"a result", "control", operation, now, 201},
		{"the same again", "control", operation, now.Add(time.Second), 201},
		{"a script's", "log", `{"id": "m-2", "name": "ExecScriptResult", "body": {"script_name": "hello", "return_code": 3}}`, now, 201},
		{"a backup's", "control", `{"id": "m-5", "name": "DbMsr_CreateBackupResult", "body": {"db_type": "postgresql", "status": "error", "last_error": "x"}}`, now, 201},
		{"XML", "control", `<?xml version="1.0"?><message id="m-6" name="OperationResult"><meta><szr_version>4.9</szr_version></meta><body><id>m-6</id><name>storage.grow</name><status>completed</status><logs><item>one</item><item>two</item></logs></body></message>`, now, 201},
		{"XML of a script", "log", `<message id="m-7" name="ExecScriptResult"><meta/><body><script_name>hello</script_name><return_code>3</return_code></body></message>`, now, 201},
		{"another port", "control", `{"id": "m-8", "name": "HostUpdate", "body": {"base": {"api_port": 8009, "messaging_port": 8011}}}`, now, 201},
		{"one that nobody knows", "log", `{"id": "m-3", "name": "Other", "body": "x"}`, now, 201},
		{"an unknown queue", "other", operation, now, 400},
		{"no JSON", "log", `hello`, now, 400},
		{"no message", "log", `<other/>`, now, 400},
		{"half of one", "log", `<message id="m-9" name="X">`, now, 400},
		{"too old", "log", `{"id": "m-4", "name": "X"}`, now.Add(-time.Hour), 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := send(test.queue, test.text, test.at); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
	want := []core.AgentMessage{{ID: "m-1", Name: "OperationResult", Subject: "storage.create", Outcome: "failed"},
		{ID: "m-2", Name: "ExecScriptResult", Subject: "hello", Outcome: "3"},
		{ID: "m-5", Name: "DbMsr_CreateBackupResult", Subject: "postgresql", Outcome: "error"}, {ID: "m-6", Name: "OperationResult", Subject: "storage.grow", Outcome: "completed"},
		{ID: "m-7", Name: "ExecScriptResult", Subject: "hello", Outcome: "3"}, {ID: "m-8", Name: "HostUpdate", Subject: "api_port", Outcome: "8009"}, {ID: "m-3", Name: "Other"}}
	if fmt.Sprint(b.core.noted) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", b.core.noted, want)
	}
	w := b.post("/agent/messages/log", "bm9ib2R5\n", envelope.FormatDate(now), "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	if w.Code != 403 {
		t.Errorf("an unsigned message: got %d %s", w.Code, w.Body)
	}
}

func TestAFailureOfOursIsTriedAgain(t *testing.T) {
	b := newBed(t)
	b.core.err = core.Errorf(core.Unavailable, core.ObjNode, "busy")
	if w := b.ask("list-roles", nil); w.Code != 503 {
		t.Errorf("got %d %s, want what an agent repeats", w.Code, w.Body)
	}
}
