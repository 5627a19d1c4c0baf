package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/iotsql"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// Payload is a topic rule as the AWS IoT API (lower camel case) or CloudFormation
// (upper camel case) gives it.
type Payload struct {
	SQL         string            `json:"sql"`
	SQLVersion  string            `json:"awsIotSqlVersion"`
	Description string            `json:"description"`
	Disabled    bool              `json:"ruleDisabled"`
	Actions     []json.RawMessage `json:"actions"`
	ErrorAction json.RawMessage   `json:"errorAction"`
}

type rule struct {
	name        string
	disabled    bool
	statement   *iotsql.Statement
	actions     []action
	errorAction *action
}

type action struct {
	kind   string
	fields map[string]*iotsql.Template
	flags  map[string]bool
}

// actionFields is every action that the local AWS supports: its fields, and whether
// AWS requires them.
var actionFields = map[string]map[string]bool{
	"sqs":       {"roleArn": true, "queueUrl": true, "useBase64": false},
	"sns":       {"roleArn": true, "targetArn": true, "messageFormat": false},
	"lambda":    {"functionArn": true},
	"republish": {"roleArn": true, "topic": true, "qos": false},
	// Which partition key a record gets without one AWS does not say: it is required here.
	"kinesis": {"roleArn": true, "streamName": true, "partitionKey": true},
}

// deliveryNames are the actions as a failure report calls them. AWS's sample shows
// an S3 action; the others follow its form (unverified).
var deliveryNames = map[string]string{
	"sqs": "SqsAction", "sns": "SnsAction", "lambda": "LambdaAction", "republish": "RepublishAction", "kinesis": "KinesisAction",
}

// compile checks what the registry of AWS IoT leaves to the engine, so that what would fail at
// run time fails the deploy.
func compile(name string, p Payload) (*rule, error) {
	if p.SQLVersion != iotsql.Version {
		return nil, fmt.Errorf("rule %s: SQL version %q: the local AWS supports %s; without AwsIotSqlVersion AWS takes 2015-10-08", name, p.SQLVersion, iotsql.Version)
	}
	statement, err := iotsql.Parse(p.SQL)
	if err != nil {
		return nil, fmt.Errorf("rule %s: %w", name, err)
	}
	r := &rule{name: name, disabled: p.Disabled, statement: statement}
	var faults []error
	for i, raw := range p.Actions {
		a, err := compileAction(raw)
		if err != nil {
			faults = append(faults, fmt.Errorf("rule %s, action %d: %w", name, i+1, err))
			continue
		}
		r.actions = append(r.actions, *a)
	}
	if len(p.ErrorAction) > 0 && !bytes.Equal(p.ErrorAction, []byte("null")) {
		a, err := compileAction(p.ErrorAction)
		if err != nil {
			faults = append(faults, fmt.Errorf("rule %s, error action: %w", name, err))
		}
		r.errorAction = a
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return r, nil
}

func compileAction(raw json.RawMessage) (*action, error) {
	var kinds map[string]map[string]any
	if err := json.Unmarshal(raw, &kinds); err != nil {
		return nil, fmt.Errorf("an action is an object with one key: %w", err)
	}
	if len(kinds) != 1 {
		return nil, fmt.Errorf("an action is an object with one key, not %d", len(kinds))
	}
	for name, given := range kinds {
		kind := lowerFirst(name)
		known, ok := actionFields[kind]
		if !ok {
			return nil, fmt.Errorf("the local AWS does not support the action %q, only %s", name, strings.Join(slices.Sorted(maps.Keys(actionFields)), ", "))
		}
		return fillAction(kind, known, given)
	}
	panic("unreachable: one key")
}

func fillAction(kind string, known map[string]bool, given map[string]any) (*action, error) {
	a := &action{kind: kind, fields: map[string]*iotsql.Template{}, flags: map[string]bool{}}
	for field, value := range given {
		field = lowerFirst(field)
		if _, ok := known[field]; !ok {
			return nil, fmt.Errorf("%s: the local AWS does not support the field %q, only %s", kind, field, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		text, ok := schema.String(value)
		if !ok {
			return nil, fmt.Errorf("%s.%s: want a string, number or Boolean, not %T", kind, field, value)
		}
		a.flags[field] = text == "true" // CloudFormation writes Booleans as text too
		t, err := iotsql.ParseTemplate(text)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", kind, field, err)
		}
		a.fields[field] = t
	}
	for field, required := range known {
		if required && a.fields[field] == nil {
			return nil, fmt.Errorf("%s: the field %q is required", kind, field)
		}
	}
	return a, nil
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
