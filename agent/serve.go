package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
)

const serveHelp = `
Answers encrypted, signed JSON-RPC calls on port 8010 and Prometheus on port 9810 until SIGTERM or SIGINT. Every setting has
a default; the file /etc/reeve/agent.yaml changes it, a variable REEVE_AGENT_<KEY> changes that, and a flag has the last
word. The key file is read again whenever it changes. Under systemd the agent reports when it is ready.`

// stringList is a flag that may be given more than once.
type stringList []string

func (l *stringList) String() string { return strings.Join(*l, " ") }

func (l *stringList) Set(s string) error {
	*l = append(*l, s)
	return nil
}

func serve(ctx context.Context, args []string, t terminal) error {
	c, err := serveConfig(args, t)
	if err != nil {
		return err
	}
	a, err := newAgent(c, c.logger(t.stderr))
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// serveConfig puts file, environment and flags together and checks the result.
func serveConfig(args []string, t terminal) (Config, error) {
	flags := newFlags("serve", t)
	var listen stringList
	flags.Var(&listen, "listen", "`address` to answer calls on; may be repeated (default :8010)")
	path := flags.String("config", "", "configuration `file` (default "+defaultConfigPath+", if it exists)")
	metricsListen := flags.String("metrics-listen", "", "`address` to answer Prometheus on; an empty one turns metrics off (default :9810)")
	keyFile := flags.String("key-file", "", "`file` of the shared key (default /etc/reeve/keys/default, or Scalarizr's)")
	stateDir := flags.String("state-dir", "", "`directory` of the agent's own state (default /var/lib/reeve-agent)")
	if _, err := parse(flags, args, 0, 0); err != nil {
		return Config{}, err
	}
	c, err := loadConfig(*path, t.getenv)
	if err != nil {
		return c, err
	}
	if len(listen) > 0 {
		c.Listen = listen
	}
	flags.Visit(func(f *flag.Flag) { // only those that were given
		switch f.Name {
		case "metrics-listen":
			c.MetricsListen = *metricsListen
		case "key-file":
			c.KeyFile = *keyFile
		case "state-dir":
			c.StateDir = *stateDir
		}
	})
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("configuration:\n%w", err)
	}
	return c, nil
}
