package eventbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Target is where a rule sends events, as ListTargetsByRule gives it.
type Target struct {
	ID               string `json:"Id"`
	ARN              string `json:"Arn"`
	Input            string
	InputPath        string
	InputTransformer *struct {
		InputPathsMap map[string]string
		InputTemplate string
	}
	DeadLetterConfig *struct {
		ARN string `json:"Arn"`
	}
}

// Body is what the target receives for event: a constant, a part of the event, what
// the input transformer makes of it, or the event itself.
func (t Target) Body(event []byte) ([]byte, error) {
	switch {
	case t.Input != "":
		return []byte(t.Input), nil
	case t.InputPath != "":
		v, err := lookup(event, t.InputPath)
		if err != nil {
			return nil, err
		}
		return json.Marshal(v)
	case t.InputTransformer != nil:
		return t.transform(event)
	}
	return event, nil
}

var placeholder = regexp.MustCompile(`<([^<>\s"]+)>`)

// transform fills the template: inside quotes a value stands as text, an object or a list
// without its own quotes, outside as JSON; a value that the event lacks is empty, or null
// outside quotes (unverified).
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
func (t Target) transform(event []byte) ([]byte, error) {
	values := map[string]any{}
	for name, path := range t.InputTransformer.InputPathsMap {
		v, err := lookup(event, path)
		if err != nil {
			return nil, fmt.Errorf("input path %s: %w", name, err)
		}
		values[name] = v
	}
	template := t.InputTransformer.InputTemplate
	var out bytes.Buffer
	quoted, last := false, 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(template, -1) {
		text := template[last:at[0]]
		out.WriteString(text)
		quotes := strings.Count(text, `"`) - strings.Count(text, `\"`)
		quoted = quoted != (quotes%2 == 1)
		last = at[1]
		name := template[at[2]:at[3]]
		v, known := values[name]
		switch {
		case name == "aws.events.event.json" && !quoted:
			out.Write(event)
			continue
		case name == "aws.events.event" && !quoted:
			rest, err := withoutDetail(event)
			if err != nil {
				return nil, err
			}
			out.Write(rest)
			continue
		case strings.HasPrefix(name, "aws.events."):
			return nil, fmt.Errorf("input transformer: the local AWS does not know <%s>, or not there", name)
		}
		if !known {
			return nil, fmt.Errorf("input transformer: <%s> is not in the input paths", name)
		}
		encoded, err := inserted(v, quoted)
		if err != nil {
			return nil, fmt.Errorf("input transformer: <%s>: %w", name, err)
		}
		out.Write(encoded)
	}
	out.WriteString(template[last:])
	return out.Bytes(), nil
}

// inserted is a value in a template. What of a text would be escaped in JSON EventBridge does
// not escape, so that nobody could say what the target gets.
func inserted(v any, quoted bool) ([]byte, error) {
	encoded, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	s, isText := v.(string)
	switch {
	case isText && strings.ContainsFunc(s, func(r rune) bool { return r == '"' || r == '\\' || r < ' ' }):
		return nil, fmt.Errorf("the text %s has characters that EventBridge does not escape", encoded)
	case isText && quoted:
		return []byte(s), nil
	case isText:
		return []byte(`"` + s + `"`), nil
	case quoted && v == nil:
		return nil, nil
	case quoted:
		return bytes.ReplaceAll(encoded, []byte(`"`), nil), nil
	}
	return encoded, nil
}

func withoutDetail(event []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(event, &fields); err != nil {
		return nil, err
	}
	delete(fields, "detail")
	return json.Marshal(fields)
}

var pathStep = regexp.MustCompile(`^(?:\.([A-Za-z0-9_-]+)|\['([^']*)'\]|\[(\d+)\])`)

// lookup follows a JSON path of the form $.a.b[0]['c d']; nil if the event lacks it.
func lookup(event []byte, path string) (any, error) {
	v, err := decode(event)
	if err != nil {
		return nil, err
	}
	rest, ok := strings.CutPrefix(path, "$")
	if !ok {
		return nil, fmt.Errorf("JSON path %q: want $ at its beginning", path)
	}
	for rest != "" {
		m := pathStep.FindStringSubmatch(rest)
		if m == nil {
			return nil, errors.New("JSON path " + strconv.Quote(path) + `: want steps like .name, ['name'] or [0]`)
		}
		rest = rest[len(m[0]):]
		if m[3] != "" {
			list, _ := v.([]any)
			i, err := strconv.Atoi(m[3])
			if err != nil || i >= len(list) {
				return nil, nil
			}
			v = list[i]
			continue
		}
		object, _ := v.(map[string]any)
		v = object[m[1]+m[2]]
	}
	return v, nil
}
