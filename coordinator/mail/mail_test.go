package mail

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFolderTakesMessagesThatOnlyItsOwnerReads(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox")
	m, err := New(Options{Outbox: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Send(t.Context(), "ann@example.org", "Your passwörd", "line 1\nline 2\n"); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got the files %q, %v, want one", files, err)
	}
	st, err := os.Stat(files[0])
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", st.Mode(), err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"To: ann@example.org\r\n", "Subject: =?utf-8?q?Your_passw=C3=B6rd?=\r\n", "\r\n\r\nline 1\r\nline 2\r\n"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("got %q, want %q in it", data, want)
		}
	}
}

func TestAnAddressCannotCarryHeaders(t *testing.T) {
	m, err := New(Options{Outbox: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"", "nobody", "a@b.org\r\nBcc: c@d.org"} {
		if m.Send(t.Context(), to, "s", "t") == nil {
			t.Errorf("%q was taken for an address", to)
		}
	}
}

// relay is an SMTP server without TLS that takes one message.
func relay(t *testing.T) (addr string, got <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	all := make(chan string, 1)
	go func() {
		defer close(all)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		say := func(s string) { _, _ = conn.Write([]byte(s + "\r\n")) }
		say("220 relay")
		var b strings.Builder
		data := false
		for in := bufio.NewScanner(conn); in.Scan(); {
			line := in.Text()
			b.WriteString(line + "\n")
			switch {
			case data && line == ".":
				data = false
				say("250 taken")
			case data:
			case strings.HasPrefix(line, "EHLO"):
				say("250 relay")
			case line == "DATA":
				data = true
				say("354 go on")
			case line == "QUIT":
				say("221 bye")
				all <- b.String()
				return
			default:
				say("250 ok")
			}
		}
	}()
	return l.Addr().String(), all
}

func TestARelayTakesMessages(t *testing.T) {
	addr, got := relay(t)
	m, err := New(Options{Relay: addr, Plain: true, From: "paas@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Send(t.Context(), "ann@example.org", "Hello", "text"); err != nil {
		t.Fatal(err)
	}
	said := <-got
	for _, want := range []string{"MAIL FROM:<paas@example.org>", "RCPT TO:<ann@example.org>", "Subject: Hello", "text\n.\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("got %q, want %q in it", said, want)
		}
	}
}

func TestNothingGoesToARelayWithoutTLSUnlessAllowed(t *testing.T) {
	addr, got := relay(t)
	m, err := New(Options{Relay: addr})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Send(t.Context(), "ann@example.org", "Hello", "secret"); err == nil {
		t.Error("the message went out")
	}
	if said := <-got; strings.Contains(said, "secret") {
		t.Errorf("got %q", said)
	}
}
