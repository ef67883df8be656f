package gandi

import (
	"bytes"
	"context"
	"encoding/json"
	"html/template"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// GraphCore is what the pictures ask of the rules; *core.Core has it.
type GraphCore interface {
	GraphToken(id core.NodeID, m core.Metric) string
	GraphNode(ctx context.Context, token string) (core.Node, core.Metric, error)
	Usage(ctx context.Context, id core.NodeID, m core.Metric, from, to time.Time, step time.Duration) (core.Usage, error)
}

// GraphOptions configure Graphs. Core is needed.
type GraphOptions struct {
	Core      GraphCore
	PublicURL string       // under which callers reach us; "": what the request was sent to
	Log       *slog.Logger // nil: nothing is logged
	Clock     core.Clock
}

// Graphs serves the pictures that graph_urls of paas.info leads to. Whoever has a link needs no other credential.
//
//	GET /graph/?key=<token>[&range=1h|24h|7d|30d][&format=svg|png|json]
//
// Without a format a browser gets a page around the picture, everybody else an SVG. Times are UTC. A link that is forged or
// whose instance is gone is answered with 404; one without any samples yet with an empty picture.
type Graphs struct {
	opts  GraphOptions
	turns chan struct{} // drawing takes some milliseconds of CPU, and anybody with a link may ask
}

// NewGraphs builds Graphs.
func NewGraphs(o GraphOptions) *Graphs {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Graphs{opts: o, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// graphKind is a metric as this API calls it.
type graphKind struct {
	metric core.Metric
	name   string
	title  string
	shown  []string // series in the picture; json has all of them
}

var graphKinds = []graphKind{
	{core.MetricCPU, "vcpu", "CPU", []string{"total", "steal"}},
	{core.MetricDisk, "vdi", "Disk", []string{"read", "written"}},
	{core.MetricNet, "vif", "Network", []string{"in", "out"}},
}

// graphRange is a span that can be asked for. Data come as fine as they are kept, pictures about as fine as their pixels.
type graphRange struct {
	name          string
	span          time.Duration
	data, picture time.Duration
}

var graphRanges = []graphRange{
	{"1h", time.Hour, core.SampleStep, core.SampleStep},
	{"24h", 24 * time.Hour, core.SampleStep, 5 * time.Minute},
	{"7d", 7 * 24 * time.Hour, core.CoarseStep, 30 * time.Minute},
	{"30d", 30 * 24 * time.Hour, core.CoarseStep, 2 * time.Hour},
}

// URL is the address of a node's picture, for Options.GraphURL; "" for a metric that is none of "vcpu", "vdi" and "vif".
func (g *Graphs) URL(n core.Node, metric string, r *http.Request) string {
	for i := range graphKinds {
		if graphKinds[i].name != metric {
			continue
		}
		token := g.opts.Core.GraphToken(n.ID, graphKinds[i].metric)
		if token == "" {
			return ""
		}
		return g.base(r) + "/graph/?key=" + token
	}
	return ""
}

// base is the public address without a slash at its end.
func (g *Graphs) base(r *http.Request) string {
	if g.opts.PublicURL != "" {
		return strings.TrimRight(g.opts.PublicURL, "/")
	}
	u := url.URL{Scheme: "http", Host: r.Host}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && u.Host == "" { // HTTP/1.0 needs no Host
		u.Host = local.String()
	}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	return u.String()
}

// Register adds the routes. Each HTTP method is named, so that another dialect's "GET /" does not collide.
func (g *Graphs) Register(mux *http.ServeMux) {
	for _, path := range []string{"/graph", "/graph/{$}"} {
		mux.HandleFunc("GET "+path, g.serve) // and HEAD
		for _, other := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			mux.HandleFunc(other+" "+path, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Allow", "GET, HEAD")
				http.Error(w, "graphs are read with GET", http.StatusMethodNotAllowed)
			})
		}
	}
}

// graph is one request that may be answered.
type graph struct {
	kind  graphKind
	span  graphRange
	node  core.Node
	now   time.Time
	token string
}

func (g *Graphs) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "private, max-age=60")
	h.Set("Referrer-Policy", "no-referrer") // the address is the credential
	h.Set("X-Content-Type-Options", "nosniff")
	query := r.URL.Query()
	one := graph{token: query.Get("key"), now: g.opts.Clock().UTC()}
	node, metric, err := g.opts.Core.GraphNode(r.Context(), one.token)
	if err != nil {
		g.fail(w, err)
		return
	}
	one.node = node
	for _, k := range graphKinds {
		if k.metric == metric {
			one.kind = k
		}
	}
	if !one.readRange(query.Get("range")) {
		http.Error(w, "range is one of 1h, 24h, 7d and 30d", http.StatusBadRequest)
		return
	}
	format := query.Get("format")
	if format == "" {
		h.Set("Vary", "Accept")
		format = "svg"
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			format = "html"
		}
	}
	render, ok := graphFormats[format]
	if !ok {
		http.Error(w, "format is one of svg, png and json", http.StatusBadRequest)
		return
	}
	body, err := g.render(r.Context(), &one, render)
	if err != nil {
		g.fail(w, err)
		return
	}
	h.Set("Content-Type", render.contentType)
	if render.policy != "" {
		h.Set("Content-Security-Policy", render.policy)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // whoever hung up does not want it
}

