// Package schema validates resource properties by the schemas that AWS publishes, as CloudFormation's
// registry does before it calls a resource's handler: unknown and missing keys, types, patterns and
// limits. It allows only the properties that work in the local AWS.
// https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schemas.html
package schema

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// published are AWS's schemas for us-east-1, from the package cfn-lint.
//
//go:embed aws.json
var published []byte

// local restricts the schemas to what works here. For each type it has JSON pointers into the type's
// schema. Each has the list of allowed properties, of which ! marks the required ones, or additions
// to the schema. A type that the emulator creates is "native".
//
//go:embed local.json
var local []byte

// policy is the grammar of IAM policies. It does not check the contents of conditions.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
//
//go:embed policy.json
var policy string

type object = map[string]any

const base = "https://localaws/"

// schemas are the schemas of all types, restricted to what works here. native are the types that the
// emulator creates.
var schemas, native = func() (map[string]object, []string) {
	var all map[string]object
	var limits map[string]object
	if err := errors.Join(json.Unmarshal(published, &all), json.Unmarshal(local, &limits)); err != nil {
		panic(err)
	}
	var native []string
	for name, document := range all {
		delete(document, "$schema") // the validator does not have it
		for pointer, limit := range limits[name] {
			if pointer == "native" {
				native = append(native, name)
				continue
			}
			restrict(document, pointer, limit)
		}
	}
	slices.Sort(native)
	return all, native
}()

// restrict applies a limit to the schema at pointer.
func restrict(node object, pointer string, limit any) {
	for step := range strings.FieldsFuncSeq(pointer, func(r rune) bool { return r == '/' }) {
		node = node[step].(object)
	}
	if more, ok := limit.(object); ok {
		maps.Copy(node, more)
		return
	}
	properties := object{}
	required, _ := node["required"].([]any)
	for name := range strings.FieldsSeq(limit.(string)) {
		name, must := strings.CutSuffix(name, "!")
		if must && !slices.Contains(required, any(name)) {
			required = append(required, name)
		}
		if properties[name] = node["properties"].(object)[name]; properties[name] == nil {
			panic("local.json: AWS has no property " + name)
		}
	}
	node["properties"], node["required"] = properties, required
}

var unicodeEscape = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)

// compileRegexp compiles patterns that AWS writes for other engines. A pattern that Go does not support
// matches everything.
func compileRegexp(text string) (jsonschema.Regexp, error) {
	re, err := regexp.Compile(unicodeEscape.ReplaceAllString(text, `\x{$1}`))
	if err != nil {
		return regexp.MustCompile(""), nil
	}
	return re, nil
}

// Known reports whether the local AWS supports a type.
func Known(resourceType string) bool { return schemas[resourceType] != nil }

// Native returns the types that the emulator creates, sorted.
func Native() []string { return slices.Clone(native) }

// Validate returns one error with all faults of a resource's properties.
func Validate(resourceType string, properties map[string]any) error {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.UseRegexpEngine(compileRegexp)
	grammar, err := jsonschema.UnmarshalJSON(strings.NewReader(policy))
	if err := errors.Join(err, c.AddResource(base+"policy.json", grammar), c.AddResource(base+"type.json", schemas[resourceType])); err != nil {
		return err
	}
	s, err := c.Compile(base + "type.json")
	if err != nil {
		return err
	}
	converted := convert(s, properties)
	var invalid *jsonschema.ValidationError
	if !errors.As(s.Validate(converted), &invalid) {
		return nil
	}
	faults := leaves(invalid, converted)
	slices.Sort(faults)
	return fmt.Errorf("properties validation failed: %s", strings.Join(slices.Compact(faults), "\n"))
}

