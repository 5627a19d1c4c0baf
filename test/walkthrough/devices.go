package walkthrough

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	paho "github.com/eclipse/paho.mqtt.golang"
)

const (
	thingName    = "pump-7"
	devicePolicy = `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
		{"Effect":"Allow","Action":"iot:Publish","Resource":["arn:aws:iot:*:*:topic/data/*","arn:aws:iot:*:*:topic/fleet/*","arn:aws:iot:*:*:topic/defenderhub/events/*","arn:aws:iot:*:*:topic/$aws/things/*","arn:aws:iot:*:*:topic/$aws/rules/*"]},
		{"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:*:*:topicfilter/$aws/things/*"},
		{"Effect":"Allow","Action":"iot:Receive","Resource":"arn:aws:iot:*:*:topic/$aws/things/*"}]}`
)

// devices are steps in which real MQTT clients behave well and badly.
func (s *story) devices() []step {
	var pump *device
	return []step{
		{"a device connects with its certificate and publishes: nothing to report", func(ctx context.Context) (err error) {
			if pump, err = s.newDevice(ctx, thingName); err != nil {
				return err
			}
			if err := pump.connect(); err != nil {
				return err
			}
			return pump.publish("data/"+thingName, "12.5")
		}, hintIssue},
		{"a second client takes its client ID", func(ctx context.Context) error {
			clone := *pump
			if err := clone.connect(); err != nil {
				return err
			}
			pump = &clone
			return s.expect(ctx, types.SeverityLabelMedium, types.RecordStateActive, thingName, "DUPLICATE_CLIENTID")
		}, hintIssue},
		{"a client with a revoked certificate is refused", func(ctx context.Context) error {
			valve, err := s.newDevice(ctx, "valve-3")
			if err != nil {
				return err
			}
			if _, err := s.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &valve.certificateID, NewStatus: iottypes.CertificateStatusRevoked}); err != nil {
				return err
			}
			if err := valve.connect(); err == nil {
				return errors.New("the client was accepted")
			}
			return s.expect(ctx, types.SeverityLabelMedium, types.RecordStateActive, "valve-3")
		}, hintIssue},
		{"a device reports that its enclosure was opened", func(ctx context.Context) error {
			if err := pump.publish("defenderhub/events/"+thingName, `{"type": "tamper", "severity": "HIGH", "description": "Enclosure opened.", "details": {"sensor": "lid"}}`); err != nil {
				return err
			}
			return s.expect(ctx, types.SeverityLabelHigh, types.RecordStateActive, thingName, "tamper")
		}, hintIssue},
		{"a second connection of the device reports that the enclosure is closed again", func(ctx context.Context) error {
			second, err := s.anotherConnection(ctx, pump)
			if err != nil {
				return err
			}
			if err := second.connect(); err != nil {
				return err
			}
			defer second.disconnect()
			if err := second.publish("defenderhub/events/"+thingName, `{"type": "tamper", "severity": "HIGH", "state": "cleared"}`); err != nil {
				return err
			}
			return s.expect(ctx, types.SeverityLabelHigh, types.RecordStateArchived, thingName, "tamper")
		}, hintIssue},
		{"a malformed device report is rejected by Device Defender", func(ctx context.Context) error {
			if err := pump.publish("$aws/things/"+thingName+"/defender/metrics/json", `{"header": {"report_id": 1, "version": "1.0"}, "custom_metrics": {"load": {"number": 1}}}`); err != nil {
				return err
			}
			return s.expect(ctx, types.SeverityLabelLow, types.RecordStateActive, thingName, "report")
		}, hintIssue},
		{"garbage on the event topic goes to the dead-letter queue, with its reason", func(ctx context.Context) error {
			if err := pump.publish("defenderhub/events/"+thingName, "\x00 not JSON"); err != nil {
				return err
			}
			return s.expectDeadLetter(ctx)
		}, hintIssue},
	}
}

// ending shows all findings.
func (s *story) ending() []step {
	return []step{{"show the findings in Security Hub", s.showTable, hintIssue}}
}

