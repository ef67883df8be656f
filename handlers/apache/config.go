package apache

import (
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// loaded is what the agent needs to know of the configuration outside its own virtual hosts.
type loaded struct {
	main         string       // text of the main file
	listens      map[int]bool // ports declared by others
	modules      map[string]bool
	errorLog     string // path of the server's own log, "" when it is not a file
	vhostsInMain bool   // the main file includes our virtual hosts by itself
	oursReached  bool   // a file of its name and place would be read
}

// limits of a walk: httpd's own is 128 levels of Include.
const (
	maxIncludeDepth = 32
	maxIncludeFiles = 4096
)

// load reads the configuration as httpd would, following includes and evaluating IfModule and IfDefine. It is no checker:
// what it does not understand it passes over, the config test is the judge.
func (s *Service) load() (*loaded, error) {
	main, err := s.host.ReadFile(s.layout.ApacheConf)
	if err != nil {
		return nil, agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "Apache is not installed on this host: %s cannot be read", s.layout.ApacheConf)
	}
	l := &loaded{main: string(main), listens: map[int]bool{}, modules: map[string]bool{}}
	w := &walker{s: s, l: l, root: path.Dir(s.layout.ApacheConf), defines: map[string]bool{}}
	w.text(l.main, 0, true)
	return l, nil
}

type walker struct {
	s       *Service
	l       *loaded
	root    string // ServerRoot
	defines map[string]bool
	files   int
}

func (w *walker) text(text string, depth int, isMain bool) {
	var skip []bool // for each open section, whether its content is left out
	for _, l := range parseLines(text) {
		out := len(skip) > 0 && skip[len(skip)-1]
		switch l.kind {
		case lineOpen:
			skip = append(skip, out || !w.holds(l))
		case lineClose:
			if len(skip) > 0 {
				skip = skip[:len(skip)-1]
			}
		case lineDirective:
			if !out && len(l.args) > 0 {
				w.directive(l, depth, isMain, len(skip) == 0)
			}
		}
	}
}

// holds evaluates a section's condition. Sections that are no conditions hold: an Include in them is followed.
func (w *walker) holds(l line) bool {
	if !l.is("IfModule", "IfDefine") || len(l.args) == 0 {
		return true
	}
	name, negated := strings.CutPrefix(l.args[0], "!")
	if l.is("IfDefine") {
		return w.defines[name] != negated
	}
	return w.hasModule(name) != negated
}

// hasModule knows a module by its identifier or its source file; those linked into httpd count as present.
func (w *walker) hasModule(name string) bool {
	if base, isSource := strings.CutSuffix(name, ".c"); isSource {
		name = strings.TrimPrefix(base, "mod_") + "_module"
	}
	switch name {
	case "core_module", "so_module", "http_module", "log_config_module", "logio_module", "unixd_module", "version_module", "watchdog_module":
		return true
	}
	return w.l.modules[name]
}

func (w *walker) directive(l line, depth int, isMain, top bool) {
	switch {
	case l.is("ServerRoot"):
		w.root = path.Clean(l.args[0])
	case l.is("LoadModule"):
		w.l.modules[l.args[0]] = true
	case l.is("Define"):
		w.defines[l.args[0]] = true
	case l.is("UnDefine"):
		delete(w.defines, l.args[0])
	case l.is("Listen"):
		if port := addressPort(l.args[0]); port != 0 {
			w.l.listens[port] = true
		}
	case l.is("ErrorLog") && top && isMain:
		w.errorLog(l.args[0])
	case l.is("Include", "IncludeOptional"):
		if isMain && isVHostInclude(l, w.s.vhostMask()) {
			w.l.vhostsInMain = true
		}
		w.include(l.args[0], depth)
	}
}

func (w *walker) errorLog(arg string) {
	p, ok := w.s.expand(arg)
	if !ok || strings.HasPrefix(p, "|") || strings.HasPrefix(p, "syslog") {
		return
	}
	if !path.IsAbs(p) {
		p = path.Join(w.root, p)
	}
	w.l.errorLog = p
}

func (w *walker) include(pattern string, depth int) {
	pattern, known := w.s.expand(pattern)
	if !known || depth >= maxIncludeDepth {
		return
	}
	if !path.IsAbs(pattern) {
		pattern = path.Join(w.root, pattern)
	}
	if ok, _ := path.Match(pattern, w.s.includePath()); ok {
		w.l.oursReached = true
	}
	matches, _ := filepath.Glob(w.s.host.Path(pattern)) // sorted, as httpd does
	prefix := strings.TrimSuffix(w.s.host.Path("/"), "/")
	for _, full := range matches {
		p := strings.TrimPrefix(full, prefix)
		st, err := os.Stat(full)
		hidden := strings.HasPrefix(path.Base(p), ".") && strings.ContainsAny(pattern, "*?[")
		if err != nil || hidden || path.Dir(p) == w.s.vhostDir() {
			continue
		}
		if st.IsDir() {
			w.include(path.Join(p, "*"), depth+1)
			continue
		}
		if w.files++; w.files > maxIncludeFiles {
			return
		}
		data, err := w.s.host.ReadFile(p)
		if err != nil {
			continue
		}
		w.text(string(data), depth+1, false)
	}
}

// expand resolves the variables that Debian's envvars file sets; another one is unknown.
func (s *Service) expand(text string) (string, bool) {
	for strings.Contains(text, "${") {
		start := strings.Index(text, "${")
		end := strings.IndexByte(text[start:], '}')
		if end < 0 {
			return text, false
		}
		switch text[start+2 : start+end] {
		case "APACHE_LOG_DIR":
			text = text[:start] + s.layout.ApacheLogDir + text[start+end+1:]
		default:
			return text, false
		}
	}
	return text, true
}

// notIncluded tells the operator why virtual hosts would not be served.
func (s *Service) notIncluded() error {
	return agentapi.Errorf(agentapi.KindUnsupported, "InitdError", "Apache does not read %s: add 'IncludeOptional %s' to the end of %s",
		s.includePath(), s.vhostMask(), s.layout.ApacheConf)
}
