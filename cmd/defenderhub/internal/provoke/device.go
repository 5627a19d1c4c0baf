package provoke

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
)

// The permissions of the experiments.
var (
	policies = []string{"arn:aws:iot:*:*:policy/" + prefix + "*"}
	things   = []string{"arn:aws:iot:*:*:thing/" + prefix + "*"}
	certs    = []string{"arn:aws:iot:*:*:cert/*"}
	base     = []cli.Statement{{Actions: []string{hub.Action}, Resources: []string{hub.Resource}}}

	deviceChanges = []string{
		"create the thing %s with a certificate, and the IoT policy %s for it alone",
		"connect it to AWS IoT and publish as it",
	}
	devicePolicy = []cli.Statement{
		{Actions: []string{"iot:CreatePolicy", "iot:DeletePolicy", "iot:DeletePolicyVersion", "iot:TagResource"}, Resources: policies},
		{Actions: []string{"iot:CreateThing", "iot:DeleteThing"}, Resources: things},
		// The resource of the actions that attach and detach a thing's principal is the principal.
		// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsiot.html
		{Actions: []string{"iot:AttachPolicy", "iot:AttachThingPrincipal", "iot:DeleteCertificate", "iot:DetachPolicy", "iot:DetachThingPrincipal", "iot:UpdateCertificate"}, Resources: certs},
		{Actions: []string{"iot:CreateKeysAndCertificate", "iot:DescribeEndpoint"}, Resources: []string{"*"}},
	}
	cleaning = []cli.Statement{
		{Actions: []string{"iot:DeletePolicy", "iot:DeletePolicyVersion", "iot:ListTagsForResource"}, Resources: policies},
		{Actions: []string{"iot:DeleteThing", "iot:ListThingPrincipals"}, Resources: things},
		{Actions: []string{"iot:DeleteCertificate", "iot:DetachPolicy", "iot:DetachThingPrincipal", "iot:UpdateCertificate"}, Resources: certs},
		{Actions: []string{"iot:ListPolicies", "iot:ListThings"}, Resources: []string{"*"}},
	}
)

// IoT are the calls to AWS IoT.
type IoT interface {
	iot.ListPoliciesAPIClient
	iot.ListThingsAPIClient
	iot.ListThingPrincipalsAPIClient
	AttachPolicy(context.Context, *iot.AttachPolicyInput, ...func(*iot.Options)) (*iot.AttachPolicyOutput, error)
	AttachThingPrincipal(context.Context, *iot.AttachThingPrincipalInput, ...func(*iot.Options)) (*iot.AttachThingPrincipalOutput, error)
	CreateKeysAndCertificate(context.Context, *iot.CreateKeysAndCertificateInput, ...func(*iot.Options)) (*iot.CreateKeysAndCertificateOutput, error)
	CreatePolicy(context.Context, *iot.CreatePolicyInput, ...func(*iot.Options)) (*iot.CreatePolicyOutput, error)
	CreatePolicyVersion(context.Context, *iot.CreatePolicyVersionInput, ...func(*iot.Options)) (*iot.CreatePolicyVersionOutput, error)
	CreateThing(context.Context, *iot.CreateThingInput, ...func(*iot.Options)) (*iot.CreateThingOutput, error)
	DeleteCertificate(context.Context, *iot.DeleteCertificateInput, ...func(*iot.Options)) (*iot.DeleteCertificateOutput, error)
	DeletePolicy(context.Context, *iot.DeletePolicyInput, ...func(*iot.Options)) (*iot.DeletePolicyOutput, error)
	DeletePolicyVersion(context.Context, *iot.DeletePolicyVersionInput, ...func(*iot.Options)) (*iot.DeletePolicyVersionOutput, error)
	DeleteThing(context.Context, *iot.DeleteThingInput, ...func(*iot.Options)) (*iot.DeleteThingOutput, error)
	DescribeAuditTask(context.Context, *iot.DescribeAuditTaskInput, ...func(*iot.Options)) (*iot.DescribeAuditTaskOutput, error)
	DescribeEndpoint(context.Context, *iot.DescribeEndpointInput, ...func(*iot.Options)) (*iot.DescribeEndpointOutput, error)
	DetachPolicy(context.Context, *iot.DetachPolicyInput, ...func(*iot.Options)) (*iot.DetachPolicyOutput, error)
	DetachThingPrincipal(context.Context, *iot.DetachThingPrincipalInput, ...func(*iot.Options)) (*iot.DetachThingPrincipalOutput, error)
	ListTagsForResource(context.Context, *iot.ListTagsForResourceInput, ...func(*iot.Options)) (*iot.ListTagsForResourceOutput, error)
	StartOnDemandAuditTask(context.Context, *iot.StartOnDemandAuditTaskInput, ...func(*iot.Options)) (*iot.StartOnDemandAuditTaskOutput, error)
	UpdateCertificate(context.Context, *iot.UpdateCertificateInput, ...func(*iot.Options)) (*iot.UpdateCertificateOutput, error)
}

