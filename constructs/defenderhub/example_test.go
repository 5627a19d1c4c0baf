package defenderhub_test

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
)

// stack is your own stack, app your own app.
var (
	stack awscdk.Stack
	app   awscdk.App
)

func Example() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Audit: &defenderhub.AuditProps{Schedule: defender.Weekly(time.Sunday)},
		Rules: &defenderhub.RulesProps{EventTopic: "fleet/+/security"},
	})
}

// The account used Device Defender Detect before 2026-08-31: let it judge the behavior of
// devices.
func Example_behaviors() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Detect: &defenderhub.DetectProps{
			Native: &defenderhub.NativeProps{},
			Behaviors: []defender.Behavior{{
				Name:     "small-messages",
				Criteria: defender.MessageByteSize.LessThan(1024), // bytes; normal for a healthy device
			}, {
				Name:     "few-refusals",
				Criteria: defender.AuthorizationFailures.LessThan(5, defender.Window15m),
				ToAlarm:  2, // datapoints
			}},
			Targets: []defender.Target{defender.ThingGroup("cameras")},
		},
	})
}

// The account cannot use Device Defender Detect: judge the same behaviors without it.
func Example_selfManaged() {
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Detect: &defenderhub.DetectProps{
			Behaviors: []defender.Behavior{{
				Name:     "small-messages",
				Criteria: defender.MessageByteSize.LessThan(1024), // bytes; normal for a healthy device
			}, {
				Name:     "known-ports",
				Criteria: defender.ListeningTCPPorts.InPorts(22, 443),
				Severity: defender.High,
			}},
			SelfManaged: &defenderhub.SelfManagedProps{ReportsEvery: time.Hour},
		},
	})
	awscdk.NewCfnOutput(stack, jsii.String("Reports"), &awscdk.CfnOutputProps{Value: hub.Detect().SelfManaged().ReportTopic()})
}

// The parts without the facade: the forwarder must know the behaviors whose alarms it receives.
func Example_parts() {
	detect := &defenderhub.DetectProps{
		Behaviors:   defender.StarterBehaviors(),
		SelfManaged: &defenderhub.SelfManagedProps{},
	}
	detect.Forwarder = defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{
		Detects: []*defenderhub.DetectProps{detect},
	})
	defenderhub.NewDetect(stack, jsii.String("Detect"), detect)
}

// One client ID is shared on purpose: its finding should not count.
func Example_suppressions() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Audit: &defenderhub.AuditProps{Suppressions: []defenderhub.AuditSuppression{{
			Check:    defender.ConflictingClientIDs,
			Resource: "gateway-1",
			Until:    time.Date(2027, time.June, 1, 0, 0, 0, 0, time.UTC),
			Why:      "Two gateways share it until the second one is replaced.",
		}}},
	})
}

// A large fleet whose devices run AWS's own agents: a stream carries the reports, on the topics
// that those agents use.
func Example_largeFleet() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Detect: &defenderhub.DetectProps{
			Behaviors: []defender.Behavior{{Name: "known-ports", Criteria: defender.ListeningTCPPorts.InPorts(22, 443)}},
			SelfManaged: &defenderhub.SelfManagedProps{
				Transport:   defenderhub.TransportKinesis,
				ReportTopic: defenderhub.ReservedReportTopic,
				Closers:     4,
			},
		},
	})
}

// The account already has an audit configuration, for example from a visit to the console, and a
// subscription to the audit's findings in Security Hub: keep both.
func Example_existingAudit() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Existing},
		Audit:         &defenderhub.AuditProps{Configuration: defenderhub.Existing},
	})
}

// Audits report to an existing topic. Name its key if it is encrypted.
func Example_ownTopic() {
	key := awskms.Key_FromKeyArn(stack, jsii.String("Key"), awscdk.Fn_ImportValue(jsii.String("SecurityKeyArn")))
	topic := awssns.Topic_FromTopicArn(stack, jsii.String("Topic"), awscdk.Fn_ImportValue(jsii.String("SecurityTopicArn")))
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Audit: &defenderhub.AuditProps{Topic: topic, EncryptionKey: key},
	})
}

// The forwarder sends everything: neither the audit nor Detect uses Device Defender's own
// integration.
func Example_forwardEverything() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Subscriptions: &defenderhub.ProductSubscriptionsProps{
			Audit: defenderhub.Off, Detect: defenderhub.Off,
		},
		Detect: &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Behaviors: defender.DemoBehaviors()},
	})
}

// The alarms notify the person on call, and some are tuned.
func Example_alarms() {
	oncall := awssns.NewTopic(stack, jsii.String("OnCall"), nil)
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		AlarmTopic: oncall,
		Forwarder: &defenderhub.ForwarderProps{Alarms: &defenderhub.AlarmsProps{
			OldestMessage:  defenderhub.Alarm{Above: 3600}, // seconds
			ImportFailures: defenderhub.Alarm{Off: true},
		}},
		Detect: &defenderhub.DetectProps{
			Behaviors: defender.DemoBehaviors(),
			SelfManaged: &defenderhub.SelfManagedProps{Alarms: &defenderhub.SelfManagedAlarmsProps{
				Blind:         defenderhub.Alarm{Above: 5},              // periods of five minutes
				CloserStopped: defenderhub.InactivityAlarm{Periods: 12}, // one hour
			}},
		},
	})
}

