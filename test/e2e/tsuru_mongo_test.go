//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// inside runs a command in a node as root.
func (s *site) inside(n node, in io.Reader, argv ...string) ([]byte, error) {
	s.t.Helper()
	pid := filepath.Base(s.processIn(n, "systemd"))
	cmd := exec.CommandContext(s.t.Context(), "nsenter", append([]string{"-t", pid, "-m", "-u", "-i", "-n", "-p", "--"}, argv...)...)
	cmd.Stdin = in
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%q on %s: %w: %s", argv, n.Name, err, exit.Stderr)
	}
	return out, err
}

// without is the node of the pool that has no database of a service's instances.
func (s *tsuruSite) without(service string) node {
	s.t.Helper()
	out := s.do("GET", "/services/"+service, "", 200)
	for _, n := range s.nodes() {
		if slices.Contains(n.Roles, "pool") && !strings.Contains(out, n.Address) {
			return n
		}
	}
	s.t.Fatalf("no node of the pool is without an instance of %s: %s", service, out)
	return node{}
}

// exported is what an instance exports to an app, by name.
func (s *tsuruSite) exported(app string) map[string]string {
	s.t.Helper()
	var env []struct {
		Name, Value string
		Public      bool
	}
	if err := json.Unmarshal([]byte(s.do("GET", "/apps/"+app+"/env", "", 200)), &env); err != nil {
		s.t.Fatal(err)
	}
	vars := map[string]string{}
	for _, v := range env {
		if !v.Public && !strings.HasPrefix(v.Name, "TSURU_") {
			vars[v.Name] = v.Value
		}
	}
	return vars
}

// note is a document.
type note struct {
	Key  string `bson:"key"`
	Text string `bson:"text"`
}

func writes(ctx context.Context, text string) func(*mongo.Database) error {
	return func(d *mongo.Database) error {
		_, err := d.Collection("notes").InsertOne(ctx, note{"k", text})
		return err
	}
}

func reads(ctx context.Context, want string) func(*mongo.Database) error {
	return func(d *mongo.Database) error {
		var got note
		if err := d.Collection("notes").FindOne(ctx, bson.D{{Key: "key", Value: "k"}}).Decode(&got); err != nil {
			return err
		}
		if got.Text != want {
			return fmt.Errorf("got %q, want %q", got.Text, want)
		}
		return nil
	}
}

