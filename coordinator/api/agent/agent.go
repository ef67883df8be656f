package agent

import (
	"context"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api"
	"github.com/reeve-paas/reeve/coordinator/core"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

// Paths below which questions and messages go; agents are configured with them.
const (
	QueryEnvPath = "/agent/queryenv"
	MessagesPath = "/agent/messages"
)

const (
	latestVersion = "2012-07-01"
	maxSkew       = 5 * time.Minute
	maxBody       = 8 << 20
)

// Core is what agents' questions and messages need of core.
type Core interface {
	AgentNode(ctx context.Context, id string) (core.Node, error)
	NodeRoles(ctx context.Context, n core.Node, filter core.NodeRoleFilter) ([]core.NodeRole, error)
	NodeSites(ctx context.Context, n core.Node) ([]core.NodeSite, error)
	NodeCertificate(ctx context.Context, n core.Node, id string) (core.RouteCertificate, error)
	ServesSites(ctx context.Context, n core.Node) (bool, error)
	NodeVariables(ctx context.Context, n core.Node) ([]core.EnvVar, error)
	NodeMetrics(n core.Node) []core.ScalingMetric
	VolumeKind(n core.Node) string
	NodeVolume(ctx context.Context, n core.Node, ref core.VolumeRef) (core.NodeVolume, error)
	CreateNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error)
	AttachNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error)
	DetachNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error)
	GrowNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error)
	DestroyNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.NodeVolume, error)
	SnapshotNodeVolume(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) (core.CloudSnapshot, error)
	DestroyNodeSnapshot(ctx context.Context, p core.Principal, n core.Node, ch core.VolumeChange) error
	NoteAgentMessage(ctx context.Context, p core.Principal, n core.Node, m core.AgentMessage) (fresh bool, err error)
}

// Options configure a Dialect. Core is needed.
type Options struct {
	Core Core
	Log  *slog.Logger
	Now  func() time.Time // nil means time.Now
}

// Dialect answers agents.
type Dialect struct {
	o       Options
	nobody  envelope.Key // what an unknown server's signature is compared with, so that it takes as long
	answers map[string]answer
}

// answer is one command of QueryEnv; what it returns is the content of <response>.
type answer func(ctx context.Context, n core.Node, params map[string]string) (any, error)

// New builds the dialect.
func New(o Options) *Dialect {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Dialect{o: o}
	d.nobody, _ = envelope.ParseKey(envelope.NewKeyText()) // a fresh key parses
	d.answers = map[string]answer{
		"get-latest-version":    d.version,
		"list-roles":            d.roles,
		"list-virtualhosts":     d.sites,
		"list-farm-role-params": d.roleParams,
		"get-scaling-metrics":   d.metrics,
		"list-global-variables": d.variables,
		"get-https-certificate": d.certificate,

		// What we keep none of.
		"list-role-params": nothing[struct {
			XMLName xml.Name `xml:"params"`
		}],
		"list-scripts": nothing[struct {
			XMLName xml.Name `xml:"scripts"`
		}],
	}
	maps.Copy(d.answers, d.volumeAnswers())
	return d
}

// Mount is how the dialect goes into a server.
func (d *Dialect) Mount() api.Mount {
	return api.Mount{Name: "agent", Prefixes: []string{QueryEnvPath + "/", MessagesPath + "/"}, Dialect: d, MaxBody: maxBody, Quiet: true}
}

// Register adds the routes to a mux.
func (d *Dialect) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+QueryEnvPath+"/{version}/{command}", d.queryEnv)
	mux.HandleFunc("POST "+MessagesPath+"/{queue}", d.message)
}

func refuse(w http.ResponseWriter) { http.Error(w, "Signature doesn't match", http.StatusForbidden) }

// caller finds the node that a request says it is from, and its key. That of an unknown one matches nothing.
func (d *Dialect) caller(r *http.Request) (core.Node, envelope.Key, error) {
	n, err := d.o.Core.AgentNode(r.Context(), r.Header.Get("X-Server-Id"))
	if core.KindOf(err) == core.NotFound {
		return n, d.nobody, nil
	}
	if err != nil {
		return n, d.nobody, err
	}
	key, err := envelope.NewKey(n.AgentKey)
	return n, key, err
}

// dated says whether a date is within the window around now.
func (d *Dialect) dated(date string) bool {
	at, err := envelope.ParseDate(date)
	return err == nil && d.o.Now().Sub(at).Abs() <= maxSkew
}