// Findings of several services that belong to one device become one incident. An attribute of the
// thing names the Amazon EC2 instance on which a gateway runs.
func Example_correlate() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Correlate: &defenderhub.CorrelateProps{
			Attributes: []string{"instanceId"},
			Rules: append(correlation.BuiltIn(), correlation.Rule{
				Name:     "opened-then-refused",
				Title:    "Device was opened, then refused",
				Severity: defender.Critical,
				InOrder:  true,
				Stages: []correlation.Stage{
					{Name: "opened", Match: []correlation.Matcher{{Events: []string{"tamper"}}}},
					{Name: "refused", Match: []correlation.Matcher{{Sources: []defender.Source{defender.RefusedConnections}}}},
				},
			}),
		},
	})
}

// Two accounts have devices in two Regions each: every account and Region gets a stack.
func Example_manyAccounts() {
	for _, account := range []string{"111122223333", "444455556666"} {
		for _, region := range []string{"eu-central-1", "us-east-1"} {
			fleet := awscdk.NewStack(app, jsii.String("Fleet-"+account+"-"+region), &awscdk.StackProps{
				StackName: jsii.String("Fleet"),
				Env:       &awscdk.Environment{Account: &account, Region: &region},
			})
			defenderhub.NewDefenderHub(fleet, jsii.String("Hub"), nil)
		}
	}
}

// A campaign is the same finding on 100 of 200,000 devices.
func Example_campaignOfALargeFleet() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Correlate: &defenderhub.CorrelateProps{
			FleetSize: 200_000,
			Rules: []correlation.Rule{
				correlation.StolenIdentity(), correlation.CompromiseChain(), correlation.BlastRadius(),
				correlation.TamperAndSilence(), correlation.SilencedAfterAlarm(), correlation.TwoProducts(),
				correlation.Campaign(correlation.Spread{Share: 0.0005}),
			},
		},
	})
}

// Messages about findings go to a mail address and a Slack channel: about all devices from HIGH on,
// about the pumps from LOW on. Changes below HIGH wait for a daily digest.
func Example_notify() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Notify: &defenderhub.NotifyProps{
			Emails: []string{"security@example.com"},
			Slack:  &defenderhub.SlackProps{WorkspaceID: "T0123ABCD", ChannelID: "C0123ABCD"},
			Filters: []defenderhub.NotifyFilter{
				{Severity: defender.High},
				{Severity: defender.Low, ThingGroups: []string{"pumps"}},
			},
			Digest: &defenderhub.DigestProps{DailyAt: "17:30"},
		},
	})
}

// All functions run in a VPC without NAT, keep their logs for a year, and write Debug lines.
func Example_vpc() {
	vpc := awsec2.Vpc_FromLookup(stack, jsii.String("Vpc"), &awsec2.VpcLookupOptions{VpcName: jsii.String("fleet")})
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Function: &defenderhub.FunctionProps{
			VPC:          vpc,
			VPCSubnets:   &awsec2.SubnetSelection{SubnetType: awsec2.SubnetType_PRIVATE_ISOLATED},
			LogRetention: awslogs.RetentionDays_ONE_YEAR,
			LogLevel:     slog.LevelDebug,
		},
	})
}

// One dashboard shows the parts, incidents and messages; Security Hub gets insights about them.
func Example_dashboard() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Correlate: &defenderhub.CorrelateProps{},
		Notify:    &defenderhub.NotifyProps{Emails: []string{"security@example.com"}},
		Dashboard: &defenderhub.DashboardProps{},
	})
}

// The parts that a security team deploys alone: AWS's integration and a daily audit, without
// forwarder and engine.
func Example_auditAlone() {
	defenderhub.NewProductSubscriptions(stack, jsii.String("Subscriptions"), nil)
	defenderhub.NewAudit(stack, jsii.String("Audit"), nil)
}

// The machine that synthesizes has no Go: use functions that an earlier build step compiled.
func Example_prebuiltAsset() {
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Forwarder: &defenderhub.ForwarderProps{
			Prebuilt: "dist/forwarder-arm64.zip", // of a release, or an executable
		},
	})
}

// The AwsSolutions rules of cdk-nag pass. A rule of your own organization may need a
// suppression, for cdk-nag 2 and 3.
func ExampleSuppress() {
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), nil)
	defenderhub.Suppress(hub.Rules().Rule(defender.DeviceEvents), defenderhub.Suppression{
		Rule: "Fleet-IoT1", Reason: "Devices report on their own topic, which their policy names.",
	})
}

// Only the rules: the events stay in a queue that your own consumer reads.
func ExampleNewRules() {
	rules := defenderhub.NewRules(stack, jsii.String("Rules"), &defenderhub.RulesProps{
		Sources: []defender.Source{defender.SecurityDisconnects, defender.RefusedConnections},
	})
	awscdk.NewCfnOutput(stack, jsii.String("Events"), &awscdk.CfnOutputProps{Value: rules.Queue().QueueUrl()})
}

// One error lists all faults, with the paths of the props.
func Example_faults() {
	defer func() { fmt.Println(recover()) }()
	defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Audit: &defenderhub.AuditProps{Schedule: defender.Monthly(32)},
		Detect: &defenderhub.DetectProps{
			Behaviors: []defender.Behavior{{Criteria: defender.MessageByteSize.LessThan(8)}},
			Native:    &defenderhub.NativeProps{},
		},
		Forward: []defender.Source{defender.AuditNotifications},
	})
	// Output:
	// defenderhub: invalid props of Fleet/Hub:
	// Audit.Schedule: 32, want day 1 to 31, or MonthlyOnLastDay()
	// Detect.Behaviors[0].Name: missing, want 1 to 128 of A-Z a-z 0-9 : _ -
	// Forward[0]: "audit", want no source that Device Defender's own integration sends already: leave it out, or set the product's subscription to Off
}
