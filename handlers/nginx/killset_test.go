package nginx

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

const (
	setRounds    = 15
	killedSet    = "set"
	killedRole   = "1"
	killedMember = "192.0.2.50"
)

// changeSetUntilKilled replaces all proxies by those of a new version, or adds or removes a server of a role that all of
// them use, without end. A version ends in "+" while the server is there.
func changeSetUntilKilled(ctx context.Context, s *Service, job killedJob, random *rand.Rand) error {
	version := "none"
	for n := 0; ; n++ {
		joined := strings.HasSuffix(version, "+")
		member := agentapi.RoleServerParams{Server: killedMember, RoleID: killedRole}
		var err error
		switch {
		case n == 0 || random.IntN(2) == 0:
			version = fmt.Sprintf("v%d-%d", job.Seed, n)
			fmt.Println("begin", killedSet, version)
			_, err = s.RecreateProxying(ctx, agentapi.RecreateProxyingParams{ProxyList: killedList(job, version)})
		case joined:
			version = strings.TrimSuffix(version, "+")
			fmt.Println("begin", killedSet, version)
			_, err = s.RemoveServerFromRole(ctx, member)
		default:
			version += "+"
			fmt.Println("begin", killedSet, version)
			_, err = s.AddServerToRole(ctx, member)
		}
		if err != nil {
			return err
		}
		fmt.Println("done", killedSet, version)
	}
}

func killedList(job killedJob, version string) []json.RawMessage {
	var list []json.RawMessage
	for i := range killedProxies {
		versioned := job.Backend
		versioned.Location = "/" + version
		raw, err := json.Marshal(agentapi.ProxyParams{
			Hostname: fmt.Sprintf("s%d.test", i), Port: new(text(job.Port)),
			Backends: []agentapi.Destination{job.Backend, versioned, {FarmRoleID: killedRole, Location: "/role"}},
		})
		if err != nil {
			panic(err)
		}
		list = append(list, raw)
	}
	return list
}

// setVersion is the one version of all proxies, or a text that says how they differ, or how the table differs from them.
func (n *realNginx) setVersion() string {
	n.T.Helper()
	versions := map[string]bool{}
	for i := range killedProxies {
		versions[n.version(fmt.Sprintf("s%d.test", i))] = true
	}
	f, err := parseFile(n.Read("app-servers.include"))
	if err != nil {
		n.T.Fatal(err)
	}
	joined := 0
	for _, it := range f.items {
		inFile := slices.ContainsFunc(servers(it.n), func(s upstreamServer) bool { return s.addr == killedMember })
		b := n.table()[it.n.arg(1)]
		inTable := b != nil && slices.ContainsFunc(b.Destinations, func(d backendGroup) bool { return slices.Contains(d.Servers, killedMember) })
		if b == nil || b.Rebuilt || inFile != inTable {
			return fmt.Sprintf("the table has %+v of %s", b, it.raw)
		}
		if inFile {
			joined++
		}
	}
	if len(versions) != 1 || joined%killedProxies != 0 {
		return fmt.Sprintf("mixed: versions %v, a server joined %d of %d", versions, joined, killedProxies)
	}
	for v := range versions {
		if joined > 0 {
			v += "+"
		}
		return v
	}
	return ""
}

func TestRealNginxKeepsWholeSetsWhenTheAgentIsKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	n := newRealNginx(t).counting().start()
	b1 := n.Backend("B1")
	job := killedJob{Dir: n.Dir, Status: n.status, Port: n.Port, Backend: b1, Daemons: n.units.Daemons, Set: true}
	start := time.Now()
	if _, err := n.RecreateProxying(t.Context(), agentapi.RecreateProxyingParams{ProxyList: killedList(job, "v999-0")}); err != nil {
		t.Fatal(err)
	}
	window := 4 * time.Since(start)
	random := rand.New(rand.NewPCG(5, 7))
	confirmed := map[string]string{killedSet: "v999-0"}
	changes := 0
	for round := range setRounds {
		job.Seed = uint64(round)
		unsure, underWay := n.killOne(job, time.Duration(random.Int64N(int64(window))), confirmed, &changes)
		if err := n.test(t.Context()); err != nil { // before any agent is back to repair anything
			t.Fatalf("round %d: %v", round, err)
		}
		if err := n.newService().Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := n.setVersion(); got != confirmed[killedSet] && (unsure == "" || got != underWay) {
			t.Fatalf("round %d: after the repair got %q, confirmed was %q, under way was %q", round, got, confirmed[killedSet], underWay)
		}
		confirmed[killedSet] = n.setVersion()
	}
	if changes < setRounds/5 {
		t.Errorf("only %d changes were confirmed in %d rounds: the kills come too early to mean anything", changes, setRounds)
	}
	for _, left := range []string{n.stagingDir(), n.stagedConf()} {
		if _, err := os.Stat(left); !os.IsNotExist(err) {
			t.Errorf("%s is left over: %v", left, err)
		}
	}
	version := strings.TrimSuffix(confirmed[killedSet], "+")
	n.Wants("http://s0.test/"+version, "B1 /"+version)
	t.Logf("%d changes confirmed", changes)
}
