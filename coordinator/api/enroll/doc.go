// Package enroll is how a machine gets its agent and becomes a node by the hand of its administrator: paths below /agent/.
//
//	POST /agent/enroll               exchange a one-time token for an identity
//	GET  /agent/enroll.sh            a script that installs the agent and does that
//	GET  /agent/ca.crt               our authority's certificate, to be compared with its checksum
//	GET  /agent/routes-ca.crt        the certificate of the authority of hosted names, for those who want to trust these
//	GET  /agent/download/NAME        the agent's packages, and SHA256SUMS of them
//
// Bodies are JSON. Errors are {"message": "…"}: 400 a request that makes no sense, 403 a token that is not valid, 409 a name
// that was taken meanwhile, 503 try again.
package enroll
