package gandi

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// Wire struct of hosting.ssh: {id: int, name: string, fingerprint: string}; info and create add {value: string}.
var sshKeyColumns = []column[core.SSHKey]{
	{name: "id", kind: intColumn, value: func(k *core.SSHKey) cell { return intCell(k.Num) }},
	{name: "name", kind: textColumn, value: func(k *core.SSHKey) cell { return textCell(k.Name) }},
	{name: "fingerprint", kind: textColumn, value: func(k *core.SSHKey) cell { return textCell(oldFingerprint(k.Key)) }},
}

// oldFingerprint is the form that OpenSSH printed until 2015: the MD5 of the key's binary form, in pairs of digits.
func oldFingerprint(line string) string {
	for _, word := range strings.Fields(line) {
		if blob, err := base64.StdEncoding.DecodeString(word); err == nil && len(blob) > 8 && blob[0] == 0 {
			return strings.ReplaceAll(fmt.Sprintf("% x", md5.Sum(blob)), " ", ":")
		}
	}
	return ""
}

func (c *call) loadSSHKeys(*query[core.SSHKey]) ([]core.SSHKey, error) {
	return c.d.opts.Core.AccountSSHKeys(c.ctx, c.p)
}

func (c *call) sshKeyList() error {
	return serveList(c, sshKeyColumns, c.loadSSHKeys, func(c *call, k *core.SSHKey) {
		c.out.BeginStruct()
		writeSSHKeyName(c, k)
		c.out.EndStruct()
	})
}

func (c *call) sshKeyCount() error { return serveCount(c, sshKeyColumns, c.loadSSHKeys) }

func writeSSHKeyName(c *call, k *core.SSHKey) {
	fieldID.Int(c.out, k.Num)
	fieldName.String(c.out, k.Name)
	fieldFingerprint.String(c.out, oldFingerprint(k.Key))
}

func writeSSHKey(c *call, k *core.SSHKey) {
	c.out.BeginStruct()
	writeSSHKeyName(c, k)
	fieldValue.String(c.out, k.Key)
	c.out.EndStruct()
}

func (c *call) sshKeyInfo() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	keys, err := c.d.opts.Core.AccountSSHKeys(c.ctx, c.p)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(keys, func(k core.SSHKey) bool { return k.Num == num })
	if i < 0 {
		return core.Errorf(core.NotFound, core.ObjKey, "SSH key '%d' doesn't exist.", num)
	}
	writeSSHKey(c, &keys[i])
	return nil
}

// sshKeyCreate takes OpenSSH public keys only: what is no key would let nobody in.
func (c *call) sshKeyCreate() error {
	v, err := c.argStruct(0)
	if err != nil {
		return err
	}
	var name, value string
	s := &specReader{}
	s.read(v, []string{"name", "value"}, func(member string, v xmlrpc.Value) bool {
		switch member {
		case "name":
			name = s.text(member, v)
		case "value":
			if value = s.text(member, v); !core.UsableSSHKey(value) {
				s.bad(member, core.ProblemPattern, "not an OpenSSH public key")
			}
		default:
			return false
		}
		return true
	})
	if len(s.problems) > 0 {
		return problemFault(s.first())
	}
	key, err := c.d.opts.Core.AddSSHKey(c.ctx, c.p, name, value)
	if err != nil {
		return err
	}
	writeSSHKey(c, &key)
	return nil
}

// sshKeyDelete answers with one operation.
func (c *call) sshKeyDelete() error {
	num, err := c.argInt(0)
	if err != nil {
		return err
	}
	op, err := c.d.opts.Core.DeleteSSHKey(c.ctx, c.p, num)
	if err != nil {
		return err
	}
	writeOperation(c, c.accepted(op))
	return nil
}
