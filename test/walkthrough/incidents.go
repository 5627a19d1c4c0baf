package walkthrough

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/correlation"
)

const (
	instanceID = "i-0f1e2d3c4b5a69788"
	// abroad is the address of a client in another network than all others, which use 127.0.0.1.
	abroad = "127.0.0.2"
	// fleet is how many sensors raise the same alarm.
	fleet = 40
)

// incident is what the story expects of one composite finding.
type incident struct {
	rule, entity string // as in its product fields
	severity     types.SeverityLabel
}

// incidents are steps in which findings that belong together become one incident each, of which
// people get one message.
func (s *story) incidents() []step {
	var pump, intruder, meter, gateway *device
	var sensors []*device
	all := []incident{
		{"stolen-identity", thingName, types.SeverityLabelCritical},
		{"compromise-chain", "meter-2", types.SeverityLabelCritical},
		{"two-products", "gateway-5", types.SeverityLabelCritical},
		{"campaign", "", types.SeverityLabelHigh},
	}
	return []step{
		{"a client takes the ID of pump-7 from another network; meter-2 is refused, opens telnet and sends 150 MB", func(ctx context.Context) error {
			pump, meter, gateway = s.fleet[thingName], s.fleet["meter-2"], s.fleet["gateway-5"]
			if err := s.toNextWindow(ctx); err != nil {
				return err
			}
			if err := s.listen(ctx); err != nil {
				return err
			}
			if err := pump.connect(); err != nil {
				return err
			}
			copied := *pump
			intruder = &copied
			intruder.from = abroad
			if err := intruder.connect(); err != nil {
				return err
			}
			if err := s.refuse(ctx, meter); err != nil {
				return err
			}
			return meter.report(s.outputs["ReportTopic"], report{id: 11, bytesOut: 150_000_000, ports: []int{443, 23}})
		}, hintIssue},
		{"gateway-5 opens telnet, and GuardDuty reports the instance on which it runs", func(ctx context.Context) error {
			if err := gateway.report(s.outputs["ReportTopic"], report{id: 11, ports: []int{443, 23}}); err != nil {
				return err
			}
			return s.guardDuty(ctx, types.RecordStateActive)
		}, hintIssue},
		{"five minutes later meter-2 sends as much again, and 40 sensors publish 26 bytes", func(ctx context.Context) (err error) {
			if err := s.toNextWindow(ctx); err != nil {
				return err
			}
			if err := meter.report(s.outputs["ReportTopic"], report{id: 12, bytesOut: 150_000_000, ports: []int{443, 23}}); err != nil {
				return err
			}
			if sensors, err = s.sensors(ctx); err != nil {
				return err
			}
			return publishAll(sensors, large)
		}, hintIssue},
		{"ten minutes pass: each incident is one finding, and one message", func(ctx context.Context) error {
			if err := s.pass(ctx, 9*time.Minute); err != nil {
				return err
			}
			return s.expectIncidents(ctx, all, types.RecordStateActive)
		}, hintIssue},
		{"the devices behave again, GuardDuty's finding ends, and an analyst resolves what no event ends", func(ctx context.Context) error {
			intruder.disconnect()
			if err := pump.connect(); err != nil {
				return err
			}
			for _, d := range []*device{meter, gateway} {
				if err := d.report(s.outputs["ReportTopic"], report{id: 13, ports: []int{443}}); err != nil {
					return err
				}
			}
			if err := publishAll(sensors, small); err != nil {
				return err
			}
			if err := s.guardDuty(ctx, types.RecordStateArchived); err != nil {
				return err
			}
			return s.resolve(ctx, thingName, meter.name)
		}, hintIssue},
		{"a quarter of an hour passes: each incident is over, with one message", func(ctx context.Context) error {
			if err := s.pass(ctx, 16*time.Minute); err != nil {
				return err
			}
			return s.expectIncidents(ctx, all, types.RecordStateArchived)
		}, hintIssue},
	}
}

// expectIncidents waits for the composite findings, after one more run of the schedule, and for one
// message about each. In that minute the hold of their parts' messages ends.
func (s *story) expectIncidents(ctx context.Context, all []incident, state types.RecordState) error {
	if err := s.pass(ctx, time.Minute); err != nil {
		return err
	}
	for _, i := range all {
		err := s.expectFinding(ctx, fmt.Sprintf("%s incident %s of %q", state, i.rule, i.entity), func(f types.AwsSecurityFinding) bool {
			return f.ProductFields[correlation.FieldRule] == i.rule && f.ProductFields[correlation.FieldEntity] == i.entity && f.RecordState == state &&
				f.Severity.Label == i.severity
		})
		if err != nil {
			return err
		}
	}
	return s.expectMessages(ctx, len(all))
}

