package core

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/operation"
)

// OpKeyRemove takes an SSH key from an account and off the nodes of its apps.
const OpKeyRemove = "key.remove"

const maxLoginKeys = 50

type keyParams struct {
	KeyNum int64  `json:"key_num"`
	Name   string `json:"name"`
	Key    string `json:"key"` // a public one
}

func (c *Core) keyOperations() []operation.Definition {
	return []operation.Definition{{Kind: OpKeyRemove, Steps: []operation.Step{
		{Name: "take key off nodes", Do: c.dropKey, Timeout: 10 * time.Minute},
		{Name: "forget key", Do: c.forgetKey},
	}}}
}

// loginKeys are the lines that let into an app's node: those of the account's keys with these numbers, then texts.
func loginKeys(r Reader, account AccountID, nums []int64, texts []string) (lines []string, problems []Problem, err error) {
	keys, err := r.SSHKeys(account)
	if err != nil {
		return nil, nil, err
	}
	add := func(line string) {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	for _, n := range nums {
		i := slices.IndexFunc(keys, func(k SSHKey) bool { return k.Num == n })
		switch {
		case i < 0:
			problems = append(problems, Problem{Field: "keys", Code: ProblemNotFound, Msg: fmt.Sprintf("SSH key '%d' doesn't exist.", n)})
		case !UsableSSHKey(keys[i].Key):
			problems = append(problems, Problem{Field: "keys", Code: ProblemPattern, Msg: fmt.Sprintf("SSH key '%d' is not an OpenSSH public key", n)})
		default:
			add(keys[i].Key)
		}
	}
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if !UsableSSHKey(text) || strings.ContainsAny(text, "\r\n\x00") || len(text) > 16<<10 {
			problems = append(problems, Problem{Field: "ssh_key", Code: ProblemPattern, Msg: "not an OpenSSH public key"})
			continue
		}
		add(text)
	}
	if len(lines) > maxLoginKeys {
		problems = append(problems, Problem{Field: "keys", Code: ProblemTooBig, Msg: fmt.Sprintf("at most %d keys", maxLoginKeys)})
	}
	return lines, problems, nil
}

// DeleteSSHKey takes a key from the caller's account, and off the nodes of the account's apps. It is not listed any more when
// the operation has ended.
//
// Errors: not_found, busy (it is being deleted already)
func (c *Core) DeleteSSHKey(ctx context.Context, p Principal, num int64) (op operation.Record, err error) {
	err = c.Store.Update(ctx, func(tx Tx) error {
		if err := known(p); err != nil {
			return err
		}
		keys, err := tx.SSHKeys(p.Account.ID)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(keys, func(k SSHKey) bool { return k.Num == num })
		if i < 0 {
			return Errorf(NotFound, ObjKey, "SSH key '%d' doesn't exist.", num)
		}
		subject := fmt.Sprintf("key/%d", num)
		if running, err := tx.Operations(OperationFilter{Subject: subject, Unfinished: true}); err != nil || len(running) > 0 {
			if err == nil {
				err = Errorf(Busy, ObjKey, "the key is being deleted")
			}
			return err
		}
		params, err := json.Marshal(keyParams{KeyNum: num, Name: keys[i].Name, Key: keys[i].Key})
		if err != nil {
			return err
		}
		g := c.newGroup(p, subject, params, OpKeyRemove)
		if err := tx.Enqueue(&g); err != nil {
			return err
		}
		op = g.Operations[0]
		return tx.Audit(c.auditRecord(p, "key.remove", subject, op.ID, "accepted"))
	})
	if err != nil {
		c.refused(ctx, p, "key.remove", numbered(num), err)
	}
	return op, err
}

// dropKey takes the key off the nodes that let it in.
func (c *Core) dropKey(ctx context.Context, run *operation.Run) error {
	var p keyParams
	if err := run.Params(&p); err != nil {
		return err
	}
	apps, err := view(ctx, c.Store, func(r Reader) ([]App, error) { return r.Apps(AccountID(run.Operation.Account), 0, 0) })
	if err != nil {
		return err
	}
	for _, app := range apps {
		login, err := view(ctx, c.Store, func(r Reader) (AppLogin, error) { return r.AppLogin(app.ID) })
		if isNotFound(err) || err == nil && !slices.Contains(login.Keys, p.Key) {
			continue
		}
		if err != nil {
			return err
		}
		login.Keys = slices.DeleteFunc(slices.Clone(login.Keys), func(k string) bool { return k == p.Key })
		if len(app.Nodes) == 0 || app.State == AppCreating || app.State == AppDeleting || app.State == AppFailed {
			if err := c.Store.Update(ctx, func(tx Tx) error { return tx.PutAppLogin(login) }); err != nil {
				return err
			}
			continue
		}
		agent, err := c.Agents.Agent(app.Nodes[0])
		if err != nil {
			return err
		}
		if err := c.setLogin(ctx, agent, app, login); err != nil {
			return err
		}
	}
	return nil
}

func (c *Core) forgetKey(ctx context.Context, run *operation.Run) error {
	var p keyParams
	if err := run.Params(&p); err != nil {
		return err
	}
	return c.Store.Update(ctx, func(tx Tx) error { return tx.DeleteSSHKey(p.KeyNum) })
}
