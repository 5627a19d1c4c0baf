package provoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

var experiments = []experiment{
	{
		name: "policy", short: "Create an IoT policy that allows everything, and audit",
		long: "Create an IoT policy that allows everything and is attached to nothing, and audit. When the\n" +
			"finding is in Security Hub, narrow the policy, audit again, and wait until the finding is\narchived.",
		changes: []string{"create the IoT policy %s, which allows everything, attached to nothing", "run two on-demand audits of IOT_POLICY_OVERLY_PERMISSIVE_CHECK"},
		policy: []cli.Statement{
			{Actions: []string{"iot:CreatePolicy", "iot:CreatePolicyVersion", "iot:DeletePolicy", "iot:DeletePolicyVersion", "iot:TagResource"}, Resources: policies},
			{Actions: []string{"iot:DescribeAuditTask", "iot:StartOnDemandAuditTask"}, Resources: []string{"*"}},
		},
		finding: about, run: openPolicy,
	},
	{
		name: "message-size", short: "Publish a message that is too long for the profile demo",
		long: "Create a thing and publish a message of 26 bytes. The profile demo allows 8. When the finding\n" +
			"is in Security Hub, publish short messages until it is archived. That takes about half an\nhour: behaviors are judged in windows of five minutes.",
		changes: deviceChanges, policy: devicePolicy, finding: ofBehavior(messageSize), run: longMessage,
	},
	{
		name: "disconnect", short: "Connect twice with one client ID",
		long: "Create a thing and connect twice with its client ID. AWS IoT ends the first connection with\n" +
			"DUPLICATE_CLIENTID. No event ends that finding, so it is archived after the quiet time, 7\ndays by default. The command does not wait for that.",
		changes: deviceChanges, policy: devicePolicy, finding: about, run: duplicate,
	},
	{
		name: "telnet", short: "Report an open telnet port",
		long: "Create a thing and publish a device report with the open TCP port 23, which the profile starter\n" +
			"does not allow. When the finding is in Security Hub, report closed ports until it is\narchived.",
		changes: deviceChanges, policy: append(devicePolicy, cli.Statement{
			Actions: []string{"cloudformation:DescribeStacks"}, Resources: []string{"arn:aws:cloudformation:*:*:stack/DefenderHub/*"},
		}), finding: ofBehavior(telnet), run: openPort,
	},
}

// The documents of IoT policies.
const (
	everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	ownClient  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"}]}`
)

func openPolicy(ctx context.Context, l *lab) error {
	if err := l.createPolicy(ctx, everything); err != nil {
		return err
	}
	if err := l.audit(ctx); err != nil {
		return err
	}
	if err := l.await(ctx, about(l), asff.Active, nil); err != nil {
		return err
	}
	l.s.Say("narrowing the policy")
	if _, err := l.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: &l.name, PolicyDocument: aws.String(ownClient), SetAsDefault: true}); err != nil {
		return err
	}
	if err := l.audit(ctx); err != nil {
		return err
	}
	return l.await(ctx, about(l), asff.Archived, nil)
}

// audit runs an on-demand audit of the check for policies.
func (l *lab) audit(ctx context.Context) error {
	check := defender.IoTPolicyOverlyPermissive.String()
	task, err := l.iot.StartOnDemandAuditTask(ctx, &iot.StartOnDemandAuditTaskInput{TargetCheckNames: []string{check}})
	if err != nil {
		return err
	}
	l.s.Say("audit %s has started", aws.ToString(task.TaskId))
	last := time.Now()
	for {
		out, err := l.iot.DescribeAuditTask(ctx, &iot.DescribeAuditTaskInput{TaskId: task.TaskId})
		if err != nil {
			return err
		}
		if out.TaskStatus != types.AuditTaskStatusInProgress {
			if status := out.AuditDetails[check].CheckRunStatus; out.TaskStatus != types.AuditTaskStatusCompleted || status == types.AuditCheckRunStatusFailed {
				return cli.Todo(fmt.Sprintf("the audit ended %s, the check %s: %s", out.TaskStatus, status, aws.ToString(out.AuditDetails[check].Message)))
			}
			l.s.Say("the audit is complete")
			return nil
		}
		if time.Since(last) > time.Minute {
			last = time.Now()
			l.s.Say("the audit is in progress, the check %s", out.AuditDetails[check].CheckRunStatus)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(l.poll):
		}
	}
}

