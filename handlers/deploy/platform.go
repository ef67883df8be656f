package deploy

import (
	"strings"

	"github.com/reeve-paas/reeve/handlers/deploy/platform"
)

// searchPath is where a process of a platform finds programs.
func searchPath(p platform.Platform) string {
	var b strings.Builder
	for _, dir := range p.Path {
		b.WriteString(insideDir + "/" + dir + ":")
	}
	return b.String() + insideDir + "/bin:/usr/local/bin:/usr/bin:/bin"
}
