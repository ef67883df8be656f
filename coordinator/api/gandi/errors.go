package gandi

import (
	"errors"
	"fmt"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// code is a fault number in its parts: side*100000 + object*100 + cause. Clients split on the side: 5 is the caller's
// data, 1 is the server.
type code struct{ side, object, cause int }

func (c code) number() int { return c.side*100000 + c.object*100 + c.cause }

// Objects and causes by their numbers (spec 1.5).
var (
	dataObjects = map[int]string{
		0: "UNKNOWN", 1: "PASSWORD", 10: "INTEGER", 11: "BOOLEAN", 12: "STRING", 13: "DATE", 14: "LIST", 15: "STRUCT", 16: "METHOD",
		18: "FLOAT", 19: "DURATION", 52: "FQDN", 101: "ACCOUNT", 102: "OPERATION", 300: "HOSTING_ACCOUNT", 304: "DISK", 327: "DATACENTER",
		375: "PAAS", 376: "VIRTUALHOST", 378: "SNAPSHOT_PROFILE",
	}
	dataCauses = map[int]string{
		0: "UNKNOWN", 10: "TYPE", 20: "SYNTAX", 30: "VALUE", 31: "SIZE", 32: "EXPECTED", 33: "UNEXPECTED", 35: "QUOTA_REACHED",
		37: "BADPARAMETER", 40: "DONTEXIST", 41: "EXIST", 42: "NOTFOUND", 50: "NORIGHT", 51: "DATACENTER", 60: "STATE",
		90: "INVALID_STEP", 95: "CANNOT_SHRINK", 99: "TOOMANY",
	}
	serverObjects = map[int]string{0: "UNKNOWN", 100: "DATABASE", 300: "NETWORK", 400: "SYSTEM", 500: "APPLICATION", 600: "SERVICE"}
	serverCauses  = map[int]string{0: "UNKNOWN", 4: "TOOMANY", 5: "UNAVAILABLE", 10: "CONNECTION", 20: "QUERY", 30: "CONF"}
)

// The codes that this package gives by itself, for what core never sees.
var (
	badSyntax    = code{5, 16, 20} // not XML, not a methodCall, over a limit
	tooFewArgs   = code{5, 16, 32}
	tooManyArgs  = code{5, 16, 33}
	notInteger   = code{5, 10, 10}
	notBoolean   = code{5, 11, 10}
	notString    = code{5, 12, 10}
	notDate      = code{5, 13, 10}
	notList      = code{5, 14, 10}
	tooLongList  = code{5, 14, 99}
	notStruct    = code{5, 15, 10}
	missingKey   = code{5, 15, 32}
	unknownKey   = code{5, 15, 33}
	badParameter = code{5, 0, 37}
	badDuration  = code{5, 19, 30}
	badFQDN      = code{5, 52, 37}
	badPassword  = code{5, 1, 30}
	badKey       = code{5, 101, 50} // gandi.cli knows this number
	noPaas       = code{5, 375, 42}
	noVhost      = code{5, 376, 42}
	paasState    = code{5, 375, 60}
	serviceBusy  = code{1, 600, 4}
	serverBug    = code{1, 500, 0}
)

// fault is a failure as callers see it. A zero code means an unsupported method, whose number is 1 and whose text stands alone.
type fault struct {
	code code
	text string
	kind core.Kind // for the log
}

func faultf(c code, format string, args ...any) *fault {
	return &fault{code: c, text: fmt.Sprintf(format, args...), kind: core.Invalid}
}

func (f *fault) number() int {
	if f.code == (code{}) {
		return 1
	}
	return f.code.number()
}

// Error is the faultString.
func (f *fault) Error() string {
	if f.code == (code{}) {
		return f.text
	}
	objects, causes := dataObjects, dataCauses
	if f.code.side == 1 {
		objects, causes = serverObjects, serverCauses
	}
	return fmt.Sprintf("Error on object : OBJECT_%s (CAUSE_%s) [%s]", objects[f.code.object], causes[f.code.cause], f.text)
}

// subject is a kind of failure about an object.
type subject struct {
	kind   core.Kind
	object core.Object
}

// kindCode is the code of a kind of failure, whatever it is about; every kind has one.
var kindCode = map[core.Kind]code{
	core.Internal:        serverBug,
	core.Invalid:         badParameter,
	core.Unauthenticated: badKey,
	core.Forbidden:       {5, 0, 50},
	core.NotFound:        {5, 0, 42},
	core.Exists:          {5, 0, 41},
	core.Busy:            {5, 0, 60},
	core.Quota:           {5, 375, 35},
	core.Unproven:        {5, 376, 50},
	core.Unavailable:     {1, 600, 5},
	core.Unsupported:     {1, 600, 30},
	core.RateLimited:     serviceBusy,
}

// subjectCode is more exact where the original has an object of its own.
var subjectCode = map[subject]code{
	{core.NotFound, core.ObjApp}:        noPaas,
	{core.NotFound, core.ObjNode}:       noPaas,
	{core.NotFound, core.ObjRoute}:      noVhost,
	{core.NotFound, core.ObjLocation}:   {5, 327, 42},
	{core.NotFound, core.ObjOperation}:  {5, 102, 42},
	{core.NotFound, core.ObjVolume}:     {5, 304, 42},
	{core.NotFound, core.ObjSnapshot}:   {5, 304, 42},
	{core.Busy, core.ObjSnapshot}:       {5, 304, 60},
	{core.NotFound, core.ObjAccount}:    {5, 300, 40},
	{core.Quota, core.ObjCertificate}:   {5, 0, 35},
	{core.Exists, core.ObjApp}:          {5, 375, 41},
	{core.Exists, core.ObjRoute}:        {5, 376, 41},
	{core.Busy, core.ObjApp}:            paasState,
	{core.Busy, core.ObjNode}:           paasState,
	{core.Busy, core.ObjRoute}:          {5, 376, 60},
	{core.Busy, core.ObjLocation}:       {5, 327, 51},
	{core.Busy, core.ObjOperation}:      {5, 102, 90},
	{core.Forbidden, core.ObjApp}:       {5, 375, 50},
	{core.Forbidden, core.ObjRoute}:     {5, 376, 50},
	{core.Forbidden, core.ObjLocation}:  {5, 327, 51},
	{core.Forbidden, core.ObjOperation}: {5, 102, 50},
	{core.Invalid, core.ObjVolume}:      {5, 304, 95},
}

// problemCode is the code of what is wrong with a member, whichever it is; every code of core has one.
var problemCode = map[core.ProblemCode]code{
	core.ProblemMissing:   missingKey,
	core.ProblemUnknown:   unknownKey,
	core.ProblemType:      notStruct,
	core.ProblemNotInList: badParameter,
	core.ProblemPattern:   badParameter,
	core.ProblemTooShort:  badParameter,
	core.ProblemTooLong:   badParameter,
	core.ProblemTooSmall:  badParameter,
	core.ProblemTooBig:    badParameter,
	core.ProblemShrinks:   {5, 304, 95},
	core.ProblemDuplicate: badParameter,
	core.ProblemPassword:  badPassword,
	core.ProblemUnproven:  {5, 376, 50},
	core.ProblemNotFound:  {5, 0, 42},
	core.ProblemTaken:     {5, 0, 41},
}

// memberProblem is one thing wrong with one member, by the name it has on this wire.
type memberProblem struct {
	field string
	code  core.ProblemCode
}

// memberCode is more exact for some members.
var memberCode = map[memberProblem]code{
	{"duration", core.ProblemPattern}:          badDuration,
	{"duration", core.ProblemTooSmall}:         badDuration,
	{"duration", core.ProblemTooBig}:           badDuration,
	{"vhosts", core.ProblemPattern}:            badFQDN,
	{"vhosts", core.ProblemTooLong}:            badFQDN,
	{"vhosts", core.ProblemTaken}:              {5, 376, 41},
	{"vhost", core.ProblemPattern}:             badFQDN,
	{"vhost", core.ProblemTaken}:               {5, 376, 41},
	{"name", core.ProblemTaken}:                {5, 375, 41},
	{"datacenter_id", core.ProblemNotFound}:    {5, 327, 42},
	{"datacenter_id", core.ProblemNotInList}:   {5, 327, 42},
	{"snapshot_profile", core.ProblemNotFound}: {5, 378, 42},
}

// faultOf is the one place where a failure becomes a fault. What nobody classified is our own bug: its text stays in the log.
func faultOf(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Kind == core.Internal {
		return &fault{code: serverBug, text: "Internal Server Error", kind: core.Internal}
	}
	if len(e.Problems) > 0 {
		f := problemFault(onThisWire(e.Problems[0]))
		f.kind = e.Kind
		return f
	}
	c, ok := subjectCode[subject{e.Kind, e.Object}]
	if !ok {
		c = kindCode[e.Kind]
	}
	return &fault{code: c, text: e.Msg, kind: e.Kind}
}

// onThisWire gives a problem of core the member's name on this wire.
func onThisWire(p core.Problem) core.Problem {
	switch p.Field {
	case "location":
		p.Field = "datacenter_id"
	case "hostname":
		p.Field = "vhost"
	case "root_password":
		p.Field = "reset_mysql_password"
	}
	return p
}

func problemFault(p core.Problem) *fault {
	c, ok := memberCode[memberProblem{p.Field, p.Code}]
	if !ok {
		c = problemCode[p.Code]
	}
	if p.Code == core.ProblemType {
		c = members[p.Field].wrongType()
	}
	text := p.Msg
	switch p.Code {
	case core.ProblemMissing:
		text = fmt.Sprintf("missing mandatory key '%s'", p.Field)
	case core.ProblemUnknown:
		text = fmt.Sprintf("unknown key '%s'", clip(p.Field))
	case core.ProblemUnproven:
		if len(p.Allowed) == 2 {
			text = fmt.Sprintf("%s: %s %s", p.Msg, p.Allowed[0], p.Allowed[1])
		}
	default:
		text = fmt.Sprintf("%s: %s", p.Field, text)
	}
	return faultf(c, "%s", text)
}

// clip keeps text of a caller that a fault or a log line repeats short and on one line.
func clip(s string) string {
	out := make([]rune, 0, 64)
	for _, r := range s {
		if len(out) == 64 {
			return string(out) + "..."
		}
		if r < ' ' || r == 0x7f {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}
