package gandi

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// memberType is what a member of a spec must be.
type memberType uint8

const (
	stringMember memberType = iota
	enumMember              // a string of a list
	intMember
	boolMember
	listMember
)

func (t memberType) wrongType() code {
	return [...]code{notString, notString, notInteger, notBoolean, notList}[t]
}

// name is the field_type of a dry run's items.
func (t memberType) name() string {
	return [...]string{"String", "Enum", "Int", "Boolean", "List"}[t]
}

// what is how a text calls a value of the type.
func (t memberType) what() string {
	return [...]string{"a string", "a string", "an integer", "a boolean", "a list"}[t]
}

// invalid is the error of a dry run's item about a value that has the wrong type.
func (t memberType) invalid() string {
	return [...]string{"!EC_VALIDSTRING", "!EC_VALIDSTRING", "!EC_VALIDINT", "!EC_VALIDBOOL", "!EC_VALIDLIST"}[t]
}

// members are those of all specs, by what they must be (spec 2.5, 2.6, 2.7). A name means the same in each of them.
var members = map[string]memberType{
	"name": stringMember, "size": enumMember, "type": enumMember, "datacenter_id": intMember, "duration": stringMember,
	"password": stringMember, "vhosts": listMember, "quantity": intMember, "keys": listMember, "snapshot_profile": intMember,
	"zone_alter": boolMember, "override": boolMember, "fixed": boolMember, dryRun: boolMember,
	"paas_id": intMember, "vhost": stringMember, "upgrade": boolMember, "console": boolMember, "reset_mysql_password": stringMember, "ssh_key": stringMember, "value": stringMember,
	"crt": stringMember, "key": stringMember,
}

const dryRun = "--dry-run"

// specReader reads the members of a spec and collects every problem, in the order of the struct.
type specReader struct {
	dry      bool
	problems []core.Problem
}

// read hands every member to member, which says whether it knows it. Nil is the same as absent.
func (s *specReader) read(v xmlrpc.Value, mandatory []string, member func(name string, v xmlrpc.Value) bool) {
	for _, m := range v.Members {
		switch {
		case m.Value.Kind == xmlrpc.Nil:
		case m.Name == dryRun:
			s.dry = s.boolean(m.Name, m.Value)
		case !member(m.Name, m.Value):
			s.bad(m.Name, core.ProblemUnknown, "this member is not known")
		}
	}
	for _, name := range mandatory {
		if _, ok := v.Member(name); !ok {
			s.bad(name, core.ProblemMissing, "this member is mandatory")
		}
	}
}

func (s *specReader) bad(field string, code core.ProblemCode, format string, args ...any) {
	s.problems = append(s.problems, core.Problem{Field: field, Code: code, Msg: fmt.Sprintf(format, args...)})
}

func (s *specReader) wrongType(field string, v xmlrpc.Value) {
	s.bad(field, core.ProblemType, "%s was expected, not %s", members[field].what(), v.What())
}

// appReader reads the spec of paas.create.
type appReader struct {
	specReader
	spec core.AppSpec
}

var mandatory = []string{"name", "size", "type", "datacenter_id", "duration", "password"}

func readApp(v xmlrpc.Value) *appReader {
	s := &appReader{}
	required := mandatory
	for _, by := range []string{"keys", "ssh_key"} {
		if _, ok := v.Member(by); ok { // the login needs no password then
			required = slices.DeleteFunc(slices.Clone(required), func(name string) bool { return name == "password" })
		}
	}
	s.read(v, required, s.member)
	return s
}

func (s *appReader) member(name string, v xmlrpc.Value) bool {
	switch name {
	case "name":
		s.spec.Name = s.text(name, v)
	case "size":
		s.spec.SizeID = s.text(name, v)
	case "type":
		s.spec.Type = s.text(name, v)
	case "password":
		s.spec.Password = core.Secret(s.text(name, v))
	case "duration":
		s.spec.Months = s.duration(s.text(name, v))
	case "datacenter_id":
		s.spec.LocationNo = s.integer(name, v)
	case "quantity":
		s.spec.ExtraGB = int(s.integer(name, v))
	case "vhosts":
		s.spec.Routes = s.texts(name, v)
	case "zone_alter", "override", "fixed":
		s.boolean(name, v)
	case "snapshot_profile":
		s.spec.SnapshotProfile = s.integer(name, v)
	case "keys":
		s.spec.KeyNums = s.integers(name, v)
	case "ssh_key":
		s.spec.Keys = []string{s.text(name, v)}
	default:
		return false
	}
	return true
}

