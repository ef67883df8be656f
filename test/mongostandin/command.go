package mongostandin

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Error codes of MongoDB.
const (
	codeUserNotFound     = 11
	codeUnauthorized     = 13
	codeAuthFailed       = 18
	codeCommandNotFound  = 59
	codeNotPrimary       = 10107
	codeInternal         = 8000
	codeLocation51003    = 51003 // user exists
	codeBadValue         = 2
	wireVersionOfSeven   = 21
	maxBSONDocumentBytes = 16 << 20
)

func failure(code int, name, format string, args ...any) bson.D {
	return bson.D{{Key: "ok", Value: 0.0}, {Key: "errmsg", Value: fmt.Sprintf(format, args...)}, {Key: "code", Value: int32(code)}, {Key: "codeName", Value: name}}
}

func success(members ...bson.E) bson.D { return append(bson.D(members), bson.E{Key: "ok", Value: 1.0}) }

// anybody may send these without a login.
var anybody = []string{"hello", "ismaster", "ping", "buildinfo", "saslstart", "saslcontinue", "endsessions", "logout"}

// writes are refused by a secondary.
var writes = []string{"createuser", "updateuser", "dropuser", "dropallusersfromdatabase", "insert", "delete", "dropdatabase"}

// onDocuments are the commands of users that may read and write.
var onDocuments = []string{"insert", "find", "delete"}

func (c *session) answer(body bson.D) bson.D {
	if len(body) == 0 {
		return failure(codeCommandNotFound, "CommandNotFound", "no command")
	}
	name, database := body[0].Key, text(body, "$db")
	command := strings.ToLower(name)
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if command != "hello" && command != "ismaster" {
		s.commands = append(s.commands, name)
	}
	if s.refuse[name] > 0 {
		s.refuse[name]--
		return failure(codeInternal, "InternalError", "%s was made to fail", name)
	}
	if !c.mayLocked(command, database, body) {
		if len(c.logins) == 0 {
			return failure(codeUnauthorized, "Unauthorized", "command %s requires authentication", name)
		}
		return failure(codeUnauthorized, "Unauthorized", "not authorized on %s to execute command %s", database, name)
	}
	if s.secondary() && slices.Contains(writes, command) {
		return failure(codeNotPrimary, "NotWritablePrimary", "not primary")
	}
	answer := c.commandLocked(command, database, body)
	if slices.Contains(writes, command) && lookup(answer, "ok") == 1.0 {
		s.changed(s.data)
	}
	return answer
}

func (s *Server) secondary() bool { return s.opts.Primary != "" && s.opts.Primary != s.Address() }

func (c *session) commandLocked(command, database string, body bson.D) bson.D {
	s := c.server
	switch command {
	case "hello", "ismaster":
		return c.helloLocked(body)
	case "ping", "endsessions":
		return success()
	case "buildinfo":
		return success(bson.E{Key: "version", Value: "7.0.0"})
	case "saslstart", "saslcontinue":
		return c.saslLocked(command, database, body)
	case "logout":
		delete(c.logins, database)
		return success()
	case "createuser":
		return s.createUserLocked(database, body)
	case "updateuser":
		return s.updateUserLocked(database, body)
	case "dropuser":
		name := text(body, body[0].Key)
		if _, there := s.data.Users[database+"."+name]; !there {
			return failure(codeUserNotFound, "UserNotFound", "User '%s@%s' not found", name, database)
		}
		delete(s.data.Users, database+"."+name)
		return success()
	case "dropallusersfromdatabase":
		for key, u := range s.data.Users {
			if u.Database == database {
				delete(s.data.Users, key)
			}
		}
		return success()
	case "usersinfo":
		return s.usersInfoLocked(database, body[0].Value)
	case "listdatabases":
		list := bson.A{bson.D{{Key: "name", Value: "admin"}}}
		for name := range s.data.Documents {
			list = append(list, bson.D{{Key: "name", Value: name}})
		}
		return success(bson.E{Key: "databases", Value: list})
	case "dropdatabase":
		delete(s.data.Documents, database)
		return success()
	case "serverstatus":
		return success(bson.E{Key: "uptime", Value: 1.0}, bson.E{Key: "connections", Value: bson.D{{Key: "current", Value: int32(len(s.clients))}, {Key: "available", Value: int32(1000)}}})
	case "insert":
		return s.insertLocked(database, body)
	case "find":
		return s.findLocked(database, body)
	case "delete":
		return s.deleteLocked(database, body)
	}
	return failure(codeCommandNotFound, "CommandNotFound", "no such command: '%s'", body[0].Key)
}

