package securityhubtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// object is a JSON object. Stored findings are never modified: a change makes a new object.
type object = map[string]any

// decodeObject reads exactly one JSON object. Numbers stay as written, and null members count as
// absent, as in AWS's protocol.
func decodeObject(data []byte) (object, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var o object
	if err := decoder.Decode(&o); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data follows the object")
	}
	if o == nil {
		return nil, errors.New("null instead of an object")
	}
	dropNulls(o)
	return o, nil
}

// encode writes JSON as the service does, without escaping "<".
func encode(v any) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(fmt.Sprintf("securityhubtest: %T does not encode: %v", v, err))
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}

func dropNulls(v any) {
	switch v := v.(type) {
	case object:
		maps.DeleteFunc(v, func(_ string, member any) bool { return member == nil })
		for _, member := range v {
			dropNulls(member)
		}
	case []any:
		for _, element := range v {
			dropNulls(element)
		}
	}
}

// rule validates the value at a path. It reports each fault in the words of the service, which
// are those of a well-known JSON schema validator: "data.Title should NOT be longer than 256
// characters".
type rule func(path string, v any, report func(fault string))

// faultsOf returns the faults of v. They are sorted, because the order of maps is random.
func faultsOf(r rule, v any) []string {
	var faults []string
	r("data", v, func(fault string) { faults = append(faults, fault) })
	slices.Sort(faults)
	return faults
}

// isSpace matches \s of JavaScript, the validator's language.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r == '\uFEFF' }

// text is a string of 1 to most characters that is not only white space. 0 means no limit.
func text(most int) rule {
	return func(path string, v any, report func(string)) {
		s, ok := v.(string)
		switch {
		case !ok:
			report(path + " should be string")
		case s == "":
			report(path + " should NOT be shorter than 1 characters")
		case strings.TrimFunc(s, isSpace) == "":
			report(path + ` should match pattern ".*\S.*"`)
		case most > 0 && utf8.RuneCountInString(s) > most:
			report(fmt.Sprintf("%s should NOT be longer than %d characters", path, most))
		}
	}
}

func enum(allowed ...string) rule {
	return func(path string, v any, report func(string)) {
		if s, ok := v.(string); !ok || !slices.Contains(allowed, s) {
			report(path + " should be equal to one of the allowed values")
		}
	}
}

func pattern(expression string) rule {
	re := regexp.MustCompile(expression)
	return func(path string, v any, report func(string)) {
		if s, ok := v.(string); !ok || !re.MatchString(s) {
			report(path + " should match pattern " + fmt.Sprintf("%q", expression))
		}
	}
}

// percent is an integer from 0 to 100.
func percent(path string, v any, report func(string)) {
	n, ok := v.(json.Number)
	if !ok {
		report(path + " should be integer")
		return
	}
	i, err := n.Int64()
	switch {
	case err != nil:
		report(path + " should be integer")
	case i < 0:
		report(path + " should be >= 0")
	case i > 100:
		report(path + " should be <= 100")
	}
}

func number(path string, v any, report func(string)) {
	if _, ok := v.(json.Number); !ok {
		report(path + " should be number")
	}
}

func boolean(path string, v any, report func(string)) {
	if _, ok := v.(bool); !ok {
		report(path + " should be boolean")
	}
}

// instant is a time in a format that AWS documents.
func instant(path string, v any, report func(string)) {
	s, ok := v.(string)
	if !ok {
		report(path + " should be string")
		return
	}
	if _, ok := parseInstant(s); !ok {
		report(path + ` should match format "date-time"`)
	}
}

// list has least to most elements; most 0 means no limit.
func list(least, most int, element rule) rule {
	return func(path string, v any, report func(string)) {
		elements, ok := v.([]any)
		switch {
		case !ok:
			report(path + " should be array")
			return
		case len(elements) < least:
			report(fmt.Sprintf("%s should NOT have fewer than %d items", path, least))
		case most > 0 && len(elements) > most:
			report(fmt.Sprintf("%s should NOT have more than %d items", path, most))
			return
		}
		for i, e := range elements {
			element(fmt.Sprintf("%s[%d]", path, i), e, report)
		}
	}
}

// pairs is a map from keys to texts with a limit of characters for each.
func pairs(most, key, value int) rule {
	return func(path string, v any, report func(string)) {
		o, ok := v.(object)
		switch {
		case !ok:
			report(path + " should be object")
			return
		case len(o) > most:
			report(fmt.Sprintf("%s should NOT have more than %d properties", path, most))
			return
		}
		for k, member := range o {
			at := fmt.Sprintf("%s['%s']", path, k)
			text(key)(at+" key", k, report)
			text(value)(at, member, report)
		}
	}
}

// members is an object with these members and no others.
func members(rules map[string]rule, required ...string) rule {
	return func(path string, v any, report func(string)) {
		o, ok := v.(object)
		if !ok {
			report(path + " should be object")
			return
		}
		for _, name := range required {
			if _, ok := o[name]; !ok {
				report(fmt.Sprintf("%s should have required property '%s'", path, name))
			}
		}
		for name, member := range o {
			if r, ok := rules[name]; ok {
				r(path+"."+name, member, report)
			} else {
				report(fmt.Sprintf("%s should NOT have additional properties, but has '%s'", path, name))
			}
		}
	}
}

// anything is a part of the ASFF whose shape this package does not know. It only checks that no
// string is blank.
func anything(path string, v any, report func(string)) {
	switch v := v.(type) {
	case string:
		text(0)(path, v, report)
	case []any:
		for i, e := range v {
			anything(fmt.Sprintf("%s[%d]", path, i), e, report)
		}
	case object:
		for name, member := range v {
			anything(path+"."+name, member, report)
		}
	}
}

func listOf(least, most int) rule {
	return list(least, most, func(path string, v any, report func(string)) {
		if _, ok := v.(object); !ok {
			report(path + " should be object")
			return
		}
		anything(path, v, report)
	})
}

func anyObject(path string, v any, report func(string)) {
	if _, ok := v.(object); !ok {
		report(path + " should be object")
		return
	}
	anything(path, v, report)
}

var instantForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)$`)

// parseInstant parses the formats that AWS documents: Z or an offset of at most 18 hours, and at
// most 9 decimals. Security Hub keeps three decimals.
func parseInstant(s string) (time.Time, bool) {
	if !instantForm.MatchString(s) {
		return time.Time{}, false
	}
	t, err := time.Parse("2006-01-02T15:04:05Z07:00", s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05Z0700", s)
	}
	if err != nil {
		return time.Time{}, false
	}
	if _, offset := t.Zone(); offset > 18*3600 || offset < -18*3600 {
		return time.Time{}, false
	}
	return t.Truncate(time.Millisecond), true
}

// formatInstant formats Security Hub's own times.
func formatInstant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
