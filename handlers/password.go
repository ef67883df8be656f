package handlers

import (
	"crypto/rand"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// RandomPassword is what Scalarizr makes where a caller names no password: ten letters and digits, nearly sixty bits.
func RandomPassword() agentapi.Secret {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	var b strings.Builder
	for b.Len() < 10 {
		var one [1]byte
		rand.Read(one[:])
		if i := int(one[0] & 63); i < len(alphabet) { // no letter is likelier than another
			b.WriteByte(alphabet[i])
		}
	}
	return agentapi.Secret(b.String())
}
