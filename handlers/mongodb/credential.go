package mongodb

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// The administrator that Scalarizr makes and reset_password is about.
const (
	adminUser     = "scalr"
	adminDatabase = "admin"
)

// scalarizrState is where Scalarizr keeps the password (spec agent-core 7).
const scalarizrState = "/etc/scalr/private.d/mongodb.ini"

// credential is the administrator's password. Next is one that is being set: after a kill either of them is in force.
type credential struct {
	Password string `json:"password"`
	Next     string `json:"next,omitempty"`
}

func (s *Service) credentialPath() string { return path.Join(s.dir, "credential.json") }

// passwords are those that may be in force, the likeliest first.
func (s *Service) passwords() []string {
	var c credential
	if data, err := s.host.ReadFile(s.credentialPath()); err == nil {
		if err := json.Unmarshal(data, &c); err != nil {
			s.log.Error("read the administrator's password", "err", err)
		}
	}
	var list []string
	for _, p := range []string{c.Password, c.Next, s.scalarizrPassword()} {
		if p != "" {
			list = append(list, p)
		}
	}
	return list
}

func (s *Service) keep(c credential) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := s.host.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return s.host.WriteFile(s.credentialPath(), append(data, '\n'), 0o600)
}

// keeping brings a new password into force: set changes the server, and the file always holds the password in force.
// Scalarizr's file follows, so that the way back to it stays open.
func (s *Service) keeping(password agentapi.Secret, set func() error) error {
	old := ""
	if all := s.passwords(); len(all) > 0 {
		old = all[0]
	}
	if err := s.keep(credential{Password: old, Next: string(password)}); err != nil {
		return fmt.Errorf("keep the new password: %w", err)
	}
	if err := set(); err != nil {
		return err // Next stays: nobody knows whether the server took it
	}
	if err := s.keep(credential{Password: string(password)}); err != nil {
		return fmt.Errorf("keep the new password: %w", err)
	}
	return s.tellScalarizr(password)
}

var passwordLine = regexp.MustCompile(`(?m)^(\s*password\s*=[ \t]*)(.*)$`)

func (s *Service) scalarizrPassword() string {
	text, err := s.host.ReadFile(scalarizrState)
	if err != nil {
		return ""
	}
	if m := passwordLine.FindSubmatch(text); m != nil {
		return strings.TrimSpace(string(m[2]))
	}
	return ""
}

func (s *Service) tellScalarizr(password agentapi.Secret) error {
	text, err := s.host.ReadFile(scalarizrState)
	if err != nil || strings.ContainsAny(string(password), "\r\n") || !passwordLine.Match(text) {
		return nil
	}
	return s.host.UpdateFile(scalarizrState, passwordLine.ReplaceAllFunc(text, func(line []byte) []byte {
		m := passwordLine.FindSubmatch(line)
		return append(append([]byte{}, m[1]...), password...)
	}))
}
