package localaws

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"

	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/test/localaws/cloudwatch"
	"github.com/defenderhub/defenderhub/test/localaws/edge"
	"github.com/defenderhub/defenderhub/test/localaws/eventbridge"
	"github.com/defenderhub/defenderhub/test/localaws/functions"
	"github.com/defenderhub/defenderhub/test/localaws/lanes"
	"github.com/defenderhub/defenderhub/test/localaws/providers"
)

// busLane is the lane of events and of the runs of schedules.
const busLane = "event bus"

type delivery struct {
	lanes     lanes.Lanes
	bus       *eventbridge.Bus
	timetable eventbridge.Timetable
}

// serveEvents connects Security Hub to the deployed rules, and limits the services to what works here.
func (c *Cloud) serveEvents() {
	all := func() []eventbridge.Rule { return providers.Rules(c.Resources) }
	c.delivery.bus = &eventbridge.Bus{
		Rules: all, Send: c.send, Log: slog.New(slog.NewTextHandler(c.log("events.log"), nil)),
		Lost: func(rule string) {
			c.passing.metrics.Put(cloudwatch.RuleMetric(cloudwatch.LostEvents, rule), c.Clock.Now(), 1)
		},
	}
	c.delivery.timetable = eventbridge.Timetable{
		Account: c.Account, Region: c.Region, Rules: all,
		Skipped: func(name string, runs int) {
			c.say("schedule %s: the first %d runs in this step of the clock are skipped; the last %d run", name, runs, eventbridge.MostRuns)
		},
	}
	for _, service := range []string{"events", "scheduler"} {
		c.Edge.Handle(service, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			edge.Refuse(w, r, "rules and schedules come only from CloudFormation stacks, and events only from Security Hub and schedules")
		}))
	}
	c.Edge.Wrap("dynamodb", edge.OneAtATime)
	c.Edge.Wrap("sns", publishable)
	c.Edge.Wrap("sqs", sendable)
	c.Edge.Wrap("cloudformation", stacksOnly)
	c.Edge.Wrap("logs", unfollowed)
	c.Edge.Wrap("monitoring", func(next http.Handler) http.Handler {
		return cloudwatch.API{
			Alarms: func() []cloudwatch.Alarm { return providers.Alarms(c.Resources) }, Evaluator: &c.passing.alarms, Store: &c.passing.metrics, Next: next,
		}
	})
	c.OnImported(func(i securityhubtest.Imported) {
		event, err := eventbridge.SecurityHubEvent(uuid.NewString(), i.Account, i.Region, c.Clock.Now(), i.Finding.JSON)
		if err != nil {
			c.say("Security Hub's event: %v", err)
			return
		}
		c.delivery.lanes.Go(busLane, func() {
			if err := c.delivery.bus.Put(c.ctx, event); err != nil && c.ctx.Err() == nil {
				c.say("event bus: %v", err)
			}
		})
	})
}

// Settle waits until every event is in the queues and topics of the matching rules, and every
// function that it started has ended. It does not wait for messages in queues: see
// [Cloud.Drained].
func (c *Cloud) Settle(ctx context.Context) error { return c.delivery.lanes.Settle(ctx) }

// send sends an event, or the message of a topic rule, to a queue, a topic or a function. A
// function runs later: as on AWS, its failure is not an error of send.
func (c *Cloud) send(ctx context.Context, from eventbridge.Origin, arn string, body []byte) error {
	if from.Role != "" {
		if err := c.scheduleMay(ctx, from.ARN, from.Role, arn); err != nil {
			return err
		}
	}
	text := string(body)
	service := strings.Split(arn+":::", ":")[2]
	name := functions.Name(arn)
	if service == "lambda" {
		if _, err := c.Functions.Lookup(name); err != nil {
			return err
		}
	}
	if caller := callers[strings.Split(from.ARN+":::", ":")[2]]; caller != "" {
		if err := c.Permissions.Deliver(ctx, caller, from.ARN, arn, sending[service]); err != nil {
			return fmt.Errorf("AccessDeniedException: %w", err)
		}
	}
	switch service {
	case "sqs":
		url := providers.QueueURL(c.Endpoint, arn)
		_, err := c.queues().SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &text})
		return err
	case "sns":
		_, err := sns.NewFromConfig(c.Config()).Publish(ctx, &sns.PublishInput{TopicArn: &arn, Message: &text})
		return err
	case "lambda":
		c.delivery.lanes.Go("function "+name, func() {
			if err := c.lambda.InvokeEvent(name, body); err != nil && c.ctx.Err() == nil {
				c.say("an asynchronous invocation failed for the last time: %v", err)
			}
		})
		return nil
	}
	return fmt.Errorf("the local AWS delivers to queues, topics and functions, not to %s", arn)
}

// callers are the services that need a permission of the function, queue or topic, by the service
// in the ARN of the rule. Schedules of EventBridge Scheduler send in their role.
var callers = map[string]string{"iot": "iot.amazonaws.com", "events": "events.amazonaws.com"}
