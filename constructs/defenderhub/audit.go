package defenderhub

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiot"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
)

// AuditProps configure [Audit].
type AuditProps struct {
	// Schedule is when the scheduled audit runs. AWS chooses the time of day.
	// Default: defender.Daily().
	Schedule defender.Schedule
	// ScheduleName is 1 to 128 of A-Z a-z 0-9 _ -. Changing it replaces the scheduled audit.
	// Default: "", a name that CloudFormation generates.
	ScheduleName string
	// NoSchedule leaves out the scheduled audit: the checks run only on demand.
	NoSchedule bool
	// Except are checks that the scheduled audit leaves out. They stay enabled.
	// Default: nil, the scheduled audit runs all checks except defender.IntermediateCARevoked.
	Except []defender.Check
	// Include are checks to add to the scheduled audit. Only defender.IntermediateCARevoked needs
	// it: one public report says that AWS rejects a schedule with this check (unverified).
	// Default: nil, that check runs only on demand.
	Include []defender.Check
	// Disabled are checks to disable in the whole account. The scheduled audit leaves them out.
	// The audit configuration does not name them, so name here a check that the Region does not
	// support. When you disable a check, AWS deletes the data that it collected for the check.
	//
	// AWS does not disable a check that a scheduled audit still names, and CloudFormation updates
	// the configuration before the schedule. In a deployed stack, name the check in Except, deploy,
	// then move it to Disabled and deploy again.
	// Default: nil, all 17 checks are enabled.
	Disabled []defender.Check
	// CertificateAgeDays is the age from which the check defender.DeviceCertificateAge reports a
	// device certificate, 30 to 3652 days.
	// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/device-defender-audit-checks.html
	// Default: 0, which means 365.
	CertificateAgeDays int
	// CertificateExpiringDays is the remaining lifetime from which the check
	// defender.DeviceCertificateExpiring reports a device certificate, 30 to 3652 days.
	// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/device-defender-audit-checks.html
	// Default: 0, which means 30.
	CertificateExpiringDays int
	// Configuration says who owns the audit configuration, which exists once per account and
	// Region. Off is an error, because audits need a configuration.
	//
	// With Existing, its owner decides about checks, thresholds and role, and Topic is the topic of
	// its results. AWS rejects a scheduled audit with a check that is not enabled: name that check
	// in Except, or set NoSchedule.
	// Default: Create, a new configuration.
	Configuration Provision
	// Topic receives the result of each audit. It must be a standard topic, unencrypted or
	// encrypted with a customer-managed key. If it is imported and encrypted, pass its key as
	// EncryptionKey.
	// Default: nil, a new topic, encrypted with a customer-managed key, TLS only. With Existing,
	// no topic: the results are not forwarded.
	Topic awssns.ITopic
	// EncryptionKey encrypts the topic, and the log groups of the functions. Its policy must let IAM
	// policies of this account use it, as the CDK's default does. With RunOnDeploy or
	// Suppressions, the policy of an imported key must also allow CloudWatch Logs.
	// Default: nil, a new key with rotation, 1 USD a month (list price), because AWS services
	// cannot publish with an AWS managed key.
	EncryptionKey awskms.IKey
	// IoTCoreKey is the customer-managed key with which AWS IoT Core encrypts the account's data.
	// Audits fail unless their role may decrypt with it. Its policy must let IAM policies of this
	// account use it, as the CDK's default does.
	// Default: nil, AWS IoT Core uses a key that AWS owns, which needs no permission.
	IoTCoreKey awskms.IKey
	// RemovalPolicy applies to the audit configuration and to its roles, topic and key.
	// Default: awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE, which keeps them when the stack is
	// deleted: without a configuration, every check in the account is disabled. Only a failed first
	// deployment removes them. A later stack needs Existing.
	RemovalPolicy awscdk.RemovalPolicy
	// RunOnDeploy starts an audit after the first deployment, and after each deployment that
	// changes the checks or their thresholds. The audit runs the checks of the schedule, also with
	// NoSchedule. A check that was just enabled may have no data yet.
	RunOnDeploy bool
	// Suppressions keep resources from counting as non-compliant.
	// Default: nil, no suppression is created. Existing suppressions stay.
	Suppressions []AuditSuppression
	// Function configures the functions for RunOnDeploy and Suppressions. They need network access
	// to AWS IoT, and to Amazon S3 to answer CloudFormation. LogLevel is an error, because the
	// functions do not read it.
	// Default: nil, DefenderHubProps.Function within a DefenderHub, else the zero value.
	Function *FunctionProps
	// Prebuilt is the path of a prebuilt lambda/auditresources, the program of the functions for
	// RunOnDeploy and Suppressions. See ForwarderProps.Prebuilt.
	// Default: "", go build compiles it at synthesis.
	Prebuilt string

	// code is the asset of the program, set by compile.
	code awslambda.Code
}

