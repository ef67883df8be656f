package core

import (
	"cmp"
	"context"
	"time"
)

// AccountID is opaque.
type AccountID string

// Account owns things.
type Account struct {
	ID           AccountID
	Num          int64  // stable small integer for the dialects that need one
	Handle       string // e.g. "RV12-REEVE"
	Email        string // also the login name; unique without regard to case
	PasswordHash string // bcrypt
	Admin        bool
	Active       bool
	CreatedAt    time.Time

	// What the Director's users have besides.
	Username    string // another login name, unique; "" for accounts made elsewhere
	FirstName   string
	LastName    string
	Affiliation string
	UUID        string // unique unless ""
	OpenID      string
	Credit      int64 // hours of nodes left; see credit.go
}

// LoginName is what the account is called where people log in.
func (a Account) LoginName() string { return cmp.Or(a.Username, a.Email) }

// CredentialKind tells credentials apart.
type CredentialKind string

// The kinds of credentials an account may have several of.
const (
	CredentialAPIKey CredentialKind = "api_key"
	CredentialToken  CredentialKind = "token"
	CredentialApp    CredentialKind = "app_token" // what a program inside an app presents; good for that app only
	CredentialReset  CredentialKind = "reset"     // mailed to who forgot a password; good once
)

// Credential is a stored API key or token; only its hash is kept.
type Credential struct {
	Hash      [32]byte // SHA-256 of the text
	Kind      CredentialKind
	AccountID AccountID // of an app token: who made the app
	AppID     AppID     // of an app token
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
	Revoked   bool
}

// Certificate is one that was issued to an account, for itself or for one of its services.
type Certificate struct {
	Serial    string // hexadecimal, unique
	AccountID AccountID
	Role      string // "user", "manager" or "agent"
	Service   int64  // App.Num; 0 for a user's
	CreatedAt time.Time
	EndsAt    time.Time
	RevokedAt time.Time // zero: it counts
}

// Principal is who calls.
type Principal struct {
	Account   Account // zero when anonymous
	App       AppID   // not "" for a program inside an app: it may do things to that app and to nothing else
	Via       string  // "api_key", "token", "app_token", "password", "certificate", "anonymous", "local"
	From      string  // remote address
	RequestID string
	Dialect   string
}

// Anonymous says that nobody was authenticated.
func (p Principal) Anonymous() bool { return p.Account.ID == "" }

// CallerKey is the context key under which a call's Principal is found, without its account.
type CallerKey struct{}

// CallerOf is where the call that ctx belongs to came from: dialect, address and request id. It is empty outside of a call, such
// as in a command.
func CallerOf(ctx context.Context) Principal {
	p, _ := ctx.Value(CallerKey{}).(Principal)
	return p
}

// AuditRecord is one mutating call: who did what, from where, with what outcome.
type AuditRecord struct {
	At          time.Time
	AccountID   AccountID
	Dialect     string
	From        string
	Action      string // e.g. "app.create"
	Subject     string // opaque id of what it is about; of a refused call what was asked for
	OperationID string // may be ""
	Outcome     string // "accepted", or the kind of the failure
}