// mongo is the life of instances of mongodb and their binding to an app with a unit. A stand-in (test/mongostandin) runs as
// MongoDB's unit on one host of the pool: the one that has no database of PostgreSQL and would not be chosen otherwise.
func (s *tsuruSite) mongo(t *testing.T, app string) {
	ctx := t.Context()
	host := s.without("postgresql")
	onHost := func(method string) string {
		out, err := s.command("node", "call", host.Name, "mongodb."+method, "{}").Output()
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		return strings.Join(strings.Fields(string(out)), "")
	}
	t.Run("refused while no host has a server", func(t *testing.T) {
		if out := s.do("GET", "/services/instances", "", 200); !strings.Contains(out, `"mongodb"`) {
			t.Errorf("the service is not listed: %s", out)
		}
		if out := s.do("POST", "/services/instances", `{"name":"docs","service_name":"mongodb"}`, 500); !strings.Contains(out, "no host for databases has a mongodb server") {
			t.Errorf("got %q", out)
		}
		s.do("GET", "/services/instances/docs", "", 404)
	})
	installMongo(t, func(in io.Reader, argv ...string) ([]byte, error) { return s.inside(host, in, argv...) })
	t.Run("made on the host that has one", func(t *testing.T) {
		if out := s.do("GET", "/services/mongodb/plans", "", 200); !strings.Contains(out, `"Name":"shared"`) {
			t.Errorf("got the plans %s", out)
		}
		for _, name := range []string{"docs", "more"} {
			s.do("POST", "/services/instances", fmt.Sprintf(`{"name":%q,"service_name":"mongodb","plan":"shared"}`, name), 200)
			s.do("POST", "/services/instances", fmt.Sprintf(`{"name":%q,"service_name":"mongodb"}`, name), 409)
			s.isUp(name)
		}
		if out := s.do("GET", "/services/mongodb", "", 200); strings.Count(out, `"Address":"`+host.Address+`:27017"`) == 0 {
			t.Errorf("got %s, want instances on %s", out, host.Address)
		}
		if out := s.do("GET", "/services/instances", "", 200); !strings.Contains(out, `"instances":["docs","more"]`) {
			t.Errorf("got the list %s", out)
		}
	})
	var vars map[string]string
	bind := func(t *testing.T, instance string) {
		t.Helper()
		var names []string
		if err := json.Unmarshal([]byte(s.do("PUT", "/services/instances/"+instance+"/"+app, "", 200)), &names); err != nil {
			t.Fatal(err)
		}
		vars = s.exported(app)
		for _, name := range []string{"MONGO_URI", "MONGO_USER", "MONGO_PASSWORD", "MONGO_DATABASE_NAME", "DATABASE_URL", "DATABASE_HOST", "DATABASE_PORT", "DATABASE_NAME", "DATABASE_USER", "DATABASE_PASSWORD"} {
			if vars[name] == "" || !slices.Contains(names, name) {
				t.Errorf("%s is %q, and the answer names %v", name, vars[name], names)
			}
		}
	}
	t.Run("bound, a unit sees the variables and they open the database", func(t *testing.T) {
		bind(t, "docs")
		s.do("PUT", "/services/instances/docs/"+app, "", 409)
		if out := s.do("POST", "/apps/"+app+"/run?once=true", "echo $MONGO_URI $MONGO_USER $MONGO_PASSWORD $MONGO_DATABASE_NAME", 200); !strings.HasPrefix(out, strings.Join([]string{vars["MONGO_URI"], vars["MONGO_USER"], vars["MONGO_PASSWORD"], vars["MONGO_DATABASE_NAME"]}, " ")+"\n") {
			t.Errorf("the unit has %q, want the values of %v", out, vars)
		}
		for _, do := range []func(*mongo.Database) error{writes(ctx, "one"), reads(ctx, "one")} {
			if err := inMongo(ctx, vars["MONGO_URI"], vars["MONGO_DATABASE_NAME"], do); err != nil {
				t.Error(err)
			}
		}
		parts := url.URL{Scheme: "mongodb", User: url.UserPassword(vars["MONGO_USER"], vars["MONGO_PASSWORD"]), Host: vars["DATABASE_HOST"] + ":" + vars["DATABASE_PORT"],
			Path: "/" + vars["DATABASE_NAME"]}
		if err := inMongo(ctx, parts.String(), vars["DATABASE_NAME"], reads(ctx, "one")); err != nil {
			t.Errorf("with the parts of the address: %v", err)
		}
		if got := onHost("list_databases"); got != fmt.Sprintf("[%q]", vars["MONGO_DATABASE_NAME"]) {
			t.Errorf("got the databases %s", got)
		}
		if got := onHost("list_users"); strings.Count(got, `"name":`) != 1 || !strings.Contains(got, vars["MONGO_USER"]) {
			t.Errorf("got the users %s", got)
		}
	})
	t.Run("nobody else gets in", func(t *testing.T) {
		wrong := strings.Replace(vars["MONGO_URI"], vars["MONGO_PASSWORD"], "wrong", 1)
		if err := inMongo(ctx, wrong, vars["MONGO_DATABASE_NAME"], reads(ctx, "one")); err == nil || !strings.Contains(err.Error(), "Authentication failed") {
			t.Errorf("a wrong password: got %v", err)
		}
		if err := inMongo(ctx, "mongodb://"+host.Address+":27017/", vars["MONGO_DATABASE_NAME"], reads(ctx, "one")); err == nil || !strings.Contains(err.Error(), "requires authentication") {
			t.Errorf("without a login: got %v", err)
		}
		docs := vars
		s.do("DELETE", "/services/instances/docs/"+app, "", 200)
		bind(t, "more")
		if vars["MONGO_USER"] == docs["MONGO_USER"] || vars["MONGO_DATABASE_NAME"] == docs["MONGO_DATABASE_NAME"] {
			t.Errorf("two instances share the user %s or the database %s", vars["MONGO_USER"], vars["MONGO_DATABASE_NAME"])
		}
		if err := inMongo(ctx, vars["MONGO_URI"], docs["MONGO_DATABASE_NAME"], reads(ctx, "one")); err == nil || !strings.Contains(err.Error(), "not authorized on") {
			t.Errorf("the user of another instance: got %v", err)
		}
		s.do("DELETE", "/services/instances/more/"+app, "", 200)
	})
	t.Run("unbound, its login is gone and its documents are not", func(t *testing.T) {
		bind(t, "docs")
		old := vars["MONGO_URI"]
		if err := inMongo(ctx, old, vars["MONGO_DATABASE_NAME"], reads(ctx, "one")); err != nil {
			t.Error(err)
		}
		s.do("DELETE", "/services/instances/docs", "", 412)
		s.do("DELETE", "/services/instances/docs/"+app, "", 200)
		s.do("DELETE", "/services/instances/docs/"+app, "", 412)
		if err := inMongo(ctx, old, vars["MONGO_DATABASE_NAME"], reads(ctx, "one")); err == nil || !strings.Contains(err.Error(), "Authentication failed") {
			t.Errorf("the old login: got %v", err)
		}
		if got := s.exported(app); len(got) > 0 {
			t.Errorf("got the variables %v", got)
		}
		if out := s.do("POST", "/apps/"+app+"/run?once=true", "echo left: $MONGO_URI", 200); !strings.HasPrefix(out, "left:\n") {
			t.Errorf("the unit has %q", out)
		}
		if got := onHost("list_users"); got != "[]" {
			t.Errorf("got the users %s", got)
		}
		bind(t, "docs")
		if vars["MONGO_URI"] == old {
			t.Error("the login is the old one")
		}
		err := inMongo(ctx, vars["MONGO_URI"], vars["MONGO_DATABASE_NAME"], func(d *mongo.Database) error {
			if err := reads(ctx, "one")(d); err != nil {
				return err
			}
			gone, err := d.Collection("notes").DeleteOne(ctx, bson.D{{Key: "key", Value: "k"}})
			if err == nil && gone.DeletedCount != 1 {
				err = fmt.Errorf("%d documents are deleted", gone.DeletedCount)
			}
			if err == nil && !errors.Is(reads(ctx, "one")(d), mongo.ErrNoDocuments) {
				err = errors.New("the document is still there")
			}
			return errors.Join(err, writes(ctx, "two")(d))
		})
		if err != nil {
			t.Error(err)
		}
		s.do("DELETE", "/services/instances/docs/"+app, "", 200)
	})
	t.Run("removed, nothing of it is left", func(t *testing.T) {
		for _, name := range []string{"docs", "more"} {
			s.do("DELETE", "/services/instances/"+name, "", 200)
			s.do("GET", "/services/instances/"+name+"/status", "", 404)
		}
		if databases, users := onHost("list_databases"), onHost("list_users"); databases != "[]" || users != "[]" {
			t.Errorf("got the databases %s and the users %s", databases, users)
		}
	})
}
