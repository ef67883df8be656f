package queryenv

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

// FirstVersion is what is spoken until the coordinator has told its latest version.
const FirstVersion = "2012-04-17"

const maxReply = 8 << 20 // bytes

// Keys finds the key that this host shares with its coordinator; *keyring.File is one.
type Keys interface {
	Get() (envelope.Key, error)
}

// Options configure a Client. URL and Keys are required.
type Options struct {
	URL        string // of the coordinator's QueryEnv, below which versions lie
	ServerID   string // who we are; the coordinator looks the key up by it
	FarmRoleID string // of this host, for list-farm-role-params; "" leaves it to the coordinator, who knows the server
	Keys       Keys
	HTTP       *http.Client     // nil means one with default settings
	Patience   time.Duration    // how long a request is repeated; 0 means 20 s
	Pause      time.Duration    // before the first repetition, doubled up to 30 s; 0 means 1 s
	Now        func() time.Time // nil means time.Now
}

// Client asks one coordinator. It may be used from any goroutine.
type Client struct {
	o Options

	mu      sync.Mutex // protects the field below
	version string     // "" until the coordinator has told
}

// New builds a client; nothing is sent yet.
func New(o Options) *Client {
	o.URL = strings.TrimRight(o.URL, "/")
	o.Patience = cmp.Or(o.Patience, 20*time.Second)
	o.Pause = cmp.Or(o.Pause, time.Second)
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Client{o: o}
}

// errAgain marks a failure that may pass.
type errAgain struct{ err error }

func (e errAgain) Error() string { return e.err.Error() }
func (e errAgain) Unwrap() error { return e.err }

// question is a command with its parameters. A change is given a name, parameter request, with every try: the coordinator does
// what one name asks for once, so that nobody can repeat what was sent.
type question struct {
	command string
	params  map[string]string
	change  bool
	// patience is how long it is repeated, and how long an answer may take; 0 means that of the options, and of the HTTP client.
	patience time.Duration
}

// ask sends a command in the latest version that the coordinator speaks, and repeats it while that can help.
//
// Errors: InvalidSignatureError, QueryEnvError
func (c *Client) ask(ctx context.Context, command string, params map[string]string) (element, error) {
	return c.askFor(ctx, question{command: command, params: params})
}

func (c *Client) askFor(ctx context.Context, q question) (element, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(q.patience, c.o.Patience))
	defer cancel()
	version, err := c.latest(ctx)
	if err != nil {
		return element{}, err
	}
	return c.repeat(ctx, version, q)
}

