// Package schema checks resource properties as CloudFormation's registry checks them
// before it calls a resource's handler: unknown keys, missing keys, types, patterns,
// lengths, with CloudFormation's words.
package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Check reports what is wrong with a value that is found at path, such as
// "#/TopicRulePayload/Actions/0".
type Check func(path string, value any) error

// Object lists the properties that may be there. Those wrapped in [Required] must.
type Object map[string]Check

// absent is a value that is not there, and errAbsent is what it is to one that is required.
type absent struct{}

var errAbsent = errors.New("not found")

// Required is a property that must be there.
func Required(c Check) Check {
	return func(path string, value any) error {
		if value == (absent{}) {
			return errAbsent
		}
		return c(path, value)
	}
}

// Validate reports every fault of a resource's properties, as one error.
func (o Object) Validate(properties map[string]any) error {
	if err := Map(o)("#", properties); err != nil {
		return fmt.Errorf("properties validation failed: %w", err)
	}
	return nil
}

// Map is an object with o's properties and no others.
func Map(o Object) Check {
	return func(path string, value any) error {
		if err := Document(path, value); err != nil {
			return err
		}
		m := value.(map[string]any)
		var faults []error
		for _, key := range slices.Sorted(maps.Keys(o)) {
			v, there := m[key]
			if !there {
				v = absent{}
			}
			err := o[key](path+"/"+key, v)
			if errors.Is(err, errAbsent) && !there {
				err = fmt.Errorf("%s: required key [%s] not found", path, key)
			} else if !there {
				err = nil
			}
			faults = append(faults, err)
		}
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if _, known := o[key]; !known {
				faults = append(faults, fmt.Errorf("%s: extraneous key [%s] is not permitted", path, key))
			}
		}
		return errors.Join(faults...)
	}
}

// OneOf is an object with exactly one of o's properties.
func OneOf(o Object) Check {
	return func(path string, value any) error {
		if m, ok := value.(map[string]any); ok && len(m) != 1 {
			return fmt.Errorf("%s: exactly one of %v is expected, found %d", path, slices.Sorted(maps.Keys(o)), len(m))
		}
		return Map(o)(path, value)
	}
}

// Dictionary is an object with any keys that match pattern.
func Dictionary(pattern string, value Check) Check {
	re := regexp.MustCompile(pattern)
	return func(path string, v any) error {
		if err := Document(path, v); err != nil {
			return err
		}
		m := v.(map[string]any)
		var faults []error
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !re.MatchString(key) {
				faults = append(faults, fmt.Errorf("%s: extraneous key [%s] is not permitted", path, key))
				continue
			}
			faults = append(faults, value(path+"/"+key, m[key]))
		}
		return errors.Join(faults...)
	}
}

// List is an array of minimum to maximum items.
func List(minimum, maximum int, item Check) Check {
	return func(path string, value any) error {
		items, ok := value.([]any)
		if !ok {
			return fmt.Errorf("%s: expected type: array, found: %s", path, typeName(value))
		}
		var faults []error
		if len(items) < minimum || len(items) > maximum {
			faults = append(faults, fmt.Errorf("%s: expected item count: %d to %d, found: %d", path, minimum, maximum, len(items)))
		}
		for i, v := range items {
			faults = append(faults, item(path+"/"+strconv.Itoa(i), v))
		}
		return errors.Join(faults...)
	}
}

// OneOrMore is an item, or an array of them.
func OneOrMore(item Check) Check {
	list := List(1, math.MaxInt, item)
	return func(path string, value any) error {
		if _, several := value.([]any); several {
			return list(path, value)
		}
		return item(path, value)
	}
}

// JSON is a value, or its JSON text.
func JSON(c Check) Check {
	return func(path string, value any) error {
		if s, ok := value.(string); ok {
			if err := json.Unmarshal([]byte(s), &value); err != nil {
				return fmt.Errorf("%s: expected JSON: %w", path, err)
			}
		}
		return c(path, value)
	}
}

