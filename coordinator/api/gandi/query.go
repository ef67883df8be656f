package gandi

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
)

// Paging of lists (spec 2.1).
const (
	defaultPerPage = 100
	maxPerPage     = 500
	maxAnyOf       = 1000 // values of one filter
)

// columnKind is how a column's values are read, compared and sorted.
type columnKind uint8

const (
	intColumn columnKind = iota
	textColumn
	boolColumn
	timeColumn
)

// cell is one value of a row: num for integers and booleans, text, or at. A null matches nothing and sorts first.
type cell struct {
	num  int64
	text string
	at   time.Time
	null bool
}

func intCell(n int64) cell      { return cell{num: n} }
func textCell(s string) cell    { return cell{text: s} }
func timeCell(t time.Time) cell { return cell{at: t, null: t.IsZero()} }
func boolCell(b bool) cell {
	if b {
		return cell{num: 1}
	}
	return cell{}
}

// textOrNull is the cell of a text that is nil on the wire when it is empty.
func textOrNull(s string) cell { return cell{text: s, null: s == ""} }

// column is a field that lists can be filtered by, and sorted unless it is only a filter.
type column[T any] struct {
	name       string
	kind       columnKind
	value      func(*T) cell
	filterOnly bool
	any        func(*T) []cell // of a field with several values: a filter for a value wants one of them; nil: value is all
}

// query is what a list or count was asked for.
type query[T any] struct {
	filters []filter[T]
	sortBy  *column[T] // nil: by id, ascending
	desc    bool
	perPage int
	page    int
}

// filter says whether a row stays.
type filter[T any] struct {
	column string
	wanted []cell // any of these
	keep   func(*T) bool
}

// plain says that the rows are wanted as they are stored: all of them, by ascending id.
func (q *query[T]) plain() bool { return len(q.filters) == 0 && q.sortBy == nil && !q.desc }

// offset is the number of rows before the page.
func (q *query[T]) offset() int { return q.page * q.perPage }

// only returns the one value a column must equal, if the query says so.
func (q *query[T]) only(name string) (cell, bool) {
	for _, f := range q.filters {
		if f.column == name && len(f.wanted) == 1 {
			return f.wanted[0], true
		}
	}
	return cell{}, false
}

