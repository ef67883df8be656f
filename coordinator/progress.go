package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress shows a long step: one line that is drawn over on a terminal, a line per stage elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	start    time.Time
	stage    string
	drawn    bool
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, start: time.Now()}
	if f, ok := w.(*os.File); ok {
		st, err := f.Stat()
		p.terminal = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *progress) update(stage string, done, total int, detail string) {
	elapsed := time.Since(p.start).Round(time.Second)
	if !p.terminal {
		if stage != p.stage {
			fmt.Fprintf(p.w, "%6s  %s\n", elapsed, stage)
		}
		p.stage = stage
		return
	}
	p.stage = stage
	bar := ""
	if total > 0 {
		const width = 24
		full := width * min(done, total) / total
		bar = "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "] "
	}
	line := fmt.Sprintf("%6s  %s%s  %s", elapsed, bar, stage, detail)
	if r := []rune(line); len(r) > 100 {
		line = string(r[:100])
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
	p.drawn = true
}

func (p *progress) end() {
	if p.drawn {
		fmt.Fprintln(p.w)
	}
}