// mayLocked keeps who did not log in, or to another database, from doing anything.
func (c *session) mayLocked(command, database string, body bson.D) bool {
	if !c.server.opts.Auth || slices.Contains(anybody, command) {
		return true
	}
	if len(c.server.data.Users) == 0 && command == "createuser" && database == "admin" && c.local() {
		return true
	}
	for _, u := range c.logins {
		for _, r := range c.server.data.Users[u.Database+"."+u.Name].Roles {
			if r.Role == "root" || r.Database == database && (r.Role == "dbOwner" || r.Role == "readWrite" && slices.Contains(onDocuments, command)) {
				return true
			}
		}
	}
	return false
}

func (c *session) local() bool {
	host, _, err := net.SplitHostPort(c.conn.RemoteAddr().String())
	return err == nil && net.ParseIP(host).IsLoopback()
}

func (c *session) helloLocked(body bson.D) bson.D {
	s := c.server
	members := []bson.E{
		{Key: "helloOk", Value: true}, {Key: "ismaster", Value: !s.secondary()}, {Key: "isWritablePrimary", Value: !s.secondary()},
		{Key: "maxBsonObjectSize", Value: int32(maxBSONDocumentBytes)}, {Key: "maxMessageSizeBytes", Value: int32(maxMessage)},
		{Key: "maxWriteBatchSize", Value: int32(100000)}, {Key: "localTime", Value: time.Now()},
		{Key: "minWireVersion", Value: int32(0)}, {Key: "maxWireVersion", Value: int32(wireVersionOfSeven)}, {Key: "readOnly", Value: false},
	}
	if s.opts.SetName != "" {
		primary := s.opts.Primary
		if primary == "" {
			primary = s.Address()
		}
		members = append(members, bson.E{Key: "setName", Value: s.opts.SetName}, bson.E{Key: "primary", Value: primary}, bson.E{Key: "me", Value: s.Address()},
			bson.E{Key: "secondary", Value: s.secondary()}, bson.E{Key: "hosts", Value: bson.A{primary}})
	}
	if who := text(body, "saslSupportedMechs"); who != "" {
		if _, there := s.data.Users[who]; there {
			members = append(members, bson.E{Key: "saslSupportedMechs", Value: bson.A{mechanismSHA1, mechanismSHA256}})
		}
	}
	return success(members...)
}

func (s *Server) createUserLocked(database string, body bson.D) bson.D {
	name := text(body, body[0].Key)
	if _, there := s.data.Users[database+"."+name]; there {
		return failure(codeLocation51003, "Location51003", "User %q already exists", name+"@"+database)
	}
	password := text(body, "pwd")
	if name == "" || password == "" {
		return failure(codeBadValue, "BadValue", "createUser needs a name and a password")
	}
	s.data.Users[database+"."+name] = User{Database: database, Name: name, Password: password, Roles: rolesOf(database, lookup(body, "roles"))}
	return success()
}

func (s *Server) updateUserLocked(database string, body bson.D) bson.D {
	name := text(body, body[0].Key)
	u, there := s.data.Users[database+"."+name]
	if !there {
		return failure(codeUserNotFound, "UserNotFound", "User '%s@%s' not found", name, database)
	}
	if password := text(body, "pwd"); password != "" {
		u.Password = password
	}
	if roles := lookup(body, "roles"); roles != nil {
		u.Roles = rolesOf(database, roles)
	}
	s.data.Users[database+"."+name] = u
	return success()
}

