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
	"strings"
	"time"

	"github.com/google/renameio/v2"

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
	client          *http.Client
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
	e := enrollment{url: strings.TrimRight(*base, "/"), address: *address, keyFile: *keyFile, marker: markerPath, start: startAgent}
	if err := checkURL(e.url); err != nil {
		return err
	}
	if !*force {
		if err := e.free(); err != nil {
			return err
		}
	}
	var err error
	if e.client, err = e.trusting(ctx, *caFile, *caSum); err != nil {
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
// the given checksum. Without either it believes what this host believes.
func (e enrollment) trusting(ctx context.Context, caFile, caSum string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var pem []byte
	var err error
	switch {
	case caFile != "":
		pem, err = os.ReadFile(caFile)
	case caSum != "":
		pem, err = e.fetchCA(ctx, caSum)
	default:
		return newClient(config), nil
	}
	if err != nil {
		return nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("the authority's certificate is not in PEM form")
	}
	return newClient(config), nil
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
	var reply struct {
		ServerID string `json:"server_id"`
		Name     string `json:"name"`
		Key      string `json:"key"`
		Message  string `json:"message"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&reply); err != nil {
		return "", fmt.Errorf("the coordinator's answer is not understood: %s: %w", answer.Status, err)
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the coordinator refuses: %s", reply.Message)
	}
	if key, err := base64.StdEncoding.DecodeString(reply.Key); err != nil || len(key) != 40 {
		return "", errors.New("the coordinator's answer holds no key of 40 bytes")
	}
	return reply.Name, e.take(ctx, reply.ServerID, reply.Key)
}

// take writes marker and key and starts the agent; a failure puts back what was there.
func (e enrollment) take(ctx context.Context, serverID, key string) (err error) {
	old, err := os.ReadFile(e.keyFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	had := err == nil
	defer func() {
		if err == nil {
			return
		}
		err = errors.Join(err, removeIfThere(e.marker))
		if had {
			err = errors.Join(err, keyring.WriteFile(e.keyFile, old, true))
		} else {
			err = errors.Join(err, removeIfThere(e.keyFile))
		}
	}()
	if err := os.MkdirAll(filepath.Dir(e.marker), 0o755); err != nil {
		return err
	}
	marker := fmt.Sprintf("owner=%s\nnode=%s\ntoken=yes\n", e.url, serverID)
	if err := renameio.WriteFile(e.marker, []byte(marker), 0o600); err != nil {
		return err
	}
	if err := keyring.WriteFile(e.keyFile, []byte(key+"\n"), true); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return e.start(ctx)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// startAgent starts the agent, now and at every boot. One that runs reads the new key by itself.
func startAgent(ctx context.Context) error {
	units := systemd.New()
	defer units.Close()
	if err := units.Enable(ctx, agentUnit); err != nil {
		return fmt.Errorf("enable the agent: %w", err)
	}
	if err := units.Start(ctx, agentUnit); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	return nil
}
