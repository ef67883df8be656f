// Package broker speaks to providers of services over the HTTP contract of classic tsuru (spec tsuru 4.2): basic auth with
// the service's name, forms, one connection per call, a deadline for each, and no trust in what comes back.
package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// Options configure a Broker; the zero value works.
type Options struct {
	Timeout time.Duration // for one call; 0 means 30 s
}

// Broker implements core.Broker. Its methods may be called from any goroutine.
type Broker struct {
	timeout time.Duration
	client  *http.Client
}

var _ core.Broker = (*Broker)(nil)

const (
	maxAnswer = 1 << 20
	maxShown  = 4 << 10 // of what a provider says when it fails
	maxVars   = 200
)

// New builds a Broker.
func New(o Options) *Broker {
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	return &Broker{timeout: o.Timeout, client: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ResponseHeaderTimeout: o.Timeout},
		// A redirect would carry the service's password elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

type answer struct {
	code int
	body []byte
}

func (a answer) good() bool { return a.code >= 200 && a.code < 300 }

// refused is what a caller is told when a provider does not do what it was asked.
func (a answer) refused(doing, instance string) error {
	text := strings.TrimSpace(string(a.body[:min(len(a.body), maxShown)]))
	if !utf8.ValidString(text) {
		text = "(an answer that is no text)"
	}
	return core.Errorf(core.Invalid, core.ObjService, "Failed to %s the instance %s: %s", doing, instance, text)
}

// base is the provider's address; a manifest may leave the scheme out.
func base(endpoint string) string {
	if !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "https://") {
		endpoint = "http://" + endpoint
	}
	return strings.TrimRight(endpoint, "/")
}

// call sends one request. Parameters go into the body of a POST and the query of others.
func (b *Broker) call(ctx context.Context, s core.Offer, method, path string, params url.Values) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	target := base(s.Endpoint) + path
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(params.Encode())
	} else if len(params) > 0 {
		target += "?" + params.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return answer{}, core.Errorf(core.Invalid, core.ObjService, "the endpoint of the service %s is no URL", s.Name)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(s.Name, string(s.Password))
	resp, err := b.client.Do(r)
	if err != nil {
		return answer{}, down(s, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, down(s, err)
	}
	if len(data) > maxAnswer {
		return answer{}, core.Errorf(core.Invalid, core.ObjService, "the service %s says more than %d bytes", s.Name, maxAnswer)
	}
	return answer{resp.StatusCode, data}, nil
}

func down(s core.Offer, err error) error {
	return core.Wrap(core.Unavailable, core.ObjService, fmt.Errorf("%s: %w", s.Name, err), "%s api is down.", s.Name)
}

func resource(instance string, more ...string) string {
	path := "/resources/" + url.PathEscape(instance)
	for _, m := range more {
		path += "/" + url.PathEscape(m)
	}
	return path
}

// Create implements core.Broker.
func (b *Broker) Create(ctx context.Context, s core.Offer, i core.ServiceInstance, email string) error {
	params := url.Values{"name": {i.Name}, "user": {email}, "team": {i.TeamOwner}}
	if i.Plan != "" {
		params.Set("plan", i.Plan)
	}
	a, err := b.call(ctx, s, http.MethodPost, "/resources", params)
	if err == nil && !a.good() {
		err = a.refused("create", i.Name)
	}
	return err
}

// Remove implements core.Broker.
func (b *Broker) Remove(ctx context.Context, s core.Offer, instance string) error {
	return b.delete(ctx, s, resource(instance), nil, "remove", instance)
}

func (b *Broker) delete(ctx context.Context, s core.Offer, path string, params url.Values, doing, instance string) error {
	a, err := b.call(ctx, s, http.MethodDelete, path, params)
	if err == nil && !a.good() && a.code != http.StatusNotFound { // what is not there is gone
		err = a.refused(doing, instance)
	}
	return err
}

// BindApp implements core.Broker: the call of later providers. Those of the time answer 404 or 405 to it.
func (b *Broker) BindApp(ctx context.Context, s core.Offer, instance, appHost string) (map[string]string, bool, error) {
	a, err := b.call(ctx, s, http.MethodPost, resource(instance, "bind-app"), url.Values{"app-host": {appHost}})
	if err != nil {
		return nil, false, err
	}
	if a.code == http.StatusNotFound || a.code == http.StatusMethodNotAllowed {
		return nil, false, nil
	}
	vars, err := bound(a, instance)
	return vars, true, err
}

// UnbindApp implements core.Broker.
func (b *Broker) UnbindApp(ctx context.Context, s core.Offer, instance, appHost string) error {
	return b.delete(ctx, s, resource(instance, "bind-app"), url.Values{"app-host": {appHost}}, "unbind", instance)
}

// BindUnit implements core.Broker. whole says that the provider knows the calls of later times.
func (b *Broker) BindUnit(ctx context.Context, s core.Offer, instance, appHost, unitHost string, whole bool) (map[string]string, error) {
	path := resource(instance)
	if whole {
		path = resource(instance, "bind")
	}
	a, err := b.call(ctx, s, http.MethodPost, path, url.Values{"app-host": {appHost}, "unit-host": {unitHost}})
	if err != nil {
		return nil, err
	}
	if whole {
		if !a.good() {
			err = a.refused("bind", instance)
		}
		return nil, err
	}
	return bound(a, instance)
}

// UnbindUnit implements core.Broker.
func (b *Broker) UnbindUnit(ctx context.Context, s core.Offer, instance, appHost, unitHost string, whole bool) error {
	if whole {
		return b.delete(ctx, s, resource(instance, "bind"), url.Values{"app-host": {appHost}, "unit-host": {unitHost}}, "unbind", instance)
	}
	return b.delete(ctx, s, resource(instance, "hostname", unitHost), nil, "unbind", instance)
}

// bound reads the variables of a bind. Any scalar is taken as its text; null and nothing are no variables.
func bound(a answer, instance string) (map[string]string, error) {
	switch {
	case a.code == http.StatusPreconditionFailed:
		return nil, core.Errorf(core.Busy, core.ObjInstance, "%s", core.MsgNotReady)
	case !a.good():
		return nil, a.refused("bind", instance)
	}
	vars := map[string]string{}
	if len(bytes.TrimSpace(a.body)) == 0 {
		return vars, nil
	}
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return nil, core.Errorf(core.Invalid, core.ObjService, "Failed to bind the instance %s: the provider's variables are no JSON object", instance)
	}
	if len(object) > maxVars {
		return nil, core.Errorf(core.Invalid, core.ObjService, "Failed to bind the instance %s: the provider exports more than %d variables", instance, maxVars)
	}
	for name, v := range object {
		text, ok := scalar(v)
		if !ok || strings.ContainsAny(text, "\x00\n\r") {
			return nil, core.Errorf(core.Invalid, core.ObjService, "Failed to bind the instance %s: the provider's variable %.60q is no line of text", instance, name)
		}
		vars[name] = text
	}
	return vars, nil
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return fmt.Sprint(v), true
	case nil:
		return "", true
	}
	return "", false
}

