// Package rpcserver is the agent's RPC listener: it opens an envelope, runs one JSON-RPC method of the table it was handed,
// and seals the reply.
//
// # One request
//
//	POST /<namespace>            source allowed? connection to spare?          else closed, or 503
//	Date, X-Signature            present and well formed?                      else 400
//	body                         at most 8 MiB, in at most 30 s?               else 413, 408
//	envelope                     signed with our key, decodes, clock in window? else 400
//	{"method","params","id"}     JSON, not nested too deeply, complete?        else error -32700, -32600
//	replay                       a state-changing method seen before?          else 400
//	namespace, method            known?                                        else error -32099, -32601
//	method                       result, or error -32603                       signed and encrypted, status 200
//
// What a caller sees of a refusal is a short fixed text; the reason is counted in reeve_rpc_rejected_total and logged.
//
// # Replays
//
// The envelope does not sign the path, so the memory of seen requests is keyed on the signature alone. Only requests
// whose method changes state in some namespace are remembered: all others may be answered again, which is what honest
// polling with a constant id looks like. With a state directory the memory survives a restart; without one, a
// state-changing request that is dated before the start is refused until the clock window has passed.
//
// # What differs from the old agent on purpose
//
// Malformed JSON and null params are answered with a signed error instead of an empty 500. Errors carry the extra member
// "kind" beside code, message and data when the method classified them. Source locations are left out of messages.
// Methods go on when the caller hangs up, as before, and end with the server.
//
// Source: spec agent-core 1, 2
package rpcserver
