package defenderhub

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	rulefile "github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/gobuild"
)

// correlateInterval is how often a schedule invokes the function to end incidents.
const correlateInterval = time.Minute

// deploy creates the rule, the queues, the table and the function. It expects valid props, with
// their executable set.
func (c *correlate) deploy(p CorrelateProps) {
	config, err := p.config()
	must(c, err)
	for _, r := range config.Rules {
		take(c, named(correlationRule, r.Name))
	}
	code, err := correlatorCode(p.executable, config)
	must(c, err)
	timeout, window := or(p.Timeout, defaultTimeout), or(p.BatchWindow, defaultCorrelatorBatchWindow)
	hidden := visibility(timeout, window)
	c.events = newFindingQueue(c, findingQueueOptions{
		description: "Sends the findings that a correlation rule can use to the correlator",
		pattern:     p.pattern(config.Rules), key: p.EncryptionKey,
		visibility: hidden, receives: int(contract.TelemetryRetry / hidden),
	})
	c.state = newTable(c, "State", tableOptions{
		partition: contract.StatePartitionKey, sort: contract.StateSortKey, expiry: contract.StateExpiry,
		key: p.EncryptionKey, recovery: p.PointInTimeRecovery, removal: p.StateRemovalPolicy,
		without: "The state can be rebuilt from new findings. PointInTimeRecovery turns backups on.",
	})
	c.state.AddGlobalSecondaryIndex(&awsdynamodb.GlobalSecondaryIndexProps{
		IndexName:      new(contract.StateDueIndex),
		PartitionKey:   attribute(contract.StateDueShard, awsdynamodb.AttributeType_STRING),
		SortKey:        attribute(contract.StateDueAt, awsdynamodb.AttributeType_NUMBER),
		ProjectionType: awsdynamodb.ProjectionType_KEYS_ONLY,
	})
	statements, suppression := c.permissions(p, config.Rules)
	c.function = newGoFunction(c, "Function", goFunction{
		description: "Correlates findings of AWS Security Hub", code: code, FunctionProps: value(p.Function),
		timeout: timeout, memoryMiB: or(p.MemoryMiB, defaultMemoryMiB), key: p.EncryptionKey,
		environment: map[string]string{
			contract.EnvStateTable:     *c.state.TableName(),
			contract.EnvIngestQueueURL: *p.Forwarder.Queue().QueueUrl(),
			contract.EnvLogLevel:       value(p.Function).LogLevel.String(),
		},
		statements: statements, suppressions: append(aliasSuppressions(c, p.EncryptionKey, p.Forwarder.Queue().EncryptionMasterKey()), suppression),
	})
	// The forwarder must know new rules before their first composite finding.
	c.function.Node().AddDependency(p.Forwarder.Function())
	// The next run does the work of a failed one, so a retry or a late run only adds load.
	c.function.ConfigureAsyncInvoke(&awslambda.EventInvokeConfigOptions{RetryAttempts: new(0.0), MaxEventAge: seconds(correlateInterval)})
	c.events.consume(c.function, or(p.BatchSize, defaultCorrelatorBatchSize), window, or(p.MaxConcurrency, defaultCorrelatorConcurrency))
	c.schedule(p)
	c.alarms = c.newAlarms(p)
}

// config returns the content of the file beside the function.
func (p CorrelateProps) config() (rulefile.Config, error) {
	rules, err := p.compiled()
	return rulefile.Config{
		Rules: rules, Attributes: p.Attributes, Elsewhere: p.OtherAccounts, MaxAgeMinutes: int(p.RegistryAge / time.Minute),
		ClientPattern: p.Forwarder.agreement().clientPattern,
	}, err
}

// correlatorCode returns the asset of the program and its rules.
func correlatorCode(executable string, config rulefile.Config) (awslambda.Code, error) {
	content, err := json.MarshalIndent(config, "", "\t")
	if err != nil {
		return nil, err
	}
	if found := tokenText.Find(content); found != nil {
		return nil, &defender.FieldError{Field: "Rules", Value: deployTime, Want: fmt.Sprintf("values that are known at synthesis: %s would be deployed in %s as it is", found, rulefile.File)}
	}
	made, err := gobuild.Stage(executable, rulefile.File, append(content, '\n'))
	if err != nil {
		return nil, &defender.FieldError{Field: "Prebuilt", Value: executable, Want: fmt.Sprintf("a file that can be copied: %v", err)}
	}
	return assetCode(made), nil
}

