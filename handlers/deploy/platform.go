package deploy

import (
	"embed"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

//go:embed placeholder
var placeholders embed.FS

// platform is what an app is made for. A new one is one entry of the table below and a directory of placeholder files.
type platform struct {
	name        string
	placeholder string // directory of the embedded files that become release 0's htdocs
	// reload says that httpd keeps parts of a release in memory (PHP's realpath and opcode caches), so that it has to be
	// reloaded before a switch to another one can be seen everywhere.
	reload bool
	env    map[string]agentapi.Secret // what an app's processes find unless its owner sets it otherwise
}

var platforms = map[string]platform{
	"php":    {name: "php", placeholder: "placeholder/php", reload: true},
	"static": {name: "static", placeholder: "placeholder/static"},
}
