package orchestrator

import (
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

func TestAListOfNodesIsMadeAgainWhenTheyChanged(t *testing.T) {
	f := newFixture(t)
	cloud := f.core.clouds["fake_driver"]
	const path = "/api/v1/nodes/fake_driver"
	unversioned := f.do("GET", path, "").Body.String()
	cloud.version, cloud.listed = new(uint64), 0
	pretty := f.do("GET", path, "").Body.String()
	plain := f.do("GET", path, "", "X-Requested-With: XMLHttpRequest").Body.String()
	if pretty != unversioned || plain == pretty || strings.Contains(plain, "\n") {
		t.Errorf("got %s and %s, want %s in two layouts", pretty, plain, unversioned)
	}
	for range 3 {
		if again := f.do("GET", path, ""); again.Body.String() != pretty || again.Header().Get("Content-Type") != "application/json" {
			t.Errorf("got %v %s, want %s", again.Header(), again.Body, pretty)
		}
		if again := f.do("GET", path, "", "X-Requested-With: XMLHttpRequest").Body.String(); again != plain {
			t.Errorf("got %s, want %s", again, plain)
		}
	}
	if head := f.do("HEAD", path, ""); head.Body.Len() != 0 || head.Code != 200 {
		t.Errorf("HEAD: got %d %s", head.Code, head.Body)
	}
	if cloud.listed != 2 {
		t.Errorf("the nodes were listed %d times, want once in each layout", cloud.listed)
	}
	changed := dummyNode
	changed.State = core.CloudRebooting
	cloud.nodes = []core.CloudNode{changed}
	*cloud.version++
	if got := f.do("GET", path, "").Body.String(); got != strings.Replace(pretty, `"state": 0`, `"state": 1`, 1) || got == pretty {
		t.Errorf("got %s, want the new state", got)
	}
	cloud.err = core.Errorf(core.Unavailable, "", "gone")
	*cloud.version++
	if got := f.do("GET", path, ""); got.Code == 200 {
		t.Errorf("got %d %s of a cloud that does not answer", got.Code, got.Body)
	}
	if other := f.do("GET", "/api/v1/nodes/closed", ""); other.Code != 403 && other.Code != 401 {
		t.Errorf("a cloud that needs a token: got %d", other.Code)
	}
}