// permissions returns the function's permissions, except for its log.
func (c *correlate) permissions(p CorrelateProps, rules []rulefile.Rule) ([]awsiam.PolicyStatement, nagSuppression) {
	forward := p.Forwarder.Queue()
	things := []string{"iot:DescribeThing", "iot:ListThingPrincipals"}
	// AWS documents no resource type for these actions, or not which one (unverified).
	anything := []string{"iot:ListPrincipalThings", "securityhub:GetFindings"}
	statements := []awsiam.PolicyStatement{
		c.events.consumePermissions(),
		allow([]string{"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"}, *c.state.TableArn()),
		allow([]string{"dynamodb:Query"}, *c.state.TableArn()+"/index/"+contract.StateDueIndex),
		allow([]string{"sqs:SendMessage"}, *forward.QueueArn()),
	}
	findings := nagResources("thing/*")
	if len(p.Attributes) > 0 {
		anything = append(anything, "iot:ListThings")
	}
	if slices.ContainsFunc(rules, rulefile.Rule.Shared) {
		anything = append(anything, "iot:GetEffectivePolicies")
		statements = append(statements, allow([]string{"iot:DescribeRoleAlias"}, arn("iot", "rolealias/*")))
		findings = append(findings, nagResources("rolealias/*")...)
	}
	statements = append(statements, allow(things, arn("iot", "thing/*")), allow(anything, "*"))
	if p.EncryptionKey != nil {
		statements = append(statements, useKey(p.EncryptionKey))
	}
	if key := forward.EncryptionMasterKey(); key != nil && (p.EncryptionKey == nil || *key.KeyArn() != *p.EncryptionKey.KeyArn()) {
		statements = append(statements, sendWithKey(key)...)
	}
	return statements, nagSuppression{
		rule: "AwsSolutions-IAM5", reason: "Any thing of this account and Region may have findings, and any finding may have to be read again.",
		findings: append(findings, "Resource::*"),
	}
}

// schedule invokes the function each minute.
func (c *correlate) schedule(p CorrelateProps) {
	role := serviceRole(c, "ScheduleRole", schedulerService, "schedule-group/default", "Lets EventBridge Scheduler invoke the correlator each minute",
		append([]awsiam.PolicyStatement{
			allow([]string{"lambda:InvokeFunction"}, *c.function.FunctionArn()),
			allow([]string{"sqs:SendMessage"}, *c.events.deadLetters.QueueArn()),
		}, sendWithKey(p.EncryptionKey)...)...)
	suppressAliases(role, p.EncryptionKey)
	awsscheduler.NewCfnSchedule(c, new("Minute"), &awsscheduler.CfnScheduleProps{
		Description:        new("Ends incidents whose window has passed, and resends composite findings"),
		ScheduleExpression: new("rate(1 minute)"),
		FlexibleTimeWindow: &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{Mode: new("OFF")},
		Target: &awsscheduler.CfnSchedule_TargetProperty{
			Arn: c.function.FunctionArn(), RoleArn: role.RoleArn(), Input: new(contract.CorrelateRequest),
			// The run of the next minute covers unfinished work.
			RetryPolicy:      &awsscheduler.CfnSchedule_RetryPolicyProperty{MaximumEventAgeInSeconds: new(300.0), MaximumRetryAttempts: new(10.0)},
			DeadLetterConfig: &awsscheduler.CfnSchedule_DeadLetterConfigProperty{Arn: c.events.deadLetters.QueueArn()},
		},
	})
}

func (c *correlate) MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return c.emitted(contract.MetricReceived, options)
}

func (c *correlate) MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return c.emitted(contract.MetricFailed, options)
}

func (c *correlate) MetricOpened(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return c.emitted(contract.MetricOpened, options)
}

func (c *correlate) MetricEnded(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return c.emitted(contract.MetricEnded, options)
}

func (c *correlate) emitted(name string, options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return emitted(contract.MetricDimensionCorrelator, name, options, part{"correlator", c.function})
}
