// Package envelope seals and opens one body of the Scalarizr wire: 3DES-CBC under a fixed initialisation vector, base64,
// and an HMAC-SHA1 over the base64 text and a date.
//
// A sealed body travels in three parts: the HTTP body, the Date header and the X-Signature header.
//
//	body, date, signature := envelope.Seal(key, plaintext, time.Now())
//	plaintext, err := envelope.Open(key, body, date, signature)
//
// The construction is what existing agents and clients speak, and is kept for them alone. It hides and authenticates a
// body. It does not bind the body to a path, a method or a reply, it does not stop replays, and equal beginnings of two
// messages give equal cipher blocks; agent/rpcserver and agent/agentclient add what can be added without changing the
// wire, and TLS around it gives the rest.
//
// A Key never prints: every way of formatting one shows "[redacted]".
//
// The vectors in testdata/envelope.json fix every byte. Source: spec agent-core 1.3, 1.4 and A.1.
package envelope
