// Package queryenv asks the coordinator what only it knows: certificates, the servers of a role, virtual hosts, definitions
// of scaling metrics, parameters of this host's role; and has it make, attach, copy and destroy volumes of this host's cloud.
//
// A request is a form that is signed, not encrypted, with the key that agent and coordinator share; a reply is XML whose
// HTML entities are decoded once before it is parsed. Both are Scalr's (spec agent-core A.1, A.2). One thing differs: the
// old agent repeated a request that failed every 30 s without end. Here it is repeated after 1, 2, 4 … s, until Options.Patience
// or the caller's context runs out, because a caller of the agent waits for it.
package queryenv
