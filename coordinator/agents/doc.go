// Package agents finds the agent of a node and calls it: it implements core.Agents over agentclient, and watches whether
// agents answer.
//
// One client per node shares one transport with all others, so that a node is dialled once and not once per call. Every
// call has a deadline. Failures come back as *core.Error: Unavailable when there is no answer, or when the agent does not
// accept the envelope (its clock may still be settling), else what the agent said.
//
// Watch asks every running node for its name twice a minute. A node that does not answer twice in a row becomes
// unreachable, one that answers again is running; what happens in between costs no writes but a batch of seen-at times
// every few minutes.
package agents
