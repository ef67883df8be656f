package mongodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.yaml.in/yaml/v3"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers"
	"github.com/reeve-paas/reeve/handlers/host"
)

// stagingDir lies on the filesystem of mongod.conf.
const stagingDir = "/etc/.reeve-mongodb"

// access is a change that makes mongod listen on every address and ask for passwords.
type access struct {
	service   *Service
	staged    *host.Staged // nil when mongod does already
	madeAdmin bool
	restarted bool
	done      bool
}

// open makes mongod listen on every address, with authorization on: it has an administrator first, whose password we know.
// mongod's own program reads the new configuration before it is put in place. The caller commits, or rolls back, also
// after an error.
func (s *Service) open(ctx context.Context) (*access, error) {
	a := &access{service: s}
	text, err := s.host.ReadFile(modernConf)
	if err != nil {
		return a, agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "%s cannot be read: users from other machines need a server that it configures", modernConf)
	}
	wanted, err := opened(text)
	if err != nil || bytes.Equal(wanted, text) {
		return a, err
	}
	if a.madeAdmin, err = s.ensureAdmin(ctx); err != nil {
		return a, err
	}
	if a.staged, err = s.host.Stage(stagingDir, host.Readers{}); err != nil {
		return a, err
	}
	staged, err := a.staged.Write(modernConf, wanted, 0o644)
	if err != nil {
		return a, err
	}
	_, err = s.host.Run(ctx, host.Cmd{Path: "mongod", Args: []string{"--config", s.host.Path(staged), "--outputConfig"}})
	if failed, ok := errors.AsType[*host.CommandError](err); ok && failed.Err == nil {
		return a, &agentapi.Error{Kind: agentapi.KindConfigTest, Class: "InitdError", Err: err,
			Text: "mongod does not accept its configuration: " + strings.TrimSpace(string(failed.Output.Stderr))}
	}
	if err != nil {
		return a, err
	}
	if err := a.staged.Apply(); err != nil {
		return a, err
	}
	a.restarted = true
	return a, s.restart(ctx)
}

// ensureAdmin makes the administrator unless we can log in as one.
func (s *Service) ensureAdmin(ctx context.Context) (made bool, err error) {
	err = s.onPrimary(ctx, func(c *conn) error {
		there, err := c.userExists(adminDatabase, adminUser)
		if err != nil || there && len(s.passwords()) > 0 {
			return err
		}
		made = !there
		return s.resetAdmin(c, handlers.RandomPassword())
	})
	return made, err
}

func (s *Service) removeAdmin(ctx context.Context) error {
	err := s.onPrimary(ctx, func(c *conn) error {
		err := c.run(adminDatabase, nil, bson.D{{Key: "dropUser", Value: adminUser}})
		if isCode(err, codeUserNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.host.Remove(s.credentialPath())
}

// settings that open sets.
var openSettings = []struct{ section, key, value string }{
	{"net", "bindIp", "0.0.0.0"},
	{"security", "authorization", "enabled"},
}

// opened is a mongod.conf that listens on every address and asks for passwords. Comments and everything else stay.
func opened(text []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, agentapi.Errorf(agentapi.KindConfigTest, "InitdError", "%s is no YAML: %v", modernConf, err)
	}
	if doc.Kind == 0 {
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode, Tag: "!!map"}}}
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, agentapi.Errorf(agentapi.KindConfigTest, "InitdError", "%s holds no settings", modernConf)
	}
	changed := false
	for _, want := range openSettings {
		section := member(root, want.section, func() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"} })
		if section.Kind != yaml.MappingNode { // "security:" without anything below
			*section = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		}
		value := member(section, want.key, func() *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str"} })
		if want.key == "bindIp" && listensAnywhere(section, value.Value) || value.Value == want.value {
			continue
		}
		value.SetString(want.value)
		changed = true
	}
	if !changed {
		return text, nil
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
		return nil, fmt.Errorf("write %s: %w", modernConf, err)
	}
	return out.Bytes(), nil
}

// listensAnywhere knows the two ways to say so.
func listensAnywhere(net *yaml.Node, bindIP string) bool {
	all := member(net, "bindIpAll", nil)
	return all != nil && all.Value == "true" || slices.Contains(strings.Split(strings.ReplaceAll(bindIP, " ", ""), ","), "0.0.0.0")
}

// member is the value of a key, made when it is missing and create is not nil.
func member(m *yaml.Node, key string, create func() *yaml.Node) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	if create == nil {
		return nil
	}
	value := create()
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, value)
	return value
}

// listensEverywhere says whether users may come from other machines.
func (s *Service) listensEverywhere() bool {
	text, err := s.host.ReadFile(modernConf)
	if err != nil {
		return false
	}
	wanted, err := opened(text)
	return err == nil && bytes.Equal(wanted, text)
}

func (a *access) commit() error {
	if a.staged == nil {
		a.done = true
		return nil
	}
	err := a.staged.Commit()
	a.done = err == nil
	return err
}

// rollback puts the file back and makes mongod read it, unless the change was committed.
func (a *access) rollback(ctx context.Context) {
	if a.done {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	var err error
	if a.staged != nil {
		err = a.staged.Rollback()
	}
	if a.restarted {
		err = errors.Join(err, a.service.restart(ctx))
	}
	if a.madeAdmin {
		err = errors.Join(err, a.service.removeAdmin(ctx))
	}
	if err != nil {
		a.service.log.Error("take back that mongod listens on every address", "err", err)
	}
}

// recover takes back an interrupted change. A server that runs may have read it.
func (s *Service) recover(ctx context.Context) error {
	undone, err := s.host.RecoverStaged(stagingDir, host.Readers{})
	if err != nil || !undone {
		return err
	}
	s.log.Warn("took back an interrupted change of mongod.conf")
	state, err := s.host.Units().State(ctx, s.unit())
	if err != nil || !state.Running() {
		return err
	}
	return s.restart(ctx)
}
