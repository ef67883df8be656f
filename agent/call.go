package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

const callHelp = `
Signs and encrypts one call, sends it, checks the reply's signature and prints the result as JSON. JSON-PARAMS is an
object of named parameters; - reads it from standard input, which keeps secrets out of the process list.

  reeve-agent call system.cpu_stat
  reeve-agent call system.statvfs '{"mpoints": ["/"]}'
  reeve-agent call nginx.remove_proxy - --url http://192.0.2.7:8010 --key-file node7.key <proxy.json`

func call(ctx context.Context, args []string, t terminal) error {
	flags := newFlags("call", t)
	url := flags.String("url", "http://127.0.0.1:8010", "`URL` of the agent")
	keyFile := flags.String("key-file", "", "key `file` shared with the agent (default "+keyring.DefaultPath+", or Scalarizr's)")
	caFile := flags.String("ca-file", "", "PEM `file` of the CA to trust for an https URL (default the system's)")
	timeout := flags.Duration("timeout", time.Minute, "how long to wait for the result")
	others, err := parse(flags, args, 1, 2)
	if err != nil {
		return err
	}
	params, err := readParams(others[1:], t.stdin)
	if err != nil {
		return err
	}
	key, err := newKeys(*keyFile).Get()
	if err != nil {
		return err
	}
	config, err := trust(*caFile)
	if err != nil {
		return err
	}
	client, err := agentclient.New(*url, key, &agentclient.Options{TLS: config, Timeout: *timeout})
	if err != nil {
		return err
	}
	defer client.Close()
	var result json.RawMessage
	if err := client.Call(ctx, others[0], params, &result); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "%s\n", result)
	return err
}

func readParams(args []string, stdin io.Reader) (any, error) {
	if len(args) == 0 {
		return nil, nil
	}
	text := []byte(args[0])
	if args[0] == "-" {
		var err error
		if text, err = io.ReadAll(stdin); err != nil {
			return nil, fmt.Errorf("read parameters: %w", err)
		}
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		return nil, fmt.Errorf(`parameters must be one JSON object, such as {"mpoints": ["/"]}`)
	}
	return json.RawMessage(text), nil
}

func trust(caFile string) (*tls.Config, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", caFile)
	}
	return config, nil
}

// newKeys reads the key from path, or from the usual places when path is empty.
func newKeys(path string) *keyring.File[envelope.Key] {
	if path != "" {
		return keyring.NewFile(envelope.ParseKey, path)
	}
	return keyring.NewFile(envelope.ParseKey, keyring.DefaultPaths()...)
}
