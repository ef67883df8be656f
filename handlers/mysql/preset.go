package mysql

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// presetFile is the one configuration file that presets of this service name. It stands for all that the server reads.
const presetFile = "my.cnf"

// presetPath is where options go that no file has yet: read after the packages' files and before zz-reeve.cnf.
func (s *Service) presetPath() string {
	return path.Join(s.host.Layout().MySQLConfDir, "zy-reeve-preset.cnf")
}

// optionLine is one option in one file.
type optionLine struct {
	file          string
	line          int // index
	section, name string
	value         string
}

func (o optionLine) is(section, name string) bool {
	return o.section == section && sameOption(o.name, name)
}

// sameOption: the server takes - and _ for the same.
func sameOption(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}

// options are the options of a file and of those it includes, in the order the server reads them: the last one counts.
func (s *Service) options(file string, depth int) ([]optionLine, error) {
	text, err := s.host.ReadFile(file)
	if err != nil || depth > 10 {
		return nil, err
	}
	var all []optionLine
	section := ""
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[' && strings.Contains(line, "]"):
			section = strings.TrimSpace(line[1:strings.Index(line, "]")])
		case line[0] == '!':
			more, err := s.included(line, depth)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		default:
			name, value, _ := strings.Cut(line, "=")
			all = append(all, optionLine{file, i, section, strings.TrimSpace(name), unquote(value)})
		}
	}
	return all, nil
}

func (s *Service) included(line string, depth int) ([]optionLine, error) {
	if file, ok := strings.CutPrefix(line, "!include "); ok {
		return s.options(strings.TrimSpace(file), depth+1)
	}
	dir, ok := strings.CutPrefix(line, "!includedir ")
	if !ok {
		return nil, nil
	}
	entries, err := s.host.ReadDir(strings.TrimSpace(dir))
	var all []optionLine
	for _, e := range entries {
		if err == nil && strings.HasSuffix(e.Name(), ".cnf") {
			var more []optionLine
			more, err = s.options(path.Join(strings.TrimSpace(dir), e.Name()), depth+1)
			all = append(all, more...)
		}
	}
	return all, err
}

