package auth

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// memory is a core.Store of accounts and credentials; anything else panics.
type memory struct {
	mu          sync.Mutex
	accounts    map[core.AccountID]core.Account
	credentials map[[32]byte]core.Credential
	apps        []core.App
	logins      map[core.AppID]core.AppLogin
	views       int
	audit       []core.AuditRecord
}

func newMemory() *memory {
	return &memory{accounts: map[core.AccountID]core.Account{}, credentials: map[[32]byte]core.Credential{}}
}

func (m *memory) View(_ context.Context, fn func(core.Reader) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.views++
	return fn(memoryTx{m: m})
}

func (m *memory) Update(_ context.Context, fn func(core.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fn(memoryTx{m: m})
}

type memoryTx struct {
	core.Tx
	m *memory
}

func (t memoryTx) Account(id core.AccountID) (core.Account, error) {
	if a, ok := t.m.accounts[id]; ok {
		return a, nil
	}
	return core.Account{}, core.Errorf(core.NotFound, core.ObjAccount, "no account")
}

func (t memoryTx) AppByNum(num int64) (core.App, error) {
	for _, a := range t.m.apps {
		if a.Num == num {
			return a, nil
		}
	}
	return core.App{}, core.Errorf(core.NotFound, core.ObjApp, "no app")
}

func (t memoryTx) AppLogin(id core.AppID) (core.AppLogin, error) {
	if l, ok := t.m.logins[id]; ok {
		return l, nil
	}
	return core.AppLogin{}, core.Errorf(core.NotFound, core.ObjApp, "no login")
}

func (t memoryTx) AccountByEmail(email string) (core.Account, error) {
	for _, a := range t.m.accounts {
		if strings.EqualFold(a.Email, email) {
			return a, nil
		}
	}
	return core.Account{}, core.Errorf(core.NotFound, core.ObjAccount, "no account")
}

func (t memoryTx) AccountByUsername(name string) (core.Account, error) {
	for _, a := range t.m.accounts {
		if a.Username != "" && a.Username == name {
			return a, nil
		}
	}
	return core.Account{}, core.Errorf(core.NotFound, core.ObjAccount, "no account")
}

func (t memoryTx) RevokeCertificates(core.AccountID, int64, time.Time) error { return nil }

func (t memoryTx) Accounts() ([]core.Account, error) {
	var all []core.Account
	for _, a := range t.m.accounts {
		all = append(all, a)
	}
	return all, nil
}

func (t memoryTx) Credential(hash [32]byte) (core.Credential, error) {
	if c, ok := t.m.credentials[hash]; ok {
		return c, nil
	}
	return core.Credential{}, core.Errorf(core.NotFound, "", "no credential")
}

func (t memoryTx) PutAccount(a *core.Account) error {
	if a.Num == 0 {
		a.Num = int64(len(t.m.accounts) + 1)
	}
	t.m.accounts[a.ID] = *a
	return nil
}

func (t memoryTx) PutCredential(c core.Credential) error {
	t.m.credentials[c.Hash] = c
	return nil
}

func (t memoryTx) Audit(r core.AuditRecord) error {
	t.m.audit = append(t.m.audit, r)
	return nil
}
