// Reeve-agent runs on a virtual machine and drives its services for a coordinator: encrypted, signed JSON-RPC that a
// Scalarizr client does not tell from the old agent, and metrics for Prometheus.
//
// A reader starts at wire.go, which lists what the agent can do, then agent.go, which puts it together.
package main