// unquote takes the value as the server does: quotes around it and a comment after it go.
func unquote(value string) string {
	value = strings.TrimSpace(value)
	if len(value) > 1 && (value[0] == '"' || value[0] == '\'') {
		if end := strings.IndexByte(value[1:], value[0]); end >= 0 {
			return strings.ReplaceAll(value[1:1+end], `\\`, `\`)
		}
	}
	value, _, _ = strings.Cut(value, "#")
	return strings.ReplaceAll(strings.TrimSpace(value), `\\`, `\`)
}

// quote writes a value so that unquote, and the server, read it again. A double quote cannot be escaped in option files.
func quote(value string) string {
	escaped := strings.ReplaceAll(value, `\`, `\\`)
	if strings.ContainsAny(value, "#'") || value != strings.TrimSpace(value) {
		return `"` + escaped + `"`
	}
	return escaped
}

// Preset answers the options of all files, named "<section>/<option>".
func (s *Service) Preset(context.Context) (agentapi.Preset, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.options(s.host.Layout().MySQLConf, 0)
	if err != nil {
		return nil, s.notConfigured(err)
	}
	values := map[string]agentapi.Text{}
	for _, o := range all {
		values[o.section+"/"+o.name] = agentapi.Text(o.value)
	}
	return agentapi.Preset{presetFile: values}, nil
}

func (s *Service) notConfigured(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return agentapi.Errorf(agentapi.KindUnsupported, "PresetError", "the database server is not installed on this host")
	}
	return err
}

var optionName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}/[A-Za-z0-9_.-]{1,128}$`)

// SetPreset changes options where they are in force, or in a file of ours, has the server's own program read the result,
// and restarts the server.
func (s *Service) SetPreset(ctx context.Context, p agentapi.Preset) error {
	values, ok := p[presetFile]
	if !ok || len(p) != 1 {
		return invalid("a preset of this service has one file, %s", presetFile)
	}
	for name, value := range values {
		if !optionName.MatchString(name) {
			return invalid("%.80q is no option: <section>/<option> is expected", name)
		}
		if strings.ContainsAny(string(value), "\r\n\x00\"") {
			return invalid("the value of %s holds a line break or a double quote", name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.recover(ctx); err != nil {
		return err
	}
	all, err := s.options(s.host.Layout().MySQLConf, 0)
	if err != nil {
		return s.notConfigured(err)
	}
	st, err := s.host.Stage(s.stagingDir(), host.Readers{})
	if err != nil {
		return err
	}
	changed, err := s.stagePreset(st, all, values)
	if err == nil && changed {
		if err = st.Apply(); err == nil {
			err = s.usePreset(ctx)
		}
	}
	if err == nil {
		err = st.Commit()
	}
	if err != nil {
		s.dropPreset(ctx, st, changed)
	}
	return err
}

// stagePreset stages every file that an option changes.
func (s *Service) stagePreset(st *host.Staged, all []optionLine, values map[string]agentapi.Text) (changed bool, err error) {
	lines := map[string][]string{} // by file, those that change
	load := func(file string) []string {
		if lines[file] == nil {
			text, _ := s.host.ReadFile(file)
			lines[file] = strings.Split(string(text), "\n")
		}
		return lines[file]
	}
	const gone = "\x00"
	fresh := map[string][]string{} // by section
	for _, full := range slices.Sorted(maps.Keys(values)) {
		section, name, _ := strings.Cut(full, "/")
		value := string(values[full])
		last := -1
		for i, o := range all {
			if o.is(section, name) {
				last = i
				if value == agentapi.UnsetOption {
					load(o.file)[o.line] = gone
				}
			}
		}
		switch {
		case value == agentapi.UnsetOption:
		case last < 0:
			fresh[section] = append(fresh[section], name+" = "+quote(value))
		case all[last].value != value:
			load(all[last].file)[all[last].line] = all[last].name + " = " + quote(value)
		}
	}
	if len(fresh) > 0 {
		own := load(s.presetPath())
		if len(own) == 1 && own[0] == "" {
			own = []string{"# Written by reeve-agent: options of presets that no other file has."}
		}
		for _, section := range slices.Sorted(maps.Keys(fresh)) {
			own = append(own, "["+section+"]")
			own = append(own, fresh[section]...)
		}
		lines[s.presetPath()] = append(own, "")
	}
	for _, file := range slices.Sorted(maps.Keys(lines)) {
		kept := slices.DeleteFunc(lines[file], func(l string) bool { return l == gone })
		if _, err := st.Write(file, []byte(strings.Join(kept, "\n")), 0o644); err != nil {
			return false, err
		}
	}
	return !st.Empty(), nil
}

// usePreset tests what is in place, which the running server has not read, and restarts.
func (s *Service) usePreset(ctx context.Context) error {
	_, err := s.host.Run(ctx, host.Cmd{Path: s.host.Layout().MySQLDaemon,
		Args: []string{"--defaults-file=" + s.host.Path(s.host.Layout().MySQLConf), "--verbose", "--help"}})
	if failed, ok := errors.AsType[*host.CommandError](err); ok && failed.Err == nil {
		return &agentapi.Error{Kind: agentapi.KindConfigTest, Class: "PresetError", Err: err,
			Text: "Service mysql was unable to pass configtest: " + strings.TrimSpace(string(failed.Output.Stderr))}
	}
	if err != nil {
		return err
	}
	if err := s.restart(ctx); err != nil {
		return &agentapi.Error{Kind: agentapi.KindConfigTest, Class: "PresetError", Err: err,
			Text: "Service mysql was unable to start with the new preset: " + err.Error()}
	}
	return nil
}

func (s *Service) dropPreset(ctx context.Context, st *host.Staged, changed bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	err := st.Rollback()
	if changed {
		err = errors.Join(err, s.restart(ctx))
	}
	if err != nil {
		s.log.Error("put the old configuration back", "err", err)
	}
}
