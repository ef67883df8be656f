package nginx

import (
	"fmt"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/agent/operation"
	"github.com/reeve-paas/reeve/handlers/nginx/nginxtest"
)

// While an older agent had no proxies it kept a server of its own in nginx.conf.
func TestRecreateTakesAnOlderAgentsServerOutOfTheMainFile(t *testing.T) {
	t.Parallel()
	n := newRealNginx(t)
	legacy := fmt.Sprintf("\tserver { listen %d; server_name legacy.test; location / { proxy_pass http://backend; } }\n", n.Port)
	clean := strings.TrimSuffix(n.mainConfig(), "}\n") + fmt.Sprintf("\tinclude %s;\n\tinclude %s;\n}\n", n.upstreamsPath(), n.proxiesPath())
	n.Write("nginx.conf", strings.Replace(clean, "\tinclude", legacy+"\tinclude", 1))
	b1 := n.Backend("B1")
	n.Write("app-servers.include", fmt.Sprintf("upstream backend {\n\tip_hash;\n\tserver %s:%s;\n}\n", b1.Host, b1.Port))
	n.Write("proxies.include", "")
	n.start()
	n.Wants("http://legacy.test/", "B1")
	n.Refuses("host not found", "recreate_proxying", `{"proxy_list": [{"hostname": "p.test", "backends": [{"host": "no-such-host.invalid"}]}]}`)
	n.Wants("http://legacy.test/", "B1")
	n.OK("recreate_proxying", `{"proxy_list": [{"hostname": "p.test", "port": %d, "backends": [{%s}]}]}`, n.Port, nginxtest.Wire(b1))
	n.Wants("http://p.test/", "B1")
	n.Wants("http://legacy.test/", "default site")
	// Its includes are in our order from then on.
	want := strings.TrimSuffix(n.mainConfig(), "}\n") + fmt.Sprintf("\tinclude %s;\n\tinclude %s;\n}\n", n.proxiesPath(), n.upstreamsPath())
	if got := strings.Replace(n.Read("nginx.conf"), "\t\n", "", 1); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

var _ Operations = (*operation.Registry)(nil)
