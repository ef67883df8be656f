// Package operation carries out long work durably: groups of operations, each a list of steps with Do and Undo, run by
// a River worker.
//
// A group is what one API call starts. Its operations are what callers see and poll (a Gandi paas.create shows three),
// and they run one after the other. The group is one saga: a step that fails for good runs the undo of every done step
// of the group, last first.
//
//	new ──> in-progress ──> completed
//	 │           │ └──────> failed      a step failed for good, everything done was undone
//	 └───────────┴────────> canceled    asked to stop; honoured at the next step boundary
//
// Promises, and what keeps them:
//
//   - Wanted state, operations and the queue entry are written in one transaction: Queue.InsertTx takes the caller's.
//   - A step may run twice. Do first looks whether its effect is there already, by a name derived from the operation; the
//     engine records "done" after Do returned, so a crash between the two repeats Do.
//   - A crash anywhere ends in the same state: on start the engine takes every group back that was running. Which
//     direction it ran in, forward or undoing, is recorded before the first undo.
//   - Only one coordinator works on one SQLite database; it holds a lock on the data directory.
package operation
