package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/crypto/keyring"
	"github.com/reeve-paas/reeve/systemd"
)

const enrollHelp = `
Makes this host a node of a coordinator: exchanges a one-time token, which is read from standard input, for a name and a
key, writes the key and starts the agent. "reeve-coordinator node enroll --token" makes tokens, and says what URL and
--ca-sha256 are. The coordinator calls this host's agent before it believes it; it has to reach port 8010.

A failure leaves the key of before. A host that is enrolled already is refused, unless --force is given.`

const (
	markerPath = "/etc/reeve/enrolled" // who enrolled this host; the coordinator's SSH enrolment writes it too
	agentUnit  = "reeve-agent.service"
)

// enrollment is what enrolling works with; tests put it together themselves.
type enrollment struct {
	url, address    string
	keyFile, marker string
	dropIn, caFile  string // settings of the unit that say whom to ask and tell, and the authority they name
	client          *http.Client
	ca              []byte                          // certificate of the coordinator's authority, PEM; nil when this host trusts it anyway
	start           func(ctx context.Context) error // the agent, with a key that changed
}

func enroll(ctx context.Context, args []string, t terminal) error {
	flags := newFlags("enroll", t)
	base := flags.String("url", "", "`URL` of the coordinator, such as https://reeve.example.com:8443 (required)")
	caFile := flags.String("ca-file", "", "`file` with the certificate of its authority")
	caSum := flags.String("ca-sha256", "", "SHA-256 of that certificate's file, `hex`; it is fetched then")
	address := flags.String("address", "", "`address` where the coordinator reaches this host (default: where the request comes from)")
	keyFile := flags.String("key-file", keyring.DefaultPath, "`file` of the key")
	force := flags.Bool("force", false, "leave the coordinator that this host is enrolled at")
	if _, err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	e := enrollment{url: strings.TrimRight(*base, "/"), address: *address, keyFile: *keyFile, marker: markerPath,
		dropIn: agentapi.CoordinatorSettingsFile, caFile: agentapi.CoordinatorCAFile, start: startAgent}
	if err := checkURL(e.url); err != nil {
		return err
	}
	if !*force {
		if err := e.free(); err != nil {
			return err
		}
	}
	var err error
	if e.client, e.ca, err = e.trusting(ctx, *caFile, *caSum); err != nil {
		return err
	}
	fmt.Fprint(t.stderr, "Token: ")
	token, err := bufio.NewReader(io.LimitReader(t.stdin, 4096)).ReadString('\n')
	if token = strings.TrimSpace(token); token == "" {
		return fmt.Errorf("read the token from standard input: %w", errors.Join(err, errors.New("it is empty")))
	}
	name, err := e.run(ctx, token)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "this host is node %s; its coordinator takes it in once it has reached the agent\n", name)
	return err
}

// checkURL wants TLS, or this machine: the answer holds a key.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case text == "" || err != nil || u.Host == "":
		return errors.New("--url has to name the coordinator, such as https://reeve.example.com:8443")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()):
		return nil
	}
	return fmt.Errorf("--url %s: the key would be readable on its way; use https", text)
}

// free refuses a host that has a coordinator.
func (e enrollment) free() error {
	_, err := os.Stat(e.marker)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("this host is enrolled already (%s); destroy its node there, or use --force", e.marker)
	}
	return err
}

// trusting is a client that believes the coordinator's own authority: the one in a file, or the one that is fetched and has
// the given checksum, which is returned too. Without either it believes what this host believes.
func (e enrollment) trusting(ctx context.Context, caFile, caSum string) (*http.Client, []byte, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var pem []byte
	var err error
	switch {
	case caFile != "":
		pem, err = os.ReadFile(caFile)
	case caSum != "":
		pem, err = e.fetchCA(ctx, caSum)
	default:
		return newClient(config), nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, nil, errors.New("the authority's certificate is not in PEM form")
	}
	return newClient(config), pem, nil
}

func newClient(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment}, Timeout: 30 * time.Second}
}

// fetchCA gets a certificate over a connection that proves nothing; its checksum does.
func (e enrollment) fetchCA(ctx context.Context, want string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/agent/ca.crt", nil)
	if err != nil {
		return nil, err
	}
	answer, err := newClient(&tls.Config{InsecureSkipVerify: true}).Do(r)
	if err != nil {
		return nil, fmt.Errorf("fetch the authority's certificate: %w", err)
	}
	defer answer.Body.Close()
	pem, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil || answer.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("fetch the authority's certificate: %s", answer.Status), err)
	}
	sum := sha256.Sum256(pem)
	if !strings.EqualFold(hex.EncodeToString(sum[:]), want) {
		return nil, fmt.Errorf("the authority of %s is not the one you were told: somebody may stand in between", e.url)
	}
	return pem, nil
}

