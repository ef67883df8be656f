package rpcserver

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/crypto/envelope"
)

func macOf(n int) envelope.MAC {
	var m envelope.MAC
	binary.BigEndian.PutUint64(m[:], uint64(n))
	return m
}

const window = 300 * time.Second

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func mustJournal(t *testing.T, dir string, limit int) *journal {
	t.Helper()
	j, err := openJournal(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.close() })
	return j
}

func TestARequestIsForgottenAfterTwiceTheWindow(t *testing.T) {
	g := newReplayGuard(100, window, nil, noon)
	dated := noon.Add(window) // a clock ahead of ours: valid for twice the window from now
	if err := g.use(macOf(1), dated, noon); err != nil {
		t.Fatal(err)
	}
	if err := g.use(macOf(1), dated, noon.Add(2*window)); !errors.Is(err, errReplay) {
		t.Errorf("got %v, want it remembered for as long as its date is valid", err)
	}
	if err := g.use(macOf(2), noon.Add(3*window), noon.Add(2*window+2*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := g.size(); got != 1 {
		t.Errorf("got %d remembered, want only the second", got)
	}
}

func TestWithoutAWindowTheOldestIsPushedOut(t *testing.T) {
	g := newReplayGuard(10, -1, nil, noon)
	for i := range 1000 {
		if err := g.use(macOf(i), time.Unix(0, 0), noon.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if got := g.size(); got != 10 || len(g.queue)-g.head != 10 || cap(g.queue) > 100 {
		t.Errorf("got %d remembered in a queue of %d with room for %d, want 10 in a small one", got, len(g.queue)-g.head, cap(g.queue))
	}
	for i := 990; i < 1000; i++ {
		if err := g.use(macOf(i), noon, noon); !errors.Is(err, errReplay) {
			t.Errorf("request %d: got %v, want a replay", i, err)
		}
	}
}

func TestAJournalStaysSmallAndKeepsWhatCounts(t *testing.T) {
	dir := t.TempDir()
	g := newReplayGuard(10, window, mustJournal(t, dir, 10), noon)
	for i := range 1000 {
		if err := g.use(macOf(i), noon, noon); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, journalName))
		if err != nil || info.Size() > int64(20*recordSize) {
			t.Fatalf("got %v, %v, want at most 20 records", info, err)
		}
	}
	again := newReplayGuard(10, window, mustJournal(t, dir, 10), noon.Add(time.Minute))
	for i := 990; i < 1000; i++ {
		if err := again.use(macOf(i), noon, noon.Add(time.Minute)); !errors.Is(err, errReplay) {
			t.Errorf("request %d: got %v, want a replay", i, err)
		}
	}
	late := newReplayGuard(10, window, mustJournal(t, dir, 10), noon.Add(time.Hour))
	if got := late.size(); got != 0 {
		t.Errorf("got %d remembered after an hour, want 0", got)
	}
}

func TestATornRecordIsDropped(t *testing.T) {
	dir := t.TempDir()
	g := newReplayGuard(10, window, mustJournal(t, dir, 10), noon)
	for i := range 3 {
		if err := g.use(macOf(i), noon, noon); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, journalName)
	if err := os.Truncate(path, int64(3*recordSize-5)); err != nil {
		t.Fatal(err)
	}
	g = newReplayGuard(10, window, mustJournal(t, dir, 10), noon)
	for i, want := range []error{errReplay, errReplay, nil} {
		if err := g.use(macOf(i), noon, noon); !errors.Is(err, want) {
			t.Errorf("request %d: got %v, want %v", i, err, want)
		}
	}
	g = newReplayGuard(10, window, mustJournal(t, dir, 10), noon)
	if got := g.size(); got != 3 {
		t.Errorf("got %d remembered, want the torn record written over", got)
	}
}

func TestAJournalThatCannotBeWrittenStillRefusesReplays(t *testing.T) {
	j := mustJournal(t, t.TempDir(), 10)
	g := newReplayGuard(10, window, j, noon)
	j.file.Close()
	if err := g.use(macOf(1), noon, noon); err == nil || errors.Is(err, errReplay) {
		t.Errorf("got %v, want the write's error", err)
	}
	if err := g.use(macOf(1), noon, noon); !errors.Is(err, errReplay) {
		t.Errorf("got %v, want a replay", err)
	}
}
