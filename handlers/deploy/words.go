package deploy

import (
	"strings"
	"unicode/utf8"
)

// This file is pure: a command of a Procfile in, what systemd is to run out.

const maxCommand = 4096 // bytes

// shellWords begin lines that only a shell can run.
var shellWords = map[string]bool{
	"!": true, "{": true, ".": true, "alias": true, "case": true, "cd": true, "command": true, "eval": true, "exec": true, "export": true,
	"for": true, "if": true, "read": true, "set": true, "source": true, "trap": true, "type": true, "ulimit": true, "umask": true,
	"unset": true, "until": true, "wait": true, "while": true,
}

// piece is a part of a word: text as it is, or the name of a variable.
type piece struct {
	text     string
	variable bool
}

// word is one argument of a command.
type word struct {
	pieces []piece
	quoted bool
}

func (w *word) add(p piece) {
	if last := len(w.pieces) - 1; last >= 0 && !p.variable && !w.pieces[last].variable {
		w.pieces[last].text += p.text
		return
	}
	w.pieces = append(w.pieces, p)
}

// literal is the word's text, when it has no variable.
func (w word) literal() (string, bool) {
	switch {
	case len(w.pieces) == 0:
		return "", true
	case len(w.pieces) == 1 && !w.pieces[0].variable:
		return w.pieces[0].text, true
	}
	return "", false
}

// checkCommand refuses what can be no command of one line.
func checkCommand(line string) error {
	if err := checkHook(line); err != nil {
		return err
	}
	if strings.Contains(line, "\n") {
		return invalid("a command is one line")
	}
	return nil
}

// checkHook refuses what can be no text for a shell.
func checkHook(text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return invalid("a command is empty")
	case len(text) > maxCommand:
		return invalid("a command is longer than %d bytes", maxCommand)
	case !utf8.ValidString(text):
		return invalid("a command is not UTF-8")
	case strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' || r == 0x7f }) >= 0:
		return invalid("a command holds a control character")
	}
	return nil
}

// splitCommand cuts a line into words as a shell does: quotes, backslashes, $NAME and ${NAME}. shell is true when the line
// asks for more than that, and has to be read by a shell.
func splitCommand(line string) (words []word, shell bool, err error) {
	if err := checkCommand(line); err != nil {
		return nil, false, err
	}
	var now *word
	open := func() *word {
		if now == nil {
			now = &word{}
		}
		return now
	}
	closeWord := func() {
		if now != nil {
			words = append(words, *now)
			now = nil
		}
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t':
			closeWord()
		case '|', '&', ';', '<', '>', '(', ')', '`', '*', '?', '[':
			return nil, true, nil
		case '~', '#':
			if now == nil {
				return nil, true, nil
			}
			open().add(piece{text: line[i : i+1]})
		case '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, false, invalid("a quote of the command %.80q is not closed", line)
			}
			open().quoted = true
			open().add(piece{text: line[i+1 : i+1+end]})
			i += end + 1
		case '"':
			open().quoted = true
			end, more, err := doubleQuoted(open(), line, i+1)
			if err != nil || more {
				return nil, more, err
			}
			i = end
		case '\\':
			if i++; i == len(line) {
				return nil, false, invalid("the command %.80q ends with a backslash", line)
			}
			open().add(piece{text: line[i : i+1]})
		case '$':
			p, n, more := variable(line[i:])
			if more {
				return nil, true, nil
			}
			open().add(p)
			i += n - 1
		default:
			open().add(piece{text: line[i : i+1]})
		}
	}
	closeWord()
	if first, ok := words[0].literal(); ok && !words[0].quoted && shellWords[first] {
		return nil, true, nil
	}
	return words, false, nil
}

// doubleQuoted reads to the closing quote and returns its index.
func doubleQuoted(w *word, line string, i int) (end int, shell bool, err error) {
	for ; i < len(line); i++ {
		switch c := line[i]; c {
		case '"':
			return i, false, nil
		case '`':
			return 0, true, nil
		case '\\':
			if i+1 < len(line) && strings.IndexByte("\\\"$`", line[i+1]) >= 0 {
				i++
			}
			w.add(piece{text: line[i : i+1]})
		case '$':
			p, n, more := variable(line[i:])
			if more {
				return 0, true, nil
			}
			w.add(p)
			i += n - 1
		default:
			w.add(piece{text: line[i : i+1]})
		}
	}
	return 0, false, invalid("a quote of the command %.80q is not closed", line)
}

// variable reads $NAME or ${NAME} and says how long it is. A dollar before anything else that means something to a shell
// is for a shell.
func variable(s string) (p piece, length int, shell bool) {
	if strings.HasPrefix(s, "${") {
		end := strings.IndexByte(s, '}')
		if end < 0 || !unitEnvName.MatchString(s[2:end]) {
			return piece{}, 0, true
		}
		return piece{text: s[2:end], variable: true}, end + 1, false
	}
	n := 1
	for n < len(s) && (s[n] == '_' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= 'a' && s[n] <= 'z' || n > 1 && s[n] >= '0' && s[n] <= '9') {
		n++
	}
	switch {
	case n > 1:
		return piece{text: s[1:n], variable: true}, n, false
	case len(s) > 1 && strings.IndexByte("({*@#?$!-'\"0123456789", s[1]) >= 0:
		return piece{}, 0, true
	}
	return piece{text: "$"}, 1, false
}

// execLine is a command as the value of systemd's ExecStart: env(1) finds the program by the PATH of the app's environment
// and takes NAME=value before it, as a shell does. A variable is put in by systemd from the environment file, so that no
// value stands in the unit.
func execLine(line string) (string, error) {
	words, shell, err := splitCommand(line)
	if err != nil {
		return "", err
	}
	if shell {
		return "/bin/sh -c " + quoteExec(strings.TrimSpace(line)), nil
	}
	var b strings.Builder
	b.WriteString("/usr/bin/env --")
	for _, w := range words {
		b.WriteByte(' ')
		if len(w.pieces) == 1 && w.pieces[0].variable && !w.quoted { // systemd splits its value, as a shell does
			b.WriteString("$" + w.pieces[0].text)
			continue
		}
		var text strings.Builder
		for _, p := range w.pieces {
			if p.variable {
				text.WriteString("${" + p.text + "}")
				continue
			}
			text.WriteString(escapeExec(p.text))
		}
		b.WriteString(`"` + text.String() + `"`)
	}
	return b.String(), nil
}

var execEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\t", `\t`, "\n", `\n`)

// escapeExec is text within double quotes of a command line of systemd (systemd.service(5), "COMMAND LINES").
func escapeExec(text string) string { return execEscapes.Replace(text) }

func quoteExec(text string) string { return `"` + escapeExec(text) + `"` }
