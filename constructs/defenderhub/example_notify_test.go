package defenderhub_test

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

// Who is notified of what?
func ExampleNewNotify() {
	stack := awscdk.NewStack(awscdk.NewApp(nil), jsii.String("Fleet"), nil)
	defenderhub.NewNotify(stack, jsii.String("Notify"), &defenderhub.NotifyProps{
		Emails: []string{"security@example.com"},
		Slack:  &defenderhub.SlackProps{WorkspaceID: "T0123ABCD", ChannelID: "C0123ABCD"},
		Filters: []defenderhub.NotifyFilter{
			{Severity: defender.High},
			{Severity: defender.Low, ThingGroups: []string{"pumps"}},
		},
		Digest: &defenderhub.DigestProps{DailyAt: "17:30"},
	})
}
