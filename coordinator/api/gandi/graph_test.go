package gandi_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"image/png"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/api/gandi"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// graphBed is a bed whose graph_urls lead to a second server with the graphs over the same core.
type graphBed struct {
	*bed
	graphs string // URL of that server
}

// later makes the links of a dialect that is built before its graphs are.
type later struct{ graphs *gandi.Graphs }

func newGraphBed(t *testing.T, public string) *graphBed {
	links := &later{}
	b := &graphBed{bed: newBed(t, func(o *gandi.Options, _ *core.Options) {
		o.GraphURL = func(n core.Node, metric string, r *http.Request) string { return links.graphs.URL(n, metric, r) }
	})}
	links.graphs = gandi.NewGraphs(gandi.GraphOptions{Core: b.core, PublicURL: public})
	handler, err := api.NewHandler(api.HandlerOptions{Log: slog.New(slog.NewTextHandler(b.log, nil))}, api.Mount{Name: "graph", Prefixes: []string{"/graph"}, Dialect: links.graphs})
	b.must(err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	b.graphs = server.URL
	b.work()
	return b
}

// instance creates an instance and waits until it runs.
func (b *graphBed) instance(changes ...any) (int, core.Node) {
	b.Helper()
	id, ops := b.create(changes...)
	for _, op := range ops {
		if end := b.await(op["id"]); end["step"] != "DONE" {
			b.Fatalf("got operation %v", end)
		}
	}
	var nodes []core.Node
	b.must(b.store.View(b.Context(), func(r core.Reader) (err error) {
		app, err := r.AppByNum(int64(id))
		nodes = app.Nodes
		return err
	}))
	return id, nodes[0]
}

// urls are the links of an instance's only server by metric, led to the server with the graphs.
func (b *graphBed) urls(id int) map[string]string {
	b.Helper()
	server := structs(b.call("paas.info", id).(map[string]any)["servers"])[0]
	links := map[string]string{}
	for metric, list := range server["graph_urls"].(map[string]any) {
		u, err := url.Parse(list.([]any)[0].(string))
		b.must(err)
		links[metric] = b.graphs + u.RequestURI()
	}
	return links
}

// answer is what a link led to.
type answer struct {
	status int
	header http.Header
	body   string
}

func (b *graphBed) open(method, link string, accept ...string) answer {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), method, link, nil)
	b.must(err)
	for _, a := range accept {
		req.Header.Set("Accept", a)
	}
	resp, err := http.DefaultClient.Do(req)
	b.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	b.must(err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

type graphData struct {
	Metric, Unit, Range string
	Step                int64
	Series              []struct {
		Label, Unit string
		Points      [][2]*float64
	}
}

func (b *graphBed) data(link string) graphData {
	b.Helper()
	got := b.open("GET", link+"&format=json")
	var d graphData
	if err := json.Unmarshal([]byte(got.body), &d); err != nil || got.status != 200 || got.header.Get("Content-Type") != "application/json" {
		b.Fatalf("%s: got %d %v %s: %v", link, got.status, got.header, got.body, err)
	}
	return d
}

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

func TestGraphsOpenToPictures(t *testing.T) {
	b := newGraphBed(t, "")
	id, node := b.instance()
	links := b.urls(id)
	if len(links) != 3 {
		t.Fatalf("got links %v, want vcpu, vdi and vif", links)
	}
	now := time.Now().Truncate(time.Second)
	put := func(minutesAgo int, cpu, written, in int64) {
		s := core.Sample{Node: node.ID, At: now.Add(-time.Duration(minutesAgo) * time.Minute), Counters: core.UnknownCounters()}
		s.CPUs, s.UserMicros, s.SystemMicros, s.ReadBytes, s.WriteBytes, s.RxBytes, s.TxBytes = 1, cpu, 0, 0, written, in, 0
		s.DataUsed, s.DataTotal = 2e9, 10e9
		b.must(b.store.Update(b.Context(), func(tx core.Tx) error { return tx.PutSamples([]core.Sample{s}) }))
	}

	for _, stage := range []string{"without samples", "with samples"} {
		if stage == "with samples" {
			put(9, 0, 0, 0)
			put(8, 30e6, 6e6, 60)
			put(7, 60e6, 12e6, 120)
		}
		for metric, link := range links {
			t.Run(stage+" "+metric, func(t *testing.T) {
				for format, want := range map[string]string{"": "image/svg+xml", "&format=svg": "image/svg+xml", "&format=png": "image/png"} {
					got := b.open("GET", link+format, "image/webp,*/*")
					if got.status != 200 || got.header.Get("Content-Type") != want || got.header.Get("Cache-Control") != "private, max-age=60" {
						t.Fatalf("%q: got %d %v", format, got.status, got.header)
					}
					if strings.HasPrefix(want, "image/svg") {
						if err := xml.Unmarshal([]byte(got.body), new(struct{ XMLName xml.Name })); err != nil {
							t.Errorf("%q: %v", format, err)
						}
						if strings.Contains(got.body, "no data") != (stage == "without samples") {
							t.Errorf("%q: \"no data\" is said, or not, at the wrong time", format)
						}
					} else if _, err := png.Decode(bytes.NewReader([]byte(got.body))); err != nil {
						t.Errorf("%q: %v", format, err)
					}
					head := b.open("HEAD", link+format, "image/webp,*/*")
					if head.status != 200 || head.body != "" || head.header.Get("Content-Length") == "" || head.header.Get("Content-Type") != want {
						t.Errorf("HEAD %q: got %d %v", format, head.status, head.header)
					}
				}
				page := b.open("GET", link, browser)
				if page.status != 200 || page.header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(page.body, "<img src=\"?format=svg&amp;key=") {
					t.Errorf("page: got %d %v %s", page.status, page.header, page.body)
				}
				for span, points := range map[string]int{"1h": 60, "24h": 1440, "7d": 672, "30d": 2880} {
					d := b.data(link + "&range=" + span)
					if d.Metric != metric || d.Range != span || len(d.Series) < 2 || d.Unit != d.Series[0].Unit {
						t.Errorf("%s: got metric %q, range %q, unit %q, %d series", span, d.Metric, d.Range, d.Unit, len(d.Series))
					}
					for _, s := range d.Series {
						if len(s.Points) != points || int64(*s.Points[1][0]-*s.Points[0][0]) != d.Step {
							t.Errorf("%s %s: got %d points from %v, step %d, want %d", span, s.Label, len(s.Points), *s.Points[0][0], d.Step, points)
						}
						if last := *s.Points[points-1][0]; last > float64(time.Now().Unix()) || last < float64(now.Unix()-d.Step-5) {
							t.Errorf("%s %s: got a last step at %f, want the one of now, %d", span, s.Label, last, now.Unix())
						}
					}
				}
			})
		}
	}

	want := map[string]map[string]float64{"vcpu": {"total %": 50, "user %": 50}, "vdi": {"written B/s": 100000, "used B": 2e9, "total B": 10e9}, "vif": {"in B/s": 1}}
	for metric, series := range want {
		found := 0
		for _, s := range b.data(links[metric] + "&range=1h").Series {
			value, ok := series[s.Label+" "+s.Unit]
			if !ok {
				continue
			}
			found++
			known := 0
			for _, p := range s.Points {
				if p[1] != nil {
					known++
					if *p[1] != value {
						t.Errorf("%s %s: got %v, want %v", metric, s.Label, *p[1], value)
					}
				}
			}
			if known < 2 || known > 12 {
				t.Errorf("%s %s: got %d values, want those of a few minutes and nulls around them", metric, s.Label, known)
			}
		}
		if found != len(series) {
			t.Errorf("%s: got %d of the series %v", metric, found, series)
		}
	}
	b.noSecrets()
}

func TestGraphLinks(t *testing.T) {
	b := newGraphBed(t, "")
	id, node := b.instance()
	other, _ := b.instance("name", "second", "vhosts", []string{"second.hosted.test"})
	links, more := b.urls(id), b.urls(other)

	t.Run("are all different, and the same whenever they are asked for", func(t *testing.T) {
		seen := map[string]bool{}
		for _, m := range []map[string]string{links, more} {
			for _, link := range m {
				seen[link] = true
			}
		}
		if len(seen) != 6 {
			t.Errorf("got %d different links of 6: %v", len(seen), seen)
		}
		if again := b.urls(id); fmt.Sprint(again) != fmt.Sprint(links) {
			t.Errorf("got %v, then %v", links, again)
		}
	})
	missing := b.open("GET", b.graphs+"/graph/?key=")
	t.Run("lead nowhere when any character is changed", func(t *testing.T) {
		if missing.status != 404 {
			t.Errorf("no key: got %d", missing.status)
		}
		base, key, _ := strings.Cut(links["vif"], "?key=")
		for i := range key {
			for _, with := range []string{"A", "B", "_", "x", ""} {
				if changed := key[:i] + with + key[i+1:]; changed != key {
					if got := b.open("GET", base+"?key="+changed); got.status != 404 || got.body != missing.body {
						t.Errorf("%s: got %d %q", changed, got.status, got.body)
					}
				}
			}
		}
		for _, bad := range []string{key + "A", key + "=", key + "%3D", "%00", strings.Repeat("A", 5000), url.QueryEscape("ключ")} {
			if got := b.open("GET", base+"?key="+bad); got.status != 404 || got.body != missing.body {
				t.Errorf("%.80s: got %d %q", bad, got.status, got.body)
			}
		}
	})
	t.Run("hold neither the API key nor the name", func(t *testing.T) {
		for _, link := range links {
			_, token, _ := strings.Cut(link, "?key=")
			inside, _ := base64.RawURLEncoding.DecodeString(token)
			if strings.Contains(link+string(inside), b.key) || strings.Contains(link+string(inside), "My PaaS") {
				t.Errorf("got %s", link)
			}
		}
	})
	t.Run("of another secret lead nowhere", func(t *testing.T) {
		forger := core.New(core.Options{Store: b.store, Clouds: b.cloud, OwnershipSecret: bytes.Repeat([]byte{8}, 32)})
		token := forger.GraphToken(node.ID, core.MetricCPU)
		if _, _, err := forger.GraphNode(t.Context(), token); err != nil {
			t.Fatalf("its own: %v", err)
		}
		if got := b.open("GET", b.graphs+"/graph/?key="+token); got.status != 404 || got.body != missing.body {
			t.Errorf("got %d %q", got.status, got.body)
		}
		none := core.New(core.Options{Store: b.store, Clouds: b.cloud})
		if got := none.GraphToken(node.ID, core.MetricCPU); got != "" {
			t.Errorf("without a secret: got token %q", got)
		}
	})
	t.Run("refuse what they do not know", func(t *testing.T) {
		for _, query := range []string{"&range=2h", "&range=0", "&format=gif", "&format=html5"} {
			if got := b.open("GET", links["vcpu"]+query); got.status != 400 || !strings.Contains(got.body, "is one of") {
				t.Errorf("%s: got %d %q", query, got.status, got.body)
			}
		}
		if got := b.open("POST", links["vcpu"]); got.status != 405 || got.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST: got %d %v", got.status, got.header)
		}
		if got := b.open("GET", strings.Replace(links["vcpu"], "/graph/?", "/graph?", 1)); got.status != 200 {
			t.Errorf("without a slash: got %d", got.status)
		}
	})
	t.Run("are dead after delete, and only those", func(t *testing.T) {
		op := b.call("paas.delete", id).(map[string]any)
		if end := b.await(op["id"]); end["step"] != "DONE" {
			t.Fatalf("got operation %v", end)
		}
		for metric, link := range links {
			for _, query := range []string{"", "&format=json", "&range=2h", "&format=gif"} {
				if got := b.open("GET", link+query, browser); got.status != 404 || got.body != missing.body {
					t.Errorf("%s%s: got %d %q", metric, query, got.status, got.body)
				}
			}
		}
		if got := b.open("GET", more["vcpu"]); got.status != 200 {
			t.Errorf("of the other instance: got %d", got.status)
		}
	})
}

