package localaws

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/cloudwatch"
	"github.com/defenderhub/defenderhub/test/localaws/providers"
	"github.com/defenderhub/defenderhub/test/localaws/timetolive"
)

// passing is the work that is due as time passes. It runs after each step of the clock, and at Pass,
// for the whole time since it ran before.
type passing struct {
	mu      sync.Mutex
	until   time.Time // all work up to here has run
	alarms  cloudwatch.Evaluator
	metrics cloudwatch.Store
	logs    cloudwatch.Tail
}

// serveTime runs due work after each step of the clock. It also serves the clock over HTTP.
func (c *Cloud) serveTime() {
	c.passing.until = c.Clock.Now()
	c.passing.alarms.Store = &c.passing.metrics
	c.Clock.OnStep(func(from, to time.Time) {
		if err := c.emulator.PassDelays(c.ctx, to.Sub(from)); err != nil && c.ctx.Err() == nil {
			c.say("delayed messages, at a step of the clock: %v", err)
		}
		c.pass(from, to)
	})
	c.Edge.HandleInternal("clock", c.Clock)
}

// Pass runs the work that is due without a step of the clock.
func (c *Cloud) Pass() {
	now := c.Clock.Now()
	c.pass(now, now)
}

// pass runs the work that is due. Alarms are first, because the other work happens at the end of the
// step. Schedules are last, because their functions see the results of all other work.
func (c *Cloud) pass(from, to time.Time) {
	c.passing.mu.Lock()
	defer c.passing.mu.Unlock()
	since := c.passing.until
	if !to.After(since) || c.ctx.Err() != nil {
		return
	}
	c.passing.until = to
	for _, part := range []struct {
		what string
		do   func() error
	}{
		{"alarms", func() error { return c.judgeAlarms(since, from, to) }},
		{"time to live", func() error { return timetolive.Sweep(c.ctx, dynamodb.NewFromConfig(c.Config()), to) }},
		{"scheduled audits", func() error { c.Defender.RunDue(); return nil }},
		{"schedules", func() error { return c.runSchedules(since, to) }},
	} {
		if err := part.do(); err != nil && c.ctx.Err() == nil {
			c.say("%s, at a step of the clock: %v", part.what, err)
		}
	}
}

// wait returns when no work is running.
func (p *passing) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
}

// runSchedules starts all runs that are due, and waits for them.
func (c *Cloud) runSchedules(since, to time.Time) error {
	for _, r := range c.delivery.timetable.Due(since, to) {
		c.delivery.lanes.Go(busLane, func() { c.delivery.bus.Start(c.ctx, r.Rule, r.Event) })
	}
	return c.Settle(c.ctx)
}

// judgeAlarms evaluates the deployed alarms, and sends their changes to the emulator and the topics.
func (c *Cloud) judgeAlarms(since, from, to time.Time) error {
	alarms := providers.Alarms(c.Resources)
	if err := c.measureQueues(alarms, from, to); err != nil {
		return err
	}
	if err := c.readMetrics(); err != nil {
		return err
	}
	topics := sns.NewFromConfig(c.Config())
	account := providers.Account{Emulator: c.emulatorAPI()}
	for _, change := range c.passing.alarms.Advance(alarms, since, to) {
		if err := account.SetAlarmState(c.ctx, change.Alarm.Name, string(change.To), change.Reason); err != nil {
			return fmt.Errorf("alarm %s: %w", change.Alarm.Name, err)
		}
		subject, message := change.Notification(c.Account, c.Region)
		subject = subject[:min(len(subject), 100)] // SNS's limit
		for _, topic := range change.Alarm.Actions(change.To) {
			if err := c.Permissions.Deliver(c.ctx, "cloudwatch.amazonaws.com", change.Alarm.ARN, topic, "sns:Publish"); err != nil {
				continue // the denial has been reported
			}
			if _, err := topics.Publish(c.ctx, &sns.PublishInput{TopicArn: &topic, Subject: &subject, Message: &message}); err != nil {
				c.say("alarm %s: action %s: %v", change.Alarm.Name, topic, err)
			}
		}
	}
	return nil
}

// measureQueues records the metrics of the queues that alarms watch. It assumes that the queues did
// not change during the step.
func (c *Cloud) measureQueues(alarms []cloudwatch.Alarm, from, to time.Time) error {
	watched := map[string]bool{}
	for _, a := range alarms {
		for _, q := range a.Queues() {
			watched[q] = true
		}
	}
	if len(watched) == 0 {
		return nil
	}
	queues, err := c.emulator.Queues(c.ctx)
	if err != nil {
		return err
	}
	for queue := range watched {
		arn := cloudformation.Request{AccountID: c.Account, Region: c.Region}.ARN("sqs", queue)
		url := providers.QueueURL(c.Endpoint, arn)
		out, err := c.queues().GetQueueAttributes(c.ctx, &sqs.GetQueueAttributesInput{
			QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameApproximateNumberOfMessages},
		})
		if err != nil {
			return fmt.Errorf("measure queue %s: %w", queue, err)
		}
		visible, err := strconv.ParseFloat(out.Attributes[string(types.QueueAttributeNameApproximateNumberOfMessages)], 64)
		if err != nil {
			return fmt.Errorf("measure queue %s: %w", queue, err)
		}
		c.passing.metrics.Hold(cloudwatch.QueueMetric(cloudwatch.MessagesVisible, queue), from, to, visible, 0)
		age, growth := 0.0, 0.0
		if q, ok := queues[arn]; ok {
			age, growth = max(0, from.Sub(c.Clock.At(q.Oldest)).Seconds()), 1
		}
		c.passing.metrics.Hold(cloudwatch.QueueMetric(cloudwatch.OldestMessage, queue), from, to, age, growth)
	}
	return nil
}

// readMetrics reads the metrics that functions have logged since the last step. It converts their
// times, which are the machine's, to the cloud's.
func (c *Cloud) readMetrics() error {
	for _, f := range c.Resources.Deployed("AWS::Lambda::Function") {
		lines, err := c.passing.logs.Lines(c.Functions.LogFile(f.PhysicalID))
		if err != nil {
			return fmt.Errorf("read the log of function %s: %w", f.PhysicalID, err)
		}
		for _, line := range lines {
			data, err := cloudwatch.ParseEMF(line)
			if err != nil {
				c.say("function %s: %v", f.PhysicalID, err)
			}
			for _, d := range data {
				for _, value := range d.Values {
					c.passing.metrics.Put(d.Metric, c.Clock.At(d.At), value)
				}
			}
		}
	}
	return nil
}
