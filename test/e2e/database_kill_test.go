//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// databaseCall is a call about an instance of a service that our agents run, and what is so when its operation has ended.
type databaseCall struct {
	name, method, path, body string
	kind, ends               string // of its operation
	users                    int    // of the instance's database
	bound                    bool
	there                    bool // the instance
}

// killedDatabases is a coordinator that is killed while it works on databases of one node.
type killedDatabases struct {
	*tsuruSite
	host  node
	login string // that the app was given last
}

// TestDatabaseKilledAtEveryBoundary makes an instance of postgresql, binds an app, unbinds it and removes the instance, and lets
// a binding and a creation fail. The coordinator is killed with SIGKILL at each step boundary of each in turn, and started
// again: the operation ends as in the undisturbed run, and the node has the databases and users of that run and no others.
func TestDatabaseKilledAtEveryBoundary(t *testing.T) {
	t.Setenv("REEVE_LISTEN_GIT", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	k := &killedDatabases{tsuruSite: &tsuruSite{site: newSite(t, 49, "pool_nodes: 1\ndirector_listen: \"\"\n")}}
	k.start(0)
	k.token = k.tsuruToken()
	k.do("POST", "/apps", `{"name":"shop","platform":"python"}`, 200)
	const instance = "/services/instances/rows"
	k.do("POST", "/services/instances", `{"name":"rows","service_name":"postgresql"}`, 200) // the first one makes the node
	k.isUp("rows")
	k.do("DELETE", instance, "", 200)
	k.host = k.nodeWith("pool")
	k.nodeWith("router")
	k.awaitEnd("all operations to end")
	k.stop()

	const completed, failed = "completed", "failed"
	life := []databaseCall{
		{"create", "POST", "/services/instances", `{"name":"rows","service_name":"postgresql"}`, "service.instance.create", completed, 0, false, true},
		{"bind", "PUT", instance + "/shop", "", "service.bind", completed, 1, true, true},
		{"unbind", "DELETE", instance + "/shop", "", "service.unbind", completed, 0, false, true},
		{"remove", "DELETE", instance, "", "service.instance.delete", completed, 0, false, false},
	}
	counts := make([]int, len(life))
	for i, c := range life {
		counts[i] = k.undisturbedCall(c)
		k.assertDatabases(c, c.name+", undisturbed")
		if counts[i] < 3*3+1 { // three around each step, and the end
			t.Fatalf("got %d boundaries of %s: too few to be all", counts[i], c.name)
		}
	}
	kills := 0
	for n := 1; n <= slices.Max(counts) && !t.Failed(); n++ {
		for i, c := range life {
			when := c.name
			if n <= counts[i] {
				when = fmt.Sprintf("%s, killed at boundary %d", c.name, n)
				kills++
				k.killedCall(c, n)
			} else {
				k.undisturbedCall(c)
			}
			k.assertDatabases(c, when)
		}
	}

	t.Run("a binding that fails is taken back", func(t *testing.T) {
		k.undisturbedCall(life[0])
		database := k.onServer("SELECT datname FROM pg_database WHERE datname LIKE 'svc%'")
		k.onServer("ALTER DATABASE " + database + " OWNER TO postgres") // and is not ours any more
		c := databaseCall{"bind", "PUT", instance + "/shop", "", "service.bind", failed, 0, false, true}
		count := k.undisturbedCall(c)
		for n := 1; n <= count && !t.Failed(); n++ {
			kills++
			k.killedCall(c, n)
			k.assertDatabases(c, fmt.Sprintf("a failing bind, killed at boundary %d", n))
		}
		if count < 6 {
			t.Errorf("got %d boundaries, too few to be all", count)
		}
		k.onServer("ALTER DATABASE " + database + " OWNER TO reeve_db_" + database)
		k.undisturbedCall(life[3])
		k.assertDatabases(life[3], "removed after that")
	})
	t.Run("a creation that fails leaves nothing", func(t *testing.T) {
		c := databaseCall{"create", "POST", "/services/instances", `{"name":"rows","service_name":"mongodb"}`, "service.instance.create", failed, 0, false, false}
		k.forgetBoundaries()
		k.start(0)
		k.do(c.method, c.path, c.body, 500)
		k.do("GET", instance, "", 404)
		passed := k.boundaries()
		count := 1 + slices.IndexFunc(passed, func(line string) bool { return strings.Contains(line, " end") })
		k.stop()
		for n := 1; n <= count && !t.Failed(); n++ {
			kills++
			k.killedCall(c, n)
			k.assertDatabases(c, fmt.Sprintf("a failing creation, killed at boundary %d", n))
			k.start(0)
			if state := k.do("GET", instance+"/status", "", 200); !strings.HasSuffix(state, "is down") {
				t.Errorf("killed at boundary %d: got %q", n, state)
			}
			k.do("DELETE", instance, "", 200) // its maker got no answer, and does that by hand
			k.stop()
			k.assertDatabases(life[3], fmt.Sprintf("a failing creation, killed at boundary %d, and removed", n))
		}
		if count < 6 {
			t.Errorf("got %d boundaries, too few to be all", count)
		}
	})
	t.Logf("killed at %d boundaries: %v in the life of an instance", kills, counts)
}

// undisturbedCall carries a call out and counts the boundaries that its operation passes.
func (k *killedDatabases) undisturbedCall(c databaseCall) int {
	k.t.Helper()
	k.forgetBoundaries()
	k.start(0)
	defer k.stop()
	code, text, err := k.try(c.method, c.path, c.body)
	if err != nil || code >= 400 && c.ends == "completed" {
		k.t.Fatalf("%s: got %d %q %v", c.name, code, text, err)
	}
	k.ended(c)
	k.remember()
	return len(k.boundaries())
}

// killedCall makes a call to a coordinator that dies at boundary n of its operation, starts it again, and sees the operation to
// its end.
func (k *killedDatabases) killedCall(c databaseCall, n int) {
	k.t.Helper()
	k.start(n)
	code, text, err := k.try(c.method, c.path, c.body)
	if err == nil {
		k.t.Fatalf("%s: got an answer, %d %q, before boundary %d", c.name, code, text, n)
	}
	k.awaitKill(fmt.Sprintf("boundary %d of %s", n, c.name))
	k.start(0)
	defer k.stop()
	k.ended(c)
	k.remember()
}

// forgetBoundaries is called while the coordinator is off; every start makes the file.
func (k *killedDatabases) forgetBoundaries() {
	k.t.Helper()
	if err := os.Remove(k.boundaryLog()); err != nil {
		k.t.Fatal(err)
	}
}

// ended waits for the end of the only operation of its kind since the coordinator started, and checks how it ended.
func (k *killedDatabases) ended(c databaseCall) {
	k.t.Helper()
	k.await(time.Minute, c.name+" to end", func() (bool, string) {
		answer, err := http.Get(k.url + "/metrics")
		if err != nil {
			return false, err.Error()
		}
		defer answer.Body.Close()
		data, err := io.ReadAll(answer.Body)
		if err != nil {
			return false, err.Error()
		}
		_, line, found := strings.Cut(string(data), "\nreeve_operations_total{kind=\""+c.kind+"\",")
		line, _, _ = strings.Cut(line, "\n")
		if want := fmt.Sprintf("status=%q} 1", c.ends); found && line != want {
			k.t.Fatalf("%s: got %s, want %s", c.name, line, want)
		}
		return found, "it goes on"
	})
}

// remember keeps the login that the app has now, if it has one.
func (k *killedDatabases) remember() {
	k.t.Helper()
	if url := k.exported("shop")["DATABASE_URL"]; url != "" {
		k.login = url
	}
}

// onServer runs a statement on the node's server and returns what it answers.
func (k *killedDatabases) onServer(sql string) string {
	k.t.Helper()
	out, err := k.inside(k.host, nil, "runuser", "-u", "postgres", "--", "psql", "-X", "-v", "ON_ERROR_STOP=1", "-Atc", sql)
	if err != nil {
		k.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// assertDatabases checks what the node's server has, asking that itself, and whether the login that the app was given last
// opens it.
func (k *killedDatabases) assertDatabases(c databaseCall, when string) {
	k.t.Helper()
	databases := 0
	if c.there {
		databases = 1
	}
	got := k.onServer(`SELECT (SELECT count(*) FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres') || ' databases, ' ||
		count(*) FILTER (WHERE rolname LIKE 'reeve_db_%') || ' owners, ' || count(*) FILTER (WHERE rolcanlogin) || ' users' FROM pg_roles WHERE rolname !~ '^pg_|^postgres$'`)
	if want := fmt.Sprintf("%d databases, %d owners, %d users", databases, databases, c.users); got != want {
		k.t.Errorf("%s: the node has %s, want %s", when, got, want)
	}
	if k.login == "" {
		return
	}
	if out, err := k.inside(k.host, nil, "psql", "-X", "-Atc", "SELECT 1", k.login); (err == nil) != c.bound {
		k.t.Errorf("%s: got %q %v from a login with what the app was given, and it is bound: %t", when, out, err, c.bound)
	}
}
