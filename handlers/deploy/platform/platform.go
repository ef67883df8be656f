// Package platform is what apps can be made of. Both programs read it, the agent to build and run apps, the coordinator to
// know what it may be asked for: a platform is one folder here and nothing elsewhere.
//
// In a folder, platform.yaml says what the platform is, placeholder/ holds the pages of release 0, and every other file is
// there for its build, which is the file "build".
//
// A build is a script that runs as the app's user in the directory of the source, with the folder's files in $REEVE_PLATFORM
// and a directory that is kept for the next build in $REEVE_CACHE. What it prints is shown to who deploys, and a code other
// than zero fails the deploy. What it leaves in the directory is the release. How a release is started that has no Procfile
// it writes to .reeve/procfile. A process whose unit's memory is limited finds the limit, in MiB, in $REEVE_MEMORY_MB.
package platform

import (
	"bytes"
	"embed"
	"fmt"
	"maps"
	"path"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

//go:embed all:*/*
var files embed.FS

// manifest is the file that makes a folder a platform.
const manifest = "platform.yaml"

// BuildFile is the script of a platform that builds releases.
const BuildFile = "build"

// Platform is what an app is made for.
type Platform struct {
	Placeholder string `yaml:"placeholder"` // the folder whose placeholder pages release 0 has; its own when empty
	// Reload says that httpd keeps parts of a release in memory (PHP's realpath and opcode caches), so that it has to be
	// reloaded before a switch to another one can be seen everywhere.
	Reload bool                       `yaml:"reload"`
	Path   []string                   `yaml:"path"` // directories of a release with programs, before the host's
	Env    map[string]agentapi.Secret `yaml:"env"`  // what processes find unless the app's owner sets it otherwise
	// Packages are what Debian calls that which the platform needs of its hosts, when not every host has it.
	Packages []string `yaml:"packages"`
	MemoryMB int      `yaml:"memory_mb"` // a unit with less does not start; 0 when any will do

	name string
}

var all = mustAll()

func mustAll() map[string]Platform {
	folders, err := files.ReadDir(".")
	if err != nil {
		panic(err)
	}
	all := map[string]Platform{}
	for _, f := range folders {
		text, err := files.ReadFile(path.Join(f.Name(), manifest))
		if err != nil {
			panic(err)
		}
		p := Platform{Placeholder: f.Name(), name: f.Name()}
		dec := yaml.NewDecoder(bytes.NewReader(text))
		dec.KnownFields(true)
		if err := dec.Decode(&p); err != nil {
			panic(fmt.Sprintf("platform %s: %v", f.Name(), err))
		}
		all[f.Name()] = p
	}
	return all
}

// Names lists all platforms, sorted.
func Names() []string { return slices.Sorted(maps.Keys(all)) }

// Optional lists, sorted, the platforms that not every host runs.
func Optional() []string {
	return slices.DeleteFunc(Names(), func(name string) bool { return len(all[name].Packages) == 0 })
}

// Get finds a platform.
func Get(name string) (p Platform, known bool) {
	p, known = all[name]
	return p, known
}

// File is one of a platform's files.
type File struct {
	Name string
	Text []byte
}

// PlaceholderFiles are the pages of release 0.
func (p Platform) PlaceholderFiles() ([]File, error) {
	return read(path.Join(p.Placeholder, "placeholder"), "")
}

// BuildFiles are what a build finds in $REEVE_PLATFORM, BuildFile among them if there is something to run.
func (p Platform) BuildFiles() ([]File, error) { return read(p.name, manifest) }

// read reads the files of a folder, but for those below it and one.
func read(dir, without string) (list []File, err error) {
	entries, err := files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() || e.Name() == without {
			continue
		}
		text, err := files.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		list = append(list, File{e.Name(), text})
	}
	return list, nil
}