func (p AuditProps) validate() error {
	var f faults
	f.under("Schedule", p.Schedule.Validate())
	if p.ScheduleName != "" && !unresolved(p.ScheduleName) && !scheduleName.MatchString(p.ScheduleName) {
		f.add("ScheduleName", p.ScheduleName, "1 to 128 of A-Z a-z 0-9 _ -, or empty for a generated name")
	}
	f.checks("Except", p.Except)
	f.checks("Include", p.Include)
	f.checks("Disabled", p.Disabled)
	for i, c := range p.Include {
		if slices.Contains(p.Except, c) || slices.Contains(p.Disabled, c) {
			f.add("Include"+index(i), c.String(), "no check that Except or Disabled names as well")
		}
	}
	if len(p.enabled()) == 0 {
		f.add("Disabled", fmt.Sprintf("%d checks", len(p.Disabled)), "at least one check enabled")
	} else if !p.NoSchedule && len(p.scheduled()) == 0 {
		f.coded(CodeNothingScheduled, "Except", fmt.Sprintf("%d checks", len(p.Except)), "at least one check left to schedule, or NoSchedule",
			defender.Alternative{Field: "NoSchedule", Value: "true"})
	} else if p.RunOnDeploy && len(p.scheduled()) == 0 {
		f.add("Except", fmt.Sprintf("%d checks", len(p.Except)), "at least one check left for RunOnDeploy to start")
	}
	f.threshold("CertificateAgeDays", p.CertificateAgeDays, defender.DeviceCertificateAge)
	f.threshold("CertificateExpiringDays", p.CertificateExpiringDays, defender.DeviceCertificateExpiring)
	f.removalPolicy("RemovalPolicy", p.RemovalPolicy)
	f.under("Function", value(p.Function).validate())
	f.connected("Function.LogLevel", value(p.Function).LogLevel, "the functions for RunOnDeploy and Suppressions do not read it")
	f.under("", p.validateSuppressions())
	f.prebuilt("Prebuilt", p.Prebuilt)
	f.topic("Topic", p.Topic)
	f.key("EncryptionKey", p.EncryptionKey)
	f.key("IoTCoreKey", p.IoTCoreKey)
	if p.Configuration != Create && p.Configuration != Existing {
		f.add("Configuration", p.Configuration.String(), "Create or Existing")
	}
	if p.Configuration == Existing {
		const instead = "the existing audit configuration decides; change it where it is owned"
		f.connected("Disabled", p.Disabled, instead)
		f.connected("CertificateAgeDays", p.CertificateAgeDays, instead)
		f.connected("CertificateExpiringDays", p.CertificateExpiringDays, instead)
		f.connected("IoTCoreKey", p.IoTCoreKey, instead)
	}
	return f.err()
}

func (p AuditProps) taken(scope constructs.Construct) error {
	var f faults
	f.taken(scope, auditConfiguration, p.Configuration == Create, "Configuration", p.Configuration.String(), "Existing for this one")
	f.taken(scope, named("scheduled audit", p.ScheduleName), !p.NoSchedule, "ScheduleName", p.ScheduleName, "another name, or empty for a generated one")
	return f.err()
}

// enabled returns the checks that are enabled in the account.
func (p AuditProps) enabled() []defender.Check {
	return without(defender.Checks(), p.Disabled)
}