// Status implements core.Broker.
func (b *Broker) Status(ctx context.Context, s core.Offer, instance string) (core.InstanceState, error) {
	a, err := b.call(ctx, s, http.MethodGet, resource(instance, "status"), nil)
	if err != nil {
		return "", err
	}
	switch a.code {
	case http.StatusAccepted:
		return core.InstancePending, nil
	case http.StatusNoContent:
		return core.InstanceUp, nil
	case http.StatusInternalServerError:
		return core.InstanceDown, nil
	}
	return "", a.refused("get status of", instance)
}

// Info implements core.Broker.
func (b *Broker) Info(ctx context.Context, s core.Offer, instance string) ([]core.Label, error) {
	a, err := b.call(ctx, s, http.MethodGet, resource(instance), nil)
	if err != nil {
		return nil, err
	}
	var rows []struct {
		Label string
		Value any
	}
	if a.code != http.StatusOK || json.Unmarshal(a.body, &rows) != nil {
		return nil, nil
	}
	var labels []core.Label
	for _, row := range rows {
		if text, ok := scalar(row.Value); ok && len(labels) < maxVars {
			labels = append(labels, core.Label{Label: row.Label, Value: text})
		} else if f, ok := row.Value.(float64); ok && len(labels) < maxVars {
			labels = append(labels, core.Label{Label: row.Label, Value: fmt.Sprint(f)})
		}
	}
	return labels, nil
}

// Plans implements core.Broker.
func (b *Broker) Plans(ctx context.Context, s core.Offer) ([]core.Plan, error) {
	a, err := b.call(ctx, s, http.MethodGet, "/resources/plans", nil)
	if err != nil {
		return nil, err
	}
	var plans []core.Plan
	if a.code != http.StatusOK || json.Unmarshal(a.body, &plans) != nil {
		return nil, nil
	}
	return plans, nil
}

// Proxy passes a request through to a provider and its answer back. Neither the caller's token nor anything else that lets
// somebody in here reaches the provider, and nothing of the provider lets it set state at callers.
func (b *Broker) Proxy(w http.ResponseWriter, r *http.Request, s core.Offer, callback string) error {
	if callback == "" {
		callback = "/"
	}
	if !strings.HasPrefix(callback, "/") {
		callback = "/" + callback
	}
	to, err := url.Parse(base(s.Endpoint) + callback)
	if err != nil || to.Host == "" {
		return core.Errorf(core.Invalid, core.ObjService, "callback is no path")
	}
	ctx, cancel := context.WithTimeout(r.Context(), b.timeout)
	defer cancel()
	out, err := http.NewRequestWithContext(ctx, r.Method, to.String(), http.MaxBytesReader(w, r.Body, 16<<20))
	if err != nil {
		return core.Errorf(core.Invalid, core.ObjService, "callback is no path")
	}
	for _, name := range []string{"Content-Type", "Accept", "Accept-Language"} {
		if v := r.Header.Values(name); len(v) > 0 {
			out.Header[name] = v
		}
	}
	out.ContentLength = r.ContentLength
	out.SetBasicAuth(s.Name, string(s.Password))
	resp, err := b.client.Do(out)
	if err != nil {
		return down(s, err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, io.LimitReader(resp.Body, 64<<20))
	return nil
}