func rolesOf(database string, list any) []Role {
	var roles []Role
	all, _ := list.(bson.A)
	for _, r := range all {
		switch r := r.(type) {
		case string:
			roles = append(roles, Role{r, database})
		case bson.D:
			roles = append(roles, Role{text(r, "role"), text(r, "db")})
		}
	}
	return roles
}

// usersInfoLocked answers for 1 (all of the database), a name, or {forAllDBs: true}.
func (s *Server) usersInfoLocked(database string, which any) bson.D {
	users := bson.A{}
	keys := make([]string, 0, len(s.data.Users))
	for key := range s.data.Users {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		u := s.data.Users[key]
		name, byName := which.(string)
		d, byDocument := which.(bson.D)
		switch {
		case byName && (u.Name != name || u.Database != database), !byName && !byDocument && u.Database != database,
			byDocument && lookup(d, "forAllDBs") == nil && (u.Name != text(d, "user") || u.Database != text(d, "db")):
			continue
		}
		roles := bson.A{}
		for _, r := range u.Roles {
			roles = append(roles, bson.D{{Key: "role", Value: r.Role}, {Key: "db", Value: r.Database}})
		}
		users = append(users, bson.D{{Key: "_id", Value: key}, {Key: "user", Value: u.Name}, {Key: "db", Value: u.Database}, {Key: "roles", Value: roles},
			{Key: "mechanisms", Value: bson.A{mechanismSHA1, mechanismSHA256}}})
	}
	return success(bson.E{Key: "users", Value: users})
}

func (s *Server) insertLocked(database string, body bson.D) bson.D {
	documents, _ := lookup(body, "documents").(bson.A)
	if s.data.Documents[database] == nil {
		s.data.Documents[database] = map[string][][]byte{}
	}
	collection := text(body, body[0].Key)
	for _, d := range documents {
		raw, err := bson.Marshal(d)
		if err != nil {
			return failure(codeBadValue, "BadValue", "%v", err)
		}
		s.data.Documents[database][collection] = append(s.data.Documents[database][collection], raw)
	}
	return success(bson.E{Key: "n", Value: int32(len(documents))})
}

// findLocked compares the filter's members for equality.
func (s *Server) findLocked(database string, body bson.D) bson.D {
	collection := text(body, body[0].Key)
	filter, _ := lookup(body, "filter").(bson.D)
	batch := bson.A{}
	for _, raw := range s.data.Documents[database][collection] {
		if matches(raw, filter) {
			batch = append(batch, bson.Raw(raw))
		}
	}
	return success(bson.E{Key: "cursor", Value: bson.D{{Key: "id", Value: int64(0)}, {Key: "ns", Value: database + "." + collection}, {Key: "firstBatch", Value: batch}}})
}

// deleteLocked removes the documents that each filter matches, or the first of them when its limit is 1.
func (s *Server) deleteLocked(database string, body bson.D) bson.D {
	collection := text(body, body[0].Key)
	deletes, _ := lookup(body, "deletes").(bson.A)
	n := 0
	for _, one := range deletes {
		d, _ := one.(bson.D)
		filter, _ := lookup(d, "q").(bson.D)
		first, found := lookup(d, "limit") == int32(1), 0
		left := slices.DeleteFunc(s.data.Documents[database][collection], func(raw []byte) bool {
			if first && found == 1 || !matches(raw, filter) {
				return false
			}
			found++
			return true
		})
		if n += found; found > 0 {
			s.data.Documents[database][collection] = left
		}
	}
	return success(bson.E{Key: "n", Value: int32(n)})
}

func matches(raw []byte, filter bson.D) bool {
	for _, e := range filter {
		want, err := bson.Marshal(bson.D{{Key: e.Key, Value: e.Value}})
		if err != nil {
			return false
		}
		have, err := bson.Raw(raw).LookupErr(e.Key)
		if err != nil || !bytes.Equal(have.Value, bson.Raw(want).Lookup(e.Key).Value) {
			return false
		}
	}
	return true
}
