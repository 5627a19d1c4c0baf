package iotsql

import (
	"strconv"
	"strings"
	"time"
)

// timeReader collects the fields of a time that is read by a pattern of the
// JDK.
type timeReader struct {
	rest string
	// numbers holds the fields that are there, by letter.
	numbers map[byte]int
	pm      bool
	bc      bool
	weekday string
	zone    *time.Location
}

// readTime reads s, false if it does not follow the pattern or holds no date.
// What is missing of the time of day is zero, a missing zone is UTC.
func readTime(s string, steps []patternStep) (time.Time, bool) {
	r := &timeReader{rest: s, numbers: map[byte]int{}, zone: time.UTC}
	for i, step := range steps {
		if !r.read(step, adjacentDigits(steps[i+1:])) {
			return time.Time{}, false
		}
	}
	if r.rest != "" {
		return time.Time{}, false
	}
	return r.resolve()
}

// adjacentDigits counts the digits that the fields right behind want, which a
// field of open width must leave to them.
func adjacentDigits(steps []patternStep) int {
	n := 0
	for _, s := range steps {
		if s.field == 0 || strings.IndexByte("GEaVzZXx", s.field) >= 0 || s.isName() {
			break
		}
		n += s.count
	}
	return n
}

func (s patternStep) isName() bool {
	return (s.field == 'M' || s.field == 'L') && s.count >= 3
}

func (r *timeReader) read(s patternStep, adjacent int) bool {
	switch s.field {
	case 0:
		rest, ok := strings.CutPrefix(r.rest, s.literal)
		r.rest = rest
		return ok
	case 'G':
		i, ok := r.readName([]string{"AD", "BC"})
		r.bc = i == 1
		return ok
	case 'a':
		i, ok := r.readName([]string{"AM", "PM"})
		r.pm = i == 1
		r.numbers['a'] = i
		return ok
	case 'E':
		names := make([]string, 7)
		for i := range names {
			names[i] = s.name(time.Weekday(i).String())
		}
		i, ok := r.readName(names)
		r.weekday = time.Weekday(i).String()
		return ok
	case 'V', 'z', 'Z', 'X', 'x':
		return r.readZone(s)
	case 'S':
		return r.readFraction(s.count)
	}
	if s.isName() {
		names := make([]string, 12)
		for i := range names {
			names[i] = s.name(time.Month(i + 1).String())
		}
		i, ok := r.readName(names)
		r.numbers['M'] = i + 1
		return ok
	}
	return r.readNumber(s, adjacent)
}

// readName reads one of several names.
func (r *timeReader) readName(names []string) (int, bool) {
	for i, name := range names {
		if rest, ok := strings.CutPrefix(r.rest, name); ok {
			r.rest = rest
			return i, true
		}
	}
	return 0, false
}

// readNumber reads a field of digits: one letter is any width, more letters are
// that many digits.
func (r *timeReader) readNumber(s patternStep, adjacent int) bool {
	digits := 0
	for digits < len(r.rest) && r.rest[digits] >= '0' && r.rest[digits] <= '9' {
		digits++
	}
	width := s.count
	if width == 1 {
		width = max(digits-adjacent, 1)
	}
	if digits < width || width > 9 {
		return false
	}
	n, err := strconv.Atoi(r.rest[:width])
	if err != nil {
		return false
	}
	r.rest = r.rest[width:]
	field := s.field
	switch field {
	case 'u':
		field = 'y'
	case 'L':
		field = 'M'
	}
	if field == 'y' && s.count == 2 {
		n += 2000
	}
	r.numbers[field] = n
	return true
}

func (r *timeReader) readFraction(width int) bool {
	if len(r.rest) < width || strings.Trim(r.rest[:width], "0123456789") != "" {
		return false
	}
	n, err := strconv.Atoi((r.rest[:width] + "000000000")[:9])
	r.rest = r.rest[width:]
	r.numbers['S'] = n
	return err == nil
}

// readZone takes the longest text that is a zone: an offset for Z, X and x, any
// id for V and z.
func (r *timeReader) readZone(s patternStep) bool {
	end := 0
	for end < len(r.rest) && strings.IndexByte(" ,;()[]", r.rest[end]) < 0 {
		end++
	}
	for ; end > 0; end-- {
		id := r.rest[:end]
		offset := id[0] == '+' || id[0] == '-' || id == "Z" && s.field == 'X'
		if !offset && s.field != 'V' && s.field != 'z' {
			continue
		}
		if zone, ok := loadZone(id); ok {
			r.zone, r.rest = zone, r.rest[end:]
			return true
		}
	}
	return false
}

// resolve makes the time of the fields. As the JDK's smart resolver does, a day
// past the end of its month is the last one.
func (r *timeReader) resolve() (time.Time, bool) {
	year, ok := r.numbers['y']
	if !ok {
		return time.Time{}, false
	}
	if r.bc {
		year = 1 - year
	}
	hour, ok := r.hour()
	if !ok || r.numbers['m'] > 59 || r.numbers['s'] > 59 {
		return time.Time{}, false
	}
	month, day, ok := r.date(year)
	if !ok {
		return time.Time{}, false
	}
	t := time.Date(year, month, day, hour, r.numbers['m'], r.numbers['s'], r.numbers['S'], r.zone)
	if r.weekday != "" && r.weekday != t.Weekday().String() {
		return time.Time{}, false
	}
	return t, true
}

func (r *timeReader) date(year int) (time.Month, int, bool) {
	if dayOfYear, ok := r.numbers['D']; ok {
		t := time.Date(year, 1, dayOfYear, 0, 0, 0, 0, time.UTC)
		return t.Month(), t.Day(), dayOfYear >= 1 && t.Year() == year
	}
	month, hasMonth := r.numbers['M']
	day, hasDay := r.numbers['d']
	if !hasMonth || !hasDay || month < 1 || month > 12 || day < 1 || day > 31 {
		return 0, 0, false
	}
	last := time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return time.Month(month), min(day, last), true
}

// hour is the hour of the day from whichever field gives it; hours of a half day
// need the half.
func (r *timeReader) hour() (int, bool) {
	if h, ok := r.numbers['H']; ok {
		return h, h < 24
	}
	if h, ok := r.numbers['k']; ok {
		return h % 24, h >= 1 && h <= 24
	}
	h, ok := r.numbers['K']
	if !ok {
		if h, ok = r.numbers['h']; !ok {
			return 0, true
		}
		if h < 1 || h > 12 {
			return 0, false
		}
		h %= 12
	}
	if _, half := r.numbers['a']; !half || h > 11 {
		return 0, false
	}
	if r.pm {
		h += 12
	}
	return h, true
}
