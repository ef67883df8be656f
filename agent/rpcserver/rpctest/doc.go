// Package rpctest tries what an agent's listener promises on the wire: items 1 to 32 of the checklist of spec agent-core 8,
// and the wire's vectors. It knows a URL and a key, so that one table holds for a listener inside of a test and for an agent
// that is installed on a host.
//
//	rpctest.Conformance(t, &rpctest.Server{Client: …, SetKey: …, Change: …, Changes: …, Log: …, Seen: …})
package rpctest