// Stacks is the call to CloudFormation.
type Stacks interface {
	DescribeStacks(context.Context, *cloudformation.DescribeStacksInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error)
}

// client is an MQTT connection.
type client interface {
	Publish(ctx context.Context, topic, payload string) error
	Close()
}

// keys are a certificate and its private key, in PEM.
type keys struct{ certificate, private string }

// device is the thing of a lab.
type device struct {
	lab  *lab
	keys keys
	host string
}

// createPolicy creates the lab's policy and registers its removal.
func (l *lab) createPolicy(ctx context.Context, document string) error {
	l.s.Undo("the IoT policy "+l.name, func(ctx context.Context) error { return l.removePolicy(ctx, l.name) })
	_, err := l.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{
		PolicyName: &l.name, PolicyDocument: &document, Tags: []types.Tag{{Key: aws.String(tag), Value: aws.String(tagValue)}},
	})
	return err
}

// removePolicy deletes a policy. It first deletes version 1, if that is not the default version.
func (l *lab) removePolicy(ctx context.Context, name string) error {
	_, err := l.iot.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: &name, PolicyVersionId: aws.String("1")})
	var inUse *types.DeleteConflictException // it is the default version
	var unfit *types.InvalidRequestException
	if err != nil && !errors.As(err, &inUse) && !errors.As(err, &unfit) && unlessMissing(err) != nil {
		return err
	}
	_, err = l.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: &name})
	return unlessMissing(err)
}

func unlessMissing(err error) error {
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return nil
	}
	return err
}

// topicOf returns the ARN pattern of a topic in an IoT policy.
func topicOf(topic string) string { return "arn:aws:iot:*:*:topic/" + topic }

// newDevice creates the lab's thing with a certificate. Its policy allows it to connect with its own
// name, and to publish to defenderhub/provoke/NAME and to the resources more. The removal of each part
// is registered.
func (l *lab) newDevice(ctx context.Context, more ...string) (*device, error) {
	resources := []string{topicOf("defenderhub/provoke/" + l.name)}
	resources = append(resources, more...)
	partition := cli.Partition(l.region)
	document := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":%q},{"Effect":"Allow","Action":"iot:Publish","Resource":["%s"]}]}`,
		"arn:aws:iot:*:*:client/"+l.name, strings.Join(resources, `","`))
	document = strings.ReplaceAll(document, "arn:aws:", "arn:"+partition+":")
	if err := l.createPolicy(ctx, document); err != nil {
		return nil, err
	}
	l.s.Undo("the thing "+l.name, func(ctx context.Context) error {
		_, err := l.iot.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: &l.name})
		return unlessMissing(err)
	})
	if _, err := l.iot.CreateThing(ctx, &iot.CreateThingInput{ThingName: &l.name}); err != nil {
		return nil, err
	}
	made, err := l.iot.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	if err != nil {
		return nil, err
	}
	l.s.Undo("the certificate "+aws.ToString(made.CertificateId), func(ctx context.Context) error {
		return l.removeCertificate(ctx, l.name, aws.ToString(made.CertificateArn))
	})
	// The thing is attached first, because --cleanup finds the certificate of a killed run by its
	// thing.
	if _, err := l.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &l.name, Principal: made.CertificateArn}); err != nil {
		return nil, err
	}
	if _, err := l.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &l.name, Target: made.CertificateArn}); err != nil {
		return nil, err
	}
	endpoint, err := l.iot.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Data-ATS")})
	if err != nil {
		return nil, err
	}
	l.s.Say("created the thing %s", l.name)
	return &device{l, keys{aws.ToString(made.CertificatePem), aws.ToString(made.KeyPair.PrivateKey)}, aws.ToString(endpoint.EndpointAddress)}, nil
}