// scheduled returns the checks of the scheduled audit.
func (p AuditProps) scheduled() []defender.Check {
	scheduled := slices.DeleteFunc(p.enabled(), func(c defender.Check) bool {
		return c.Info().OptIn && !slices.Contains(p.Include, c)
	})
	return without(scheduled, p.Except)
}

func without(list, drop []defender.Check) []defender.Check {
	return slices.DeleteFunc(slices.Clone(list), func(c defender.Check) bool { return slices.Contains(drop, c) })
}

// compiles reports whether synthesis must compile the program.
func (p *AuditProps) compiles() bool { return p.hasFunctions() && p.Prebuilt == "" }

func (p *AuditProps) hasFunctions() bool { return p.RunOnDeploy || len(p.Suppressions) > 0 }

// compile sets code if the functions are needed: to Prebuilt, or to the compiled program.
func (p *AuditProps) compile() (err error) {
	if p.hasFunctions() {
		p.code, err = functionCode(auditResourceFunction, value(p.Function).Architecture, p.Prebuilt)
	}
	return err
}

// Audit configures the account's audits by AWS IoT Device Defender.
type Audit interface {
	constructs.Construct
	// Topic receives the result of each audit; nil with Existing if AuditProps.Topic is nil.
	Topic() awssns.ITopic
	// Key encrypts the new topic; nil if AuditProps.Topic is set.
	Key() awskms.IKey
	// Role lets audits read the account; nil with Existing.
	Role() awsiam.IRole
	// NotificationRole lets audits publish to the topic; nil with Existing.
	NotificationRole() awsiam.IRole
	// Configuration is the account's audit configuration; nil with Existing.
	Configuration() awscdk.CfnResource
	// Scheduled is the scheduled audit; nil with NoSchedule.
	Scheduled() awscdk.CfnResource
	// ScheduledName is the name of the scheduled audit; nil with NoSchedule.
	ScheduledName() *string
	// Start starts an audit with a deployment; nil without RunOnDeploy. Make it depend on the
	// resources that receive the findings, because findings of an audit that ends before these exist
	// are lost.
	Start() awscdk.CustomResource
	// StartFunction is the function of Start; nil without RunOnDeploy.
	StartFunction() awslambda.IFunction
	// SuppressFunction creates and deletes the suppressions; nil without Suppressions.
	SuppressFunction() awslambda.IFunction
}

type audit struct {
	constructs.Construct
	topic            awssns.ITopic
	key              awskms.IKey
	role             awsiam.IRole
	notificationRole awsiam.IRole
	configuration    awscdk.CfnResource
	scheduled        awscdk.CfnResource
	startFunction    awslambda.IFunction
	start            awscdk.CustomResource
	suppressFunction awslambda.IFunction
	suppressions     []awscdk.CustomResource
}

func (a *audit) Topic() awssns.ITopic               { return a.topic }
func (a *audit) Key() awskms.IKey                   { return a.key }
func (a *audit) Role() awsiam.IRole                 { return a.role }
func (a *audit) NotificationRole() awsiam.IRole     { return a.notificationRole }
func (a *audit) Configuration() awscdk.CfnResource  { return a.configuration }
func (a *audit) Scheduled() awscdk.CfnResource      { return a.scheduled }
func (a *audit) Start() awscdk.CustomResource       { return a.start }
func (a *audit) StartFunction() awslambda.IFunction { return a.startFunction }

func (a *audit) SuppressFunction() awslambda.IFunction { return a.suppressFunction }

func (a *audit) ScheduledName() *string {
	if a.scheduled == nil {
		return nil
	}
	return a.scheduled.Ref()
}

// NewAudit configures the account's audits. It panics with one error that lists every
// fault of props.
func NewAudit(scope constructs.Construct, id *string, props *AuditProps) Audit {
	a := &audit{}
	constructs.NewConstruct_Override(a, scope, id)
	p := value(props)
	must(a, errors.Join(p.validate(), p.taken(a)))
	must(a, p.compile())

	a.topic = p.Topic
	if p.Configuration == Create {
		a.noteDisabled(p)
		a.configure(p)
	}
	if !p.NoSchedule {
		a.schedule(p)
	}
	if len(p.Suppressions) > 0 {
		a.suppress(p)
	}
	if p.RunOnDeploy {
		a.runOnDeploy(p)
	}
	return a
}

