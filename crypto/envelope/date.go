package envelope

import (
	"strings"
	"sync/atomic"
	"time"
)

// dateLayout is the Date header of the wire: English names, no comma, literal UTC.
const dateLayout = "Mon 02 Jan 2006 15:04:05 UTC"

// stamp is a second and its text.
type stamp struct {
	second int64 // Unix
	text   string
}

// lastStamp is the second that was written last: nearly all of the dates that a process meets are that one.
var lastStamp atomic.Pointer[stamp]

// FormatDate writes t as the Date header of the wire.
func FormatDate(t time.Time) string {
	second := t.Unix()
	if last := lastStamp.Load(); last != nil && last.second == second {
		return last.text
	}
	text := t.UTC().Format(dateLayout)
	lastStamp.Store(&stamp{second, text})
	return text
}

// ParseDate reads the Date header of the wire as leniently as the old agent did: letter case, repeated blanks and numbers
// of one digit are accepted, the weekday is not compared with the date, and seconds may be 60 or 61. Dates that do not
// exist, other zones and commas are ErrDate.
func ParseDate(text string) (time.Time, error) {
	t, _, err := parseDate(text)
	return t, err
}

// parseDate also returns the text the old agent would hash: the parsed fields written out again. For a date in the usual
// form that is the text itself, and nothing is allocated.
func parseDate(text string) (time.Time, string, error) {
	if last := lastStamp.Load(); last != nil && last.text == text {
		return time.Unix(last.second, 0).UTC(), last.text, nil
	}
	return parseAnyDate(text)
}

func parseAnyDate(text string) (time.Time, string, error) {
	var field [6]string
	rest := text
	for i := range field {
		end := strings.IndexFunc(rest, blank)
		if i == len(field)-1 {
			end = len(rest)
		}
		if end <= 0 {
			return time.Time{}, "", ErrDate
		}
		field[i] = rest[:end]
		rest = strings.TrimLeftFunc(rest[end:], blank)
	}
	weekday, ok1 := name(weekdays, field[0])
	day, ok2 := number(field[1], 1, 2, 1, 31)
	month, ok3 := name(months, field[2])
	year, ok4 := number(field[3], 4, 4, 1, 9999)
	hour, minute, second, ok5 := clock(field[4])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !strings.EqualFold(field[5], "UTC") {
		return time.Time{}, "", ErrDate
	}
	midnight := time.Date(year, time.Month(month+1), day, 0, 0, 0, 0, time.UTC)
	if midnight.Day() != day { // the month is shorter
		return time.Time{}, "", ErrDate
	}
	t := midnight.Add(time.Duration(hour*3600+minute*60+second) * time.Second)
	var room [len(dateLayout)]byte
	normal := append(room[:0], weekdays[weekday*3:weekday*3+3]...)
	normal = append(normal, ' ', digit(day/10), digit(day), ' ')
	normal = append(normal, months[month*3:month*3+3]...)
	normal = append(normal, ' ', digit(year/1000), digit(year/100), digit(year/10), digit(year), ' ', digit(hour/10), digit(hour),
		':', digit(minute/10), digit(minute), ':', digit(second/10), digit(second))
	normal = append(normal, " UTC"...)
	if string(normal) == text {
		return t, text, nil
	}
	return t, string(normal), nil
}

const (
	weekdays = "MonTueWedThuFriSatSun"
	months   = "JanFebMarAprMayJunJulAugSepOctNovDec"
)

func blank(r rune) bool { return r == ' ' || r == '\t' }

func digit(n int) byte { return byte('0' + n%10) }

// name finds a three-letter name in a table of them.
func name(table, s string) (int, bool) {
	if len(s) != 3 {
		return 0, false
	}
	for i := 0; i < len(table); i += 3 {
		if strings.EqualFold(table[i:i+3], s) {
			return i / 3, true
		}
	}
	return 0, false
}

// number reads minLen to maxLen decimal digits with a value in [low, high].
func number(s string, minLen, maxLen, low, high int) (int, bool) {
	if len(s) < minLen || len(s) > maxLen {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, n >= low && n <= high
}

func clock(s string) (hour, minute, second int, ok bool) {
	h, rest, ok1 := strings.Cut(s, ":")
	m, sec, ok2 := strings.Cut(rest, ":")
	hour, ok3 := number(h, 1, 2, 0, 23)
	minute, ok4 := number(m, 1, 2, 0, 59)
	second, ok5 := number(sec, 1, 2, 0, 61)
	return hour, minute, second, ok1 && ok2 && ok3 && ok4 && ok5
}
