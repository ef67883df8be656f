// Package operation runs long work on this host and remembers how it went: every method with an `async` parameter starts
// its work here, the operation namespace (handlers/operation) reads the records, and a journal in the agent's state
// directory keeps them over a restart.
//
//	     Start                 the function ends
//	new ───────▶ in-progress ─┬─ without error ──────────────▶ completed
//	                          ├─ with an error ──────────────▶ failed
//	                          ├─ after Cancel, either way ───▶ canceled
//	                          └─ never: the agent was killed ▶ failed, "agent restarted" (at the next Open)
//
// Cancel only asks: the work goes on until its function returns, which it may do early when Op.Canceled is closed.
// Once finished a record does not change; it is dropped two days later.
//
// Every end is reported to Options.OnEnd at least once, over restarts too. Source: spec agent-core 3.
package operation
