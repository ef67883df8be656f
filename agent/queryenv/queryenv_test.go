package queryenv_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/queryenv"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

type keys struct{ envelope.Key }

func (k keys) Get() (envelope.Key, error) { return k.Key, nil }

func newKey(t *testing.T, text string) keys {
	t.Helper()
	key, err := envelope.ParseKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return keys{key}
}

// server answers commands as the old coordinator did, and refuses what is not signed.
type server struct {
	*httptest.Server
	key     keys
	version string // "" refuses to tell

	mu      sync.Mutex
	replies map[string]string // of a command
	fail    []func(http.ResponseWriter)
	asked   []string // path and parameters, sorted
}

func newServer(t *testing.T) *server {
	s := &server{key: newKey(t, string(envelope.NewKeyText())), version: "2012-07-01", replies: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.ParseForm() != nil || r.Method != http.MethodPost || r.Header.Get("X-Server-Id") != "server-1" {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	params := map[string]string{}
	for name, values := range r.PostForm {
		params[name] = values[0]
	}
	if err := envelope.VerifyQuery(s.key.Key, params, r.Header.Get("Date"), r.Header.Get("X-Signature")); err != nil {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "Signature doesn't match")
		return
	}
	s.asked = append(s.asked, r.URL.Path+"?"+r.PostForm.Encode())
	if len(s.fail) > 0 {
		s.fail[0](w)
		s.fail = s.fail[1:]
		return
	}
	command := params["operation"]
	if command == "get-latest-version" {
		if s.version == "" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, "unknown operation")
			return
		}
		fmt.Fprintf(w, "<?xml version=\"1.0\"?><response><version>%s</version></response>", s.version)
		return
	}
	fmt.Fprint(w, s.replies[command])
}

func (s *server) client(o queryenv.Options) *queryenv.Client {
	o.URL, o.ServerID = s.URL+"/query-env/", "server-1"
	if o.Keys == nil {
		o.Keys = s.key
	}
	if o.Pause == 0 {
		o.Pause = time.Millisecond
	}
	return queryenv.New(o)
}

// Appendix A.1, with the published signatures.
func TestRequestsAreSignedLikeTheVectors(t *testing.T) {
	data, err := os.ReadFile("../../crypto/envelope/testdata/envelope.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		QueryEnv []struct {
			Name      string
			Key       string `json:"key_b64"`
			Params    map[string]string
			Date      string
			Signature string
		}
	}
	if err := json.Unmarshal(data, &file); err != nil || len(file.QueryEnv) == 0 {
		t.Fatal(err, len(file.QueryEnv))
	}
	for _, v := range file.QueryEnv {
		t.Run(v.Name, func(t *testing.T) {
			at, err := envelope.ParseDate(v.Date)
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan *http.Request, 10)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.ParseForm()
				if r.PostForm.Get("operation") == "get-latest-version" {
					fmt.Fprintf(w, "<response><version>%s</version></response>", v.Params["version"])
					return
				}
				got <- r
				fmt.Fprint(w, "<response/>")
			}))
			defer s.Close()
			c := queryenv.New(queryenv.Options{URL: s.URL, ServerID: "x", Keys: newKey(t, v.Key), Now: func() time.Time { return at }})
			params := map[string]string{}
			for name, value := range v.Params {
				if name != "operation" && name != "version" {
					params[name] = value
				}
			}
			if _, err := c.Ask(t.Context(), v.Params["operation"], params); err != nil {
				t.Fatal(err)
			}
			r := <-got
			if h := r.Header; h.Get("X-Signature") != v.Signature || h.Get("Date") != v.Date {
				t.Errorf("got %q of %q, want %q of %q", h.Get("X-Signature"), h.Get("Date"), v.Signature, v.Date)
			}
			if want := "/" + v.Params["version"] + "/" + v.Params["operation"]; r.URL.Path != want {
				t.Errorf("got path %s, want %s", r.URL.Path, want)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	s := newServer(t)
	c := s.client(queryenv.Options{FarmRoleID: "17"})
	s.replies["get-scaling-metrics"] = `<response><metrics>
		<metric id="101" name="queue.depth"><path>/bin/depth</path><retrieve-method>execute</retrieve-method></metric>
		<metric><id>102</id><name>a &amp;amp; b</name><path>/proc/x</path><retrieve-method>read</retrieve-method></metric></metrics></response>`
	metrics, err := c.ScalingMetrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]agentapi.ScalingMetricDefinition{{ID: "101", Name: "queue.depth", Path: "/bin/depth", Method: "execute"}, {ID: "102", Name: "a & b", Path: "/proc/x", Method: "read"}}, metrics); diff != "" {
		t.Error(diff)
	}
	s.replies["get-scaling-metrics"] = `<response><metrics/></response>`
	if metrics, err := c.ScalingMetrics(t.Context()); err != nil || len(metrics) != 0 {
		t.Errorf("got %v, %v, want none", metrics, err)
	}

	s.replies["get-https-certificate"] = "<response><virtualhost><cert>CERT\n</cert><pkey>KEY</pkey><ca_cert/></virtualhost></response>"
	cert, key, chain, err := c.Certificate(t.Context(), "77")
	if err != nil || string(cert) != "CERT" || string(key) != "KEY" || len(chain) != 0 {
		t.Errorf("got %q %q %q %v", cert, key, chain, err)
	}
	s.replies["get-https-certificate"] = "<response><virtualhost/></response>"
	if cert, _, _, err := c.Certificate(t.Context(), ""); err != nil || len(cert) != 0 {
		t.Errorf("got %q, %v, want no certificate", cert, err)
	}

	s.replies["list-virtualhosts"] = `<response><vhosts><vhost hostname="a.test" type="apache" https="1"><raw>&amp;lt;VirtualHost *:443&amp;gt;</raw></vhost><vhost hostname="b.test" type="apache" https="0"><raw/></vhost></vhosts></response>`
	sites, err := c.VirtualHosts(t.Context())
	if diff := cmp.Diff([]queryenv.VirtualHost{{Hostname: "a.test", Type: "apache", HTTPS: true, Raw: "<VirtualHost *:443>"}, {Hostname: "b.test", Type: "apache"}}, sites); err != nil || diff != "" {
		t.Error(err, diff)
	}

	s.replies["list-roles"] = `<response><roles><role id="5" name="db" behaviour="mysql2"><hosts><host index="1" internal-ip="10.0.0.5" external-ip="192.0.2.5" status="Running" cloud-location="eu"/></hosts></role></roles></response>`
	hosts, err := c.RoleHosts(t.Context(), "5")
	if diff := cmp.Diff([]queryenv.RoleHost{{InternalIP: "10.0.0.5", ExternalIP: "192.0.2.5", CloudLocation: "eu", Status: "Running"}}, hosts); err != nil || diff != "" {
		t.Error(err, diff)
	}

	s.replies["list-farm-role-params"] = `<response><www><proxies><item><name>p.test</name></item></proxies></www><app/></response>`
	params, err := c.FarmRoleParams(t.Context())
	if err != nil || string(params["www"]) != `{"proxies":[{"name":"p.test"}]}` || string(params["app"]) != "null" {
		t.Errorf("got %s, %v", params, err)
	}
	last := s.asked[len(s.asked)-1]
	if want := "/query-env/2012-07-01/list-farm-role-params?farm-role-id=17&operation=list-farm-role-params&version=2012-07-01"; last != want {
		t.Errorf("got %s, want %s", last, want)
	}
	if n := strings.Count(strings.Join(s.asked, " "), "/get-latest-version?"); n != 1 {
		t.Errorf("the version was asked %d times, want once", n)
	}
}

