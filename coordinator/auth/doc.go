// Package auth turns credentials into principals: passwords, API keys and tokens over core.Store. It also proves that an
// account owns a DNS name (Prover).
//
// What is presented never reaches the store, a log or an error: keys and tokens are kept as SHA-256, passwords as bcrypt.
// Every way to fail looks the same to the caller and, for passwords, takes the same time:
//
//	Unauthenticated  no such credential, revoked, expired, or its account is not active
//	RateLimited      too many wrong attempts for this account, or new accounts, from this address; the answer says when to come back
//	Unavailable      too many passwords being checked at once
package auth
