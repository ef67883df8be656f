package postgresql

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/xdg-go/stringprep"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

const (
	maxPassword     = 1024 // bytes
	scramIterations = 4096 // what the server itself takes
)

// verifier is what the server stores for a password instead of it: "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"
// (RFC 5803 as PostgreSQL writes it). Its alphabet needs no quoting.
func verifier(password agentapi.Secret) (string, error) {
	if err := checkPassword(password); err != nil {
		return "", err
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	return verifierWith(password, salt)
}

func verifierWith(password agentapi.Secret, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, prepared(string(password)), salt, scramIterations, sha256.Size)
	if err != nil {
		return "", err
	}
	client, server := sha256.Sum256(sign(salted, "Client Key")), sign(salted, "Server Key")
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(salt), b64(client[:]), b64(server)), nil
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// prepared is the password as clients put it into the exchange: by SASLprep (RFC 4013), or as it is where that refuses it.
func prepared(password string) string {
	if ready, err := stringprep.SASLprep.Prepare(password); err == nil {
		return ready
	}
	return password
}

func checkPassword(password agentapi.Secret) error {
	switch {
	case password == "":
		return invalid("the password is empty")
	case len(password) > maxPassword:
		return invalid("the password is longer than %d bytes", maxPassword)
	case strings.ContainsRune(string(password), 0):
		return invalid("the password holds a NUL, where most clients cut it off")
	}
	return nil
}
