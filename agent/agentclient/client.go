package agentclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/internal/jsonobject"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

// Options configure a Client. A nil *Options means all defaults.
type Options struct {
	// Transport carries the requests; share one between many clients to share its connections' limits. nil means one of
	// the client's own, which keeps connections open for 90 s.
	Transport http.RoundTripper
	// TLS is for an https URL and a nil Transport: the CA to trust, and a certificate to show. nil means the system's CAs.
	TLS *tls.Config
	// Timeout bounds a call whose context has no deadline. 0 means 60 s, negative means none.
	Timeout time.Duration
	// MaxClockSkew is how old or early a reply's date may be. 0 means 300 s, negative means any date.
	MaxClockSkew time.Duration
	// MaxReply is the largest reply accepted, in bytes. 0 means 64 MiB.
	MaxReply int64
	// ServerID is sent as X-Server-Id when it is not empty. Agents ignore it.
	ServerID string
	// Now is the clock. nil means time.Now.
	Now func() time.Time
}

// Client calls one agent. It may be used from any goroutine.
type Client struct {
	opts   Options
	base   *url.URL
	key    envelope.Key
	owned  *http.Transport // closed with the client; nil when the caller brought one
	prefix string          // makes ids differ between clients
	calls  atomic.Uint64
}

// New makes a Client for the agent at an http or https URL without a path. It sends nothing yet.
func New(agentURL string, key envelope.Key, o *Options) (*Client, error) {
	base, err := url.Parse(agentURL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("agent URL %q: want http://HOST:PORT or https://HOST:PORT", agentURL)
	}
	if key.IsZero() {
		return nil, errors.New("agent client: no key")
	}
	c := &Client{base: base, key: key, prefix: rand.Text()[:5]}
	if o != nil {
		c.opts = *o
	}
	c.setDefaults()
	return c, nil
}

func (c *Client) setDefaults() {
	o := &c.opts
	if o.Transport == nil {
		c.owned = NewTransport(o.TLS)
		o.Transport = c.owned
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.MaxClockSkew == 0 {
		o.MaxClockSkew = 300 * time.Second
	}
	if o.MaxReply == 0 {
		o.MaxReply = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// NewTransport is a transport with the settings that suit agents: one may carry the calls of thousands of clients.
func NewTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        2000,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     90 * time.Second, // below the agent's two minutes
		DisableCompression:  true,             // cipher text does not compress
	}
}

// Close closes idle connections. A Transport that came with the Options is left alone.
func (c *Client) Close() {
	if c.owned != nil {
		c.owned.CloseIdleConnections()
	}
}

// URL is the agent's base URL.
func (c *Client) URL() string { return c.base.String() }

// Call sends one method, "namespace.method", and decodes its result into result, which may be nil to ignore it. params
// must encode as a JSON object; nil means none.
//
// Errors: see the package comment
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	namespace, name, ok := strings.Cut(method, ".")
	if !ok || name == "" {
		return agentapi.Errorf(agentapi.KindInvalid, "ValueError", "a method is called NAMESPACE.METHOD, not %.64q", method)
	}
	return c.call(ctx, namespace, name, params, result)
}

// call is Call with the name already in parts.
func (c *Client) call(ctx context.Context, namespace, name string, params, result any) error {
	if _, bounded := ctx.Deadline(); !bounded && c.opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	id := c.prefix + strconv.FormatUint(c.calls.Add(1), 36)
	plaintext, err := encodeRequest(id, name, params)
	if err != nil {
		return err
	}
	reply, err := c.exchange(ctx, namespace, plaintext)
	if err != nil {
		return err
	}
	return decodeReply(reply, id, result)
}

func encodeRequest(id, method string, params any) ([]byte, error) {
	if params == nil {
		params = struct{}{}
	}
	text, err := json.Marshal(struct {
		Method string `json:"method"`
		Params any    `json:"params"`
		ID     string `json:"id"`
	}{method, params, id})
	if err != nil {
		return nil, &agentapi.Error{Kind: agentapi.KindInvalid, Class: "ValueError", Text: "parameters: " + err.Error(), Err: err}
	}
	return text, nil
}

