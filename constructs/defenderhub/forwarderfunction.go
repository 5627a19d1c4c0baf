package defenderhub

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// newFunction creates one of the two functions that run the same program: the one for events or the
// one for audits. They need different timeouts and permissions.
func (f *forwarder) newFunction(id string, p ForwarderProps, timeout time.Duration, events bool, description string) awslambda.Function {
	g := goFunction{
		description: description, code: p.code, FunctionProps: value(p.Function),
		timeout: timeout, memoryMiB: or(p.MemoryMiB, max(defaultMemoryMiB, contract.MemoryForBatch(or(p.BatchSize, defaultBatchSize)))),
		environment: f.environment(p), key: p.EncryptionKey,
		statements: f.permissions(p), suppressions: aliasSuppressions(f, p.EncryptionKey),
	}
	if events && !p.withoutEvents {
		// To find the things to which the certificate of an additional connection is attached.
		g.statements = append(g.statements, allow([]string{"iot:ListPrincipalThings"}, "*"))
		g.suppressions = append(g.suppressions, nagSuppression{
			rule: "AwsSolutions-IAM5", reason: "AWS IoT defines no resource type for listing the things of a certificate, so the action cannot name a resource.",
			findings: []string{"Resource::*"},
		})
	}
	if !events || p.alarmsShareAuditTopic() {
		g.statements = append(g.statements, allow([]string{"iot:DescribeAccountAuditConfiguration", "iot:ListAuditFindings", "iot:ListRelatedResourcesForAuditFinding"}, "*"))
		g.suppressions = append(g.suppressions, nagSuppression{
			rule: "AwsSolutions-IAM5", reason: "AWS IoT defines no resource type for reading the findings and the configuration of audits, so the actions cannot name a resource.",
			findings: []string{"Resource::*"},
		})
	}
	return newGoFunction(f, id, g)
}

// alarmsShareAuditTopic reports whether alarms use the topic of audits, so that the queue for events
// receives the results of audits too.
func (p ForwarderProps) alarmsShareAuditTopic() bool {
	topics := []awssns.ITopic{p.DetectTopic}
	for _, d := range p.Detects {
		topics = append(topics, value(value(d).Native).Topic)
	}
	return p.AuditTopic != nil && slices.ContainsFunc(topics, func(t awssns.ITopic) bool { return t != nil && *t.TopicArn() == *p.AuditTopic.TopicArn() })
}

// environment returns the function's environment; see package contract.
func (f *forwarder) environment(p ForwarderProps) map[string]string {
	env := map[string]string{
		contract.EnvLedgerTable:        *f.ledger.TableName(),
		contract.EnvDeadLetterQueueURL: *f.deadLetters.QueueUrl(),
		contract.EnvEventTopic:         or(p.EventTopic, iotrule.DefaultEventTopic),
		contract.EnvLogLevel:           value(p.Function).LogLevel.String(),
		contract.EnvQuietTime:          or(p.QuietTime, contract.DefaultQuietTime).String(),
	}
	if p.DetailedMetrics {
		env[contract.EnvDetailedMetrics] = "true"
	}
	if p.ClientPattern != "" {
		env[contract.EnvClientPattern] = p.ClientPattern
	}
	if s := p.severitiesText(); s != "" {
		env[contract.EnvSeverities] = s
	}
	return env
}

func (p ForwarderProps) severitiesText() string {
	_, behaviors := p.behaviors()
	return contract.Severities{Sources: p.Severities, Behaviors: behaviors, Disconnects: p.DisconnectSeverities, Events: p.EventTypes}.String()
}

const (
	// maxEnvironment is the maximum size of a function's environment, in bytes.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	maxEnvironment = 4096
	// fixedEnvironment is the size in bytes of everything else in the environment: names, JSON
	// punctuation, the longest table name, the longest queue URL, and the short values.
	fixedEnvironment = 740
)

// validateEnvironment reports props that together exceed the size of the functions' environment.
func (p ForwarderProps) validateEnvironment() error {
	live, _ := p.behaviors()
	events := len(contract.Severities{Events: p.EventTypes}.String())
	severities := len(p.severitiesText()) - events
	topic, pattern, behaviors, rules := len(or(p.EventTopic, iotrule.DefaultEventTopic)), len(p.ClientPattern), len(live.String()), 0
	if p.Correlate != nil {
		rules = len(p.Correlate.live().String())
	}
	total := fixedEnvironment + events + severities + topic + pattern + behaviors + rules
	if total <= maxEnvironment {
		return nil
	}
	return &defender.FieldError{
		Value: fmt.Sprintf("an environment of %d bytes: EventTypes %d, severities of sources, disconnects and behaviors %d, EventTopic %d, ClientPattern %d, self-managed behaviors %d, correlation rules %d, the rest %d",
			total, events, severities, topic, pattern, behaviors, rules, fixedEnvironment),
		Code: CodeLongEnvironment, Alternatives: []defender.Alternative{{Field: "EventTypes"}, {Field: "Severities"}},
		Want: fmt.Sprintf("at most %d: list fewer or shorter EventTypes, or leave out the severity that most behaviors have and set it in Severities", maxEnvironment),
	}
}

// permissions returns the permissions of both functions, except for reading queues.
func (f *forwarder) permissions(p ForwarderProps) []awsiam.PolicyStatement {
	table := *f.ledger.TableArn()
	statements := []awsiam.PolicyStatement{
		// Only findings of the account's default product.
		allow([]string{"securityhub:BatchImportFindings"}, arn("securityhub", "product/"+*awscdk.Aws_ACCOUNT_ID()+"/default")),
		allow([]string{"dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate", "dynamodb:PutItem", "dynamodb:Query"}, table),
		allow([]string{"sqs:SendMessage"}, *f.deadLetters.QueueArn()),
	}
	return append(statements, useKey(p.EncryptionKey)...)
}
