package agentclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/agent/agentclient"
	"github.com/reeve-paas/reeve/agent/rpcserver"
	"github.com/reeve-paas/reeve/crypto/envelope"
)

// startExampleAgent is an agent with two methods.
func startExampleAgent(key envelope.Key) *httptest.Server {
	agent, err := rpcserver.New(rpcserver.Options{Keys: oneKey{key}, Table: rpcserver.Table{
		"system": {"get_hostname": {ReadOnly: true, Call: func(context.Context, json.RawMessage) (any, error) { return "web1", nil }}},
		"nginx": {"make_proxy": {Call: func(context.Context, json.RawMessage) (any, error) {
			return nil, agentapi.Errorf(agentapi.KindConfigTest, "NginxError", "unknown directive in proxies.include:3")
		}}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	return httptest.NewServer(agent)
}

func Example() {
	key, err := envelope.ParseKey(envelope.NewKeyText()) // in earnest, the key the node was made with
	if err != nil {
		log.Fatal(err)
	}
	agent := startExampleAgent(key)
	defer agent.Close()

	client, err := agentclient.New(agent.URL, key, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	name, err := client.System().Hostname(context.Background())
	fmt.Println(name, err)

	err = client.Nginx().MakeProxy(context.Background(), agentapi.ProxyParams{Hostname: "shop.example.net"})
	if e, ok := errors.AsType[*agentapi.Error](err); ok && agentclient.Reached(err) {
		fmt.Println(e.Kind, "-", e.Text)
	}
	// Output:
	// web1 <nil>
	// config_test - unknown directive in proxies.include:3
}
