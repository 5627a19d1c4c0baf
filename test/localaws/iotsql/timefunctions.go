package iotsql

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the same zones on every machine
)

// timeFunctions format and read times in Unix milliseconds.
var timeFunctions = map[string]function{
	"parse_time": {min: 2, max: 3, eval: pure(parseTime), check: func(args []expr) error {
		return wantPattern(args, 0, jodaFields)
	}},
	"time_to_epoch": {min: 2, max: 2, eval: pure(timeToEpoch), check: func(args []expr) error {
		return wantPattern(args, 1, jdkFields)
	}},
}

// wantPattern refuses a literal date pattern that the local cloud does not read.
func wantPattern(args []expr, i int, fields map[byte]int) error {
	pattern, ok := literalText(args, i)
	if !ok {
		return nil
	}
	_, err := splitPattern(pattern, fields)
	return err
}

// parseTime is parse_time(pattern, milliseconds[, zone]); the zone is UTC by
// default.
func parseTime(args []value) value {
	pattern, ok := toText(args[0])
	if !ok {
		return undefined{}
	}
	n, ok := toNumber(args[1])
	if !ok {
		return undefined{}
	}
	ms, ok := n.int64()
	if !ok {
		return undefined{}
	}
	zone := time.UTC
	if len(args) == 3 {
		id, ok := toText(args[2])
		if !ok {
			return undefined{}
		}
		if zone, ok = loadZone(id); !ok {
			return undefined{}
		}
	}
	steps, err := splitPattern(pattern, jodaFields)
	if err != nil {
		return undefined{}
	}
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(s.format(time.UnixMilli(ms).In(zone)))
	}
	return text(b.String())
}

// timeToEpoch is time_to_epoch(time, pattern).
func timeToEpoch(args []value) value {
	s, ok := toTexts(args)
	if !ok {
		return undefined{}
	}
	steps, err := splitPattern(s[1], jdkFields)
	if err != nil {
		return undefined{}
	}
	t, ok := readTime(s[0], steps)
	if !ok {
		return undefined{}
	}
	return newInt(t.UnixMilli())
}

// patternStep is a part of a date pattern: literal text, or a letter and how
// often it stands.
type patternStep struct {
	literal string
	field   byte
	count   int
}

// jodaFields and jdkFields are the letters that the local cloud knows of
// Joda-Time's and the JDK's patterns, each with its highest count.
var (
	jodaFields = map[byte]int{
		'G': 9, 'C': 9, 'Y': 9, 'y': 9, 'x': 9, 'w': 9, 'e': 9, 'E': 9, 'D': 9, 'M': 9, 'd': 9, 'a': 9,
		'K': 9, 'h': 9, 'H': 9, 'k': 9, 'm': 9, 's': 9, 'S': 9, 'z': 3, 'Z': 9,
	}
	jdkFields = map[byte]int{
		'G': 4, 'y': 9, 'u': 9, 'M': 4, 'L': 4, 'd': 2, 'D': 3, 'E': 4, 'a': 1,
		'K': 2, 'h': 2, 'H': 2, 'k': 2, 'm': 2, 's': 2, 'S': 9, 'V': 2, 'z': 3, 'Z': 5, 'X': 3, 'x': 3,
	}
)

// splitPattern reads a date pattern: letters are fields, quoted text and all
// else is literal.
func splitPattern(pattern string, fields map[byte]int) ([]patternStep, error) {
	var steps []patternStep
	for i := 0; i < len(pattern); {
		c := pattern[i]
		switch {
		case c == '\'':
			literal, next, err := quotedLiteral(pattern, i)
			if err != nil {
				return nil, err
			}
			steps = append(steps, patternStep{literal: literal})
			i = next
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			count := 1
			for i+count < len(pattern) && pattern[i+count] == c {
				count++
			}
			if count > fields[c] || c == 'V' && count != 2 {
				return nil, fmt.Errorf("pattern %q: the local cloud does not read %s", pattern, strings.Repeat(string(c), count))
			}
			steps = append(steps, patternStep{field: c, count: count})
			i += count
		case strings.IndexByte("[]{}#", c) >= 0:
			return nil, fmt.Errorf("pattern %q: the local cloud does not read %c", pattern, c)
		default:
			steps = append(steps, patternStep{literal: pattern[i : i+1]})
			i++
		}
	}
	return steps, nil
}

