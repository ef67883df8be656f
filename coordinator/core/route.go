package core

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const oneWildcard = "an app has at most one name with a wildcard"

var hostnamePattern = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// NormalHostname is the form in which a route's name is stored: lower-case A-labels without a trailing dot. It says
// whether the name can be a route at all.
func NormalHostname(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	wild, rest := "", name
	if after, ok := strings.CutPrefix(name, "*."); ok {
		wild, rest = "*.", after
	}
	if len(rest) > 1000 || !utf8.ValidString(rest) { // before any costly work, and before anything is put in for bad bytes
		return "", false
	}
	ascii, err := idna.Lookup.ToASCII(rest)
	if err != nil {
		return "", false
	}
	full := wild + strings.ToLower(ascii)
	last := full[strings.LastIndexByte(full, '.')+1:]
	numeric := strings.Trim(last, "0123456789") == "" // an address, such as 10.0.0.1
	return full, len(full) <= 253 && !numeric && hostnamePattern.MatchString(full)
}

func isWildcard(hostname string) bool { return strings.HasPrefix(hostname, "*.") }

// OwnershipToken is the value that proves that an account owns a name, published as TXT "vhost=<token>": 32 hex digits,
// the same on every call, different for every account and name, and not to be guessed.
func OwnershipToken(secret []byte, account AccountID, hostname string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("gandi-vhost-v1\x00" + string(account) + "\x00" + hostname))
	return hex.EncodeToString(mac.Sum(nil))[:32]
}

// owned says whether an account may use a name: it lies in a zone we host and nobody serves it, or its owner published the
// token.
func (c *Core) owned(ctx context.Context, account AccountID, hostname string, served bool) bool {
	for _, zone := range c.HostedZones {
		if !served && (hostname == zone || strings.HasSuffix(hostname, "."+zone)) {
			return true
		}
	}
	if c.Prover == nil {
		return false
	}
	ok, err := c.Prover.Proven(ctx, hostname, "vhost="+OwnershipToken(c.OwnershipSecret, account, hostname))
	if err != nil {
		c.Log.Warn("ownership could not be looked up", "hostname", hostname, "err", err)
	}
	return ok
}

// checkRoutes normalises names and finds every problem with them, in the order of the request.
func (c *Core) checkRoutes(ctx context.Context, account AccountID, names []string) (normal []string, problems []Problem, err error) {
	if len(names) > maxRoutes {
		return nil, []Problem{{Field: "vhosts", Code: ProblemTooBig, Msg: fmt.Sprintf("at most %d names", maxRoutes)}}, nil
	}
	for _, name := range names {
		n, ok := NormalHostname(name)
		switch {
		case !ok:
			problems = append(problems, Problem{Field: "vhosts", Code: ProblemPattern, Msg: "not a host name: " + clip(name)})
		case slices.Contains(normal, n):
			problems = append(problems, Problem{Field: "vhosts", Code: ProblemDuplicate, Msg: n + " is named twice"})
		case isWildcard(n) && slices.ContainsFunc(normal, isWildcard):
			problems = append(problems, Problem{Field: "vhosts", Code: ProblemDuplicate, Msg: oneWildcard})
		default:
			normal = append(normal, n)
		}
	}
	proven := make([]bool, len(normal))
	taken := make([]bool, len(normal))
	err = c.Store.View(ctx, func(r Reader) error {
		for i, n := range normal {
			switch _, err := r.Route(n); {
			case err == nil:
				taken[i] = true
			case !isNotFound(err):
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var wg sync.WaitGroup
	for i, n := range normal {
		if !taken[i] {
			wg.Go(func() { proven[i] = c.owned(ctx, account, n, false) })
		}
	}
	wg.Wait()
	for i, n := range normal {
		switch {
		case taken[i]:
			problems = append(problems, Problem{Field: "vhosts", Code: ProblemTaken, Msg: n + " is served already"})
		case !proven[i]:
			problems = append(problems, c.unproven("vhosts", account, n))
		}
	}
	return normal, problems, nil
}

// unproven is the problem of a name whose ownership is not proven, with what has to be published.
func (c *Core) unproven(field string, account AccountID, hostname string) Problem {
	return Problem{Field: field, Code: ProblemUnproven, Msg: "You must put a TXT value in your zone",
		Allowed: []string{hostname, "vhost=" + OwnershipToken(c.OwnershipSecret, account, hostname)}}
}

// clip keeps hostile input short and on one line.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}
