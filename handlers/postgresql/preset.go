package postgresql

import (
	"context"
	"errors"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/host"
)

// presetFile is the one configuration file that presets of this service name. It stands for its drop-ins too.
const presetFile = "postgresql.conf"

// presetPath is where settings go that no file has yet: read after the packages' files and before 90-reeve.conf.
func presetPath(c host.PostgreSQLCluster) string {
	return path.Join(c.ConfDir, "conf.d", "80-reeve-preset.conf")
}

// settingLine is one setting in one file.
type settingLine struct {
	file        string
	line        int // index
	name, value string
}

var setting = regexp.MustCompile(`^\s*([A-Za-z_][A-Za-z0-9_.]*)(?:\s*=\s*|\s+)('(?:[^'\\]|''|\\.)*'|[^\s#']+)`)

// settings are the settings of postgresql.conf and its drop-ins, in the order the server reads them: the last one counts.
// Other files that it may include are the operator's own.
func (s *Service) settings(c host.PostgreSQLCluster) ([]settingLine, error) {
	main := path.Join(c.ConfDir, "postgresql.conf")
	text, err := s.host.ReadFile(main)
	if err != nil {
		return nil, err
	}
	files := []string{main}
	if includesConfD(string(text)) {
		entries, err := s.host.ReadDir(path.Join(c.ConfDir, "conf.d"))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".conf") && !strings.HasPrefix(e.Name(), ".") {
				files = append(files, path.Join(c.ConfDir, "conf.d", e.Name()))
			}
		}
	}
	var all []settingLine
	for _, file := range files {
		text, err := s.host.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for i, line := range strings.Split(string(text), "\n") {
			m := setting.FindStringSubmatch(line)
			if m == nil || strings.HasPrefix(strings.ToLower(m[1]), "include") {
				continue
			}
			all = append(all, settingLine{file, i, strings.ToLower(m[1]), unquote(m[2])})
		}
	}
	return all, nil
}

