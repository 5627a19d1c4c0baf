package defenderhub

import (
	"slices"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"

	"github.com/defenderhub/defenderhub/internal/contract"
	rulefile "github.com/defenderhub/defenderhub/internal/correlation"
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
	code, err := codeWithConfig(p.executable, rulefile.File, "Rules", config)
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
	addDueIndex(c.state)
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
	newScheduler(c, "Lets EventBridge Scheduler invoke the correlator each minute", c.function, c.events.deadLetters, p.EncryptionKey).
		eachMinute("Minute", "Ends incidents whose window has passed, and resends composite findings", contract.CorrelateRequest)
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
	return append(statements, useKeys(p.EncryptionKey, forward.EncryptionMasterKey())...), nagSuppression{
		rule: "AwsSolutions-IAM5", reason: "Any thing of this account and Region may have findings, and any finding may have to be read again.",
		findings: append(findings, "Resource::*"),
	}
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