// removeCertificate deletes a certificate of a thing, after it has deactivated and detached it. It
// detaches the thing last: --cleanup finds a certificate by its thing, if this ends too early.
func (l *lab) removeCertificate(ctx context.Context, thing, arn string) error {
	_, id, _ := strings.Cut(arn, ":cert/")
	_, err := l.iot.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: &thing, Target: &arn})
	var noPolicy *types.InvalidRequestException // AWS documents no other error for a policy that is gone
	if err != nil && !errors.As(err, &noPolicy) && unlessMissing(err) != nil {
		return err
	}
	if _, err := l.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: types.CertificateStatusInactive}); unlessMissing(err) != nil {
		return err
	}
	if _, err := l.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: &thing, Principal: &arn}); unlessMissing(err) != nil {
		return err
	}
	_, err = l.iot.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: &id})
	return unlessMissing(err)
}

// The retries of a connection: a new policy may need some seconds to take effect.
const (
	connectAttempts = 10
	connectPause    = 3 * time.Second
)

func (d *device) connect(ctx context.Context) (client, error) {
	for attempt := 1; ; attempt++ {
		c, err := d.lab.dial(ctx, net.JoinHostPort(d.host, strconv.Itoa(d.lab.port)), d.lab.name, d.keys, d.lab.ca)
		if err == nil || attempt == connectAttempts || ctx.Err() != nil {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(connectPause):
		}
	}
}

const mqttTimeout = 20 * time.Second

// connection is a client of the MQTT library paho.
type connection struct{ paho.Client }

func dial(ctx context.Context, address, clientID string, k keys, ca string) (client, error) {
	pair, err := tls.X509KeyPair([]byte(k.certificate), []byte(k.private))
	if err != nil {
		return nil, err
	}
	roots, err := authorities(ca)
	if err != nil {
		return nil, err
	}
	c := paho.NewClient(paho.NewClientOptions().AddBroker("ssl://" + address).SetClientID(clientID).SetAutoReconnect(false).SetConnectTimeout(mqttTimeout).
		SetTLSConfig(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
	if err := done(ctx, c.Connect(), "connect to "+address); err != nil {
		c.Disconnect(0) // also a connection that is still being made
		return nil, err
	}
	return connection{c}, nil
}

// authorities returns the certificate authorities of a file, nil to use the system's.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		file = os.Getenv("AWS_CA_BUNDLE")
	}
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return pool, nil
}

func done(ctx context.Context, t paho.Token, what string) error {
	select {
	case <-t.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(mqttTimeout):
		return fmt.Errorf("%s: no answer within %s", what, mqttTimeout)
	}
	if err := t.Error(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Publish publishes with quality of service 1.
func (c connection) Publish(ctx context.Context, topic, payload string) error {
	return done(ctx, c.Client.Publish(topic, 1, false, payload), "publish to "+topic)
}

// Close disconnects.
func (c connection) Close() { c.Disconnect(250) }
