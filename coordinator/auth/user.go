package auth

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// NewUser asks for an account with a user name of its own.
type NewUser struct {
	Username    string // 1–64 characters
	Password    core.Secret
	FirstName   string
	LastName    string
	Email       string
	Affiliation string
	UUID        string
	OpenID      string
	Credit      int64
	From        string // address of whoever asks; "" when nobody asks for many: an operator, or a front end for its users
}

var handlePattern = regexp.MustCompile(`(?i)^rv[0-9]+-reeve$`)

// checkUsername says whether somebody may be called that. "CA" is taken for the authority itself by every client of the
// Director, and what looks like a handle or somebody's e-mail address would be another way to name another account.
func checkUsername(u NewUser) error {
	switch name := u.Username; {
	case strings.EqualFold(strings.TrimSpace(name), "CA"):
		return core.Errorf(core.Invalid, core.ObjAccount, "this user name is reserved")
	case utf8.RuneCountInString(name) > 64:
		return core.Errorf(core.Invalid, core.ObjAccount, "a user name has at most 64 characters")
	case name == "" || !utf8.ValidString(name) || strings.TrimSpace(name) != name || strings.IndexFunc(name, unicode.IsControl) >= 0:
		return core.Errorf(core.Invalid, core.ObjAccount, "a user name has no control characters, and no blanks at its ends")
	case strings.Contains(name, "@") && !strings.EqualFold(name, u.Email), handlePattern.MatchString(name):
		return core.Errorf(core.Invalid, core.ObjAccount, "a user name may not look like the e-mail address or the handle of an account")
	}
	return nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}

// Taken says whether a user name or an e-mail address is taken.
//
// Errors: exists, with the field "username" or "email" as its problem
func (a *Auth) Taken(ctx context.Context, username, email string) error {
	return a.store.View(ctx, func(r core.Reader) error { return taken(r, username, email) })
}

func taken(r core.Reader, username, email string) error {
	for _, look := range []struct {
		field string
		find  func() (core.Account, error)
	}{
		{"username", func() (core.Account, error) { return r.AccountByUsername(username) }},
		{"email", func() (core.Account, error) { return r.AccountByEmail(email) }},
	} {
		switch _, err := look.find(); {
		case err == nil:
			e := core.Errorf(core.Exists, core.ObjAccount, "the %s is taken", look.field)
			e.Problems = []core.Problem{{Field: look.field, Code: core.ProblemTaken, Msg: e.Msg}}
			return e
		case core.KindOf(err) != core.NotFound:
			return err
		}
	}
	return nil
}

// CreateUser makes an active account with a first application. Any password that is not empty will do: it is the caller's.
//
// Errors: invalid, exists (as Taken; also the UUID), rate_limited (From made many)
func (a *Auth) CreateUser(ctx context.Context, u NewUser) (core.Account, error) {
	if err := checkUsername(u); err != nil {
		return core.Account{}, err
	}
	if err := checkEmail(u.Email); err != nil {
		return core.Account{}, err
	}
	for _, text := range []string{u.FirstName, u.LastName, u.Affiliation, u.UUID, u.OpenID} {
		if len(text) > 512 || !utf8.ValidString(text) || strings.IndexFunc(text, unicode.IsControl) >= 0 {
			return core.Account{}, core.Errorf(core.Invalid, core.ObjAccount, "names have at most 512 bytes, and no control characters")
		}
	}
	switch {
	case !isASCII(u.Email):
		return core.Account{}, core.Errorf(core.Invalid, core.ObjAccount, "the e-mail address has characters that a certificate cannot carry")
	case u.Password == "":
		return core.Account{}, core.Errorf(core.Invalid, core.ObjAccount, "the password is empty")
	case u.Credit < 0:
		return core.Account{}, core.Errorf(core.Invalid, core.ObjCredit, "credit is not negative")
	}
	if u.From != "" {
		if err := a.makes.take("", u.From); err != nil {
			return core.Account{}, err
		}
	}
	hash, err := a.hash(string(u.Password), PasswordRule{1, 1024})
	if err != nil {
		return core.Account{}, err
	}
	id := core.AccountID("acc-" + strings.ToLower(rand.Text()))
	var account core.Account
	err = a.store.Update(ctx, func(tx core.Tx) error {
		if err := taken(tx, u.Username, u.Email); err != nil {
			return err
		}
		now := a.now().UTC()
		account = core.Account{ID: id, Handle: string(id), Email: u.Email, PasswordHash: hash, Active: true, CreatedAt: now, Username: u.Username,
			FirstName: u.FirstName, LastName: u.LastName, Affiliation: u.Affiliation, UUID: u.UUID, OpenID: u.OpenID, Credit: u.Credit}
		if err := tx.PutAccount(&account); err != nil {
			return err
		}
		account.Handle = fmt.Sprintf("RV%d-REEVE", account.Num)
		if err := tx.PutAccount(&account); err != nil {
			return err
		}
		if err := tx.PutApplication(&core.Application{AccountID: id, Name: core.FirstApplication, CreatedAt: now}); err != nil {
			return err
		}
		return a.audit(ctx, tx, id, "account.create")
	})
	account.PasswordHash = ""
	return account, err
}

// ChangeCredit adds to an account's credit, or takes from it, but never more than there is, and returns what is left.
func (a *Auth) ChangeCredit(ctx context.Context, email string, n int) (int64, error) {
	var left int64
	err := a.store.Update(ctx, func(tx core.Tx) error {
		account, err := tx.AccountByEmail(email)
		if err != nil {
			return err
		}
		if n >= 0 {
			err = tx.GiveCredit(account.ID, n)
		} else {
			_, err = tx.TakeCredit(account.ID, int(min(account.Credit, int64(-n))))
		}
		if err != nil {
			return err
		}
		if account, err = tx.Account(account.ID); err != nil {
			return err
		}
		left = account.Credit
		return a.audit(ctx, tx, account.ID, "account.credit")
	})
	return left, err
}
