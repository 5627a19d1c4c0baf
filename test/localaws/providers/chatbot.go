package providers

import (
	"context"
	"fmt"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
)

// chatbot are the types of Amazon Q Developer in chat applications. Nothing here posts to Slack.
func (a Account) chatbot() map[string]cloudformation.Declared {
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
		"AWS::Chatbot::SlackChannelConfiguration": {Make: keep, Change: keep},
	}
}
