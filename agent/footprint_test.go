package main

import (
	"os"
	"strings"
	"testing"
)

// rssFile is how much of files is in this process's memory, as the kernel says it.
func rssFile(t *testing.T) (kib int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
			for _, c := range strings.TrimSpace(rest) {
				if c < '0' || c > '9' {
					break
				}
				kib = kib*10 + int(c-'0')
			}
		}
	}
	return kib
}

func TestShrinkGivesPagesBackAndLosesNothing(t *testing.T) {
	before := rssFile(t)
	written := strings.Repeat("kept ", 1000)
	if err := shrink(); err != nil {
		t.Fatal(err)
	}
	if after := rssFile(t); after >= before {
		t.Errorf("got %d KiB of files in memory, want less than the %d of before", after, before)
	}
	if written != strings.Repeat("kept ", 1000) {
		t.Error("memory that was written is lost")
	}
}
