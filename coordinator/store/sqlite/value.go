package sqlite

import (
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// The types below are what columns are scanned into. database/sql hands them the driver's value directly, where it would
// take the long way through reflection for named types.

// number scans an INTEGER into an int64.
type number int64

func (n *number) Scan(v any) error {
	i, ok := v.(int64)
	if !ok {
		return fmt.Errorf("got a %T instead of a number", v)
	}
	*n = number(i)
	return nil
}

// count scans an INTEGER into an int.
type count int

func (c *count) Scan(v any) error { return scanInt(v, (*int)(c)) }

func scanInt(v any, into *int) error {
	i, ok := v.(int64)
	if !ok {
		return fmt.Errorf("got a %T instead of a number", v)
	}
	*into = int(i)
	return nil
}

// flag scans an INTEGER into a bool.
type flag bool

func (f *flag) Scan(v any) error {
	i, ok := v.(int64)
	*f = flag(i != 0)
	if !ok {
		return fmt.Errorf("got a %T instead of a flag", v)
	}
	return nil
}

// micros scans an INTEGER of microseconds into a time.Time; 0 is the zero time.
type micros time.Time

func (m *micros) Scan(v any) error {
	i, ok := v.(int64)
	if !ok {
		return fmt.Errorf("got a %T instead of a time", v)
	}
	if i == 0 {
		*m = micros{}
	} else {
		*m = micros(time.UnixMicro(i).UTC())
	}
	return nil
}

// text scans a TEXT into a string; NULL is "".
type text string

func (s *text) Scan(v any) error {
	switch v := v.(type) {
	case string:
		*s = text(v)
	case nil:
		*s = ""
	default:
		return fmt.Errorf("got a %T instead of a text", v)
	}
	return nil
}

func timeValue(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func flagValue(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// reference is NULL when there is nothing to refer to.
func reference[T ~string](id T) sql.NullString {
	return sql.NullString{String: string(id), Valid: id != ""}
}

func rolesText(roles []core.Role) string {
	words := make([]string, len(roles))
	for i, r := range roles {
		words[i] = string(r)
	}
	return strings.Join(words, ",")
}

func rolesOf(s string) []core.Role {
	if s == "" {
		return nil
	}
	var roles []core.Role
	for word := range strings.SplitSeq(s, ",") {
		roles = append(roles, core.Role(word))
	}
	return roles
}

// seal encrypts a secret of one row; nothing stays nothing.
func (t *tx) seal(secret []byte, table, id string) []byte {
	if len(secret) == 0 {
		return nil
	}
	return t.store.opts.Sealer.Seal(secret, table, id)
}

func (t *tx) unseal(blob []byte, table, id string) ([]byte, error) {
	if len(blob) == 0 {
		return nil, nil
	}
	secret, err := t.store.opts.Sealer.Open(blob, table, id)
	if err != nil {
		return nil, fmt.Errorf("open the secret of %s %s: %w", table, id, err)
	}
	return secret, nil
}