// configure creates the account's audit configuration and its roles and topic.
func (a *audit) configure(p AuditProps) {
	policy := or(p.RemovalPolicy, awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE)
	var decrypt []awsiam.PolicyStatement
	if p.IoTCoreKey != nil {
		decrypt = []awsiam.PolicyStatement{withKey(p.IoTCoreKey, "kms:Decrypt")}
	}
	role := serviceRole(a, "Role", iotService, "*", "Lets Device Defender read what it audits", decrypt...)
	suppressAliases(role, p.IoTCoreKey)
	role.AddManagedPolicy(awsiam.ManagedPolicy_FromAwsManagedPolicyName(new("service-role/AWSIoTDeviceDefenderAudit")))
	role.ApplyRemovalPolicy(policy)
	suppressNag(role, "AWS::IAM::Role", nagSuppression{
		rule:     "AwsSolutions-IAM4",
		reason:   "AWS requires the managed policy AWSIoTDeviceDefenderAudit for an audit's role, and extends it with each new check.",
		findings: []string{"Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSIoTDeviceDefenderAudit"},
	})
	a.role = role

	if a.topic == nil {
		topic, key := newAlertTopic(a, p.EncryptionKey, "Results of Device Defender audits", policy)
		a.topic, a.key = topic, key
	}
	notificationRole := publisherRole(a, "NotificationRole", "*", "Lets Device Defender publish the results of audits", a.topic, orKey(p.EncryptionKey, a.key))
	notificationRole.ApplyRemovalPolicy(policy)
	a.notificationRole = notificationRole

	take(a, auditConfiguration)
	a.configuration = awsiot.NewCfnAccountAuditConfiguration(a, new("Configuration"), &awsiot.CfnAccountAuditConfigurationProps{
		AccountId:                awscdk.Aws_ACCOUNT_ID(),
		RoleArn:                  role.RoleArn(),
		AuditCheckConfigurations: checkConfigurations(p),
		AuditNotificationTargetConfigurations: &awsiot.CfnAccountAuditConfiguration_AuditNotificationTargetConfigurationsProperty{
			Sns: &awsiot.CfnAccountAuditConfiguration_AuditNotificationTargetProperty{
				Enabled: true, RoleArn: notificationRole.RoleArn(), TargetArn: a.topic.TopicArn(),
			},
		},
	})
	addThresholds(a.configuration, p)
	a.configuration.ApplyRemovalPolicy(policy, nil)
}

// noteDisabled prints how to disable a check that an earlier deployment scheduled. It is a note
// and not an error, because synthesis does not know earlier deployments.
func (a *audit) noteDisabled(p AuditProps) {
	if len(p.Disabled) == 0 {
		return
	}
	var names []string
	for _, c := range p.Disabled {
		names = append(names, c.String())
	}
	awscdk.Annotations_Of(a).AddInfoV2(new("defenderhub:disabled-checks"), new(fmt.Sprintf(
		"Disabled names %s. If an earlier deployment scheduled a check, AWS does not disable it in the same deployment. Deploy twice: "+
			"first with the check in Except (setting audit-except) and not in Disabled, then with it in Disabled (setting audit-disabled).",
		strings.Join(names, ", "))))
}

// schedule creates the scheduled audit.
func (a *audit) schedule(p AuditProps) {
	var names []*string
	for _, c := range p.scheduled() {
		names = append(names, new(c.String()))
	}
	take(a, named("scheduled audit", p.ScheduleName))
	a.scheduled = awsiot.NewCfnScheduledAudit(a, new("Schedule"), &awsiot.CfnScheduledAuditProps{
		Frequency:          new(p.Schedule.Frequency()),
		DayOfWeek:          orNil(p.Schedule.DayOfWeek()),
		DayOfMonth:         orNil(p.Schedule.DayOfMonth()),
		ScheduledAuditName: orNil(p.ScheduleName),
		TargetCheckNames:   &names,
	})
	if a.configuration != nil {
		// AWS rejects a schedule with a check that is not enabled yet.
		a.scheduled.AddResourceDependency(a.configuration, nil)
	}
}
