package nginx

import (
	"fmt"
	"strings"

	"github.com/reeve-paas/reeve/agent/agentapi"
)

// node is one directive of nginx configuration, or a comment.
type node struct {
	args    []string // as written, quotes included; for a comment the text with its #
	comment bool
	block   []*node // children
	isBlock bool

	start, end int // byte range in the source, terminator included
	close      int // offset of a block's closing brace
}

// name is the directive's name without quotes, which nginx allows there too; "" for a comment.
func (n *node) name() string { return n.arg(0) }

// arg is an argument without its quotes, "" when there is none.
func (n *node) arg(i int) string {
	if n.comment || i >= len(n.args) {
		return ""
	}
	return unquote(n.args[i])
}

// children are the directives of that name directly in a block.
func (n *node) children(name string) []*node {
	var found []*node
	for _, c := range n.block {
		if c.name() == name {
			found = append(found, c)
		}
	}
	return found
}

// walk visits a node and everything in it.
func (n *node) walk(visit func(*node)) {
	visit(n)
	for _, c := range n.block {
		c.walk(visit)
	}
}

func unquote(s string) string {
	if len(s) < 2 || (s[0] != '"' && s[0] != '\'') || s[len(s)-1] != s[0] {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\`+s[:1], s[:1]).Replace(s[1 : len(s)-1])
}

// parser reads nginx configuration by nginx's own rules: quotes, escapes, comments, ${variables} and nested braces; line
// breaks mean nothing.
type parser struct {
	text string
	pos  int
}

// maxNesting bounds how deep blocks go.
const maxNesting = 64

func parse(text string) ([]*node, error) {
	p := &parser{text: text}
	nodes, err := p.nodes(0)
	if err != nil {
		return nil, err
	}
	return nodes, nil
}

func (p *parser) fail(format string, args ...any) error {
	line := 1 + strings.Count(p.text[:min(p.pos, len(p.text))], "\n")
	return agentapi.Errorf(agentapi.KindInvalid, "ParseError", "line %d: %s", line, fmt.Sprintf(format, args...))
}

// nodes reads up to the end of the text, or of the block when depth is above 0; then pos is at the closing brace.
func (p *parser) nodes(depth int) ([]*node, error) {
	if depth > maxNesting {
		return nil, p.fail("blocks are nested too deep")
	}
	var list []*node
	for {
		p.space()
		switch {
		case p.pos == len(p.text):
			if depth > 0 {
				return nil, p.fail("a block is not closed")
			}
			return list, nil
		case p.text[p.pos] == '}':
			if depth == 0 {
				return nil, p.fail("unexpected \"}\"")
			}
			return list, nil
		case p.text[p.pos] == '#':
			list = append(list, p.comment())
		default:
			n, err := p.directive(depth)
			if err != nil {
				return nil, err
			}
			list = append(list, n)
		}
	}
}

func (p *parser) space() {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
}

func (p *parser) comment() *node {
	n := &node{comment: true, start: p.pos}
	end := strings.IndexByte(p.text[p.pos:], '\n')
	if end < 0 {
		end = len(p.text) - p.pos
	}
	n.args = []string{strings.TrimRight(p.text[p.pos:p.pos+end], " \t\r")}
	p.pos += end
	n.end = p.pos
	return n
}

func (p *parser) directive(depth int) (*node, error) {
	n := &node{start: p.pos}
	for {
		p.space()
		if p.pos == len(p.text) {
			return nil, p.fail("the directive is not ended by \";\"")
		}
		switch c := p.text[p.pos]; c {
		case ';', '{':
			if len(n.args) == 0 {
				return nil, p.fail("unexpected %q", c)
			}
			p.pos++
			if c == '{' {
				return n, p.body(n, depth)
			}
			n.end = p.pos
			return n, nil
		case '}':
			return nil, p.fail("unexpected \"}\"")
		case '#':
			p.comment() // between the words of a directive; nobody misses it
		default:
			word, err := p.word()
			if err != nil {
				return nil, err
			}
			n.args = append(n.args, word)
		}
	}
}

func (p *parser) body(n *node, depth int) (err error) {
	n.isBlock = true
	if n.block, err = p.nodes(depth + 1); err != nil {
		return err
	}
	n.close = p.pos
	p.pos++
	n.end = p.pos
	return nil
}

func (p *parser) word() (string, error) {
	start := p.pos
	if q := p.text[p.pos]; q == '"' || q == '\'' {
		for p.pos++; p.pos < len(p.text); p.pos++ {
			switch p.text[p.pos] {
			case '\\':
				p.pos++
			case q:
				p.pos++
				if p.pos < len(p.text) && strings.IndexByte(" \t\r\n;{)", p.text[p.pos]) < 0 {
					return "", p.fail("unexpected %q after a quoted text", p.text[p.pos])
				}
				return p.text[start:p.pos], nil
			}
		}
		return "", p.fail("a quoted text is not closed")
	}
	dollar := false // a brace right after an unescaped $ belongs to the word; what closes it is no special byte
	for ; p.pos < len(p.text); p.pos++ {
		c := p.text[p.pos]
		if c == '{' && dollar {
			continue // as nginx does, without ending the state: "${{" too
		}
		if strings.IndexByte(" \t\r\n;{", c) >= 0 {
			return p.text[start:p.pos], nil
		}
		if dollar = c == '$'; c == '\\' {
			p.pos++
		}
	}
	p.pos = min(p.pos, len(p.text))
	return p.text[start:p.pos], nil
}

// print writes a node with three blanks per level.
func (n *node) print(b *strings.Builder, level int) {
	b.WriteString(strings.Repeat("   ", level))
	if n.comment {
		b.WriteString(n.args[0])
		b.WriteByte('\n')
		return
	}
	b.WriteString(n.args[0])
	if len(n.args) > 1 {
		sep := "   "
		if n.isBlock {
			sep = " "
		}
		b.WriteString(sep)
		b.WriteString(strings.Join(n.args[1:], " "))
	}
	if !n.isBlock {
		b.WriteString(";\n")
		return
	}
	b.WriteString(" {\n")
	for _, c := range n.block {
		c.print(b, level+1)
	}
	b.WriteString(strings.Repeat("   ", level) + "}\n")
}

// dir makes a directive, block a block of directives.
func dir(args ...string) *node { return &node{args: args} }

func block(args []string, children ...*node) *node {
	return &node{args: args, isBlock: true, block: children}
}

// file is a configuration file as blocks that can be changed one by one; the bytes of the others stay.
type file struct {
	items []*item
	tail  string // after the last item
}

type item struct {
	raw string // with what stands before it: blank lines and comments
	n   *node
}

func parseFile(text string) (*file, error) {
	nodes, err := parse(text)
	if err != nil {
		return nil, err
	}
	f := &file{}
	at := 0
	for _, n := range nodes {
		if n.comment {
			continue
		}
		f.items = append(f.items, &item{raw: text[at:n.end], n: n})
		at = n.end
	}
	f.tail = text[at:]
	return f, nil
}

func (f *file) clone() *file {
	return &file{items: append([]*item(nil), f.items...), tail: f.tail}
}

// text is the file's content. Lines the agent wrote end in a line break; so does an item before them.
func (f *file) text() string {
	var b strings.Builder
	for i, it := range f.items {
		if i > 0 && !strings.HasPrefix(it.raw, "\n") && !strings.HasPrefix(it.raw, "\r\n") {
			b.WriteByte('\n')
		}
		b.WriteString(it.raw)
	}
	b.WriteString(f.tail)
	text := b.String()
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}

// newItem prints a block the agent made or changed.
func newItem(n *node) *item {
	var b strings.Builder
	n.print(&b, 0)
	return &item{raw: strings.TrimSuffix(b.String(), "\n"), n: n}
}

// replace puts items where the first of the removed ones stood, or at the end.
func (f *file) replace(removed func(*item) bool, added []*item) {
	var out []*item
	at := -1
	for _, it := range f.items {
		if removed(it) {
			if at < 0 {
				at = len(out)
			}
			continue
		}
		out = append(out, it)
	}
	if at < 0 {
		at = len(out)
	}
	rest := append([]*item(nil), out[at:]...)
	f.items = append(append(out[:at:at], added...), rest...)
}