// parseQuery reads the options of a list: the columns' filters, paging and sorting.
func parseQuery[T any](columns []column[T], opts xmlrpc.Value) (query[T], error) {
	q := query[T]{perPage: defaultPerPage}
	for _, m := range opts.Members {
		if m.Value.Kind == xmlrpc.Nil {
			continue
		}
		var err error
		switch m.Name {
		case "items_per_page":
			q.perPage, err = between(m, 1, maxPerPage)
		case "page":
			q.page, err = between(m, 0, 1<<31-1)
		case "sort_by":
			q.sortBy, q.desc, err = parseSort(columns, m.Value)
		default:
			var f filter[T]
			f, err = parseFilter(columns, m)
			q.filters = append(q.filters, f)
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}

func between(m xmlrpc.Member, least, most int64) (int, error) {
	n, ok := m.Value.AsInt()
	if !ok {
		return 0, faultf(notInteger, "%s must be an integer, not %s", m.Name, m.Value.What())
	}
	if n < least || n > most {
		return 0, faultf(badParameter, "%s must be from %d to %d", m.Name, least, most)
	}
	return int(n), nil
}

func parseSort[T any](columns []column[T], v xmlrpc.Value) (*column[T], bool, error) {
	text, ok := v.AsString()
	if !ok {
		return nil, false, faultf(notString, "sort_by must be a string, not %s", v.What())
	}
	words := strings.Fields(text)
	if len(words) == 0 || len(words) > 2 || len(words) == 2 && !strings.EqualFold(words[1], "ASC") && !strings.EqualFold(words[1], "DESC") {
		return nil, false, faultf(badParameter, "sort_by must be 'field', 'field ASC' or 'field DESC'")
	}
	desc := len(words) == 2 && strings.EqualFold(words[1], "DESC")
	for i := range columns {
		if columns[i].name != words[0] || columns[i].filterOnly {
			continue
		}
		if words[0] == "id" && !desc {
			return nil, false, nil // the order rows come in
		}
		return &columns[i], desc, nil
	}
	return nil, false, faultf(badParameter, "lists cannot be sorted by '%s'", clip(words[0]))
}

// parseFilter reads one filter: field, ~field, >field or <field.
func parseFilter[T any](columns []column[T], m xmlrpc.Member) (filter[T], error) {
	prefix, name := "", m.Name
	if name != "" && strings.ContainsRune("~<>", rune(name[0])) {
		prefix, name = name[:1], name[1:]
	}
	i := slices.IndexFunc(columns, func(c column[T]) bool { return c.name == name })
	if i < 0 || prefix == "~" && columns[i].kind != textColumn || (prefix == "<" || prefix == ">") && columns[i].kind != timeColumn {
		return filter[T]{}, faultf(unknownKey, "unknown key '%s'", clip(m.Name))
	}
	col := columns[i]
	if prefix == "" {
		return anyOf(col, m)
	}
	want, err := parseCell(col.kind, m.Name, m.Value)
	if err != nil {
		return filter[T]{}, err
	}
	keep := func(row *T) bool { c := col.value(row); return !c.null && compareCells(timeColumn, c, want) > 0 }
	switch prefix {
	case "<":
		keep = func(row *T) bool { c := col.value(row); return !c.null && compareCells(timeColumn, c, want) < 0 }
	case "~":
		match := likePattern(want.text)
		keep = func(row *T) bool { c := col.value(row); return !c.null && match(c.text) }
	}
	return filter[T]{keep: keep}, nil
}

func anyOf[T any](col column[T], m xmlrpc.Member) (filter[T], error) {
	items, ok := m.Value.AsList()
	if !ok {
		return filter[T]{}, faultf(notList, "%s must be a value or an array of values, not %s", clip(m.Name), m.Value.What())
	}
	if len(items) > maxAnyOf {
		return filter[T]{}, faultf(tooLongList, "%s may have at most %d values", clip(m.Name), maxAnyOf)
	}
	f := filter[T]{column: col.name}
	for _, item := range items {
		want, err := parseCell(col.kind, m.Name, item)
		if err != nil {
			return f, err
		}
		f.wanted = append(f.wanted, want)
	}
	if col.any != nil {
		f.keep = func(row *T) bool {
			return slices.ContainsFunc(col.any(row), func(c cell) bool {
				return slices.ContainsFunc(f.wanted, func(w cell) bool { return compareCells(col.kind, c, w) == 0 })
			})
		}
		return f, nil
	}
	f.keep = func(row *T) bool {
		c := col.value(row)
		return !c.null && slices.ContainsFunc(f.wanted, func(w cell) bool { return compareCells(col.kind, c, w) == 0 })
	}
	return f, nil
}

func parseCell(kind columnKind, name string, v xmlrpc.Value) (cell, error) {
	switch kind {
	case intColumn:
		n, ok := v.AsInt()
		if !ok {
			return cell{}, faultf(notInteger, "%s must be an integer, not %s", clip(name), v.What())
		}
		return intCell(n), nil
	case boolColumn:
		b, ok := v.AsBool()
		if !ok {
			return cell{}, faultf(notBoolean, "%s must be a boolean, not %s", clip(name), v.What())
		}
		return boolCell(b), nil
	case timeColumn:
		t, ok := v.AsTime()
		if !ok {
			return cell{}, faultf(notDate, "%s must be a date, not %s", clip(name), v.What())
		}
		return timeCell(t), nil
	}
	s, ok := v.AsString()
	if !ok {
		return cell{}, faultf(notString, "%s must be a string, not %s", clip(name), v.What())
	}
	return textCell(s), nil
}

// compareCells orders cells; dates are compared by the second, which is all that the wire shows.
func compareCells(kind columnKind, a, b cell) int {
	switch {
	case a.null || b.null:
		return cmp.Compare(boolCell(b.null).num, boolCell(a.null).num)
	case kind == textColumn:
		return strings.Compare(a.text, b.text)
	case kind == timeColumn:
		return a.at.Truncate(time.Second).Compare(b.at.Truncate(time.Second))
	}
	return cmp.Compare(a.num, b.num)
}

// likePattern matches without regard to case: with % or * as a wildcard the whole text, otherwise any part of it.
func likePattern(pattern string) func(string) bool {
	pattern = strings.ReplaceAll(strings.ToLower(pattern), "*", "%")
	if !strings.Contains(pattern, "%") {
		return func(s string) bool { return strings.Contains(strings.ToLower(s), pattern) }
	}
	parts := strings.Split(pattern, "%")
	first, last, middle := parts[0], parts[len(parts)-1], parts[1:len(parts)-1]
	return func(s string) bool {
		s, ok := strings.CutPrefix(strings.ToLower(s), first)
		if !ok {
			return false
		}
		for _, part := range middle {
			if _, s, ok = strings.Cut(s, part); !ok {
				return false
			}
		}
		return strings.HasSuffix(s, last)
	}
}

// match says whether a row passes every filter.
func (q *query[T]) match(row *T) bool {
	for i := range q.filters {
		if !q.filters[i].keep(row) {
			return false
		}
	}
	return true
}

// count is how many rows pass.
func (q *query[T]) count(rows []T) (n int64) {
	for i := range rows {
		if q.match(&rows[i]) {
			n++
		}
	}
	return n
}

// list returns the page of the rows that pass, in the order asked for. Rows come by ascending id.
func (q *query[T]) list(rows []T) []T {
	rows = slices.DeleteFunc(rows, func(row T) bool { return !q.match(&row) })
	if q.sortBy != nil {
		slices.SortStableFunc(rows, func(a, b T) int {
			return compareCells(q.sortBy.kind, q.sortBy.value(&a), q.sortBy.value(&b))
		})
	}
	if q.desc { // equals too: of those of one second, the newest comes first
		slices.Reverse(rows)
	}
	begin := min(q.offset(), len(rows))
	return rows[begin:min(begin+q.perPage, len(rows))]
}

// serveList answers a list: rows from load, each written by write. load returns all rows by ascending id; it may leave out
// what the query does not keep, and one that loads only the page sets the query's page to 0.
func serveList[T any](c *call, columns []column[T], load func(*query[T]) ([]T, error), write func(*call, *T)) error {
	opts, err := c.options(0)
	if err != nil {
		return err
	}
	q, err := parseQuery(columns, opts)
	if err != nil {
		return err
	}
	return writeList(c, &q, load, write)
}

func writeList[T any](c *call, q *query[T], load func(*query[T]) ([]T, error), write func(*call, *T)) error {
	rows, err := load(q)
	if err != nil {
		return err
	}
	c.out.BeginArray()
	page := q.list(rows)
	for i := range page {
		write(c, &page[i])
	}
	c.out.EndArray()
	return nil
}

// serveCount answers a count.
func serveCount[T any](c *call, columns []column[T], load func(*query[T]) ([]T, error)) error {
	opts, err := c.options(0)
	if err != nil {
		return err
	}
	q, err := parseQuery(columns, opts)
	if err != nil {
		return err
	}
	rows, err := load(&q)
	if err != nil {
		return err
	}
	c.out.Int(q.count(rows))
	return nil
}

// nothing loads the rows of a list that is always empty; its options are checked all the same.
func nothing[T any](*query[T]) ([]T, error) { return nil, nil }
