// Package hosttest is a host for tests of handlers: files live in a temporary directory, commands are scripted
// functions, units are states in memory. Every command and unit call is recorded, and any one of them can be made to fail:
//
//	h := hosttest.New(t)
//	h.WriteText("/etc/apache2/apache2.conf", "…")
//	h.Runner.Handle("apache2ctl", func(c host.Cmd) (host.Output, error) { return host.Output{}, nil })
//	h.FailCall(2) // the second command or unit call from now on
//	service := apache.New(apache.Options{Host: h.Host})
//
// A real *host.Host sits between the handler and these fakes, so paths, atomic writes and Change behave as in production.
package hosttest