// latest asks for the coordinator's version once. One that refuses to tell speaks the first.
func (c *Client) latest(ctx context.Context) (string, error) {
	c.mu.Lock()
	version := c.version
	c.mu.Unlock()
	if version != "" {
		return version, nil
	}
	reply, err := c.repeat(ctx, FirstVersion, question{command: "get-latest-version"})
	switch e, typed := errors.AsType[*agentapi.Error](err); {
	case typed && e.Class == "QueryEnvError" && e.Kind == agentapi.KindInvalid:
		version = FirstVersion
	case err != nil:
		return "", err
	default:
		version = cmp.Or(reply.get("version"), FirstVersion)
		if !goodVersion.MatchString(version) {
			return "", queryEnvError(agentapi.KindInternal, fmt.Sprintf("the coordinator's version is %.40q", version), nil)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = version
	return version, nil
}

// goodVersion is what goes into a path without surprise.
var goodVersion = regexp.MustCompile(`^[0-9][0-9.-]*$`)

func (c *Client) repeat(ctx context.Context, version string, q question) (element, error) {
	pause := c.o.Pause
	for {
		reply, err := c.once(ctx, version, q)
		again, temporary := errors.AsType[errAgain](err)
		if !temporary {
			return reply, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return element{}, queryEnvError(agentapi.KindUnavailable, fmt.Sprintf("QueryEnv %s failed: %v", q.command, again.err), again.err)
		}
		pause = min(2*pause, 30*time.Second)
	}
}

func (c *Client) once(ctx context.Context, version string, q question) (element, error) {
	request, err := c.request(ctx, version, q)
	if err != nil {
		return element{}, queryEnvError(agentapi.KindInternal, err.Error(), err)
	}
	client := *c.o.HTTP
	if q.patience > 0 {
		client.Timeout = 0 // ctx ends it
	}
	answer, err := client.Do(request)
	if err != nil {
		return element{}, errAgain{err}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxReply+1))
	switch {
	case err != nil:
		return element{}, errAgain{err}
	case len(body) > maxReply:
		return element{}, queryEnvError(agentapi.KindInternal, fmt.Sprintf("the reply to %s is larger than %d bytes", q.command, maxReply), nil)
	case answer.StatusCode == http.StatusOK:
		root, err := parse(body)
		if err != nil {
			return root, queryEnvError(agentapi.KindInternal, fmt.Sprintf("the reply to %s is no XML: %v", q.command, err), err)
		}
		return root, nil
	case bytes.Contains(body, []byte("Signature doesn't match")):
		return element{}, &agentapi.Error{Kind: agentapi.KindInternal, Class: "InvalidSignatureError", Text: "the coordinator knows another key of this host"}
	}
	text := shorten(string(bytes.TrimSpace(body)))
	switch answer.StatusCode {
	case http.StatusBadRequest, http.StatusForbidden, 509: // 509 is no standard status
		return element{}, queryEnvError(agentapi.KindInvalid, "QueryEnv failed: "+text, nil)
	}
	return element{}, errAgain{fmt.Errorf("%s: %s", answer.Status, text)}
}

// request makes the signed form. Its date is now: a repetition is a request of its own.
func (c *Client) request(ctx context.Context, version string, q question) (*http.Request, error) {
	key, err := c.o.Keys.Get()
	if err != nil {
		return nil, err
	}
	all := map[string]string{"operation": q.command, "version": version}
	maps.Copy(all, q.params)
	if q.change {
		all["request"] = rand.Text()
	}
	form := url.Values{}
	for name, value := range all {
		form.Set(name, value)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.o.URL+"/"+version+"/"+q.command, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	date := envelope.FormatDate(c.o.Now())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Date", date)
	r.Header.Set("X-Signature", envelope.SignQuery(key, all, date))
	r.Header.Set("X-Server-Id", c.o.ServerID)
	return r, nil
}

func queryEnvError(kind agentapi.Kind, text string, cause error) error {
	return &agentapi.Error{Kind: kind, Class: "QueryEnvError", Text: text, Err: cause}
}

func shorten(text string) string {
	const most = 500
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// element is a piece of a reply.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element  `xml:",any"`
}

// child is the first child of a name, empty when there is none.
func (e element) child(name string) element {
	for _, c := range e.Children {
		if c.XMLName.Local == name {
			return c
		}
	}
	return element{}
}

// has says whether there is a child of a name.
func (e element) has(name string) bool { return e.child(name).XMLName.Local != "" }

// get reads an attribute, or the text of a child, of a name.
func (e element) get(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return strings.TrimSpace(e.child(name).Text)
}

// entity is what the old agent decoded, a semicolon included.
var entity = regexp.MustCompile(`&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z0-9]{1,8});`)

// parse decodes entities once and reads the XML that is left. A reply that was not encoded for that, and so is no XML any
// more, is read as it came.
func parse(body []byte) (element, error) {
	var decoded, plain element
	err := xml.Unmarshal(entity.ReplaceAllFunc(body, func(e []byte) []byte { return []byte(html.UnescapeString(string(e))) }), &decoded)
	if err == nil {
		return decoded, nil
	}
	if xml.Unmarshal(body, &plain) == nil {
		return plain, nil
	}
	return element{}, err
}