func (one *graph) readRange(name string) bool {
	if name == "" {
		name = "24h"
	}
	for _, s := range graphRanges {
		if s.name == name {
			one.span = s
			return true
		}
	}
	return false
}

// fail answers with 404 for every link that shows nothing, whatever the reason is.
func (g *Graphs) fail(w http.ResponseWriter, err error) {
	switch core.KindOf(err) {
	case core.NotFound:
		http.Error(w, "There is no such graph.", http.StatusNotFound)
	case core.Unavailable:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "The graph cannot be read at the moment; try again.", http.StatusServiceUnavailable)
	default:
		g.opts.Log.Error("graph not drawn", "err", err)
		http.Error(w, "The graph cannot be drawn.", http.StatusInternalServerError)
	}
}

// graphFormat turns a graph into what one kind of client reads.
type graphFormat struct {
	contentType string
	policy      string // of contents; an answer that is opened by itself must not run anything
	write       func(*graph, core.Usage) ([]byte, error)
	data        bool // as fine as the data are kept
	bare        bool // needs no data
}

var graphFormats = map[string]graphFormat{
	"svg":  {contentType: "image/svg+xml", policy: "default-src 'none'; style-src 'unsafe-inline'", write: drawSVG},
	"png":  {contentType: "image/png", write: drawPNG},
	"json": {contentType: "application/json", data: true, write: writeGraphJSON},
	"html": {contentType: "text/html; charset=utf-8", policy: "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'", bare: true, write: writeGraphPage},
}

func (g *Graphs) render(ctx context.Context, one *graph, f graphFormat) ([]byte, error) {
	if f.bare {
		return f.write(one, core.Usage{})
	}
	step := one.span.picture
	if f.data {
		step = one.span.data
	}
	to := one.now.Truncate(step).Add(step) // the last step is still going on
	usage, err := g.opts.Core.Usage(ctx, one.node.ID, one.kind.metric, to.Add(-one.span.span), to, step)
	if err != nil {
		return nil, err
	}
	select {
	case g.turns <- struct{}{}:
		defer func() { <-g.turns }()
	case <-ctx.Done():
		return nil, core.Wrap(core.Unavailable, core.ObjNode, ctx.Err(), "too many graphs at once")
	}
	return f.write(one, usage)
}

type graphSeries struct {
	Label  string   `json:"label"`
	Unit   string   `json:"unit"`
	Points [][2]any `json:"points"` // start of the step in seconds since 1970, value or null
}

// writeGraphJSON writes every series of the metric. The unit at the top is that of the first series.
func writeGraphJSON(one *graph, u core.Usage) ([]byte, error) {
	answer := struct {
		Metric string        `json:"metric"`
		Unit   string        `json:"unit"`
		Range  string        `json:"range"`
		Step   int64         `json:"step"` // seconds
		Series []graphSeries `json:"series"`
	}{Metric: one.kind.name, Range: one.span.name, Step: int64(u.Step / time.Second), Series: []graphSeries{}}
	for _, s := range u.Series {
		out := graphSeries{Label: s.Label, Unit: s.Unit, Points: make([][2]any, len(s.Values))}
		for i, v := range s.Values {
			out.Points[i] = [2]any{u.From.Unix() + int64(i)*answer.Step, nil}
			if !math.IsNaN(v) {
				out.Points[i][1] = math.Round(v*1000) / 1000
			}
		}
		answer.Series = append(answer.Series, out)
	}
	if len(answer.Series) > 0 {
		answer.Unit = answer.Series[0].Unit
	}
	return json.Marshal(answer)
}

var graphPage = template.Must(template.New("graph").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="60">
<title>{{.Title}}</title>
<style>
body { font-family: sans-serif; margin: 2em; color: #24292f }
img { max-width: 100%; height: auto }
nav a { margin-right: 1em }
[aria-current] { font-weight: bold; text-decoration: none; color: inherit }
</style>
</head>
<body>
<nav>{{range .Ranges}}<a href="{{.Link}}"{{if .Current}} aria-current="page"{{end}}>{{.Name}}</a>{{end}}</nav>
<p><img src="{{.Picture}}" width="640" height="300" alt="{{.Title}}"></p>
<p><a href="{{.PNG}}">PNG</a> <a href="{{.JSON}}">JSON</a></p>
</body>
</html>
`))

// writeGraphPage writes the page that browsers get; what it shows it loads from here.
func writeGraphPage(one *graph, _ core.Usage) ([]byte, error) {
	link := func(span, format string) string {
		q := url.Values{"key": {one.token}, "range": {span}}
		if format != "" {
			q.Set("format", format)
		}
		return "?" + q.Encode()
	}
	type entry struct {
		Name, Link string
		Current    bool
	}
	page := struct {
		Title              string
		Picture, PNG, JSON string
		Ranges             []entry
	}{one.title(), link(one.span.name, "svg"), link(one.span.name, "png"), link(one.span.name, "json"), nil}
	for _, s := range graphRanges {
		page.Ranges = append(page.Ranges, entry{s.name, link(s.name, ""), s.name == one.span.name})
	}
	var b bytes.Buffer
	err := graphPage.Execute(&b, page)
	return b.Bytes(), err
}

// title says what the picture shows. The server has the number that the API shows.
func (one *graph) title() string {
	return one.kind.title + " of server " + strconv.FormatInt(one.node.Num, 10)
}