// instances are the Amazon EC2 instances on which things run.
var instances = map[string]string{"gateway-5": instanceID}

// device is an MQTT client with its own certificate.
type device struct {
	name, certificateID string
	address             string
	from                string      // the address that it connects from, "" for any
	tls                 *tls.Config // nil without TLS
	client              paho.Client
}

// newDevice registers a thing with a certificate and a policy.
func (s *story) newDevice(ctx context.Context, name string) (*device, error) {
	thing := &iot.CreateThingInput{ThingName: &name}
	if runsOn := instances[name]; runsOn != "" {
		thing.AttributePayload = &iottypes.AttributePayload{Attributes: map[string]string{"instanceId": runsOn}}
	}
	if _, err := s.iot.CreateThing(ctx, thing); err != nil {
		return nil, err
	}
	keys, err := s.iot.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	if err != nil {
		return nil, err
	}
	policy := name + "-policy"
	if _, err := s.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &policy, PolicyDocument: aws.String(devicePolicy)}); err != nil {
		return nil, err
	}
	if _, err := s.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &policy, Target: keys.CertificateArn}); err != nil {
		return nil, err
	}
	if _, err := s.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &name, Principal: keys.CertificateArn}); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair([]byte(*keys.CertificatePem), []byte(*keys.KeyPair.PrivateKey))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.cloud.IoT.CA().PEM()))
	d := &device{
		name: name, certificateID: *keys.CertificateId, address: "ssl://" + s.cloud.Broker.TLSAddress(),
		tls: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	}
	s.fleet[name] = d
	return d, nil
}

// anotherConnection is a connection of the same thing with the same certificate, as AWS IoT
// Greengrass makes it. Its client ID is not the thing's name, so policy variables of the thing
// are empty.
func (s *story) anotherConnection(ctx context.Context, d *device) (*device, error) {
	second := *d
	second.name += "#2"
	policy := d.name + "-second-connection"
	document := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":%q},
		{"Effect":"Allow","Action":"iot:Publish","Resource":%q}]}`, s.cloud.IoT.ARN("client/"+second.name), s.cloud.IoT.ARN("topic/defenderhub/events/"+d.name))
	if _, err := s.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &policy, PolicyDocument: &document}); err != nil {
		return nil, err
	}
	target := s.cloud.IoT.ARN("cert/" + d.certificateID)
	_, err := s.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &policy, Target: &target})
	return &second, err
}

func (d *device) connect() error {
	d.client = paho.NewClient(paho.NewClientOptions().AddBroker(d.address).SetClientID(d.name).SetTLSConfig(d.tls).SetDialer(dialer(d.from)).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(patience).SetKeepAlive(20 * time.Minute))
	return finished(d.client.Connect(), "connect as "+d.name)
}

// disconnect disconnects. If that takes too long, the client drops the connection.
func (d *device) disconnect() { d.client.Disconnect(uint(patience.Milliseconds())) }

func (d *device) publish(topic, payload string) error {
	return finished(d.client.Publish(topic, 1, false, payload), "publish to "+topic)
}

func finished(token paho.Token, what string) error {
	if !token.WaitTimeout(patience) {
		return fmt.Errorf("%s: no answer within %s", what, patience)
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// expectDeadLetter waits for a message in the dead-letter queue and prints its reason.
func (s *story) expectDeadLetter(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer s.cloud.Hurry()()
	for ctx.Err() == nil {
		got, err := s.queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(s.outputs["DeadLetterQueueUrl"]), WaitTimeSeconds: 1, MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			return err
		}
		for _, m := range got.Messages {
			reason, ok := m.MessageAttributes["Reason"]
			if !ok {
				return errors.New("the dead letter carries no reason")
			}
			s.note("→ dead-letter queue: %s", aws.ToString(reason.StringValue))
			return nil
		}
	}
	return fmt.Errorf("no message arrived in the dead-letter queue within %s", patience)
}