// fail answers what core said. Only 5xx are tried again by agents.
func (d *Dialect) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch core.KindOf(err) {
	case core.Unavailable, core.Busy:
		status = http.StatusServiceUnavailable
	case core.Invalid, core.NotFound, core.Forbidden, core.Quota, core.Unsupported:
		status = http.StatusBadRequest
	default:
		d.o.Log.Error("an agent's request failed", "err", err)
	}
	http.Error(w, core.PublicError("", err), status)
}

func (d *Dialect) queryEnv(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || len(r.URL.RawQuery) > 0 {
		http.Error(w, "the body is no form", http.StatusBadRequest)
		return
	}
	params := map[string]string{}
	for name, values := range r.PostForm {
		if len(values) != 1 {
			http.Error(w, "a parameter is given twice", http.StatusBadRequest)
			return
		}
		params[name] = values[0]
	}
	n, key, err := d.caller(r)
	if err != nil {
		d.fail(w, err)
		return
	}
	date := r.Header.Get("Date")
	if err := envelope.VerifyQuery(key, params, date, r.Header.Get("X-Signature")); err != nil || !d.dated(date) {
		refuse(w)
		return
	}
	command := r.PathValue("command")
	ask, known := d.answers[command]
	if !known || params["operation"] != command || params["version"] != r.PathValue("version") {
		http.Error(w, "unknown operation", http.StatusBadRequest)
		return
	}
	content, err := ask(r.Context(), n, params)
	if err != nil {
		d.fail(w, err)
		return
	}
	text, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"response"`
		Content any
	}{Content: content})
	if err != nil {
		d.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, xml.Header, strings.ReplaceAll(string(text), "&", "&amp;"))
}

func nothing[T any](context.Context, core.Node, map[string]string) (any, error) {
	var none T
	return none, nil
}

func (d *Dialect) version(context.Context, core.Node, map[string]string) (any, error) {
	return struct {
		XMLName xml.Name `xml:"version"`
		Text    string   `xml:",chardata"`
	}{Text: latestVersion}, nil
}

// roleList is the reply of list-roles.
type roleList struct {
	XMLName xml.Name `xml:"roles"`
	Roles   []role   `xml:"role"`
}

type role struct {
	ID        int64  `xml:"id,attr"`
	Name      string `xml:"name,attr"`
	Behaviour string `xml:"behaviour,attr"`
	Hosts     []host `xml:"hosts>host"`
}

type host struct {
	Index             int    `xml:"index,attr"`
	ReplicationMaster string `xml:"replication-master,attr"`
	InternalIP        string `xml:"internal-ip,attr"`
	ExternalIP        string `xml:"external-ip,attr"`
	Status            string `xml:"status,attr"`
	CloudLocation     string `xml:"cloud-location,attr"`
	ShardIndex        string `xml:"shard-index,attr"`
	ReplicaSetIndex   string `xml:"replica-set-index,attr"`
}

func (d *Dialect) roles(ctx context.Context, n core.Node, params map[string]string) (any, error) {
	starting, _ := strconv.ParseBool(params["showInitServers"])
	found, err := d.o.Core.NodeRoles(ctx, n, core.NodeRoleFilter{ID: params["farm-role-id"], Name: params["role"], Behaviour: params["behaviour"], Starting: starting})
	reply := roleList{}
	for _, f := range found {
		one := role{ID: f.ID, Name: f.Name, Behaviour: f.Behaviour}
		for i, h := range f.Hosts {
			status, master := "Running", "0"
			if h.State != core.NodeRunning {
				status = "Initializing"
			}
			if h.Has(core.RoleDB) && i == 0 {
				master = "1" // each database has one server
			}
			one.Hosts = append(one.Hosts, host{Index: i + 1, ReplicationMaster: master, InternalIP: h.Address, Status: status, CloudLocation: h.Cloud})
		}
		reply.Roles = append(reply.Roles, one)
	}
	return reply, err
}

// certificate is the reply of get-https-certificate: empty when there is no such certificate for the host. None of ours is a
// host's default one.
type certificate struct {
	XMLName xml.Name `xml:"virtualhost"`
	Cert    string   `xml:"cert,omitempty"`
	Key     string   `xml:"pkey,omitempty"`
	Chain   string   `xml:"ca_cert,omitempty"`
}

func (d *Dialect) certificate(ctx context.Context, n core.Node, params map[string]string) (any, error) {
	rc, err := d.o.Core.NodeCertificate(ctx, n, params["id"])
	if core.KindOf(err) == core.NotFound && err != nil {
		return certificate{}, nil
	}
	if err != nil {
		return nil, err
	}
	leaf, rest := pem.Decode(rc.Chain)
	if leaf == nil {
		return nil, core.Errorf(core.Internal, core.ObjCertificate, "a stored certificate cannot be read")
	}
	return certificate{Cert: string(pem.EncodeToMemory(leaf)), Key: string(rc.Key), Chain: string(rest)}, nil
}

// siteList is the reply of list-virtualhosts.
type siteList struct {
	XMLName xml.Name `xml:"vhosts"`
	Sites   []site   `xml:"vhost"`
}

type site struct {
	Hostname string `xml:"hostname,attr"`
	Type     string `xml:"type,attr"`
	HTTPS    string `xml:"https,attr"`
	Raw      string `xml:"raw"`
}

func (d *Dialect) sites(ctx context.Context, n core.Node, params map[string]string) (any, error) {
	found, err := d.o.Core.NodeSites(ctx, n)
	reply := siteList{}
	https, _ := strconv.ParseBool(params["https"])
	for _, f := range found {
		if name := params["name"]; (name == "" || name == f.Hostname) && !https { // TLS ends at the routers
			reply.Sites = append(reply.Sites, site{Hostname: f.Hostname, Type: "apache", HTTPS: "0", Raw: f.Template})
		}
	}
	return reply, err
}

// roleParams names the behaviours that act on what the other commands say: a node with sites makes those of list-virtualhosts.
func (d *Dialect) roleParams(ctx context.Context, n core.Node, _ map[string]string) (any, error) {
	serves, err := d.o.Core.ServesSites(ctx, n)
	if err != nil || !serves {
		return nil, err
	}
	return struct {
		XMLName xml.Name `xml:"app"`
	}{}, nil
}

// metricList is the reply of get-scaling-metrics.
type metricList struct {
	XMLName xml.Name `xml:"metrics"`
	Metrics []metric `xml:"metric"`
}

type metric struct {
	ID     int    `xml:"id,attr"`
	Name   string `xml:"name"`
	Path   string `xml:"path"`
	Method string `xml:"retrieve-method"`
}

func (d *Dialect) metrics(_ context.Context, n core.Node, _ map[string]string) (any, error) {
	reply := metricList{}
	for _, m := range d.o.Core.NodeMetrics(n) {
		method := "execute"
		if m.Read {
			method = "read"
		}
		reply.Metrics = append(reply.Metrics, metric{ID: m.ID, Name: m.Name, Path: m.Path, Method: method})
	}
	return reply, nil
}

// variableList is the reply of list-global-variables.
type variableList struct {
	XMLName   xml.Name   `xml:"variables"`
	Variables []variable `xml:"variable"`
}

type variable struct {
	Name    string `xml:"name,attr"`
	Private string `xml:"private,attr"` // 1: an agent does not log it
	Value   string `xml:",chardata"`
}

func (d *Dialect) variables(ctx context.Context, n core.Node, _ map[string]string) (any, error) {
	found, err := d.o.Core.NodeVariables(ctx, n)
	reply := variableList{}
	for _, v := range found {
		private := "1"
		if v.Public {
			private = "0"
		}
		reply.Variables = append(reply.Variables, variable{Name: v.Name, Private: private, Value: string(v.Value)})
	}
	return reply, err
}

// message takes one message.
func (d *Dialect) message(w http.ResponseWriter, r *http.Request) {
	body, err := api.ReadBody(r)
	if err != nil {
		d.fail(w, err)
		return
	}
	n, key, err := d.caller(r)
	if err != nil {
		d.fail(w, err)
		return
	}
	date := r.Header.Get("Date")
	text, err := envelope.Open(key, body, date, r.Header.Get("X-Signature"))
	if err != nil || !d.dated(date) {
		refuse(w)
		return
	}
	if queue := r.PathValue("queue"); queue != "control" && queue != "log" {
		http.Error(w, "unknown queue", http.StatusBadRequest)
		return
	}
	m, err := readMessage(text)
	if err != nil {
		http.Error(w, "the message is neither JSON nor XML of the expected form", http.StatusBadRequest)
		return
	}
	p := api.Caller(r.Context())
	p.Via = "agent"
	fresh, err := d.o.Core.NoteAgentMessage(r.Context(), p, n, m)
	if err != nil {
		d.fail(w, err)
		return
	}
	if fresh {
		d.o.Log.Info("an agent reports", "node", n.Name, "message", m.Name, "subject", m.Subject, "outcome", m.Outcome)
	}
	w.WriteHeader(http.StatusCreated)
}