// resolve has an analyst resolve the findings about connections of devices: no event ends these.
func (s *story) resolve(ctx context.Context, devices ...string) error {
	all, err := s.findings(ctx)
	if err != nil {
		return err
	}
	var resolved []types.AwsSecurityFindingIdentifier
	for _, f := range all {
		_, rest, _ := strings.Cut(aws.ToString(f.Id), "defenderhub/")
		source, _, _ := strings.Cut(rest, "/")
		about := slices.ContainsFunc(f.Resources, func(r types.Resource) bool { return slices.Contains(devices, aws.ToString(r.Id)) })
		if about && (source == defender.SecurityDisconnects.String() || source == defender.RefusedConnections.String()) {
			resolved = append(resolved, types.AwsSecurityFindingIdentifier{Id: f.Id, ProductArn: f.ProductArn})
		}
	}
	out, err := s.hub.BatchUpdateFindings(ctx, &securityhub.BatchUpdateFindingsInput{
		FindingIdentifiers: resolved, Workflow: &types.WorkflowUpdate{Status: types.WorkflowStatusResolved},
	})
	if err == nil && len(out.UnprocessedFindings) > 0 {
		err = fmt.Errorf("findings were not resolved: %v", out.UnprocessedFindings)
	}
	return err
}

// refuse has AWS IoT refuse a connection of the device, whose certificate is inactive meanwhile.
func (s *story) refuse(ctx context.Context, d *device) error {
	set := func(status iottypes.CertificateStatus) error {
		_, err := s.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &d.certificateID, NewStatus: status})
		return err
	}
	if err := set(iottypes.CertificateStatusInactive); err != nil {
		return err
	}
	if err := d.connect(); err == nil {
		return fmt.Errorf("%s connects with an inactive certificate", d.name)
	}
	if err := set(iottypes.CertificateStatusActive); err != nil {
		return err
	}
	return d.connect()
}

