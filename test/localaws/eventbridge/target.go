package eventbridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Target is where a rule sends events, as ListTargetsByRule gives it.
type Target struct {
	ID               string `json:"Id"`
	ARN              string `json:"Arn"`
	Input            string
	InputTransformer *struct {
		InputPathsMap map[string]string
		InputTemplate string
	}
	DeadLetterConfig *deadLetters
}

type deadLetters struct {
	ARN string `json:"Arn"`
}

// targetParameters are those of targets that the local AWS follows. The role is for targets
// that it does not have, and a target that fails is not tried again.
var targetParameters = []string{"Arn", "DeadLetterConfig", "Id", "Input", "InputTransformer", "RetryPolicy", "RoleArn"}

func readTarget(given map[string]json.RawMessage) (t Target, err error) {
	if text, err := json.Marshal(given); err != nil || json.Unmarshal(text, &t) != nil {
		return t, fmt.Errorf("it is no target: %s", text)
	}
	if err := onlyKnown(given, targetParameters); err != nil {
		return t, err
	}
	if err := deliverable(t.ARN, t.DeadLetterConfig); err != nil {
		return t, err
	}
	if t.Input != "" && t.InputTransformer != nil {
		return t, errors.New("only one of Input and InputTransformer may be given")
	}
	if t.Input != "" && !json.Valid([]byte(t.Input)) {
		return t, errors.New("Input is no JSON") //nolint:staticcheck // a parameter's name
	}
	_, err = t.Body([]byte(`{}`))
	return t, err
}

// onlyKnown names the parameters that the local AWS does not follow.
func onlyKnown(given map[string]json.RawMessage, known []string) error {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(known, name) && string(given[name]) != "null" {
			return fmt.Errorf("the local AWS does not follow %s", name)
		}
	}
	return nil
}

// deliverable refuses what is no queue, topic or function, or a FIFO one.
func deliverable(arn string, dead *deadLetters) error {
	check := func(arn string, services ...string) error {
		parts := strings.Split(arn, ":")
		if len(parts) < 6 || !slices.Contains(services, parts[2]) || parts[4] == "" {
			return fmt.Errorf("the local AWS delivers to %s only, not to %s", strings.Join(services, ", "), arn)
		}
		if strings.HasSuffix(arn, ".fifo") {
			return fmt.Errorf("the local AWS delivers to standard queues and topics only, and %s is FIFO", arn)
		}
		return nil
	}
	if err := check(arn, "sqs", "sns", "lambda"); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if dead != nil && dead.ARN != "" {
		if err := check(dead.ARN, "sqs"); err != nil {
			return fmt.Errorf("dead-letter queue: %w", err)
		}
	}
	return nil
}

// Body is what the target receives for event: a constant, what the input transformer
// makes of it, or the event itself.
func (t Target) Body(event []byte) ([]byte, error) {
	switch {
	case t.Input != "":
		return []byte(t.Input), nil
	case t.InputTransformer != nil:
		return t.transform(event)
	}
	return event, nil
}

// transform fills the template with values of the event: inside quotes a text, outside
// JSON. A value that the event lacks is empty, or null outside quotes (unverified).
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
func (t Target) transform(event []byte) ([]byte, error) {
	v, err := decode(event)
	if err != nil {
		return nil, err
	}
	var out []byte
	quoted := false
	for rest, more := t.InputTransformer.InputTemplate, true; more; {
		var before, name string
		before, rest, more = strings.Cut(rest, "<")
		out = append(out, before...)
		quotes := strings.Count(before, `"`) - strings.Count(before, `\"`)
		quoted = quoted != (quotes%2 == 1)
		if !more {
			break
		}
		name, rest, _ = strings.Cut(rest, ">")
		path, known := t.InputTransformer.InputPathsMap[name]
		if !known {
			return nil, fmt.Errorf("input transformer: <%s> is not in the input paths, and the local AWS knows no reserved variables", name)
		}
		value, err := lookup(v, path)
		if err != nil {
			return nil, fmt.Errorf("input path %s: %w", name, err)
		}
		text, isText := value.(string)
		encoded, err := json.Marshal(value)
		switch {
		case err != nil:
			return nil, err
		case isText && string(encoded) != `"`+text+`"`:
			return nil, fmt.Errorf("input transformer: <%s>: the text %s has characters that EventBridge does not escape", name, encoded)
		case quoted && !isText && value != nil:
			return nil, fmt.Errorf("input transformer: <%s>: the local AWS puts only texts between quotes, not %s", name, encoded)
		case quoted:
			encoded = []byte(text)
		}
		out = append(out, encoded...)
	}
	return out, nil
}

var pathStep = regexp.MustCompile(`^(?:\.([A-Za-z0-9_-]+)|\[(\d+)\])`)

// lookup follows a JSON path of the form $.a.b[0]; nil if the event lacks it.
func lookup(v any, path string) (any, error) {
	rest, ok := strings.CutPrefix(path, "$")
	for ok && rest != "" {
		m := pathStep.FindStringSubmatch(rest)
		if ok = m != nil; !ok {
			break
		}
		rest = rest[len(m[0]):]
		list, _ := v.([]any)
		object, _ := v.(map[string]any)
		v = object[m[1]]
		if i, err := strconv.Atoi(m[2]); err == nil && i < len(list) {
			v = list[i]
		}
	}
	if !ok {
		return nil, fmt.Errorf("JSON path %q: want $ with steps like .name or [0]", path)
	}
	return v, nil
}