// Unique is a list whose items differ.
func Unique(list Check) Check {
	return func(path string, value any) error {
		items, _ := value.([]any)
		seen := map[string]bool{}
		for _, v := range items {
			text := fmt.Sprint(v)
			if seen[text] {
				return errors.Join(list(path, value), fmt.Errorf("%s: array items are not unique", path))
			}
			seen[text] = true
		}
		return list(path, value)
	}
}

// Text is a string of minimum to maximum characters. Numbers count as their text, as
// CloudFormation converts them.
func Text(minimum, maximum int) Check {
	return func(path string, value any) error {
		s, ok := String(value)
		if !ok {
			return fmt.Errorf("%s: expected type: string, found: %s", path, typeName(value))
		}
		if n := utf8.RuneCountInString(s); n < minimum {
			return fmt.Errorf("%s: expected minLength: %d, actual: %d", path, minimum, n)
		} else if n > maximum {
			return fmt.Errorf("%s: expected maxLength: %d, actual: %d", path, maximum, n)
		}
		return nil
	}
}

// Any is a string of any length.
var Any = Text(0, math.MaxInt)

// Pattern is a string of minimum to maximum characters that matches the whole of
// pattern.
func Pattern(pattern string, minimum, maximum int) Check {
	re := regexp.MustCompile("^(?:" + pattern + ")$")
	return func(path string, value any) error {
		if err := Text(minimum, maximum)(path, value); err != nil {
			return err
		}
		if s, _ := String(value); !re.MatchString(s) {
			return fmt.Errorf("%s: string [%s] does not match pattern %s", path, s, pattern)
		}
		return nil
	}
}

// ARN is an Amazon Resource Name of a service.
func ARN(service string) Check {
	return Pattern(`arn:aws[a-z-]*:`+service+`:.+`, 1, 2048)
}

// Enum is one of the values.
func Enum(values ...string) Check {
	return func(path string, value any) error {
		s, ok := String(value)
		if !ok || !slices.Contains(values, s) {
			return fmt.Errorf("%s: %v is not a valid enum value, want one of %v", path, value, values)
		}
		return nil
	}
}

// Bool is true or false, as a value or as text.
func Bool(path string, value any) error {
	if _, ok := Boolean(value); !ok {
		return fmt.Errorf("%s: expected type: boolean, found: %s", path, typeName(value))
	}
	return nil
}

// Integer is a whole number, as a value or as text.
func Integer(minimum, maximum int) Check {
	return func(path string, value any) error {
		f, ok := Float(value)
		if !ok || f != math.Trunc(f) {
			return fmt.Errorf("%s: expected type: integer, found: %s", path, typeName(value))
		}
		if f < float64(minimum) || f > float64(maximum) {
			return fmt.Errorf("%s: %v is not within %d to %d", path, value, minimum, maximum)
		}
		return nil
	}
}

// Number is any number, as a value or as text.
func Number(path string, value any) error {
	if _, ok := Float(value); !ok {
		return fmt.Errorf("%s: expected type: number, found: %s", path, typeName(value))
	}
	return nil
}

// Document is any object, such as a policy.
func Document(path string, value any) error {
	if _, ok := value.(map[string]any); !ok {
		return fmt.Errorf("%s: expected type: object, found: %s", path, typeName(value))
	}
	return nil
}

// Tags is a list of at most 50 tags.
var Tags = List(0, 50, Map(Object{"Key": Required(Text(1, 128)), "Value": Required(Text(0, 256))}))

// String is the text of a scalar, as CloudFormation converts it.
func String(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

// Boolean is the truth of a boolean or its text.
func Boolean(value any) (truth, ok bool) {
	switch v := value.(type) {
	case bool:
		return v, true
	case string:
		return v == "true", v == "true" || v == "false"
	}
	return false, false
}

// Float is the number of a number or its text.
func Float(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	return 0, false
}

func typeName(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}
