// Command consumer is a fleet's own CDK app, in its own module. It embeds the construct as README
// shows, and in every other place where a construct can be.
package main

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	asReadmeShows(awscdk.NewStack(app, jsii.String("Fleet"), nil))
	governed(awscdk.NewStack(app, jsii.String("Governed"), nil))

	platform := awscdk.NewStack(app, jsii.String("Platform"), nil)
	asReadmeShows(awscdk.NewNestedStack(platform, jsii.String("Security"), nil))

	production := awscdk.NewStage(app, jsii.String("Production"), &awscdk.StageProps{
		Env: &awscdk.Environment{Account: jsii.String("123456789012"), Region: jsii.String("eu-central-1")},
	})
	asReadmeShows(awscdk.NewStack(production, jsii.String("Fleet"), nil))
	app.Synth(nil)
}

func asReadmeShows(stack awscdk.Stack) {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Audit: &defenderhub.AuditProps{Schedule: defender.Weekly(time.Sunday)},
		Rules: &defenderhub.RulesProps{EventTopic: "fleet/+/security"},
	})
}

// governed applies an organization's rules to the construct, and to nothing else.
func governed(stack awscdk.Stack) {
	awssqs.NewQueue(stack, jsii.String("Orders"), nil)
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Correlate: &defenderhub.CorrelateProps{Rules: append(correlation.BuiltIn(), ownRule)},
		Notify:    &defenderhub.NotifyProps{Emails: []string{"security@example.com"}},
	})
	awscdk.Tags_Of(hub).Add(jsii.String("team"), jsii.String("security"), nil)
	boundary := awsiam.ManagedPolicy_FromManagedPolicyName(stack, jsii.String("Boundary"), jsii.String("fleet-boundary"))
	awsiam.PermissionsBoundary_Of(hub).Apply(boundary)
	awscdk.NewCfnOutput(stack, jsii.String("Events"), &awscdk.CfnOutputProps{Value: hub.Queue().QueueUrl()})
}

// ownRule is a correlation rule of the fleet.
var ownRule = correlation.Rule{
	Name: "opened-then-refused", Title: "Device was opened, then refused", InOrder: true,
	Stages: []correlation.Stage{
		{Name: "opened", Match: []correlation.Matcher{{Events: []string{"tamper"}}}},
		{Name: "refused", Match: []correlation.Matcher{{Sources: []defender.Source{defender.RefusedConnections}}}},
	},
}