// convert converts values to the types of the schema, as CloudFormation does. In a template, true, 1
// and an object may be strings, and a string may be a number.
func convert(s *jsonschema.Schema, value any) any {
	for s != nil && s.Ref != nil {
		s = s.Ref
	}
	if s == nil {
		return value
	}
	wanted := []string{}
	if s.Types != nil {
		wanted = s.Types.ToStrings()
	}
	asText := slices.Contains(wanted, "string")
	switch v := value.(type) {
	case map[string]any:
		converted := make(object, len(v))
		for key, inner := range v {
			converted[key] = convert(property(s, key), inner)
		}
		return converted
	case []any:
		items, _ := s.Items.(*jsonschema.Schema)
		converted := make([]any, len(v))
		for i, inner := range v {
			converted[i] = convert(items, inner)
		}
		return converted
	case string:
		var decoded any
		if len(wanted) == 0 || asText && !slices.Contains(wanted, "object") || json.Unmarshal([]byte(v), &decoded) != nil {
			return v
		}
		if _, isObject := decoded.(map[string]any); isObject || !asText {
			return convert(s, decoded)
		}
	case bool, float64:
		if text, _ := String(v); asText && len(wanted) == 1 {
			return text
		}
	}
	return value
}

func property(s *jsonschema.Schema, key string) *jsonschema.Schema {
	if found := s.Properties[key]; found != nil {
		return found
	}
	for pattern, found := range s.PatternProperties {
		if pattern.MatchString(key) {
			return found
		}
	}
	return nil
}

var english = message.NewPrinter(language.English)

// leaves returns the faults, each with the value and its path. Faults of keys have CloudFormation's
// words.
func leaves(e *jsonschema.ValidationError, root any) (faults []string) {
	path, value := "#", root
	for _, step := range e.InstanceLocation {
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			i, _ := strconv.Atoi(step)
			value = v[i]
		}
		path += "/" + step
	}
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			faults = append(faults, fmt.Sprintf("%s: extraneous key [%s] is not permitted", path, name))
		}
		return faults
	case *kind.Required:
		for _, name := range k.Missing {
			faults = append(faults, fmt.Sprintf("%s: required key [%s] not found", path, name))
		}
		return faults
	case *kind.FalseSchema:
		cut := strings.LastIndex(path, "/")
		return []string{fmt.Sprintf("%s: extraneous key [%s] is not permitted", path[:cut], path[cut+1:])}
	}
	for _, cause := range e.Causes {
		faults = append(faults, leaves(cause, root)...)
	}
	if len(e.Causes) > 0 {
		return faults
	}
	if text, ok := String(value); ok {
		path += ": " + text
	}
	return []string{path + ": " + e.ErrorKind.LocalizedString(english)}
}

// Replacing returns for each resource type the properties whose change replaces a resource.
func Replacing() map[string][]string {
	all := map[string][]string{}
	for resourceType, document := range schemas {
		listed, _ := document["createOnlyProperties"].([]any)
		for _, pointer := range listed {
			if property := strings.TrimPrefix(pointer.(string), "/properties/"); !strings.Contains(property, "/") {
				all[resourceType] = append(all[resourceType], property)
			}
		}
	}
	for _, names := range all {
		slices.Sort(names)
	}
	return all
}

// String returns the text of a scalar, as CloudFormation converts it.
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

// Decode decodes properties into a struct. As in CloudFormation, it converts between strings, numbers
// and Booleans.
func Decode(properties map[string]any, into any) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: into, WeaklyTypedInput: true, Squash: true,
		DecodeHook: func(_, to reflect.Type, value any) (any, error) {
			if text, ok := String(value); ok && to.Kind() == reflect.String {
				return text, nil
			}
			return value, nil
		},
	})
	if err != nil {
		return err
	}
	return d.Decode(properties)
}

// Boolean returns a Boolean, which may be a string.
func Boolean(value any) (truth, ok bool) {
	text, _ := String(value)
	return text == "true", text == "true" || text == "false"
}

// Float returns a number, which may be a string.
func Float(value any) (float64, bool) {
	text, _ := String(value)
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}
