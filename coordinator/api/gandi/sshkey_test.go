package gandi_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	aKey            = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
	aKeyFingerprint = "d6:9a:30:45:17:cf:91:c4:27:94:f3:22:92:a3:00:0e" // as ssh-keygen -l -E md5 prints it
)

func TestSSHKeys(t *testing.T) {
	b := newBed(t).work()
	var id any
	t.Run("create answers with the key", func(t *testing.T) {
		k := b.call("hosting.ssh.create", map[string]any{"name": "laptop", "value": aKey + " ann@laptop"}).(map[string]any)
		id = k["id"]
		if diff := cmp.Diff(map[string]any{"id": id, "name": "laptop", "fingerprint": aKeyFingerprint, "value": aKey + " ann@laptop"}, k); diff != "" {
			t.Errorf("got a key that differs (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(any(k), b.call("hosting.ssh.info", id)); diff != "" {
			t.Errorf("info differs (-create +info):\n%s", diff)
		}
		rows := structs(b.call("hosting.ssh.list", map[string]any{"name": "laptop"}))
		if len(rows) != 1 || len(rows[0]) != 3 || rows[0]["fingerprint"] != aKeyFingerprint || b.call("hosting.ssh.count") != 1 {
			t.Errorf("got %v", rows)
		}
	})
	t.Run("what is wrong", func(t *testing.T) {
		b.faults(500041, "hosting.ssh.create", map[string]any{"name": "again", "value": aKey})
		b.faults(500037, "hosting.ssh.create", map[string]any{"name": "x", "value": "no key"})
		b.faults(501532, "hosting.ssh.create", map[string]any{"name": "x"})
		b.faults(501533, "hosting.ssh.create", map[string]any{"name": "x", "value": aKey, "y": 1})
		b.faults(500042, "hosting.ssh.info", 99)
		b.faults(500042, "hosting.ssh.delete", 99)
		b.key, b.other = b.other, b.key
		b.faults(500042, "hosting.ssh.info", id)
		b.faults(500042, "hosting.ssh.delete", id)
		b.key, b.other = b.other, b.key
	})
	t.Run("instances let keys in, without a password too", func(t *testing.T) {
		paas := b.running("password", absent, "keys", []any{id})
		if types := b.allDone(b.call("paas.update", paas, map[string]any{"ssh_key": aKey + " another comment"})); len(types) != 1 {
			t.Errorf("got %v", types)
		}
		b.faults(500042, "paas.update", paas, map[string]any{"keys": []any{99}})
		b.faults(500037, "paas.update", paas, map[string]any{"ssh_key": "no key"})
		b.faults(501532, "paas.create", spec("name", "x", "vhosts", absent, "password", absent))
	})
	t.Run("delete answers with an operation", func(t *testing.T) {
		op := b.call("hosting.ssh.delete", id)
		b.done(op)
		if rows := b.call("hosting.ssh.list").([]any); len(rows) != 0 {
			t.Errorf("got %v, want none left", rows)
		}
	})
}
