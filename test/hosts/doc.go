// Package hosts boots real Linux hosts for end-to-end tests: systemd-nspawn nodes of coordinator/cloud/nspawn, each test on
// a bridge, subnet and state directory of its own, so that tests run side by side and beside a developer's coordinator.
//
//	func TestMain(m *testing.M) { os.Exit(hosts.Main(m)) }
//
//	h := hosts.Boot(t, hosts.Options{Agent: true}) // skips with the reason where hosts cannot be booted
//	h.Exec(t, "systemctl", "is-active", "reeve-agent")
//	client, err := agentclient.New(h.AgentURL(), h.Key(t), nil)
//
// Everything a host leaves on the machine is removed with the test, and the test fails when something stays.
package hosts
