package walkthrough_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/walkthrough"
)

// screen is the output that a user of `make local` sees.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	done chan struct{} // closed when the last line is printed
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := strings.Contains(s.text.String(), "Ctrl-C")
	s.text.Write(p)
	if !before && strings.Contains(s.text.String(), "Ctrl-C") {
		close(s.done)
	}
	return len(p), nil
}

// find returns the match of the pattern's group in the output.
func (s *screen) find(t *testing.T, pattern string) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	m := regexp.MustCompile(pattern).FindStringSubmatch(s.text.String())
	if m == nil {
		t.Fatalf("no match of %s in\n%s", pattern, s.text.String())
	}
	return m[1]
}

// TestServe acts as a user of `make local` who knows only its output and docs/local.md.
func TestServe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	s := &screen{done: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- walkthrough.Serve(ctx, options(t, s)) }()
	select {
	case <-s.done:
	case err := <-served:
		t.Fatalf("Serve returned before it was interrupted: %v", err)
	}
	config := aws.Config{
		HTTPClient: awsapi.HTTPClient,
		Region:     s.find(t, `AWS_DEFAULT_REGION=(\S+)`), BaseEndpoint: aws.String(s.find(t, `AWS_ENDPOINT_URL=(\S+)`)),
		Credentials: credentials.NewStaticCredentialsProvider(s.find(t, `AWS_ACCESS_KEY_ID=(\S+)`), s.find(t, `AWS_SECRET_ACCESS_KEY=(\S+)`), ""),
	}
	t.Run("the event of docs/local.md", func(t *testing.T) {
		clientID, topic, payload := documentedEvent(t)
		client := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + s.find(t, `(\S+) +without TLS`)).SetClientID(clientID).SetConnectTimeout(3 * time.Minute))
		if token := client.Connect(); token.Wait() && token.Error() != nil {
			t.Fatal(token.Error())
		}
		defer client.Disconnect(0)
		if token := client.Publish(topic, 1, false, payload); token.Wait() && token.Error() != nil {
			t.Fatal(token.Error())
		}
		wantFinding(t, config, "pump-1", "tamper")
	})
	for _, version := range []int{3, 5} {
		t.Run(fmt.Sprintf("AWS's device SDK with MQTT %d", version), func(t *testing.T) {
			d := register(t, config, fmt.Sprintf("camera-%d", version))
			address, err := netip.ParseAddrPort(s.find(t, `(\S+) +with TLS`))
			if err != nil {
				t.Fatal(err)
			}
			ca, err := os.ReadFile(s.find(t, `--cafile (\S+)`))
			if err != nil {
				t.Fatal(err)
			}
			d.Version, d.Host, d.Port, d.RootCA = version, "localhost", int(address.Port()), string(ca)
			d.Topic, d.Payload = "defenderhub/events/"+d.ClientID, `{"type": "debug-port"}`
			wait, err := d.start(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := wait(); err != nil || !r.Connected || r.ReasonCode != 0 {
				t.Fatalf("the device reports %+v, error %v, want a connection", r, err)
			}
			wantFinding(t, config, d.ClientID, "debug-port")
		})
	}
	t.Run("a stack of the user's own", func(t *testing.T) {
		template := `{"Resources":{"Topic":{"Type":"AWS::SNS::Topic"},
			"Mail":{"Type":"AWS::SNS::Subscription","Properties":{"TopicArn":{"Ref":"Topic"},"Protocol":"email","Endpoint":"a@example.com"}}}}`
		if _, err := cloudformation.NewFromConfig(config).CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("Own"), TemplateBody: &template}); err != nil {
			t.Fatal(err)
		}
		s.find(t, `(without effect here: AWS::SNS::Subscription: delivers to no endpoint of protocol email)`)
	})
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve returns %v after an interruption, want nil", err)
	}
}

// documentedEvent returns the event that docs/local.md publishes.
func documentedEvent(t *testing.T) (clientID, topic, payload string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "local.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`mosquitto_pub -h 127\.0\.0\.1 -p MQTT_PORT -i (\S+) -t (\S+) -m '([^']+)'`).FindSubmatch(page)
	if m == nil {
		t.Fatal("docs/local.md publishes no event")
	}
	return string(m[1]), string(m[2]), string(m[3])
}

// register creates a thing with a certificate that may connect as the thing and report events.
func register(t *testing.T, config aws.Config, name string) sdkDevice {
	t.Helper()
	things, ctx := iot.NewFromConfig(config), t.Context()
	check := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(things.CreateThing(ctx, &iot.CreateThingInput{ThingName: &name}))
	keys, err := things.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	check(nil, err)
	check(things.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
		{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/defenderhub/events/${iot:Connection.Thing.ThingName}"}]}`)}))
	check(things.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &name, Target: keys.CertificateArn}))
	check(things.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &name, Principal: keys.CertificateArn}))
	return sdkDevice{ClientID: name, Certificate: *keys.CertificatePem, Key: *keys.KeyPair.PrivateKey}
}

// wantFinding waits for an active finding whose title contains the words.
func wantFinding(t *testing.T, config aws.Config, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	for {
		found, err := securityhub.NewFromConfig(config).GetFindings(ctx, &securityhub.GetFindingsInput{MaxResults: aws.Int32(100)})
		if err != nil {
			t.Fatal(err)
		}
		var titles []string
		for _, f := range found.Findings {
			titles = append(titles, *f.Title)
			missing := false
			for _, w := range words {
				missing = missing || !strings.Contains(*f.Title, w)
			}
			if !missing {
				return
			}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("no finding with %q among %q", words, titles)
		}
	}
}
