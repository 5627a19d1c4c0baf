package providers

import (
	"context"
	"fmt"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// chatbot are the types of Amazon Q Developer in chat applications. Nothing here posts to Slack.
func (a Account) chatbot() map[string]cloudformation.Declared {
	arns := func(service string) schema.Check { return schema.List(0, 50, schema.ARN(service)) }
	keep := func(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
		arn := fmt.Sprintf("arn:%s:chatbot::%s:chat-configuration/slack-channel/%s", cloudformation.Partition(r.Region), r.AccountID, text(r, "ConfigurationName"))
		if r.RequestType == cloudformation.Create {
			if err := a.unique(r, arn); err != nil {
				return cloudformation.Resource{}, err
			}
		}
		return kept(arn, map[string]any{"Arn": arn}, "nothing is posted to Slack"), nil
	}
	return map[string]cloudformation.Declared{
		"AWS::Chatbot::SlackChannelConfiguration": {
			Properties: schema.Object{
				"ConfigurationName": schema.Required(schema.Pattern(`[A-Za-z0-9-_]+`, 1, 128)),
				"SlackWorkspaceId":  schema.Required(schema.Pattern(`[0-9A-Z]+`, 1, 256)),
				"SlackChannelId":    schema.Required(schema.Pattern(`[A-Za-z0-9]+`, 1, 256)),
				"IamRoleArn":        schema.Required(schema.ARN("iam")),
				"SnsTopicArns":      arns("sns"), "GuardrailPolicies": arns("iam"), "CustomizationResourceArns": arns("chatbot"),
				"LoggingLevel": schema.Enum("ERROR", "INFO", "NONE"), "UserRoleRequired": schema.Bool, "Tags": schema.Tags,
			},
			Make: keep, Change: keep,
		},
	}
}
