package director_test

import (
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/crypto/authority"
)

// full are all documented fields of new_user.
func full(changes ...string) []string {
	v := map[string]string{"username": "ann", "fname": "Ann", "lname": "Other", "email": "ann@example.org", "affiliation": "VU",
		"password": "secret one", "credit": "7", "uuid": "<none>"}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "\x00" {
			delete(v, changes[i])
		} else {
			v[changes[i]] = changes[i+1]
		}
	}
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(v)) {
		pairs = append(pairs, k, v[k])
	}
	return pairs
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestUsers(t *testing.T) {
	b := newBed(t)
	created := b.post(nil, "/new_user", full()...)
	user := created.object(t)
	t.Run("1. new_user answers with exactly the documented keys", func(t *testing.T) {
		want := []string{"affiliation", "created", "credit", "email", "fname", "lname", "openid", "password", "uid", "username", "uuid"}
		if got := slices.Sorted(maps.Keys(user)); !slices.Equal(got, want) || created.status != 200 {
			t.Errorf("got %d with keys %q, want %q", created.status, got, want)
		}
	})
	t.Run("2. numbers are numbers and the time is ISO 8601", func(t *testing.T) {
		if user["uid"].(float64) < 1 || user["credit"] != float64(7) {
			t.Errorf("got uid %v and credit %v", user["uid"], user["credit"])
		}
		if at, err := time.Parse("2006-01-02T15:04:05.000000", user["created"].(string)); err != nil || time.Since(at.UTC()).Abs() > time.Minute {
			t.Errorf("got created %v, %v", user["created"], err)
		}
	})
	t.Run("3. the password is the MD5 of what was sent, and nothing stored has it", func(t *testing.T) {
		if user["password"] != md5Hex("secret one") {
			t.Errorf("got %v", user["password"])
		}
		files, _ := filepath.Glob(filepath.Join(b.dir, "reeve.db*"))
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil || strings.Contains(string(data), md5Hex("secret one")) || strings.Contains(string(data), "secret one") {
				t.Errorf("%s has the password or its digest (%v)", f, err)
			}
		}
	})
	t.Run("4. each required field is missed by its name", func(t *testing.T) {
		for _, f := range []string{"username", "fname", "lname", "email", "affiliation", "password", "credit"} {
			b.wantFailure(f, b.post(nil, "/new_user", full(f, "\x00")...), f+" is a required field")
		}
		b.wantFailure("an empty user name", b.post(nil, "/new_user", full("username", "")...), "username is a required field")
	})
	t.Run("5. uuid and openid may be missing, names and affiliation may be empty", func(t *testing.T) {
		got := b.post(nil, "/new_user", full("username", "five", "email", "five@example.org", "uuid", "\x00", "fname", "", "lname", "", "affiliation", "")...).object(t)
		if got["username"] != "five" || got["fname"] != "" || got["uuid"] != nil || got["openid"] != nil {
			t.Errorf("got %v", got)
		}
	})
	t.Run("6. a user name is taken once", func(t *testing.T) {
		b.wantFailure("again", b.post(nil, "/new_user", full("email", "other@example.org")...), `Username "ann" already taken`)
	})
	t.Run("7. an e-mail address is taken once, whatever its case, and the answer tells no more", func(t *testing.T) {
		b.wantFailure("again", b.post(nil, "/new_user", full("username", "ann2", "email", "ANN@example.org")...), `E-mail "ANN@example.org" already registered`)
	})
	t.Run("8. credit is a number from 0 to the maximum", func(t *testing.T) {
		for credit, msg := range map[string]string{
			"999":                  "Cannot allocate 999 credit for a new user (max credit 50).",
			"abc":                  `Required credit "abc" is not a valid integer.`,
			"-1":                   `Required credit "-1" cannot be a negative integer.`,
			"99999999999999999999": "Cannot allocate 99999999999999999999 credit for a new user (max credit 50).",
		} {
			b.wantFailure(credit, b.post(nil, "/new_user", full("username", "eight", "email", "eight@example.org", "credit", credit)...), msg)
		}
		if got := b.post(nil, "/new_user", full("username", "zero", "email", "zero@example.org", "credit", "0")...).object(t); got["credit"] != float64(0) {
			t.Errorf("credit 0: got %v", got)
		}
	})
	t.Run("9. nobody is called CA", func(t *testing.T) {
		for _, name := range []string{"CA", "ca", " Ca "} {
			b.wantFailure(name, b.post(nil, "/new_user", full("username", name, "email", "nine@example.org")...), "")
		}
	})
	t.Run("9. nor what means another account where people log in", func(t *testing.T) {
		for _, name := range []string{"ann@example.org", "RV1-REEVE", "rv77-reeve", strings.Repeat("x", 65), "a\nb", " a"} {
			b.wantFailure(name, b.post(nil, "/new_user", full("username", name, "email", "nine@example.org")...), "")
		}
	})
	t.Run("10. multipart and query parameters do as urlencoded ones", func(t *testing.T) {
		if got := b.upload(nil, "/new_user", nil, full("username", "ten", "email", "ten@example.org")...).object(t); got["username"] != "ten" {
			t.Errorf("multipart: got %v", got)
		}
		q := values(full("username", "ten2", "email", "ten2@example.org")...).Encode()
		if got := b.post(nil, "/new_user?"+q, "username", "ignored").object(t); got["username"] != "ten2" {
			t.Errorf("query: got %v", got)
		}
		if got := b.upload(nil, "/login?username=ten&password=secret+one", nil).object(t); got["username"] != "ten" {
			t.Errorf("a multipart body without fields: got %v", got)
		}
	})
	t.Run("11. text that is not ASCII survives", func(t *testing.T) {
		b.post(nil, "/new_user", full("username", "zoë", "email", "zoe@example.org", "fname", "Zoë", "password", "pässwörd")...)
		got := b.post(nil, "/login", "username", "zoë", "password", "pässwörd").object(t)
		if got["fname"] != "Zoë" || got["username"] != "zoë" || got["password"] != md5Hex("pässwörd") {
			t.Errorf("got %v", got)
		}
	})
	t.Run("12. login answers as new_user did", func(t *testing.T) {
		got := b.post(nil, "/login", "username", "ann", "password", "secret one").object(t)
		if !maps.Equal(got, user) {
			t.Errorf("got %v, want %v", got, user)
		}
	})
	t.Run("13. login fails with a bare false", func(t *testing.T) {
		b.wantBody("wrong password", b.post(nil, "/login", "username", "ann", "password", "wrong"), 200, "false")
		b.wantBody("unknown user", b.post(nil, "/login", "username", "nobody", "password", "secret one"), 200, "false")
		b.wantBody("no parameters", b.post(nil, "/login"), 200, "false")
	})
	t.Run("14. a uuid alone is no login", func(t *testing.T) {
		b.post(nil, "/new_user", full("username", "uu", "email", "uu@example.org", "uuid", "1234")...)
		b.wantBody("uuid", b.post(nil, "/login", "uuid", "1234"), 200, "false")
	})
	t.Run("15. GET /login is not allowed", func(t *testing.T) {
		if got := b.get(nil, "/login"); got.status != 405 || got.header.Get("Allow") != "POST" {
			t.Errorf("got %d, Allow %q", got.status, got.header.Get("Allow"))
		}
	})
	t.Run("an account made elsewhere logs in here, and the other way round", func(t *testing.T) {
		_, _, _, err := b.auth.CreateAccount(t.Context(), "gandi@example.org", "from elsewhere", false)
		b.must(err)
		got := b.post(nil, "/login", "username", "gandi@example.org", "password", "from elsewhere").object(t)
		if got["username"] != "gandi@example.org" || got["credit"] != float64(50) {
			t.Errorf("got %v", got)
		}
		if p, err := b.auth.Login(t.Context(), "ann@example.org", "secret one", "192.0.2.1"); err != nil || p.Account.Username != "ann" {
			t.Errorf("got %v, %v", p, err)
		}
	})
	t.Run("who guesses passwords waits, and so does who makes users without end", func(t *testing.T) {
		b := newBed(t)
		u := b.user("ann", "5")
		for range 4 {
			b.wantBody("a guess", b.post(nil, "/login", "username", "ann", "password", "wrong"), 200, "false")
		}
		b.wantBody("too early", b.post(nil, "/login", "username", "ann", "password", u.password), 200, "false")
		b.wantBody("too early for getcerts", b.post(nil, "/getcerts", "username", "ann", "password", u.password), 200, "false")
		if got := b.post(nil, "/login?service_id=0", "username", "ann", "password", u.password).object(t); !strings.Contains(got["error"].(string), "try again in") {
			t.Errorf("got %v", got)
		}
		next := 0
		one := func(cert *tls.Certificate) map[string]any {
			next++
			name := fmt.Sprintf("user%d", next)
			return b.post(cert, "/new_user", full("username", name, "email", name+"@example.org")...).object(t)
		}
		for range 20 {
			if got := one(nil); got["uid"] == nil {
				t.Fatalf("user %d: got %v", next, got)
			}
		}
		if got := one(nil); got["error"] != true || !strings.Contains(got["msg"].(string), "try again in") {
			t.Errorf("got %v", got)
		}
		frontend := b.forged(authority.Identity{CommonName: "front.test", Organization: "ConPaaS", Email: authority.DirectorEmail, Role: authority.RoleFrontend})
		if got := one(frontend); got["uid"] == nil {
			t.Errorf("the web frontend: got %v", got)
		}
	})
	t.Run("a closed Director makes nobody", func(t *testing.T) {
		closed := newBed(t, closedDirector)
		closed.wantFailure("new_user", closed.post(nil, "/new_user", full()...), "")
	})
}
