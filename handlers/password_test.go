package handlers_test

import (
	"regexp"
	"testing"

	"github.com/reeve-paas/reeve/handlers"
)

func TestRandomPassword(t *testing.T) {
	form, seen := regexp.MustCompile(`^[A-Za-z0-9]{10}$`), map[string]bool{}
	for range 1000 {
		p := string(handlers.RandomPassword())
		if !form.MatchString(p) || seen[p] {
			t.Fatalf("got %q, want ten letters and digits that were not there before", p)
		}
		seen[p] = true
	}
}