// quotedLiteral reads the text in quotes from start on, in which a double quote
// mark is one.
func quotedLiteral(pattern string, start int) (literal string, next int, err error) {
	var b strings.Builder
	for i := start + 1; i < len(pattern); i++ {
		if pattern[i] != '\'' {
			b.WriteByte(pattern[i])
			continue
		}
		if i+1 < len(pattern) && pattern[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		if i == start+1 {
			return "'", i + 1, nil
		}
		return b.String(), i + 1, nil
	}
	return "", 0, errors.New("pattern: a quote has no end")
}

// format writes one step the way Joda-Time does, in English.
func (s patternStep) format(t time.Time) string {
	year, era := t.Year(), "AD"
	if year <= 0 {
		year, era = 1-year, "BC"
	}
	weekYear, week := t.ISOWeek()
	weekday := (int(t.Weekday())+6)%7 + 1
	switch s.field {
	case 0:
		return s.literal
	case 'G':
		return era
	case 'C':
		return s.pad(year / 100)
	case 'Y':
		return s.year(year)
	case 'y':
		return s.year(t.Year())
	case 'x':
		return s.year(weekYear)
	case 'w':
		return s.pad(week)
	case 'e':
		return s.pad(weekday)
	case 'E':
		return s.name(t.Weekday().String())
	case 'D':
		return s.pad(t.YearDay())
	case 'M':
		if s.count >= 3 {
			return s.name(t.Month().String())
		}
		return s.pad(int(t.Month()))
	case 'd':
		return s.pad(t.Day())
	case 'Z':
		return s.offset(t)
	case 'z':
		return t.Format("MST")
	default:
		return s.clock(t)
	}
}

// clock writes the fields of the time of day.
func (s patternStep) clock(t time.Time) string {
	switch s.field {
	case 'a':
		return t.Format("PM")
	case 'K':
		return s.pad(t.Hour() % 12)
	case 'h':
		return s.pad((t.Hour()+11)%12 + 1)
	case 'k':
		return s.pad((t.Hour()+23)%24 + 1)
	case 'H':
		return s.pad(t.Hour())
	case 'm':
		return s.pad(t.Minute())
	case 's':
		return s.pad(t.Second())
	default:
		return fmt.Sprintf("%09d", t.Nanosecond())[:s.count]
	}
}

func (s patternStep) pad(n int) string { return fmt.Sprintf("%0*d", s.count, n) }

func (s patternStep) year(n int) string {
	if s.count == 2 {
		return s.pad((n%100 + 100) % 100)
	}
	return s.pad(n)
}

// name is in full from four letters on.
func (s patternStep) name(full string) string {
	if s.count >= 4 {
		return full
	}
	return full[:3]
}

// offset is +0000, +00:00 or the zone's id, by the number of letters.
func (s patternStep) offset(t time.Time) string {
	switch s.count {
	case 1:
		return t.Format("-0700")
	case 2:
		return t.Format("-07:00")
	default:
		return t.Location().String()
	}
}

var zoneOffset = regexp.MustCompile(`^(UTC|GMT|UT)?([+-])(\d{1,2})(?::?(\d{2}))?$`)

// shortZones are the short names of the JDK that are no ids of the zone
// database, or that stand for a whole zone.
var shortZones = map[string]string{
	"Z": "UTC", "UT": "UTC",
	"EST": "America/New_York", "EDT": "America/New_York",
	"CST": "America/Chicago", "CDT": "America/Chicago",
	"MST": "America/Denver", "MDT": "America/Denver",
	"PST": "America/Los_Angeles", "PDT": "America/Los_Angeles",
}

// loadZone finds a zone by its id or offset.
func loadZone(id string) (*time.Location, bool) {
	if m := zoneOffset.FindStringSubmatch(id); m != nil {
		hours, _ := strconv.Atoi(m[3])
		minutes, _ := strconv.Atoi("0" + m[4])
		if hours > 18 || minutes > 59 {
			return nil, false
		}
		seconds := hours*3600 + minutes*60
		if m[2] == "-" {
			seconds = -seconds
		}
		return time.FixedZone(id, seconds), true
	}
	if long, ok := shortZones[id]; ok {
		id = long
	}
	// Go takes these two for UTC and for the machine's own zone.
	if id == "" || id == "Local" {
		return nil, false
	}
	zone, err := time.LoadLocation(id)
	return zone, err == nil
}
