// Package mail brings messages to people: over SMTP when a relay is configured, else into a folder from which an operator,
// or a mail system that watches it, takes them. Messages hold secrets: nobody but the owner of the folder can read it.
package mail

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/mail"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// Options configure a Mailer.
type Options struct {
	From     string // sender; "" means reeve@localhost
	Outbox   string // folder for messages when there is no relay; made when the first one comes
	Relay    string // host:port; "" means the folder
	User     string // "": the relay wants no login
	Password string
	// Plain lets messages go to a relay that offers no TLS. A login is sent over TLS or to this machine only, in any case.
	Plain bool
}

// Mailer sends messages. Its methods may be called from any goroutine.
type Mailer struct{ o Options }

// New checks the options.
func New(o Options) (*Mailer, error) {
	if o.From == "" {
		o.From = "reeve@localhost"
	}
	if _, err := mail.ParseAddress(o.From); err != nil {
		return nil, fmt.Errorf("mail: sender %q: %w", o.From, err)
	}
	if o.Relay == "" && o.Outbox == "" {
		return nil, errors.New("mail: neither a relay nor a folder")
	}
	return &Mailer{o: o}, nil
}

// Send sends one text to one address.
//
// Errors: the address is none; the relay refuses or does not answer; the folder cannot be written
// Effects: a message at the relay, or <outbox>/<time>-<random>.eml with mode 0600
func (m *Mailer) Send(ctx context.Context, to, subject, text string) error {
	addr, err := mail.ParseAddress(to)
	if err != nil || strings.ContainsAny(to, "\r\n") {
		return errors.New("mail: not an e-mail address")
	}
	data := m.message(addr.Address, subject, text)
	if m.o.Relay == "" {
		return m.keep(data)
	}
	return m.relay(ctx, addr.Address, data)
}

// message is RFC 5322 with a text in UTF-8, lines ending in CRLF.
func (m *Mailer) message(to, subject, text string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@reeve>\r\n", m.o.From, to,
		mime.QEncoding.Encode("utf-8", subject), time.Now().UTC().Format(time.RFC1123Z), strings.ToLower(rand.Text()))
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	b.WriteString(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n"))
	return b.Bytes()
}

func (m *Mailer) keep(data []byte) error {
	if err := os.MkdirAll(m.o.Outbox, 0o700); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	name := time.Now().UTC().Format("20060102T150405.000000") + "-" + strings.ToLower(rand.Text()[:8]) + ".eml"
	return renameio.WriteFile(filepath.Join(m.o.Outbox, name), data, 0o600)
}

func (m *Mailer) relay(ctx context.Context, to string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	host, _, err := net.SplitHostPort(m.o.Relay)
	if err != nil {
		return fmt.Errorf("mail: relay: %w", err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.o.Relay)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); ok {
		if err := c.StartTLS(&tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}); err != nil {
			return fmt.Errorf("mail: %w", err)
		}
	} else if !m.o.Plain {
		return errors.New("mail: the relay offers no TLS, and sending without is not allowed")
	}
	if m.o.User != "" {
		if err := c.Auth(smtp.PlainAuth("", m.o.User, m.o.Password, host)); err != nil {
			return fmt.Errorf("mail: log in at the relay: %w", err)
		}
	}
	from, _ := mail.ParseAddress(m.o.From)
	if err := errors.Join(c.Mail(from.Address), c.Rcpt(to)); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	w, err := c.Data()
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	return c.Quit()
}
