package apache

import (
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// maxTemplate is the size limit of a template in bytes (spec agent-web 6, S8).
const maxTemplate = 256 << 10

type lineKind int

const (
	lineText lineKind = iota // blank or comment
	lineDirective
	lineOpen  // <Name …>
	lineClose // </Name>
)

// line is one logical line of httpd configuration: physical lines that end in a backslash are joined.
type line struct {
	kind   lineKind
	name   string   // directive or section, as written
	args   []string // without their quotes
	raw    string   // as written, continuations included, without the last line break
	number int      // of its first physical line, from 1
}

func (l line) is(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(l.name, n) })
}

func (l line) indent() string { return l.raw[:len(l.raw)-len(strings.TrimLeft(l.raw, blanks))] }

func parseError(number int, format string, args ...any) error {
	return agentapi.Errorf(agentapi.KindInvalid, "ParseError", "line "+strconv.Itoa(number)+": "+format, args...)
}

// parseLines splits httpd configuration into logical lines.
func parseLines(text string) []line {
	physical := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	if n := len(physical); n > 0 && physical[n-1] == "" {
		physical = physical[:n-1]
	}
	var lines []line
	for i := 0; i < len(physical); i++ {
		l := line{number: i + 1, raw: physical[i]}
		joined := physical[i]
		for strings.HasSuffix(joined, `\`) && i+1 < len(physical) {
			i++
			l.raw += "\n" + physical[i]
			joined = strings.TrimSuffix(joined, `\`) + physical[i] // httpd puts nothing in between
		}
		l.classify(strings.Trim(joined, blanks))
		lines = append(lines, l)
	}
	return lines
}

func (l *line) classify(text string) {
	switch {
	case text == "", text[0] == '#':
		l.kind = lineText
	case strings.HasPrefix(text, "</"):
		l.kind, l.name = lineClose, strings.Trim(strings.TrimSuffix(text[2:], ">"), blanks)
	case text[0] == '<':
		l.kind = lineOpen
		words := splitArgs(strings.TrimSuffix(text[1:], ">"))
		if len(words) > 0 {
			l.name, l.args = words[0], words[1:]
		}
		if !strings.HasSuffix(text, ">") {
			l.name = "" // no section has an empty name
		}
	default:
		l.kind = lineDirective
		if words := splitArgs(text); len(words) > 0 {
			l.name, l.args = words[0], words[1:]
		}
	}
}

// blanks are the characters between words. httpd knows more, which templates may not hold.
const blanks = " \t"

// splitArgs splits at blanks; quotes of either kind group, and a backslash before a quote or a backslash is dropped.
func splitArgs(s string) []string {
	var words []string
	for {
		s = strings.TrimLeft(s, blanks)
		if s == "" {
			return words
		}
		var word string
		word, s = nextArg(s)
		words = append(words, word)
	}
}

func nextArg(s string) (word, rest string) {
	quote := s[0]
	if quote != '"' && quote != '\'' {
		end := strings.IndexAny(s, blanks)
		if end < 0 {
			return s, ""
		}
		return s[:end], s[end:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == quote || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case s[i] == quote:
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}

// quote writes an argument so that splitArgs and httpd read it back.
func quote(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\"'\\#<>") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// topSections may stand outside a VirtualHost.
var topSections = []string{"VirtualHost", "IfModule", "IfDefine", "IfVersion", "IfFile", "IfDirective", "Directory", "DirectoryMatch",
	"Files", "FilesMatch", "Location", "LocationMatch", "Proxy", "ProxyMatch"}

// transparent sections do not change what may stand in them.
var transparent = []string{"IfModule", "IfDefine", "IfVersion", "IfFile", "IfDirective"}

// forbidden directives change the server, not a virtual host.
var forbidden = []string{"LoadModule", "LoadFile", "User", "Group", "Listen", "ListenBacklog", "ServerRoot", "PidFile", "Define", "UnDefine"}

var logDirectives = []string{"CustomLog", "ErrorLog", "TransferLog", "GlobalLog", "ForensicLog"}

// parseTemplate reads the template of a virtual host and refuses what could reach outside it (spec agent-web 6, S8).
func parseTemplate(text string) ([]line, error) {
	if len(text) > maxTemplate {
		return nil, parseError(1, "the template is longer than %d KiB", maxTemplate>>10)
	}
	lines := parseLines(text)
	for _, l := range lines {
		if strings.ContainsFunc(l.raw, func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' }) {
			return nil, parseError(l.number, "the template holds a control character")
		}
	}
	var open []line
	vhosts := 0
	for _, l := range lines {
		switch l.kind {
		case lineText:
		case lineOpen:
			if err := checkOpen(l, open); err != nil {
				return nil, err
			}
			if l.is("VirtualHost") {
				vhosts++
			}
			open = append(open, l)
		case lineClose:
			if len(open) == 0 || !l.is(open[len(open)-1].name) {
				return nil, parseError(l.number, "</%s> closes no section", l.name)
			}
			open = open[:len(open)-1]
		case lineDirective:
			if err := checkDirective(l, open); err != nil {
				return nil, err
			}
		}
	}
	if len(open) > 0 {
		last := open[len(open)-1]
		return nil, parseError(last.number, "<%s> is not closed", last.name)
	}
	if vhosts == 0 {
		return nil, parseError(1, "the template has no <VirtualHost> section")
	}
	return lines, nil
}

func checkOpen(l line, open []line) error {
	if l.name == "" {
		return parseError(l.number, "the section has no name or no closing '>'")
	}
	if atTop(open) && !l.is(topSections...) {
		return parseError(l.number, "<%s> may only stand in a <VirtualHost>", l.name)
	}
	if l.is("VirtualHost") {
		if !atTop(open) {
			return parseError(l.number, "<VirtualHost> may not stand in another section")
		}
		if len(l.args) == 0 {
			return parseError(l.number, "<VirtualHost> has no address")
		}
	}
	return nil
}

func checkDirective(l line, open []line) error {
	if strings.HasPrefix(l.name, "<") { // httpd looks behind the quotes before it looks for sections
		return parseError(l.number, "the name of a section may not be quoted")
	}
	if l.is(forbidden...) {
		return parseError(l.number, "%s is not allowed in a virtual host", l.name)
	}
	if atTop(open) {
		return parseError(l.number, "%s must stand in a section", l.name)
	}
	if l.is(logDirectives...) && len(l.args) > 0 && strings.HasPrefix(l.args[0], "|") {
		return parseError(l.number, "%s: logging to a program is not allowed", l.name)
	}
	return nil
}

// atTop says that only transparent sections are open.
func atTop(open []line) bool {
	return !slices.ContainsFunc(open, func(l line) bool { return !l.is(transparent...) })
}

// site is what a template says about its surroundings.
type site struct {
	ports []int    // of the VirtualHost addresses, in order, once each
	roots []string // DocumentRoots directly in a VirtualHost, cleaned, absolute ones only
	logs  []string // log files, absolute ones only
}

// describe reads a template that parseTemplate accepted. expand resolves ${variables}, and says no for unknown ones.
func describe(lines []line, expand func(string) (string, bool)) site {
	var s site
	depth := []line{}
	for _, l := range lines {
		switch l.kind {
		case lineOpen:
			depth = append(depth, l)
			if l.is("VirtualHost") {
				for _, addr := range l.args {
					if port := addressPort(addr); port != 0 && !slices.Contains(s.ports, port) {
						s.ports = append(s.ports, port)
					}
				}
			}
		case lineClose:
			depth = depth[:len(depth)-1]
		case lineDirective:
			inHost := len(depth) > 0 && slices.ContainsFunc(depth, func(d line) bool { return d.is("VirtualHost") }) &&
				!slices.ContainsFunc(depth, func(d line) bool { return !d.is("VirtualHost") && !d.is(transparent...) })
			if !inHost || len(l.args) == 0 {
				continue
			}
			p, known := expand(l.args[0])
			if !known || !path.IsAbs(p) {
				continue // relative to ServerRoot, syslog:…, or a variable only httpd knows
			}
			p = path.Clean(p)
			switch {
			case l.is("DocumentRoot") && !slices.Contains(s.roots, p):
				s.roots = append(s.roots, p)
			case l.is("CustomLog", "ErrorLog", "TransferLog") && !slices.Contains(s.logs, p):
				s.logs = append(s.logs, p)
			}
		}
	}
	return s
}

// addressPort is the port of a VirtualHost or Listen address; 0 when it names none.
func addressPort(addr string) int {
	port := addr
	if _, p, err := net.SplitHostPort(addr); err == nil {
		port = p
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return 0
	}
	return n
}
