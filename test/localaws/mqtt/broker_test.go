package mqtt_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

const (
	allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	arn      = "arn:aws:iot:us-east-1:123456789012:"
	patience = time.Minute // ends a hung test; a test that passes never waits that long
)

// world is a broker with its registry behind the real AWS SDK, on a clock that
// tests step.
type world struct {
	t      *testing.T
	broker *mqtt.Broker
	iot    *iot.Client
	data   *iotdataplane.Client
	ca     string

	mu       sync.Mutex
	now      time.Time
	messages chan mqtt.Message
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), messages: make(chan mqtt.Message, 10000)}
	registry, err := iotcore.New(iotcore.Config{Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	w.broker, err = mqtt.Start(mqtt.Config{Registry: registry, Now: w.clock, PlainAddress: "127.0.0.1:0", MinKeepAlive: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.broker.Close() })
	w.broker.OnMessage(func(m mqtt.Message) { w.messages <- m })
	api := httptest.NewServer(iotcore.NewHandler(registry, w.broker))
	t.Cleanup(api.Close)
	test := credentials.NewStaticCredentialsProvider("test", "test", "")
	w.iot = iot.New(iot.Options{Region: "us-east-1", BaseEndpoint: &api.URL, Credentials: test, HTTPClient: awsapi.HTTPClient})
	w.data = iotdataplane.New(iotdataplane.Options{Region: "us-east-1", BaseEndpoint: &api.URL, Credentials: test, HTTPClient: awsapi.HTTPClient})
	w.ca = registry.CA().PEM()
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) step(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// next returns the next message that fits, and drops those before it.
func (w *world) next(what string, fits func(mqtt.Message) bool) mqtt.Message {
	w.t.Helper()
	late := time.After(patience)
	for {
		select {
		case m := <-w.messages:
			if fits(m) {
				return m
			}
		case <-late:
			w.t.Fatalf("no %s within %s", what, patience)
		}
	}
}

// event returns the next lifecycle event of a kind and client.
func (w *world) event(kind, clientID string) map[string]any {
	w.t.Helper()
	m := w.next(kind+" of "+clientID, func(m mqtt.Message) bool {
		return strings.HasPrefix(m.Topic, "$aws/events/") && strings.HasSuffix(m.Topic, "/"+kind+"/"+clientID)
	})
	var event map[string]any
	if err := json.Unmarshal(m.Payload, &event); err != nil {
		w.t.Fatalf("%s: %v in %s", m.Topic, err, m.Payload)
	}
	return event
}

// on returns the next message on a topic.
func (w *world) on(topic string) mqtt.Message {
	w.t.Helper()
	return w.next("message on "+topic, func(m mqtt.Message) bool { return m.Topic == topic })
}

func (w *world) wantDisconnect(clientID string, reason mqtt.DisconnectReason) map[string]any {
	w.t.Helper()
	e := w.event("disconnected", clientID)
	if e["disconnectReason"] != string(reason) || e["clientInitiatedDisconnect"] != (reason == mqtt.ClientInitiatedDisconnect) {
		w.t.Errorf("%s was disconnected with %v (client initiated: %v), want %s", clientID, e["disconnectReason"], e["clientInitiatedDisconnect"], reason)
	}
	return e
}

// do requires that a call succeeds.
func (w *world) do(_ any, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// device is a certificate with its key.
type device struct {
	id, arn string
	tls     *tls.Config
	pem     string
	key     string
}

// newDevice issues a certificate with a policy of its own, "" for none.
func (w *world) newDevice(document string) device {
	w.t.Helper()
	out, err := w.iot.CreateKeysAndCertificate(context.Background(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	if err != nil {
		w.t.Fatal(err)
	}
	d := device{id: *out.CertificateId, arn: *out.CertificateArn, pem: *out.CertificatePem, key: *out.KeyPair.PrivateKey}
	pair, err := tls.X509KeyPair([]byte(d.pem), []byte(d.key))
	if err != nil {
		w.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(w.ca))
	d.tls = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: "localhost"}
	if document != "" {
		w.do(w.iot.CreatePolicy(context.Background(), &iot.CreatePolicyInput{PolicyName: aws.String("p" + d.id[:8]), PolicyDocument: &document}))
		w.do(w.iot.AttachPolicy(context.Background(), &iot.AttachPolicyInput{PolicyName: aws.String("p" + d.id[:8]), Target: &d.arn}))
	}
	return d
}

func (w *world) newThing(name string, d device, kind string) {
	w.t.Helper()
	w.do(w.iot.CreateThing(context.Background(), &iot.CreateThingInput{ThingName: &name}))
	in := &iot.AttachThingPrincipalInput{ThingName: &name, Principal: &d.arn}
	if kind != "" {
		in.ThingPrincipalType = "EXCLUSIVE_THING"
	}
	w.do(w.iot.AttachThingPrincipal(context.Background(), in))
}

// statement returns a statement of a policy.
func statement(effect, action, resource string) string {
	return `{"Effect":"` + effect + `","Action":"` + action + `","Resource":"` + resource + `"}`
}

func policyOf(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// options returns the options of an MQTT 3.1.1 client that does not reconnect.
func (w *world) options(d device, clientID string) *paho3.ClientOptions {
	return paho3.NewClientOptions().AddBroker("ssl://" + w.broker.TLSAddress()).SetTLSConfig(d.tls).
		SetClientID(clientID).SetAutoReconnect(false).SetConnectRetry(false).SetProtocolVersion(4).SetConnectTimeout(patience)
}

func (w *world) dial3(o *paho3.ClientOptions) (paho3.Client, error) {
	c := paho3.NewClient(o)
	w.t.Cleanup(func() { c.Disconnect(0) })
	return c, finish(c.Connect())
}

func (w *world) connect3(d device, clientID string) paho3.Client {
	w.t.Helper()
	c, err := w.dial3(w.options(d, clientID))
	if err != nil {
		w.t.Fatalf("connect %s: %v", clientID, err)
	}
	return c
}

// leave sends a DISCONNECT. The timeout is long because the client sends none after it.
func leave(c paho3.Client) { c.Disconnect(uint(patience.Milliseconds())) }

func finish(token paho3.Token) error {
	if !token.WaitTimeout(patience) {
		return errors.New("no answer")
	}
	return token.Error()
}

// client5 is an MQTT 5 client.
type client5 struct {
	*paho.Client
	received     chan *paho.Publish
	disconnected chan *paho.Disconnect
}

func (w *world) dial5(d device, connect *paho.Connect) (*client5, *paho.Connack, error) {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.broker.TLSAddress(), d.tls)
	if err != nil {
		return nil, nil, err
	}
	c := &client5{received: make(chan *paho.Publish, 100), disconnected: make(chan *paho.Disconnect, 1)}
	c.Client = paho.NewClient(paho.ClientConfig{
		// paho writes a packet in several parts and pings from a goroutine of its own: without a lock, packets mix.
		Conn:          packets.NewThreadSafeConn(conn),
		PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			c.received <- p.Packet
			return true, nil
		}},
		OnServerDisconnect: func(p *paho.Disconnect) { c.disconnected <- p },
	})
	w.t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	connack, err := c.Connect(ctx, connect)
	return c, connack, err
}

func (w *world) connect5(d device, clientID string) *client5 {
	w.t.Helper()
	c, _, err := w.dial5(d, &paho.Connect{ClientID: clientID, KeepAlive: 60, CleanStart: true})
	if err != nil {
		w.t.Fatalf("connect %s: %v", clientID, err)
	}
	return c
}

func (w *world) subscribe5(c *client5, filter string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}}})
	return err
}

func (w *world) publish5(c *client5, topic string, qos byte, payload string) (*paho.PublishResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.Publish(ctx, &paho.Publish{Topic: topic, QoS: qos, Payload: []byte(payload)})
}

func (c *client5) next(t *testing.T) *paho.Publish {
	t.Helper()
	select {
	case p := <-c.received:
		return p
	case <-time.After(patience):
		t.Fatal("no message received")
		return nil
	}
}
