package agentapi

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretIsNotSeen(t *testing.T) {
	const secret = Secret("swordfish")
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	params := CreateDatabaseUserParams{Name: "u", Password: secret}
	logger.Info("test", "secret", secret, "params", params, "map", map[string]Secret{"A": secret})
	for _, text := range []string{log.String(), fmt.Sprint(params), fmt.Sprintf("%+v %#v %s %q", params, params, secret, secret)} {
		if strings.Contains(text, string(secret)) {
			t.Errorf("got %s, want no secret in it", text)
		}
	}
	if wire, err := json.Marshal(params); err != nil || !strings.Contains(string(wire), string(secret)) {
		t.Errorf("got %s, %v, want the secret on the wire", wire, err)
	}
}
