package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

const (
	maxManifest = 64 << 10 // bytes of one file
	maxHooks    = 50
)

// defaultProcfile is where a platform's build writes how a source without a Procfile is started.
const defaultProcfile = ".reeve/procfile"

// manifestFiles are the names of the file with hooks and health check; the first that is there counts. Spec tsuru 5.3.
var manifestFiles = []string{"tsuru.yaml", "tsuru.yml", "app.yaml", "app.yml"}

// readManifest reads what a source says about itself. Processes is empty when it has no Procfile.
func readManifest(root *os.Root) (m agentapi.Manifest, err error) {
	for _, name := range manifestFiles {
		text, err := readSmall(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return m, err
		}
		if m, err = parseManifest(text); err != nil {
			return m, fmt.Errorf("%s: %w", name, err)
		}
		break
	}
	m.Processes, err = readProcfile(root, "Procfile")
	return m, err
}

func readProcfile(root *os.Root, name string) ([]agentapi.Process, error) {
	text, err := readSmall(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseProcfile(text)
}

// readSmall reads a file of a source. Whatever it is, root neither waits for it nor reads without end.
func readSmall(root *os.Root, name string) ([]byte, error) {
	st, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, invalid("%s is not a file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err == nil && len(text) > maxManifest {
		err = invalid("%s is larger than %d bytes", name, maxManifest)
	}
	return text, err
}

var procfileLine = regexp.MustCompile(`^([A-Za-z0-9_]{1,32})[ \t]*:(.*)$`)

// parseProcfile reads lines "name: command". Empty lines and comments are left out.
func parseProcfile(text []byte) ([]agentapi.Process, error) {
	var list []agentapi.Process
	seen := map[string]bool{}
	n := 0
	for line := range strings.Lines(string(bytes.TrimPrefix(text, []byte("\ufeff")))) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		m := procfileLine.FindStringSubmatch(line)
		if m == nil {
			return nil, invalid("line %d of the Procfile is not \"name: command\", with a name of letters, digits and _", n)
		}
		p := agentapi.Process{Name: m[1], Command: strings.TrimSpace(m[2])}
		if seen[p.Name] {
			return nil, invalid("line %d of the Procfile has the name %s again", n, p.Name)
		}
		seen[p.Name] = true
		if _, err := execLine(p.Command); err != nil {
			return nil, fmt.Errorf("line %d of the Procfile: %w", n, err)
		}
		if list = append(list, p); len(list) > maxProcesses {
			return nil, invalid("the Procfile has more than %d processes", maxProcesses)
		}
	}
	if len(list) == 0 {
		return nil, invalid("the Procfile has no process")
	}
	return list, nil
}

// commandList is a list of commandList, or one.
type commandList []string

// UnmarshalYAML reads either form.
func (c *commandList) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		*c = commandList{n.Value}
		return nil
	}
	var list []string
	err := n.Decode(&list)
	*c = list
	return err
}

// parseManifest reads hooks and health check. Keys that are for other versions of tsuru are left out.
func parseManifest(text []byte) (m agentapi.Manifest, err error) {
	var y struct {
		Hooks struct {
			Build   commandList
			Restart struct {
				Before     commandList
				After      commandList
				BeforeEach commandList `yaml:"before-each"`
				AfterEach  commandList `yaml:"after-each"`
			}
		}
		HealthCheck *struct {
			Path   string
			Method string
			Status int
			Match  string
		} `yaml:"healthcheck"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&y); err != nil && !errors.Is(err, io.EOF) {
		return m, invalid("it is not what it should be: %v", err)
	}
	m.BuildHooks = y.Hooks.Build
	m.RestartBefore = append(y.Hooks.Restart.Before, y.Hooks.Restart.BeforeEach...)
	m.RestartAfter = append(y.Hooks.Restart.After, y.Hooks.Restart.AfterEach...)
	for _, hooks := range [][]string{m.BuildHooks, m.RestartBefore, m.RestartAfter} {
		if len(hooks) > maxHooks {
			return m, invalid("there are more than %d hooks of a kind", maxHooks)
		}
		for _, command := range hooks {
			if err := checkHook(command); err != nil {
				return m, err
			}
		}
	}
	if h := y.HealthCheck; h != nil && h.Path != "" {
		m.HealthCheck = &agentapi.HealthCheck{Path: h.Path, Method: strings.ToUpper(h.Method), Status: h.Status, Match: h.Match}
		if h.Status != 0 && (h.Status < 100 || h.Status > 599) {
			return m, invalid("healthcheck.status is %d", h.Status)
		}
		if _, err := newChecker(loopback, minPort, m.HealthCheck, 0); err != nil {
			return m, err
		}
	}
	return m, nil
}

var aptName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,63}$`)

// parseRequirements reads requirements.apt: a package per line, comments after #.
func parseRequirements(text []byte) ([]string, error) {
	var names []string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		for name := range strings.FieldsSeq(line) {
			if !aptName.MatchString(name) {
				return nil, invalid("requirements.apt: %.80q is no package's name", name)
			}
			names = append(names, name)
		}
	}
	return names, nil
}
