package iotcore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

func sqsRule(sql string) *types.TopicRulePayload {
	return &types.TopicRulePayload{
		Sql: &sql, AwsIotSqlVersion: aws.String("2016-03-23"),
		Actions:     []types.Action{{Sqs: &types.SqsAction{RoleArn: aws.String("arn:aws:iam::123456789012:role/r"), QueueUrl: aws.String("https://sqs.us-east-1.amazonaws.com/123456789012/q"), UseBase64: aws.Bool(true)}}},
		ErrorAction: &types.Action{Republish: &types.RepublishAction{RoleArn: aws.String("arn:aws:iam::123456789012:role/r"), Topic: aws.String("failed/${topic()}"), Qos: aws.Int32(1)}},
	}
}

func TestTopicRules(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{ValidateRule: func(_ string, p types.TopicRulePayload) error {
		if strings.Contains(*p.Sql, "LIKE") {
			return fmt.Errorf("LIKE is not known (%s)", *p.AwsIotSqlVersion)
		}
		return nil
	}}), context.Background()
	create := func(name string, payload *types.TopicRulePayload) error {
		_, err := w.CreateTopicRule(ctx, &iot.CreateTopicRuleInput{RuleName: &name, TopicRulePayload: payload})
		return err
	}
	if err := create("events", sqsRule("SELECT * FROM 'a/+/b'")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, create("events", sqsRule("SELECT * FROM 'a'")), "ResourceAlreadyExistsException", "events")
	wantCode(t, create("two-words", sqsRule("SELECT * FROM 'a'")), "InvalidRequestException", "two-words")
	wantCode(t, create("bad", sqsRule("SELECT * FROM 'a' WHERE x LIKE 'b'")), "SqlParseException", "LIKE is not known (2016-03-23)")
	wantCode(t, create("fifo", &types.TopicRulePayload{Sql: aws.String("SELECT * FROM 'a'"), Actions: []types.Action{{Sqs: &types.SqsAction{RoleArn: aws.String("r"), QueueUrl: aws.String("https://q.fifo")}}}}), "InvalidRequestException", "FIFO")
	wantCode(t, create("other", &types.TopicRulePayload{Sql: aws.String("SELECT * FROM 'a'"), Actions: []types.Action{{S3: &types.S3Action{RoleArn: aws.String("r"), BucketName: aws.String("b"), Key: aws.String("k")}}}}), "NotImplementedException", `"s3"`)
	many := sqsRule("SELECT * FROM 'a'")
	many.Actions = slices.Repeat(many.Actions, 11)
	wantCode(t, create("many", many), "InvalidRequestException", "11 actions")
	huge := sqsRule("SELECT * FROM 'a'")
	huge.Description = aws.String(strings.Repeat("x", 128<<10))
	wantCode(t, create("huge", huge), "InvalidRequestException", "131072 bytes")

	got := must[*iot.GetTopicRuleOutput](t)(w.GetTopicRule(ctx, &iot.GetTopicRuleInput{RuleName: aws.String("events")}))
	if *got.RuleArn != arn+"rule/events" || !aws.ToBool(got.Rule.Actions[0].Sqs.UseBase64) || *got.Rule.ErrorAction.Republish.Topic != "failed/${topic()}" || !got.Rule.CreatedAt.Equal(start) {
		t.Errorf("read back %+v", got.Rule)
	}
	off := sqsRule("SELECT * FROM 'a/+/b'")
	off.RuleDisabled = aws.Bool(true)
	must[*iot.ReplaceTopicRuleOutput](t)(w.ReplaceTopicRule(ctx, &iot.ReplaceTopicRuleInput{RuleName: aws.String("events"), TopicRulePayload: off}))
	listed := must[*iot.ListTopicRulesOutput](t)(w.ListTopicRules(ctx, &iot.ListTopicRulesInput{RuleDisabled: aws.Bool(true)}))
	if len(listed.Rules) != 1 || *listed.Rules[0].TopicPattern != "a/+/b" {
		t.Errorf("disabled rules: %+v", listed.Rules)
	}
	must[*iot.ReplaceTopicRuleOutput](t)(w.ReplaceTopicRule(ctx, &iot.ReplaceTopicRuleInput{RuleName: aws.String("events"), TopicRulePayload: &types.TopicRulePayload{Sql: aws.String("SELECT 1 FROM 'z'"), Actions: []types.Action{}}}))
	if rules := w.service.TopicRules(); len(rules) != 1 || *rules[0].Sql != "SELECT 1 FROM 'z'" || *rules[0].AwsIotSqlVersion != "2015-10-08" || aws.ToBool(rules[0].RuleDisabled) {
		t.Errorf("after the replacement: %+v", rules)
	}
	must[*iot.DeleteTopicRuleOutput](t)(w.DeleteTopicRule(ctx, &iot.DeleteTopicRuleInput{RuleName: aws.String("events")}))
	_, err := w.GetTopicRule(ctx, &iot.GetTopicRuleInput{RuleName: aws.String("events")})
	wantCode(t, err, "UnauthorizedException", "events")
}
