package deploy

import (
	"bytes"
	"embed"
	"fmt"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// A platform is a folder below platform/: platform.yaml says what it is, placeholder/ holds the pages of release 0, and
// every other file is there for its build, which is the file "build".
//
// A build is a script that runs as the app's user in the directory of the source, with the folder's files in $REEVE_PLATFORM
// and a directory that is kept for the next build in $REEVE_CACHE. What it prints is shown to who deploys, and a code other
// than zero fails the deploy. What it leaves in the directory is the release. How a release is started that has no Procfile
// it writes to .reeve/procfile.
//
//go:embed all:platform
var platformFiles embed.FS

const (
	platformDir  = "platform"
	platformFile = "platform.yaml"
)

// platform is what an app is made for.
type platform struct {
	Placeholder string `yaml:"placeholder"` // the folder whose placeholder pages release 0 has; its own when empty
	// Reload says that httpd keeps parts of a release in memory (PHP's realpath and opcode caches), so that it has to be
	// reloaded before a switch to another one can be seen everywhere.
	Reload bool                       `yaml:"reload"`
	Path   []string                   `yaml:"path"` // directories of a release with programs, before the host's
	Env    map[string]agentapi.Secret `yaml:"env"`  // what processes find unless the app's owner sets it otherwise
}

var platforms = mustPlatforms()

func mustPlatforms() map[string]platform {
	folders, err := platformFiles.ReadDir(platformDir)
	if err != nil {
		panic(err)
	}
	all := map[string]platform{}
	for _, f := range folders {
		text, err := platformFiles.ReadFile(path.Join(platformDir, f.Name(), platformFile))
		if err != nil {
			panic(err)
		}
		p := platform{Placeholder: f.Name()}
		dec := yaml.NewDecoder(bytes.NewReader(text))
		dec.KnownFields(true)
		if err := dec.Decode(&p); err != nil {
			panic(fmt.Sprintf("platform %s: %v", f.Name(), err))
		}
		all[f.Name()] = p
	}
	return all
}

// placeholder is the directory of the embedded files that become release 0's htdocs.
func (p platform) placeholder() string { return path.Join(platformDir, p.Placeholder, "placeholder") }

// searchPath is where a process of the platform finds programs.
func (p platform) searchPath() string {
	var b strings.Builder
	for _, dir := range p.Path {
		b.WriteString(insideDir + "/" + dir + ":")
	}
	return b.String() + insideDir + "/bin:/usr/local/bin:/usr/bin:/bin"
}