// sensors connect without TLS: 40 key pairs would take longer than the story has.
func (s *story) sensors(ctx context.Context) ([]*device, error) {
	var all []*device
	for i := range fleet {
		d := &device{name: fmt.Sprintf("sensor-%02d", i+1), address: "tcp://" + s.cloud.Broker.PlainAddress()}
		if _, err := s.iot.CreateThing(ctx, &iot.CreateThingInput{ThingName: &d.name}); err != nil {
			return nil, err
		}
		if err := d.connect(); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func publishAll(devices []*device, payload string) error {
	for _, d := range devices {
		if err := d.publish("data/"+d.name, payload); err != nil {
			return err
		}
	}
	return nil
}

// guardDuty imports a finding as Amazon GuardDuty does, about the instance of gateway-5.
func (s *story) guardDuty(ctx context.Context, state types.RecordState) error {
	product := fmt.Sprintf("arn:aws:securityhub:%s::product/aws/guardduty", s.cloud.Region)
	if state == types.RecordStateActive {
		if _, err := s.hub.EnableImportFindingsForProduct(ctx, &securityhub.EnableImportFindingsForProductInput{ProductArn: &product}); err != nil {
			return err
		}
	}
	type object = map[string]any
	now := s.cloud.Clock.Now().Format("2006-01-02T15:04:05.000Z")
	finding, err := json.Marshal(object{
		"SchemaVersion": "2018-10-08", "ProductArn": product, "AwsAccountId": s.cloud.Account, "GeneratorId": "arn:aws:guardduty:" + s.cloud.Region + ":" + s.cloud.Account + ":detector/d",
		"Id":        "arn:aws:guardduty:" + s.cloud.Region + ":" + s.cloud.Account + ":detector/d/finding/1",
		"CreatedAt": now, "UpdatedAt": now, "RecordState": state,
		"Title": "The EC2 instance " + instanceID + " is communicating with a Bitcoin-related IP address", "Description": "Outbound traffic to a known address.",
		"Types":                 []string{"TTPs/Command and Control/CryptoCurrency:EC2-BitcoinTool.B"},
		"Severity":              object{"Label": "HIGH"},
		"FindingProviderFields": object{"Severity": object{"Label": "HIGH"}, "Types": []string{"TTPs/Command and Control/CryptoCurrency:EC2-BitcoinTool.B"}},
		"Resources": []object{{
			"Type": "AwsEc2Instance", "Id": "arn:aws:ec2:" + s.cloud.Region + ":" + s.cloud.Account + ":instance/" + instanceID, "Partition": "aws", "Region": s.cloud.Region,
		}},
	})
	if err != nil {
		return err
	}
	result, err := s.cloud.SecurityHub.Hub(s.cloud.Account, s.cloud.Region).ImportNative(finding)
	if err == nil && len(result.Failed) > 0 {
		err = fmt.Errorf("GuardDuty's finding was not imported: %+v", result.Failed)
	}
	return err
}

// listen subscribes a queue to the topic of messages for people.
func (s *story) listen(ctx context.Context) error {
	topic := s.outputs["MessageTopicArn"]
	if topic == "" {
		return errors.New("the stack has no output MessageTopicArn")
	}
	queue, err := s.queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("people")})
	if err != nil {
		return err
	}
	arn := fmt.Sprintf("arn:aws:sqs:%s:%s:people", s.cloud.Region, s.cloud.Account)
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"sns.amazonaws.com"},"Action":"sqs:SendMessage","Resource":%q,"Condition":{"ArnEquals":{"aws:SourceArn":%q}}}]}`, arn, topic)
	if _, err := s.queues.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: queue.QueueUrl, Attributes: map[string]string{string(sqstypes.QueueAttributeNamePolicy): policy}}); err != nil {
		return err
	}
	s.people = *queue.QueueUrl
	_, err = sns.NewFromConfig(s.cloud.Config()).Subscribe(ctx, &sns.SubscribeInput{
		TopicArn: &topic, Protocol: aws.String("sqs"), Endpoint: &arn, Attributes: map[string]string{"RawMessageDelivery": "true"},
	})
	return err
}

// expectMessages prints the messages about incidents, and returns an error unless there are as many
// as incidents, and none about a part of one. Other findings of pump-7 are older than its incident.
func (s *story) expectMessages(ctx context.Context, incidents int) error {
	if err := s.cloud.Drained(ctx); err != nil {
		return err
	}
	messages, err := s.messages(ctx)
	if err != nil {
		return err
	}
	for _, m := range messages {
		heading, _, _ := strings.Cut(m, "\n")
		if strings.Contains(heading, "incident, ") {
			s.message(m)
			incidents--
		}
		if !strings.HasSuffix(heading, "finding, new") && !strings.HasSuffix(heading, "finding, worse") {
			continue
		}
		for _, part := range []string{"DUPLICATE_CLIENTID", "known-networks", "meter-2", "gateway-5", "sensor-"} {
			if strings.Contains(m, part) {
				return fmt.Errorf("a part of an incident has a message of its own:\n%s", m)
			}
		}
	}
	if incidents != 0 {
		return fmt.Errorf("%d messages about incidents are missing, of %d that arrived", incidents, len(messages))
	}
	return nil
}

// messages empties the queue of messages for people, in the order of their arrival.
func (s *story) messages(ctx context.Context) ([]string, error) {
	var all []sqstypes.Message
	for {
		out, err := s.queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &s.people, MaxNumberOfMessages: 10, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{sqstypes.MessageSystemAttributeNameSentTimestamp},
		})
		if err != nil {
			return nil, err
		}
		if len(out.Messages) == 0 {
			break
		}
		for _, m := range out.Messages {
			if _, err := s.queues.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &s.people, ReceiptHandle: m.ReceiptHandle}); err != nil {
				return nil, err
			}
		}
		all = append(all, out.Messages...)
	}
	slices.SortStableFunc(all, func(a, b sqstypes.Message) int {
		return strings.Compare(a.Attributes["SentTimestamp"], b.Attributes["SentTimestamp"])
	})
	var bodies []string
	for _, m := range all {
		bodies = append(bodies, aws.ToString(m.Body))
	}
	return bodies, nil
}

// message prints a message as a person reads it.
func (s *story) message(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		s.note("%s", strings.TrimRight("  │ "+line, " \n"))
	}
}

// dialer returns what connects from an address of this machine, any for "".
func dialer(from string) *net.Dialer {
	d := &net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return d
}