func (s *specReader) text(name string, v xmlrpc.Value) string {
	text, ok := v.AsString()
	if !ok {
		s.wrongType(name, v)
	}
	return text
}

func (s *specReader) integer(name string, v xmlrpc.Value) int64 {
	n, ok := v.AsInt()
	if !ok {
		s.wrongType(name, v)
	}
	return n
}

func (s *specReader) boolean(name string, v xmlrpc.Value) bool {
	b, ok := v.AsBool()
	if !ok {
		s.wrongType(name, v)
	}
	return b
}

func (s *specReader) texts(name string, v xmlrpc.Value) []string {
	items, ok := v.AsList()
	if !ok {
		s.wrongType(name, v)
		return nil
	}
	var texts []string
	for _, item := range items {
		text, ok := item.AsString()
		if !ok {
			s.bad(name, core.ProblemType, "a list of strings was expected, not of %s", item.Kind)
			return nil
		}
		texts = append(texts, text)
	}
	return texts
}

func (s *specReader) integers(name string, v xmlrpc.Value) []int64 {
	items, ok := v.AsList()
	if !ok {
		s.wrongType(name, v)
		return nil
	}
	numbers := []int64{}
	for _, item := range items {
		n, ok := item.AsInt()
		if !ok {
			s.bad(name, core.ProblemType, "a list of integers was expected, not of %s", item.Kind)
			return nil
		}
		numbers = append(numbers, n)
	}
	return numbers
}

var durationPattern = regexp.MustCompile(`^([1-9][0-9]*)([my])$`)

// duration reads "3m" or "2y" as months. How long is too long is core's rule, so a number that does not fit becomes the
// largest.
func (s *specReader) duration(text string) int {
	m := durationPattern.FindStringSubmatch(text)
	if m == nil {
		if text != "" || !s.has("duration") {
			s.bad("duration", core.ProblemPattern, "string '%s' does not match '%s'", clip(text), durationPattern)
		}
		return 0
	}
	n, err := strconv.ParseInt(m[1], 10, 32)
	if err != nil {
		n = math.MaxInt32
	}
	if m[2] == "y" {
		n = min(n*12, math.MaxInt32)
	}
	return int(n)
}

func (s *specReader) has(field string) bool {
	return slices.ContainsFunc(s.problems, func(p core.Problem) bool { return p.Field == field })
}

// first is the problem that a real call reports: wrong types before missing and unknown members, those before values.
func (s *specReader) first() core.Problem {
	rank := func(p core.Problem) int {
		switch p.Code {
		case core.ProblemType:
			return 0
		case core.ProblemMissing, core.ProblemUnknown:
			return 1
		}
		return 2
	}
	return slices.MinFunc(s.problems, func(a, b core.Problem) int { return cmp.Compare(rank(a), rank(b)) })
}

// paasCreate answers with three operations, or with --dry-run with everything that is wrong.
func (c *call) paasCreate() error {
	v, err := c.argStruct(0)
	if err != nil {
		return err
	}
	s := readApp(v)
	if s.dry {
		return c.checkPaas(s)
	}
	if len(s.problems) > 0 {
		return problemFault(s.first())
	}
	_, ops, err := c.d.opts.Core.CreateApp(c.ctx, c.p, s.spec)
	if err != nil {
		return err
	}
	c.out.BeginArray()
	for _, op := range ops {
		writeOperation(c, c.accepted(op))
	}
	c.out.EndArray()
	return nil
}