func longMessage(ctx context.Context, l *lab) error {
	d, err := l.newDevice(ctx)
	if err != nil {
		return err
	}
	c, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	topic := "defenderhub/provoke/" + l.name
	for _, text := range []string{"okay", "this is far beyond a byte!"} {
		if err := c.Publish(ctx, topic, text); err != nil {
			return err
		}
	}
	l.s.Say("published 4 and 26 bytes")
	if err := l.await(ctx, ofBehavior(messageSize)(l), asff.Active, nil); err != nil {
		return hint(err, "the profile demo must be deployed (-c defenderhub:profile=demo)")
	}
	// Native Detect clears the alarm after a conforming message. The self-managed engine clears it
	// after a window in which the device is connected and sends no violating message.
	return l.await(ctx, ofBehavior(messageSize)(l), asff.Archived, every(time.Minute, func() error { return c.Publish(ctx, topic, "okay") }))
}

func duplicate(ctx context.Context, l *lab) error {
	d, err := l.newDevice(ctx)
	if err != nil {
		return err
	}
	first, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer first.Close()
	second, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer second.Close()
	l.s.Say("a second client has taken the client ID")
	return hint(l.await(ctx, about(l), asff.Active, nil), "the source security-disconnect must be forwarded (-c defenderhub:forward=...)")
}

// reportEvery is the minimum interval of device reports that AWS advises.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
const reportEvery = 5 * time.Minute

func openPort(ctx context.Context, l *lab) error {
	topic, err := l.reportTopic(ctx)
	if err != nil {
		return err
	}
	d, err := l.newDevice(ctx, topicOf(topic))
	if err != nil {
		return err
	}
	c, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ports := []int{22, 23}
	report := every(reportEvery, func() error { // for both waits, so that no two reports are too close
		l.s.Say("reporting the open ports %v to %s", ports, topic)
		return c.Publish(ctx, topic, deviceReport(time.Now(), ports...))
	})
	if err := l.await(ctx, ofBehavior(telnet)(l), asff.Active, report); err != nil {
		return hint(err, "the profile starter must be deployed (-c defenderhub:profile=starter)")
	}
	ports = []int{22}
	return l.await(ctx, ofBehavior(telnet)(l), asff.Archived, report)
}

// reportTopic returns the topic to which devices of the deployment publish their reports: the
// self-managed engine's topic, or Device Defender's.
func (l *lab) reportTopic(ctx context.Context) (string, error) {
	out, err := l.stacks.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &l.stack})
	if err != nil {
		return "", fmt.Errorf("the stack %s (--stack): %w", cli.Quoted(l.stack), err)
	}
	for _, stack := range out.Stacks {
		for _, o := range stack.Outputs {
			if aws.ToString(o.OutputKey) == "ReportTopic" {
				return strings.NewReplacer("+", l.name, "#", l.name).Replace(aws.ToString(o.OutputValue)), nil
			}
		}
	}
	return "$aws/things/" + l.name + "/defender/metrics/json", nil
}

// deviceReport returns a device report in JSON.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-device-side-metrics.html
func deviceReport(now time.Time, ports ...int) string {
	type port struct {
		Interface string `json:"interface"`
		Port      int    `json:"port"`
	}
	var listening []port
	for _, p := range ports {
		listening = append(listening, port{"eth0", p})
	}
	text, _ := json.Marshal(map[string]any{
		"header":  map[string]any{"report_id": now.Unix(), "version": "1.0"},
		"metrics": map[string]any{"listening_tcp_ports": map[string]any{"ports": listening, "total": len(listening)}},
	}) // numbers and strings always marshal
	return string(text)
}

// every returns a function that calls f, but not again before the interval has passed.
func every(interval time.Duration, f func() error) func() error {
	var last time.Time
	return func() error {
		if !last.IsZero() && time.Since(last) < interval {
			return nil
		}
		last = time.Now()
		return f()
	}
}

// hint adds a possible reason to the error for a missing finding.
func hint(err error, text string) error {
	var todo cli.Todo
	if errors.As(err, &todo) {
		return todo + cli.Todo(": "+text)
	}
	return err
}