func TestACoordinatorThatTellsNoVersionSpeaksTheFirst(t *testing.T) {
	s := newServer(t)
	s.version = ""
	s.replies["get-scaling-metrics"] = "<response><metrics/></response>"
	if _, err := s.client(queryenv.Options{}).ScalingMetrics(t.Context()); err != nil {
		t.Fatal(err)
	}
	if last := s.asked[len(s.asked)-1]; !strings.HasPrefix(last, "/query-env/2012-04-17/get-scaling-metrics?") {
		t.Errorf("got %s", last)
	}
}

func status(code int, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(code)
		fmt.Fprint(w, text)
	}
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name    string
		fail    []func(http.ResponseWriter)
		foreign bool // sign with another key
		want    string
		asked   int // of the command itself
	}{
		{name: "a wrong key", foreign: true, want: "InvalidSignatureError: "},
		{name: "400", fail: []func(http.ResponseWriter){status(400, "no such role")}, want: "QueryEnvError: QueryEnv failed: no such role", asked: 1},
		{name: "403", fail: []func(http.ResponseWriter){status(403, "farm is off")}, want: "QueryEnvError: QueryEnv failed: farm is off", asked: 1},
		{name: "509", fail: []func(http.ResponseWriter){status(509, "slow down")}, want: "QueryEnvError: QueryEnv failed: slow down", asked: 1},
		{name: "500 passes", fail: []func(http.ResponseWriter){status(500, "x"), status(502, "y")}, asked: 3},
		{name: "no XML", fail: []func(http.ResponseWriter){status(200, "hello")}, want: "QueryEnvError: the reply to get-scaling-metrics is no XML", asked: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			s.replies["get-scaling-metrics"] = "<response><metrics/></response>"
			o := queryenv.Options{}
			if test.foreign {
				o.Keys = newKey(t, string(envelope.NewKeyText()))
			}
			c := s.client(o)
			if !test.foreign {
				if _, err := c.ScalingMetrics(t.Context()); err != nil { // learns the version
					t.Fatal(err)
				}
			}
			s.fail, s.asked = test.fail, nil
			_, err := c.ScalingMetrics(t.Context())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if len(s.asked) != test.asked {
				t.Errorf("asked %d times, want %d", len(s.asked), test.asked)
			}
		})
	}
}

func TestACoordinatorThatIsDownIsNotWaitedForForEver(t *testing.T) {
	s := newServer(t)
	s.Close()
	_, err := s.client(queryenv.Options{Patience: 50 * time.Millisecond}).ScalingMetrics(t.Context())
	e, ok := errors.AsType[*agentapi.Error](err)
	if !ok || e.Class != "QueryEnvError" || e.Kind != agentapi.KindUnavailable {
		t.Errorf("got %v, want a QueryEnvError that may pass", err)
	}
}

// What the parser reads comes from the network.
func FuzzReply(f *testing.F) {
	f.Add("<response><metrics/></response>")
	f.Add("<response><raw>&amp;lt;a&amp;gt; &#x41; &nosuch;</raw></response>")
	f.Add(base64.StdEncoding.EncodeToString([]byte("x")))
	f.Fuzz(func(t *testing.T, body string) {
		if e, err := queryenv.Parse([]byte(body)); err == nil {
			if _, err := json.Marshal(e.Value()); err != nil {
				t.Errorf("a reply that is no JSON: %v", err)
			}
		}
	})
}