// checkPaas adds to the problems that reading found those that core finds with the other members.
func (c *call) checkPaas(s *appReader) error {
	found, err := c.d.opts.Core.CheckApp(c.ctx, c.p, s.spec)
	if err != nil {
		return err
	}
	all := s.problems
	for _, p := range found {
		if p = onThisWire(p); !s.has(p.Field) {
			all = append(all, p)
		}
	}
	for i := range all {
		if all[i].Field == "datacenter_id" && all[i].Code == core.ProblemNotFound {
			if all[i].Allowed, err = c.datacenterIDs(); err != nil {
				return err
			}
		}
	}
	return c.writeProblems(all)
}

func (c *call) datacenterIDs() ([]string, error) {
	locations, err := c.locations()
	var ids []string
	for _, l := range locations {
		ids = append(ids, strconv.FormatInt(l.Num, 10))
	}
	return ids, err
}

// onlyDryRun reads an optional struct that may hold nothing but --dry-run.
func (c *call) onlyDryRun(i int) (bool, error) {
	opts, err := c.options(i)
	if err != nil {
		return false, err
	}
	for _, m := range opts.Members {
		if m.Name != dryRun {
			return false, faultf(unknownKey, "unknown key '%s'", clip(m.Name))
		}
	}
	v, ok := opts.Member(dryRun)
	if !ok {
		return false, nil
	}
	dry, ok := v.AsBool()
	if !ok {
		return false, faultf(notBoolean, "%s must be a boolean, not %s", dryRun, v.What())
	}
	return dry, nil
}

// itemErrors are the errors of a dry run's items (spec 4.1). A type's own is memberType.invalid.
var itemErrors = map[core.ProblemCode]string{
	core.ProblemMissing:   "EC_MISSINGMANDATORY",
	core.ProblemUnknown:   "EC_UNKNOWNFIELD",
	core.ProblemType:      "",
	core.ProblemNotInList: "!EC_ENUMIN",
	core.ProblemPattern:   "!EC_STRMATCH",
	core.ProblemTooShort:  "EC_STRTOOFEWCHARS",
	core.ProblemTooLong:   "EC_STRTOOMANYCHARS",
	core.ProblemTooSmall:  "EC_INTLOWER",
	core.ProblemTooBig:    "EC_INTGREATER",
	core.ProblemShrinks:   "EC_INTLOWER",
	core.ProblemDuplicate: "EC_LISTDUPLICATE",
	core.ProblemPassword:  "!EC_VALIDPASSWORD",
	core.ProblemUnproven:  "EC_TXT+EC_MISSINGMANDATORY",
	core.ProblemNotFound:  "!EC_ENUMIN",
	core.ProblemTaken:     "EC_EXIST",
}

// writeProblems answers a dry run: an array of {field, error, field_type, attr, reason}, always all five.
func (c *call) writeProblems(problems []core.Problem) error {
	c.out.BeginArray()
	for _, p := range problems {
		c.writeProblem(p)
	}
	c.out.EndArray()
	return nil
}

func (c *call) writeProblem(p core.Problem) {
	kind, text := members[p.Field], itemErrors[p.Code]
	fieldType := kind.name()
	switch p.Code {
	case core.ProblemType:
		text = kind.invalid()
	case core.ProblemMissing, core.ProblemUnknown, core.ProblemUnproven:
		fieldType = ""
	case core.ProblemPattern:
		fieldType = stringMember.name()
	case core.ProblemNotFound:
		fieldType = enumMember.name()
	case core.ProblemTooSmall, core.ProblemTooBig:
		if p.Field == "duration" { // a text to callers, a number to core
			text = itemErrors[core.ProblemPattern]
		}
	}
	c.out.BeginStruct()
	fieldField.String(c.out, clip(p.Field))
	fieldError.String(c.out, text)
	fieldFieldType.StringOrNil(c.out, fieldType)
	if len(p.Allowed) == 0 {
		fieldAttr.Nil(c.out)
	} else {
		fieldAttr.Begin(c.out)
		c.out.BeginArray()
		for _, a := range p.Allowed {
			c.out.String(a)
		}
		c.out.EndArray()
		c.out.EndMember()
	}
	fieldReason.String(c.out, p.Msg)
	c.out.EndStruct()
}