// linkCore makes links and knows nothing else.
type linkCore struct{ err error }

func (linkCore) GraphToken(id core.NodeID, m core.Metric) string { return string(id) + "-" + string(m) }
func (l linkCore) GraphNode(context.Context, string) (core.Node, core.Metric, error) {
	return core.Node{}, core.MetricCPU, l.err
}
func (l linkCore) Usage(context.Context, core.NodeID, core.Metric, time.Time, time.Time, time.Duration) (core.Usage, error) {
	return core.Usage{}, l.err
}

func TestGraphURLs(t *testing.T) {
	plain := httptest.NewRequest("POST", "http://paas.example.test:8080/xmlrpc/", nil)
	secure := httptest.NewRequest("POST", "https://paas.example.test/xmlrpc/", nil)
	secure.TLS = &tls.ConnectionState{}
	odd := httptest.NewRequest("POST", "/xmlrpc/", nil)
	odd.Host = "bücher.test"
	old := httptest.NewRequest("POST", "/xmlrpc/", nil) // HTTP/1.0 without Host
	old.Host = ""
	old = old.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 8080})))
	for _, c := range []struct {
		public string
		r      *http.Request
		metric string
		want   string
	}{
		{"", plain, "vcpu", "http://paas.example.test:8080/graph/?key=n-cpu"},
		{"", secure, "vdi", "https://paas.example.test/graph/?key=n-disk"},
		{"", odd, "vif", "http://b%C3%BCcher.test/graph/?key=n-net"},
		{"https://public.example.test", plain, "vif", "https://public.example.test/graph/?key=n-net"},
		{"https://public.example.test/reeve/", plain, "vif", "https://public.example.test/reeve/graph/?key=n-net"},
		{"", old, "vcpu", "http://192.0.2.1:8080/graph/?key=n-cpu"},
		{"", plain, "memory", ""},
	} {
		if got := gandi.NewGraphs(gandi.GraphOptions{Core: linkCore{}, PublicURL: c.public}).URL(core.Node{ID: "n"}, c.metric, c.r); got != c.want {
			t.Errorf("public %q, host %s, %s: got %s, want %s", c.public, c.r.Host, c.metric, got, c.want)
		}
	}
}

func TestGraphFailuresSayNothingPrivate(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{core.Wrap(core.Unavailable, core.ObjNode, io.ErrUnexpectedEOF, "/var/lib/secret is busy"), 503},
		{fmt.Errorf("SELECT secret"), 500},
		{core.Errorf(core.NotFound, core.ObjNode, "secret"), 404},
	} {
		mux := http.NewServeMux()
		gandi.NewGraphs(gandi.GraphOptions{Core: linkCore{c.err}}).Register(mux)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/graph/?key=x", nil))
		if w.Code != c.want || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%v: got %d %q, want %d", c.err, w.Code, w.Body, c.want)
		}
	}
}
