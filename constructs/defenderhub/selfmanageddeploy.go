package defenderhub

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
)

// closeInterval is how often the closer is invoked.
const closeInterval = time.Minute

// newSelfManaged creates the rules, the transport, the table and the functions. It expects valid
// props, with their executable set.
func newSelfManaged(d *detect, p DetectProps) *selfManaged {
	s := *p.SelfManaged
	e := &selfManaged{scope: d, rules: map[string]awscdk.CfnResource{}}
	events := p.Forwarder.Queue()
	config, groups := p.evaluation()
	config.ClientPattern = p.Forwarder.agreement().clientPattern
	behaviors, err := config.Compile()
	must(d, err)
	code, err := codeWithConfig(s.executable, contract.ConfigFile, "", config)
	must(d, defender.Under("SelfManaged", err))

	e.makeTransport(p)
	e.makeRules(p, engine.Rules(behaviors, s.ReportTopic))
	e.state = newTable(d, "State", tableOptions{
		partition: contract.StatePartitionKey, sort: contract.StateSortKey, expiry: contract.StateExpiry,
		key: p.EncryptionKey, recovery: s.PointInTimeRecovery, removal: s.StateRemovalPolicy,
		without: "The states can be rebuilt from new telemetry: without them each device is judged anew. PointInTimeRecovery turns backups on.",
	})
	addDueIndex(e.state)
	function := func(id, description string, statements []awsiam.PolicyStatement, suppressions ...nagSuppression) awslambda.Function {
		things, suppression := registryPermissions(len(groups) > 0)
		if engine.NeedsConnections(behaviors) {
			statement, also := connectionPermissions()
			things, suppressions = append(things, statement), append(suppressions, also)
		}
		made := newGoFunction(d, id, goFunction{
			description: description, code: code, FunctionProps: value(s.Function),
			timeout: or(s.Timeout, defaultTimeout), memoryMiB: or(s.MemoryMiB, defaultMemoryMiB),
			environment: e.environment(p, groups), key: p.EncryptionKey,
			statements:   append(append(e.permissions(p), things...), statements...),
			suppressions: append(append(suppressions, suppression), aliasSuppressions(d, p.EncryptionKey, events.EncryptionMasterKey())...),
		})
		// The forwarder must know new behaviors before their first alarm.
		made.Node().AddDependency(p.Forwarder.Function())
		return made
	}
	answers, suppressions := answerPermissions(s.ReportTopic)
	e.evaluator = function("Evaluator", "Judges the behavior of devices", append(e.sourcePermissions(), answers...), suppressions...)
	e.closer = function("Closer", "Judges the silence of devices each minute", e.closerPermissions())
	// The next run does the work of a failed one, so a retry or a late run only adds load.
	e.closer.ConfigureAsyncInvoke(&awslambda.EventInvokeConfigOptions{RetryAttempts: new(0.0), MaxEventAge: seconds(closeInterval)})
	if e.stream != nil {
		e.closer.AddEnvironment(new(contract.EnvTelemetryStream), e.stream.StreamName(), nil)
	}
	e.consume(s)
	e.schedule(p)
	e.alarms = e.newAlarms(s, or(s.Closers, defaultClosers))
	e.reportTopic = e.topicOfReports(s.ReportTopic)
	return e
}

// environment returns the functions' environment; see package contract.
func (e *selfManaged) environment(p DetectProps, groups []string) map[string]string {
	env := map[string]string{
		contract.EnvStateTable:     *e.state.TableName(),
		contract.EnvIngestQueueURL: *p.Forwarder.Queue().QueueUrl(),
		contract.EnvLogLevel:       value(p.SelfManaged.Function).LogLevel.String(),
	}
	if e.queue != nil {
		env[contract.EnvTelemetryQueueURL] = *e.queue.QueueUrl()
	}
	if e.reportsRule != nil {
		env[contract.EnvReportsRule] = *e.reportsRule
	}
	if len(groups) > 0 {
		env[contract.EnvThingGroups] = strings.Join(groups, ",")
	}
	return env
}

// permissions returns the permissions of both functions, except for the registry.
func (e *selfManaged) permissions(p DetectProps) []awsiam.PolicyStatement {
	events := p.Forwarder.Queue()
	statements := []awsiam.PolicyStatement{
		allow([]string{"dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"}, *e.state.TableArn()),
		allow([]string{"sqs:SendMessage"}, *events.QueueArn()),
	}
	return append(statements, useKeys(p.EncryptionKey, events.EncryptionMasterKey())...)
}

// registryPermissions returns the permissions to look up any thing and, if needed, its thing groups,
// because any device may violate a behavior. AWS IoT has no resource type for ListPrincipalThings.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsiot.html
func registryPermissions(groups bool) ([]awsiam.PolicyStatement, nagSuppression) {
	things := allow([]string{"iot:DescribeThing"}, arn("iot", "thing/*"))
	statements := []awsiam.PolicyStatement{things, allow([]string{"iot:ListPrincipalThings"}, "*")}
	findings := append(nagResources("thing/*"), "Resource::*")
	if groups {
		things.AddActions(new("iot:ListThingGroupsForThing"))
		statements = append(statements, allow([]string{"iot:DescribeThingGroup"}, arn("iot", "thinggroup/*")))
		findings = append(findings, nagResources("thinggroup/*")...)
	}
	return statements, nagSuppression{
		rule: "AwsSolutions-IAM5", reason: "Any device may violate a behavior, so the function reads the registry for any thing of this account and Region.",
		findings: findings,
	}
}

// connectionPermissions returns the permission to look up whether any client is connected, because
// any client may be silent. No AWS page says that the resource is the client (unverified).
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsiot.html
func connectionPermissions() (awsiam.PolicyStatement, nagSuppression) {
	return allow([]string{"iot:GetConnection"}, arn("iot", "client/*")), nagSuppression{
		rule: "AwsSolutions-IAM5", reason: "Any client of this account and Region may become silent. The function reads its connection before it judges the silence.",
		findings: nagResources("client/*"),
	}
}

// nagResources returns the IDs of cdk-nag's findings about AWS IoT resources in this account.
func nagResources(resources ...string) []string {
	var findings []string
	for _, r := range resources {
		findings = append(findings, "Resource::arn:<AWS::Partition>:iot:<AWS::Region>:<AWS::AccountId>:"+r)
	}
	return findings
}

// closerPermissions returns the permissions that only the closer needs: to query due devices, and to
// check for waiting telemetry.
func (e *selfManaged) closerPermissions() []awsiam.PolicyStatement {
	statements := []awsiam.PolicyStatement{allow([]string{"dynamodb:Query"}, *e.state.TableArn()+"/index/"+contract.StateDueIndex)}
	if e.queue != nil {
		statements = append(statements, allow([]string{"sqs:GetQueueAttributes"}, *e.queue.QueueArn()))
	}
	if e.stream != nil {
		statements = append(statements, allow([]string{"kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"}, *e.stream.StreamArn()))
	}
	return statements
}

// schedule creates the schedules that invoke the closer each minute, one per partition of the
// things.
func (e *selfManaged) schedule(p DetectProps) {
	s := newScheduler(e.scope, "Lets EventBridge Scheduler invoke the closer each minute", e.closer, e.deadLetters, p.EncryptionKey)
	partitions := or(p.SelfManaged.Closers, defaultClosers)
	for i := range partitions {
		s.eachMinute(fmt.Sprintf("Close%d", i), "Judges the silence of devices", contract.CloseRequest(i, partitions))
	}
}
