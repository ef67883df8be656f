package mongostandin

import (
	"crypto/md5"
	"encoding/hex"
	"errors"

	"github.com/xdg-go/scram"
	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	mechanismSHA1   = "SCRAM-SHA-1"
	mechanismSHA256 = "SCRAM-SHA-256"
	scramIterations = 4096 // the least that drivers accept
)

// exchange is a login on its way.
type exchange struct {
	database     string
	conversation *scram.ServerConversation
	user         User
}

func (c *session) saslLocked(command, database string, body bson.D) bson.D {
	payload, _ := lookup(body, "payload").(bson.Binary)
	if command == "saslstart" {
		x := &exchange{database: database}
		hash := scram.SHA256
		switch text(body, "mechanism") {
		case mechanismSHA256:
		case mechanismSHA1:
			hash = scram.SHA1
		default:
			return failure(codeBadValue, "BadValue", "unsupported mechanism %s", text(body, "mechanism"))
		}
		server, err := hash.NewServer(func(name string) (scram.StoredCredentials, error) {
			return c.credentials(x, text(body, "mechanism"), name)
		})
		if err != nil {
			return failure(codeInternal, "InternalError", "%v", err)
		}
		x.conversation = server.NewConversation()
		c.sasl = x
	}
	x := c.sasl
	if x == nil {
		return failure(codeAuthFailed, "AuthenticationFailed", "no login has begun")
	}
	done := func() []bson.E {
		return []bson.E{{Key: "conversationId", Value: int32(1)}, {Key: "done", Value: x.conversation.Done()}}
	}
	if x.conversation.Done() { // the empty last word of a client that does not skip it
		return success(append(done(), bson.E{Key: "payload", Value: bson.Binary{}})...)
	}
	answer, err := x.conversation.Step(string(payload.Data))
	if err != nil || x.conversation.Done() && !x.conversation.Valid() {
		c.sasl = nil
		return failure(codeAuthFailed, "AuthenticationFailed", "Authentication failed.")
	}
	if x.conversation.Done() {
		c.logins[x.database] = x.user
	}
	return success(append(done(), bson.E{Key: "payload", Value: bson.Binary{Data: []byte(answer)}})...)
}

// credentials are what a real server stores of a password.
func (c *session) credentials(x *exchange, mechanism, name string) (scram.StoredCredentials, error) {
	u, there := c.server.data.Users[x.database+"."+name]
	if !there {
		return scram.StoredCredentials{}, errors.New("no such user")
	}
	x.user = u
	client, err := scram.SHA256.NewClient(name, u.Password, "")
	if mechanism == mechanismSHA1 { // the password is hashed with the name first, and the digits go into the exchange as they are
		sum := md5.Sum([]byte(name + ":mongo:" + u.Password))
		client, err = scram.SHA1.NewClientUnprepped(name, hex.EncodeToString(sum[:]), "")
	}
	if err != nil {
		return scram.StoredCredentials{}, err
	}
	return client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "a salt of " + mechanism, Iters: scramIterations})
}
