package gandi

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/reeve-paas/reeve/coordinator/core"
)

var faultPattern = regexp.MustCompile(`^Error on object : OBJECT_[A-Z_]+ \(CAUSE_[A-Z_]+\) \[[^\n]*\]$`)

// wellFormed checks that a fault's number has names for its parts.
func wellFormed(t *testing.T, what any, c code) {
	t.Helper()
	f := faultf(c, "text")
	if !faultPattern.MatchString(f.Error()) || c.side != 1 && c.side != 5 {
		t.Errorf("%v: got %d %q, want an object and a cause of the table", what, f.number(), f.Error())
	}
}

func TestEveryKindHasAFault(t *testing.T) {
	for _, k := range core.Kinds() {
		c, ok := kindCode[k]
		if !ok {
			t.Errorf("kind %q has no fault", k)
		}
		wellFormed(t, k, c)
		server := k == core.Internal || k == core.Unavailable || k == core.Unsupported || k == core.RateLimited
		if server != (c.side == 1) {
			t.Errorf("kind %q: got side %d, want 1 only for what is not the caller's fault", k, c.side)
		}
		for _, o := range []core.Object{"", core.ObjAccount, core.ObjApp, core.ObjRoute, core.ObjNode, core.ObjImage, core.ObjSize, core.ObjLocation,
			core.ObjCloud, core.ObjOperation, core.ObjVolume, core.ObjAllocation} {
			f := faultOf(fmt.Errorf("doing: %w", core.Wrap(k, o, errors.New("the cause"), "the message")))
			wellFormed(t, o, f.code)
			if f.kind != k {
				t.Errorf("%s %s: got kind %q", k, o, f.kind)
			}
			if strings.Contains(f.Error(), "the cause") || k != core.Internal && !strings.Contains(f.Error(), "the message") {
				t.Errorf("%s %s: got %q, want the message and not its cause", k, o, f.Error())
			}
		}
	}
	for s, c := range subjectCode {
		wellFormed(t, s, c)
	}
}

func TestEveryProblemHasAFaultAndAnItem(t *testing.T) {
	for _, p := range []core.ProblemCode{core.ProblemMissing, core.ProblemUnknown, core.ProblemType, core.ProblemNotInList, core.ProblemPattern,
		core.ProblemTooShort, core.ProblemTooLong, core.ProblemTooSmall, core.ProblemTooBig, core.ProblemShrinks, core.ProblemDuplicate, core.ProblemPassword,
		core.ProblemUnproven, core.ProblemNotFound, core.ProblemTaken} {
		if _, ok := problemCode[p]; !ok {
			t.Errorf("problem %q has no fault", p)
		}
		if text, ok := itemErrors[p]; !ok || text == "" && p != core.ProblemType {
			t.Errorf("problem %q has no error for dry runs", p)
		}
		for field := range members {
			f := faultOf(&core.Error{Kind: core.Invalid, Problems: []core.Problem{{Field: field, Code: p, Msg: "wrong", Allowed: []string{"a", "b"}}}})
			wellFormed(t, field, f.code)
		}
	}
	for m, c := range memberCode {
		wellFormed(t, m, c)
		if _, known := members[m.field]; !known {
			t.Errorf("%v names a member that specs do not have", m)
		}
	}
}

func TestEveryStateHasAWord(t *testing.T) {
	for _, s := range []core.AppState{core.AppCreating, core.AppRunning, core.AppStopped, core.AppFailed, core.AppDeleting} {
		if paasStates[s] == "" {
			t.Errorf("state %q of an app has no word", s)
		}
	}
	for _, s := range []core.RouteState{core.RouteCreating, core.RouteRunning, core.RouteFailed, core.RouteDeleting} {
		if vhostState[s] == "" {
			t.Errorf("state %q of a route has no word", s)
		}
	}
}

func TestEverySnapshotStateHasAWord(t *testing.T) {
	for _, s := range []core.SnapshotState{core.SnapshotCreating, core.SnapshotReady, core.SnapshotDeleting} {
		if snapshotStates[s] == "" {
			t.Errorf("state %q of a snapshot has no word", s)
		}
	}
}

func TestUnclassifiedErrorsTellNothing(t *testing.T) {
	for _, err := range []error{errors.New("open /var/lib/x: secret"), core.Wrap(core.Internal, "", errors.New("x"), "secret")} {
		f := faultOf(err)
		if got := f.Error(); f.number() != 150000 || got != "Error on object : OBJECT_APPLICATION (CAUSE_UNKNOWN) [Internal Server Error]" {
			t.Errorf("got %d %q", f.number(), got)
		}
	}
}

func TestFaultNumbersOfTheSpec(t *testing.T) {
	for want, c := range map[int]code{
		501620: badSyntax, 501632: tooFewArgs, 501633: tooManyArgs, 501010: notInteger, 501110: notBoolean, 501210: notString, 501310: notDate,
		501410: notList, 501510: notStruct, 501532: missingKey, 501533: unknownKey, 500037: badParameter, 501930: badDuration, 505237: badFQDN,
		500130: badPassword, 510150: badKey, 537542: noPaas, 537642: noVhost, 537560: paasState, 150000: serverBug,
		530040: subjectCode[subject{core.NotFound, core.ObjAccount}], 537641: subjectCode[subject{core.Exists, core.ObjRoute}],
		537650: kindCode[core.Unproven], 530495: subjectCode[subject{core.Invalid, core.ObjVolume}], 532742: subjectCode[subject{core.NotFound, core.ObjLocation}],
		532751: subjectCode[subject{core.Busy, core.ObjLocation}], 537842: memberCode[memberProblem{"snapshot_profile", core.ProblemNotFound}],
		510242: subjectCode[subject{core.NotFound, core.ObjOperation}], 510290: subjectCode[subject{core.Busy, core.ObjOperation}],
		537535: kindCode[core.Quota], 160005: kindCode[core.Unavailable],
	} {
		if got := c.number(); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}

func TestLikePatterns(t *testing.T) {
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{
		{"am", "GAMMA", true}, {"", "x", true}, {"%", "", true}, {"a%", "abc", true}, {"a%", "ba", false}, {"%c", "abc", true}, {"%c", "cb", false},
		{"a%c", "abc", true}, {"a%c", "ac", true}, {"ab%ba", "aba", false}, {"*b*d*", "abcde", true}, {"*d*b*", "abcde", false}, {"a*b*c", "aXbYc", true}, {"É*", "éa", true},
	} {
		if got := likePattern(tc.pattern)(tc.text); got != tc.want {
			t.Errorf("%q on %q: got %v, want %v", tc.pattern, tc.text, got, tc.want)
		}
	}
}
