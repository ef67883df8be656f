// Package agentapi is the RPC contract between an agent and whoever calls it: namespaces, method names, parameters,
// results and error codes. It holds types only; the wire itself is crypto/envelope and agent/rpcserver.
//
// One file per namespace. A parameter struct lists its members in the order the old agent declared them, and tags every
// member that the caller must send with `rpc:"required"`; a member whose type is a pointer is optional with a default
// that the field comment names.
package agentapi
