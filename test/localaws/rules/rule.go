package rules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/iotsql"
)

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
	base64 bool
}

// actionFields are the supported fields of each action, and whether AWS requires them.
var actionFields = map[string]map[string]bool{
	"sqs":       {"roleArn": true, "queueUrl": true, "useBase64": false},
	"sns":       {"roleArn": true, "targetArn": true, "messageFormat": false},
	"lambda":    {"functionArn": true},
	"republish": {"roleArn": true, "topic": true, "qos": false},
	// AWS does not document the default of partitionKey, so it is required here.
	"kinesis": {"roleArn": true, "streamName": true, "partitionKey": true},
}

// deliveryNames are the names of the actions in a failure report. AWS's sample shows only an S3
// action; these names have its form (unverified).
var deliveryNames = map[string]string{
	"sqs": "SqsAction", "sns": "SnsAction", "lambda": "LambdaAction", "republish": "RepublishAction", "kinesis": "KinesisAction",
}

// compile checks what the registry of AWS IoT does not check, so that a rule that cannot run is
// not created.
func compile(name string, p types.TopicRulePayload) (*rule, error) {
	if v := aws.ToString(p.AwsIotSqlVersion); v != iotsql.Version {
		return nil, fmt.Errorf("rule %s: SQL version %q: the local AWS supports %s; without awsIotSqlVersion AWS takes 2015-10-08", name, v, iotsql.Version)
	}
	statement, err := iotsql.Parse(aws.ToString(p.Sql))
	if err != nil {
		return nil, fmt.Errorf("rule %s: %w", name, err)
	}
	r := &rule{name: name, disabled: aws.ToBool(p.RuleDisabled), statement: statement}
	var faults []error
	for i, given := range p.Actions {
		a, err := compileAction(given)
		if err != nil {
			faults = append(faults, fmt.Errorf("rule %s, action %d: %w", name, i+1, err))
		}
		r.actions = append(r.actions, a)
	}
	if p.ErrorAction != nil {
		a, err := compileAction(*p.ErrorAction)
		if err != nil {
			faults = append(faults, fmt.Errorf("rule %s, error action: %w", name, err))
		}
		r.errorAction = &a
	}
	return r, errors.Join(faults...)
}

// compileAction reads the templates of an action, which AWS IoT has checked to be of one kind.
func compileAction(given types.Action) (action, error) {
	a := action{fields: map[string]*iotsql.Template{}}
	for kind, fields := range iotcore.JSON(given).(map[string]any) {
		supported, ok := actionFields[kind]
		if !ok {
			return a, fmt.Errorf("the local AWS does not support the action %q, only %s", kind, strings.Join(slices.Sorted(maps.Keys(actionFields)), ", "))
		}
		a.kind = kind
		for field, value := range fields.(map[string]any) {
			if _, ok := supported[field]; !ok {
				return a, fmt.Errorf("%s: the local AWS does not support the field %q, only %s", kind, field, strings.Join(slices.Sorted(maps.Keys(supported)), ", "))
			}
			t, err := iotsql.ParseTemplate(fmt.Sprint(value))
			if err != nil {
				return a, fmt.Errorf("%s.%s: %w", kind, field, err)
			}
			a.fields[field] = t
		}
	}
	for field, required := range actionFields[a.kind] {
		if required && a.fields[field] == nil {
			return a, fmt.Errorf("%s: the field %q is required", a.kind, field)
		}
	}
	a.base64 = given.Sqs != nil && aws.ToBool(given.Sqs.UseBase64)
	return a, nil
}
