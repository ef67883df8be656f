package apache

import (
	"fmt"
	"slices"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
	"github.com/reeve-paas/reeve/handlers/web"
)

// rendering is what the agent adds to a template.
type rendering struct {
	listen []int                 // ports nobody else listens on
	grant  []string              // document roots that the main configuration does not open
	cert   *web.CertificateFiles // nil: certificate directives stay as they are
	exists func(path string) bool
}

// render makes the text of a virtual host's file: the template's own lines, with the certificate directives rewritten,
// behind what the agent adds.
func render(lines []line, r rendering) (string, error) {
	var b strings.Builder
	for _, port := range r.listen {
		// Two vhost files may share a port, and Listen may be said only once.
		fmt.Fprintf(&b, "<IfDefine !REEVE_LISTEN_%d>\n   Define REEVE_LISTEN_%d\n   Listen %d\n</IfDefine>\n", port, port, port)
	}
	for _, root := range r.grant {
		fmt.Fprintf(&b, "<Directory %s>\n   Require all granted\n</Directory>\n", quote(root))
	}
	if b.Len() > 0 {
		b.WriteString(oursEnd)
	}
	if r.cert != nil {
		var err error
		if lines, err = withCertificate(lines, *r.cert, r.exists); err != nil {
			return "", err
		}
	}
	for _, l := range lines {
		b.WriteString(l.raw)
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// withCertificate points every VirtualHost that has certificate directives at the given files (spec agent-web 2.4).
func withCertificate(lines []line, cert web.CertificateFiles, exists func(string) bool) ([]line, error) {
	var out []line
	foundCert, foundKey := false, false
	for block := range hostBlocks(lines) {
		hasChain := slices.ContainsFunc(block, func(l line) bool { return l.is("SSLCertificateChainFile") })
		seen := map[string]bool{}
		for _, l := range block {
			name := strings.ToLower(l.name)
			first := l.kind == lineDirective && !seen[name]
			switch {
			case first && name == "sslcertificatefile":
				if cert.Chain != "" && !hasChain {
					out = append(out, directive(l, "SSLCertificateChainFile", cert.Chain))
				}
				l, foundCert = directive(l, "SSLCertificateFile", cert.Cert), true
			case first && name == "sslcertificatekeyfile":
				l, foundKey = directive(l, "SSLCertificateKeyFile", cert.Key), true
			case l.kind == lineDirective && name == "sslcertificatechainfile":
				if cert.Chain != "" && first {
					l = directive(l, "SSLCertificateChainFile", cert.Chain)
				} else {
					l = commented(l)
				}
			case l.kind == lineDirective && name == "sslcacertificatefile":
				// It means client authentication, so it goes only when it is one of the dummy paths of old templates.
				if len(l.args) > 0 && !exists(l.args[0]) {
					l = commented(l)
				}
			}
			seen[name] = true
			out = append(out, l)
		}
	}
	if !foundCert || !foundKey {
		return nil, agentapi.Errorf(agentapi.KindInvalid, "ApacheError",
			"TLS is requested, but the template lacks SSLCertificateFile or SSLCertificateKeyFile")
	}
	return out, nil
}

// hostBlocks yields the lines in order, cut such that each VirtualHost is one part.
func hostBlocks(lines []line) func(yield func([]line) bool) {
	return func(yield func([]line) bool) {
		start := 0
		for i, l := range lines {
			if l.is("VirtualHost") && l.kind == lineOpen {
				if i > start && !yield(lines[start:i]) {
					return
				}
				start = i
			}
			if l.is("VirtualHost") && l.kind == lineClose {
				if !yield(lines[start : i+1]) {
					return
				}
				start = i + 1
			}
		}
		if start < len(lines) {
			yield(lines[start:])
		}
	}
}

func directive(at line, name string, args ...string) line {
	l := line{kind: lineDirective, name: name, args: args, number: at.number, raw: at.indent() + name}
	for _, a := range args {
		l.raw += " " + quote(a)
	}
	return l
}

func commented(l line) line {
	return line{kind: lineText, number: l.number, raw: l.indent() + "# " + strings.ReplaceAll(strings.TrimLeft(l.raw, " \t"), "\\\n", " ")}
}

// withNames changes what update_vhost changes: ServerName, and the port of every VirtualHost address. "" and 0 keep.
func withNames(lines []line, hostname string, port int) ([]line, error) {
	out := slices.Clone(lines)
	found := false
	for i, l := range out {
		switch {
		case hostname != "" && l.kind == lineDirective && l.is("ServerName"):
			out[i], found = directive(l, "ServerName", hostname), true
		case port != 0 && l.kind == lineOpen && l.is("VirtualHost"):
			args := slices.Clone(l.args)
			for j, a := range args {
				args[j] = withPort(a, port)
			}
			out[i].args, out[i].raw = args, l.indent()+"<VirtualHost "+strings.Join(args, " ")+">"
		}
	}
	if hostname != "" && !found {
		return nil, agentapi.Errorf(agentapi.KindInvalid, "ParseError", "the virtual host has no ServerName to change")
	}
	return out, nil
}

// withPort replaces the port of a VirtualHost address and keeps its host.
func withPort(addr string, port int) string {
	host := addr
	if i := strings.LastIndexByte(addr, ':'); i >= 0 && !strings.HasSuffix(addr, "]") {
		host = addr[:i]
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// oursEnd is the line between what render adds and the template.
const oursEnd = "# The rest is the template.\n"

// stripOurs takes what render put before a template away again.
func stripOurs(text string) string {
	if _, template, found := strings.Cut(text, oursEnd); found {
		return template
	}
	return text
}

// stagedMain is the main configuration for a test: includes of the live virtual hosts become includes of the given files.
// What includes them outside the main file is behind the define that the test sets.
func stagedMain(main, mask string, files []string) string {
	var includes strings.Builder
	for _, f := range files {
		fmt.Fprintf(&includes, "Include %s\n", quote(f))
	}
	var b strings.Builder
	placed := false
	for _, l := range parseLines(main) {
		if !isVHostInclude(l, mask) {
			b.WriteString(l.raw)
			b.WriteByte('\n')
			continue
		}
		if !placed {
			b.WriteString(includes.String())
			placed = true
		}
	}
	if !placed {
		b.WriteString(includes.String())
	}
	return b.String()
}

func isVHostInclude(l line, mask string) bool {
	return l.kind == lineDirective && l.is("Include", "IncludeOptional") && len(l.args) == 1 && l.args[0] == mask
}

// includeFile is our file among Apache's sites. The define hides the live virtual hosts from a test of staged ones.
func includeFile(mask string) string {
	return "# Written by reeve-agent, which puts it back: the virtual hosts it manages.\n" +
		"<IfDefine !" + stagedDefine + ">\n   IncludeOptional " + quote(mask) + "\n</IfDefine>\n"
}

const stagedDefine = "REEVE_STAGED"
