package rpcserver

import (
	"sync"

	"github.com/reeve-paas/reeve/crypto/envelope"
)

// keyBytesWarning is after how many bytes under one key the cipher's small blocks ask for a new one.
const keyBytesWarning = 1 << 30

// usage counts the bytes that went through a key since the server started or the key changed.
type usage struct {
	mu    sync.Mutex // protects the fields below
	key   envelope.Key
	bytes int64
}

// add returns true each time another keyBytesWarning bytes are full.
func (u *usage) add(key envelope.Key, n int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if key != u.key {
		u.key, u.bytes = key, 0
	}
	before := u.bytes / keyBytesWarning
	u.bytes += int64(n)
	return u.bytes/keyBytesWarning > before
}