// exchange carries one request to the agent and returns the plaintext of its reply.
func (c *Client) exchange(ctx context.Context, namespace string, plaintext []byte) ([]byte, error) {
	body, date, signature := envelope.Seal(c.key, plaintext, c.opts.Now())
	req := c.request(ctx, namespace, body)
	req.Header["Date"] = []string{date}
	req.Header["X-Signature"] = []string{signature}
	if c.opts.ServerID != "" {
		req.Header.Set("X-Server-Id", c.opts.ServerID)
	}
	resp, err := c.opts.Transport.RoundTrip(req)
	if err != nil {
		return nil, unavailable(ErrTransport, withCause(ctx, err))
	}
	defer resp.Body.Close()
	reply, err := readAll(resp, c.opts.MaxReply)
	if err != nil {
		return nil, unavailable(ErrTransport, withCause(ctx, err))
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refused(resp, reply)
	}
	return c.open(resp, reply)
}

var jsonType = []string{"application/json"}

// request is a POST of body. It is put together by hand, because parsing the same URL again for each call costs as much as
// signing it.
func (c *Client) request(ctx context.Context, namespace string, body []byte) *http.Request {
	target := *c.base
	target.Path = "/" + namespace
	req := &http.Request{
		Method: http.MethodPost, URL: &target, Host: target.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type":      jsonType,
			"User-Agent":        nil, // not sent
			"X-Idempotency-Key": nil, // not sent; lets the transport repeat the request on a connection that was closed
		},
		Body:          io.NopCloser(bytes.NewReader(body)),
		GetBody:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		ContentLength: int64(len(body)),
	}
	return req.WithContext(ctx)
}

// open checks that a reply was sealed with our key, lately.
func (c *Client) open(resp *http.Response, body []byte) ([]byte, error) {
	date := resp.Header.Get("Date")
	opened, err := envelope.OpenFull(c.key, body, date, resp.Header.Get("X-Signature"))
	if err != nil {
		return nil, unavailable(ErrReply, err)
	}
	if age := c.opts.Now().Sub(opened.Date); c.opts.MaxClockSkew > 0 && age.Abs() > c.opts.MaxClockSkew {
		return nil, unavailable(ErrReply, fmt.Errorf("it is dated %s, %s from our clock", date, age.Round(time.Second)))
	}
	return opened.Plaintext, nil
}

// readAll reads a body into one buffer when its length is known.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("the reply is too large: %d bytes", resp.ContentLength)
	}
	if resp.ContentLength >= 0 {
		body := make([]byte, resp.ContentLength)
		_, err := io.ReadFull(resp.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("the reply is larger than %d bytes", limit)
	}
	return body, err
}

var replyMembers = []string{"id", "result", "error"}

// decodeReply checks that a reply answers the request of this id, and decodes what it says.
func decodeReply(plaintext []byte, id string, result any) error {
	var values [3]json.RawMessage
	if !json.Valid(plaintext) || !jsonobject.Lookup(plaintext, replyMembers, values[:]) {
		return unavailable(ErrReply, errors.New("it is no JSON object"))
	}
	gotID, value, failure := values[0], values[1], values[2]
	unread := failure != nil && string(gotID) == `""` // the agent could not read the request, and says so without its id
	if string(gotID) != `"`+id+`"` && !unread {
		return unavailable(ErrReply, errors.New("it answers another request"))
	}
	if failure != nil {
		return agentError(failure)
	}
	if value == nil {
		return unavailable(ErrReply, errors.New("it has neither result nor error"))
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(value, result); err != nil {
		return &agentapi.Error{Kind: agentapi.KindInternal, Class: "ValueError", Text: "the agent's result has another form: " + err.Error(), Err: err}
	}
	return nil
}