// run redeems the token and puts what it brought in place.
func (e enrollment) run(ctx context.Context, token string) (name string, err error) {
	body, err := json.Marshal(map[string]string{"token": token, "address": e.address})
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/agent/enroll", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := e.client.Do(r)
	if err != nil {
		return "", fmt.Errorf("ask the coordinator: %w", err)
	}
	defer answer.Body.Close()
	var reply identity
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&reply); err != nil {
		return "", fmt.Errorf("the coordinator's answer is not understood: %s: %w", answer.Status, err)
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the coordinator refuses: %s", reply.Message)
	}
	if key, err := base64.StdEncoding.DecodeString(reply.Key); err != nil || len(key) != 40 {
		return "", errors.New("the coordinator's answer holds no key of 40 bytes")
	}
	if !goodIdentity(reply) {
		return "", errors.New("the coordinator's answer names no server, or no paths of its own")
	}
	return reply.Name, e.take(ctx, reply)
}

// identity is the coordinator's answer.
type identity struct {
	ServerID string `json:"server_id"`
	Name     string `json:"name"`
	Key      string `json:"key"`
	Message  string `json:"message"`
	QueryEnv string `json:"queryenv"` // path below its URL; "" of an older coordinator, for this and the next
	Messages string `json:"messages"`
}

var (
	goodServerID = regexp.MustCompile(`^[0-9A-Za-z._-]{1,100}$`)
	goodURLPath  = regexp.MustCompile(`^(/[0-9A-Za-z._-]+)*$`)
)

// goodIdentity says that an answer can be written into a unit's settings.
func goodIdentity(i identity) bool {
	return goodServerID.MatchString(i.ServerID) && goodURLPath.MatchString(i.QueryEnv) && goodURLPath.MatchString(i.Messages)
}

// settings tell the unit whom to ask and tell: not agent.yaml, which is its administrator's. It is "" where the coordinator
// offers neither.
func (e enrollment) settings(i identity) string {
	if i.QueryEnv == "" && i.Messages == "" || strings.ContainsAny(e.url, " \t\"'\\%$") {
		return ""
	}
	lines := []string{"[Service]", "Environment=REEVE_AGENT_COORDINATOR_SERVER_ID=" + i.ServerID}
	for name, path := range map[string]string{"QUERYENV_URL": i.QueryEnv, "PRODUCER_URL": i.Messages} {
		if path != "" {
			lines = append(lines, "Environment=REEVE_AGENT_COORDINATOR_"+name+"="+e.url+path)
		}
	}
	if e.ca != nil {
		lines = append(lines, "Environment=REEVE_AGENT_COORDINATOR_CA_FILE="+e.caFile)
	}
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n") + "\n"
}

// take writes marker, key and settings and starts the agent; a failure puts back what was there.
func (e enrollment) take(ctx context.Context, i identity) (err error) {
	var undo []func() error
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				err = errors.Join(err, f())
			}
		}
	}()
	put := func(file, text string, write func(file string, data []byte) error) error {
		old, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		had := err == nil
		undo = append(undo, func() error {
			if had {
				return write(file, old)
			}
			return removeIfThere(file)
		})
		if text == "" {
			return removeIfThere(file)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		return write(file, []byte(text))
	}
	open := func(file string, data []byte) error { return renameio.WriteFile(file, data, 0o644) }
	settings := e.settings(i)
	ca := string(e.ca)
	if settings == "" {
		ca = ""
	}
	err = put(e.marker, fmt.Sprintf("owner=%s\nnode=%s\ntoken=yes\n", e.url, i.ServerID), func(file string, data []byte) error {
		return renameio.WriteFile(file, data, 0o600)
	})
	if err == nil {
		err = put(e.caFile, ca, open)
	}
	if err == nil {
		undo = append(undo, func() error { os.Remove(filepath.Dir(e.dropIn)); return nil }) // not empty: others' settings
		err = put(e.dropIn, settings, open)
	}
	if err == nil {
		err = put(e.keyFile, i.Key+"\n", func(file string, data []byte) error { return keyring.WriteFile(file, data, true) })
	}
	if err != nil {
		return fmt.Errorf("write what makes this host a node: %w", err)
	}
	return e.start(ctx)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// startAgent starts the agent, now and at every boot. One that runs is started again, for its new settings.
func startAgent(ctx context.Context) error {
	units := systemd.New()
	defer units.Close()
	if err := units.DaemonReload(ctx); err != nil {
		return fmt.Errorf("let systemd read the agent's settings: %w", err)
	}
	if err := units.Enable(ctx, agentUnit); err != nil {
		return fmt.Errorf("enable the agent: %w", err)
	}
	if err := units.Restart(ctx, agentUnit); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	return nil
}
