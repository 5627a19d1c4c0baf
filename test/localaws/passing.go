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

// passing is what happens because time passes. All of it happens when the clock is
// stepped, and at Pass, then also for the time that passed by itself since before.
type passing struct {
	mu      sync.Mutex
	until   time.Time // what was due up to then has happened
	alarms  cloudwatch.Evaluator
	metrics cloudwatch.Store
	logs    cloudwatch.Tail
}

// serveTime has what is due happen with each step of the clock, which can be stepped
// over HTTP too.
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

// Pass lets happen what became due because time passed by itself.
func (c *Cloud) Pass() {
	now := c.Clock.Now()
	c.pass(now, now)
}

// pass lets happen what is due. Alarms come first, because what happens now lies at the
// end of the step; schedules come last, because what they start sees all the rest.
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

// wait returns when no step of the clock is under way.
func (p *passing) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
}

// runSchedules starts all runs that are due and waits for what they started.
func (c *Cloud) runSchedules(since, to time.Time) error {
	for _, r := range c.delivery.timetable.Due(since, to) {
		c.delivery.lanes.Go(busLane, func() { c.delivery.bus.Start(c.ctx, r.Rule, r.Event) })
	}
	return c.Settle(c.ctx)
}

// judgeAlarms judges the deployed alarms by what was measured, and informs the emulator
// and the topics of their changes.
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

// measureQueues takes the queues that alarms watch to have been during the step as they
// are now.
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

// readMetrics reads what the functions have written to their logs since the last step.
// They read the machine's clock; their metrics are filed under the cloud's.
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