func unquote(value string) string {
	if len(value) < 2 || value[0] != '\'' {
		return value
	}
	return strings.NewReplacer("''", "'", `\'`, "'", `\\`, `\`).Replace(value[1 : len(value)-1])
}

func quote(value string) string {
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(value) + "'"
}

// Preset answers the settings of all files.
func (s *Service) Preset(context.Context) (agentapi.Preset, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.cluster()
	if err != nil {
		return nil, err
	}
	all, err := s.settings(c)
	if err != nil {
		return nil, err
	}
	values := map[string]agentapi.Text{}
	for _, l := range all {
		values[l.name] = agentapi.Text(l.value)
	}
	return agentapi.Preset{presetFile: values}, nil
}

var presetName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]{0,62}$`)

// SetPreset changes settings where they are in force, or in a file of ours, has the server's own program read the result,
// and restarts the server.
func (s *Service) SetPreset(ctx context.Context, p agentapi.Preset) error {
	values, ok := p[presetFile]
	if !ok || len(p) != 1 {
		return invalid("a preset of this service has one file, %s", presetFile)
	}
	for name, value := range values {
		if !presetName.MatchString(name) || strings.HasPrefix(strings.ToLower(name), "include") {
			return invalid("%.80q is no setting", name)
		}
		if strings.ContainsAny(string(value), "\r\n\x00") {
			return invalid("the value of %s holds a line break", name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.cluster()
	if err != nil {
		return err
	}
	if err := s.recover(ctx, c); err != nil {
		return err
	}
	all, err := s.settings(c)
	if err != nil {
		return err
	}
	undo := s.host.Begin()
	st, err := s.host.Stage(stagingDir(c), host.Readers{})
	if err != nil {
		return err
	}
	err = s.stagePreset(undo, st, c, all, values)
	changed := err == nil && !st.Empty()
	if changed {
		if err = st.Apply(); err == nil {
			err = s.usePreset(ctx, c)
		}
	}
	if err == nil {
		err = st.Commit()
	}
	if err != nil {
		s.dropPreset(ctx, c, st, undo, changed)
		return err
	}
	undo.Commit()
	return nil
}

// stagePreset stages every file that a setting changes.
func (s *Service) stagePreset(undo *host.Change, st *host.Staged, c host.PostgreSQLCluster, all []settingLine, values map[string]agentapi.Text) error {
	lines := map[string][]string{} // by file, those that change
	load := func(file string) []string {
		if lines[file] == nil {
			text, _ := s.host.ReadFile(file)
			lines[file] = strings.Split(string(text), "\n")
		}
		return lines[file]
	}
	const gone = "\x00"
	var fresh []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := string(values[name])
		last := -1
		for i, l := range all {
			if l.name == strings.ToLower(name) {
				last = i
				if value == agentapi.UnsetOption {
					load(l.file)[l.line] = gone
				}
			}
		}
		switch {
		case value == agentapi.UnsetOption:
		case last < 0:
			fresh = append(fresh, name+" = "+quote(value))
		case all[last].value != value:
			load(all[last].file)[all[last].line] = all[last].name + " = " + quote(value)
		}
	}
	if len(fresh) > 0 {
		own := load(presetPath(c))
		if len(own) == 1 && own[0] == "" {
			own = []string{"# Written by reeve-agent: settings of presets that no other file has.", ""}
		}
		lines[presetPath(c)] = append(append(own[:len(own)-1], fresh...), "")
		main := path.Join(c.ConfDir, "postgresql.conf")
		if text := load(main); !includesConfD(strings.Join(text, "\n")) {
			lines[main] = append(text, includeDir+"\t# added by reeve-agent", "")
		}
		if err := undo.MkdirAll(path.Dir(presetPath(c)), 0o755); err != nil {
			return err
		}
	}
	for _, file := range slices.Sorted(maps.Keys(lines)) {
		text := strings.Join(slices.DeleteFunc(lines[file], func(l string) bool { return l == gone }), "\n")
		if old, err := s.host.ReadFile(file); err == nil && string(old) == text {
			continue
		}
		if _, err := st.Write(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// usePreset tests what is in place, which the running server has not read, and restarts.
func (s *Service) usePreset(ctx context.Context, c host.PostgreSQLCluster) error {
	user, err := s.host.LookupUser(superuser)
	if err != nil {
		return err
	}
	_, err = s.host.Run(ctx, host.Cmd{Path: path.Join(c.BinDir, "postgres"), UID: user.UID, GID: user.GID, Groups: user.Groups,
		Args: []string{"-D", s.host.Path(s.dataDir(c)), "-c", "config_file=" + s.host.Path(path.Join(c.ConfDir, "postgresql.conf")), "-C", "shared_buffers"}})
	if failed, ok := errors.AsType[*host.CommandError](err); ok && failed.Err == nil {
		return &agentapi.Error{Kind: agentapi.KindConfigTest, Class: "PresetError", Err: err,
			Text: "Service postgresql was unable to pass configtest: " + strings.TrimSpace(string(failed.Output.Stderr))}
	}
	if err != nil {
		return err
	}
	if err := s.restartUnit(ctx, c); err != nil {
		return &agentapi.Error{Kind: agentapi.KindConfigTest, Class: "PresetError", Err: err,
			Text: "Service postgresql was unable to start with the new preset: " + err.Error()}
	}
	return nil
}

func (s *Service) restartUnit(ctx context.Context, c host.PostgreSQLCluster) error {
	if err := s.host.Units().Restart(ctx, c.Unit); err != nil {
		return err
	}
	return s.waitUntilReady(ctx, c)
}

func (s *Service) dropPreset(ctx context.Context, c host.PostgreSQLCluster, st *host.Staged, undo *host.Change, changed bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	err := errors.Join(st.Rollback(), undo.Rollback())
	if changed {
		err = errors.Join(err, s.restartUnit(ctx, c))
	}
	if err != nil {
		s.log.Error("put the old configuration back", "err", err)
	}
}
