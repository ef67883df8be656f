// Package message keeps what the agent has to tell its coordinator until the coordinator has it.
//
// A message is on disk when Send returns, and leaves the disk when the coordinator answered with a 2xx: a kill anywhere in
// between sends it again under the same id, by which the coordinator knows a repetition. Files hold the sealed envelope, never
// the text, and only their owner reads them. Delivery is in the order of sending; a message that the coordinator refuses waits
// while later ones go, and a coordinator that does not answer is asked in growing, jittered pauses.
//
// Wire: spec agent-core A.3, in JSON or, where the server wants that, in XML (Options.XML).
package message
