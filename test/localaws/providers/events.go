package providers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

const eventsRule = "AWS::Events::Rule"

func (a Account) events() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		eventsRule: {
			// A property of a target that is not here has a meaning which the local event bus
			// does not have.
			Properties: schema.Object{
				"Name": schema.Pattern(`[0-9A-Za-z._-]+`, 1, 64), "Description": schema.Text(0, 512),
				"EventBusName": schema.Text(1, 1600), "EventPattern": schema.Document,
				"RoleArn": schema.ARN("iam"), "ScheduleExpression": schema.Text(0, 256),
				"State": schema.Enum("ENABLED", "DISABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"),
				"Tags":  schema.Tags,
				"Targets": schema.List(0, 5, schema.Map(schema.Object{
					"Arn":     schema.Required(schema.Text(1, 1600)),
					"Id":      schema.Required(schema.Pattern(`[.\-_A-Za-z0-9]+`, 1, 64)),
					"RoleArn": schema.ARN("iam"), "Input": schema.Text(0, 8192),
					"InputTransformer": schema.Map(schema.Object{
						"InputPathsMap": schema.Dictionary(`^[A-Za-z0-9_-]{1,256}$`, schema.Text(0, 256)),
						"InputTemplate": schema.Required(schema.Text(1, 8192)),
					}),
					"DeadLetterConfig": schema.Map(schema.Object{"Arn": schema.ARN("sqs")}),
					"RetryPolicy":      schema.Map(schema.Object{"MaximumEventAgeInSeconds": schema.Integer(60, 86400), "MaximumRetryAttempts": schema.Integer(0, 185)}),
				})),
			},
			Make:   a.putRule,
			Remove: a.deleteRule,
		},
	}
}

// putRule makes the rule through the API, which refuses what it cannot follow.
func (a Account) putRule(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p := r.ResourceProperties
	_, pattern := p["EventPattern"]
	_, schedule := p["ScheduleExpression"]
	if !pattern && !schedule {
		return cloudformation.Resource{}, errors.New("Parameter(s) EventPattern or ScheduleExpression must be specified. (Service: EventBridge, Status Code: 400)") //nolint:staticcheck // AWS's words
	}
	name := named(r, "Name", 64)
	if err := a.unique(r, name); err != nil {
		return cloudformation.Resource{}, err
	}
	body := map[string]any{"Name": name}
	for _, property := range []string{"Description", "EventBusName", "RoleArn", "ScheduleExpression", "State", "Tags"} {
		if value, ok := p[property]; ok {
			body[property] = value
		}
	}
	if pattern {
		encoded, err := json.Marshal(p["EventPattern"])
		if err != nil {
			return cloudformation.Resource{}, err
		}
		body["EventPattern"] = string(encoded)
	}
	var answer struct{ RuleArn string }
	if err := a.API.Target(ctx, "events", "AWSEvents.PutRule", body, &answer); err != nil {
		return cloudformation.Resource{}, err
	}
	if targets, _ := p["Targets"].([]any); len(targets) > 0 {
		var out struct {
			FailedEntries []struct{ TargetId, ErrorMessage string }
		}
		if err := a.API.Target(ctx, "events", "AWSEvents.PutTargets", map[string]any{"Rule": name, "Targets": targets}, &out); err != nil {
			return cloudformation.Resource{}, err
		}
		for _, f := range out.FailedEntries {
			return cloudformation.Resource{}, fmt.Errorf("target %s: %s", f.TargetId, f.ErrorMessage)
		}
	}
	return cloudformation.Resource{PhysicalID: name, Attributes: map[string]any{"Arn": answer.RuleArn}}, nil
}

func (a Account) deleteRule(ctx context.Context, r cloudformation.Request) error {
	var listed struct{ Targets []struct{ Id string } }
	if err := a.API.Target(ctx, "events", "AWSEvents.ListTargetsByRule", map[string]string{"Rule": r.PhysicalResourceID}, &listed); err != nil {
		return err
	}
	if len(listed.Targets) > 0 {
		ids := make([]string, len(listed.Targets))
		for i, t := range listed.Targets {
			ids[i] = t.Id
		}
		if err := a.API.Target(ctx, "events", "AWSEvents.RemoveTargets", map[string]any{"Rule": r.PhysicalResourceID, "Ids": ids}, nil); err != nil {
			return err
		}
	}
	return a.API.Target(ctx, "events", "AWSEvents.DeleteRule", map[string]string{"Name": r.PhysicalResourceID}, nil)
}
