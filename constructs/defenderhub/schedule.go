package defenderhub

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
)

// scheduler creates schedules of EventBridge Scheduler that invoke one function.
type scheduler struct {
	scope       constructs.Construct
	function    awslambda.Function
	deadLetters awssqs.Queue
	role        awsiam.Role
}

// newScheduler creates the role of the schedules. deadLetters, which key encrypts, receives the
// requests that could not start the function.
//
// EventBridge Scheduler uses the schedule's group as the source when it assumes the role. All our
// schedules are in the default group.
// https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
func newScheduler(scope constructs.Construct, description string, function awslambda.Function, deadLetters awssqs.Queue, key awskms.IKey) *scheduler {
	role := serviceRole(scope, "ScheduleRole", schedulerService, "schedule-group/default", description,
		append([]awsiam.PolicyStatement{
			allow([]string{"lambda:InvokeFunction"}, *function.FunctionArn()),
			allow([]string{"sqs:SendMessage"}, *deadLetters.QueueArn()),
		}, sendWithKey(key)...)...)
	suppressAliases(role, key)
	return &scheduler{scope: scope, function: function, deadLetters: deadLetters, role: role}
}

// schedule configures one schedule.
type schedule struct {
	description, expression string
	// zone is the time zone of expression, "" for UTC.
	zone string
	// input is the request that the function receives.
	input string
	// maxAge is how long EventBridge Scheduler retries a request.
	maxAge time.Duration
}

func (s *scheduler) add(id string, o schedule) {
	awsscheduler.NewCfnSchedule(s.scope, new(id), &awsscheduler.CfnScheduleProps{
		Description: new(o.description), ScheduleExpression: new(o.expression), ScheduleExpressionTimezone: orNil(o.zone),
		FlexibleTimeWindow: &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{Mode: new("OFF")},
		Target: &awsscheduler.CfnSchedule_TargetProperty{
			Arn: s.function.FunctionArn(), RoleArn: s.role.RoleArn(), Input: new(o.input),
			RetryPolicy:      &awsscheduler.CfnSchedule_RetryPolicyProperty{MaximumEventAgeInSeconds: new(o.maxAge.Seconds()), MaximumRetryAttempts: new(10.0)},
			DeadLetterConfig: &awsscheduler.CfnSchedule_DeadLetterConfigProperty{Arn: s.deadLetters.QueueArn()},
		},
	})
}

// eachMinute adds a schedule that invokes the function each minute. The run of the next minute covers
// unfinished work, so a request is retried for five minutes only.
func (s *scheduler) eachMinute(id, description, input string) {
	s.add(id, schedule{description: description, expression: "rate(1 minute)", input: input, maxAge: 5 * time.Minute})
}
