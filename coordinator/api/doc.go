// Package api is the HTTP plumbing that every dialect shares: it knows requests, not shapes.
//
// A dialect registers its handlers on one mux (Dialect) and the integrator mounts it with a name, the path prefixes it
// answers under, and a function that writes a failure in the dialect's own form (Mount). Server wraps the mux once:
//
//	request -> request id -> concurrency cap -> body limit -> mux -> dialect
//	           metrics, one log line and panic recovery around all of it
//
// What a dialect finds in the request's context: RequestID, Caller (where the call came from, nobody yet), and
// SetPrincipal and SetRoute to say for the log who called and which row of its table answered.
package api
