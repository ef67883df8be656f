package main

import (
	"context"
	"fmt"

	"github.com/reeve-paas/reeve/crypto/envelope"
	"github.com/reeve-paas/reeve/crypto/keyring"
)

const keygenHelp = `
Writes 40 random bytes in base64 to the key file, which only its owner can read. A key file that exists is kept unless
--force is given. The running agent uses a new key with the next request; its coordinator must learn it too.`

func keygen(_ context.Context, args []string, t terminal) error {
	flags := newFlags("keygen", t)
	out := flags.String("out", keyring.DefaultPath, "`file` to write; - prints the key instead")
	force := flags.Bool("force", false, "replace a key file that exists")
	if _, err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	text := envelope.NewKeyText()
	if *out == "-" {
		_, err := t.stdout.Write(text)
		return err
	}
	if err := keyring.WriteFile(*out, text, *force); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err := fmt.Fprintln(t.stdout, *out)
	return err
}
