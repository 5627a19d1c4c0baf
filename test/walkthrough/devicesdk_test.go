package walkthrough_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

//go:embed devicesdk/package.json devicesdk/package-lock.json devicesdk/peer.js
var peer embed.FS

// sdkDevice configures a device that uses AWS's own device SDK, a client that is independent of this
// repository. It connects, publishes, and disconnects.
type sdkDevice struct {
	Version     int    `json:"version"` // of MQTT: 3 or 5
	Host        string `json:"host"`
	Port        int    `json:"port"`
	ClientID    string `json:"clientId"`
	Certificate string `json:"certificate"` // PEM, as Key and RootCA
	Key         string `json:"key"`
	RootCA      string `json:"rootCA"`
	Topic       string `json:"topic"`
	Payload     string `json:"payload"`
	// Subscribe is a topic filter on which the device waits for one message before it
	// disconnects; "" for none.
	Subscribe string `json:"subscribe"`
}

// sdkResult is the device's report.
type sdkResult struct {
	Connected bool
	// ReasonCode is from the PUBACK or, if the device could not connect, from the CONNACK;
	// always 0 with MQTT 3.
	ReasonCode int
	Received   string
	MaximumQoS *int // MQTT 5 only
	Error      string
}

// start starts the device, and returns a function that waits for its end.
func (d sdkDevice) start(ctx context.Context) (func() (sdkResult, error), error) {
	installed, err := installSDK(ctx)
	if err != nil {
		return nil, err
	}
	input, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "node", "peer.js")
	cmd.Dir = installed
	cmd.Stdin = bytes.NewReader(input)
	var out, failure strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &failure
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (r sdkResult, err error) {
		if err := cmd.Wait(); err != nil {
			return r, fmt.Errorf("device %s with MQTT %d: %w: %s", d.ClientID, d.Version, err, failure.String())
		}
		return r, json.Unmarshal([]byte(out.String()), &r)
	}, nil
}

// installSDK returns a directory with the device's program and its node_modules, from the user's
// cache if possible.
func installSDK(ctx context.Context) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is not on PATH: AWS's device SDK cannot be installed; install Node.js (package.json pins a version) and put it on PATH")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	program, err := fs.Sub(peer, "devicesdk")
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, name := range []string{"package-lock.json", "peer.js"} {
		content, err := fs.ReadFile(program, name)
		if err != nil {
			return "", err
		}
		sum.Write(content)
	}
	installed := filepath.Join(cache, "defenderhub", "devicesdk-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	if _, err := os.Stat(installed); err == nil {
		return installed, nil
	}
	// Two tests may install at the same time. Each installs to its own directory, and the first one
	// to rename it succeeds.
	if err := os.MkdirAll(filepath.Dir(installed), 0o755); err != nil {
		return "", err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(installed), "devicesdk-new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	if err := os.CopyFS(temporary, program); err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	command.Dir = temporary
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci of AWS's device SDK: %w\n%s", err, out)
	}
	if err := os.Rename(temporary, installed); err != nil {
		if _, missing := os.Stat(installed); missing != nil {
			return "", err
		}
	}
	return installed, nil
}

// AWS's own device SDK can use the broker like AWS IoT Core.
func TestAWSDeviceSDK(t *testing.T) {
	t.Parallel()
	for _, version := range []int{3, 5} {
		t.Run(fmt.Sprintf("MQTT %d", version), func(t *testing.T) { checkSDK(t, version) })
	}
}

func checkSDK(t *testing.T, version int) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // the SDK may have to be installed first
	defer cancel()
	registry, err := iotcore.New(iotcore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	broker, err := mqtt.Start(mqtt.Config{Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	messages := make(chan mqtt.Message, 1000)
	broker.OnMessage(func(m mqtt.Message) { messages <- m })
	api := httptest.NewServer(iotcore.NewHandler(registry, broker))
	defer api.Close()
	config := aws.Config{Region: "us-east-1", BaseEndpoint: &api.URL, HTTPClient: awsapi.HTTPClient, Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}
	things := iot.NewFromConfig(config)
	check := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// next waits for a message on a topic, and decodes it if it is an event.
	next := func(topic string) (m mqtt.Message, event map[string]any) {
		t.Helper()
		for {
			select {
			case m = <-messages:
				if m.Topic == topic {
					_ = json.Unmarshal(m.Payload, &event) // other messages are no JSON
					return m, event
				}
			case <-ctx.Done():
				t.Fatalf("no message on %s", topic)
			}
		}
	}

	name, address := aws.String("pump"), netip.MustParseAddrPort(broker.TLSAddress())
	keys, err := things.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	check(nil, err)
	check(things.CreateThing(ctx, &iot.CreateThingInput{ThingName: name}))
	check(things.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: name, Principal: keys.CertificateArn, ThingPrincipalType: iottypes.ThingPrincipalTypeExclusiveThing}))
	check(things.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: name, PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
		{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/${iot:ClientId}/up"},
		{"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:*:*:topicfilter/${iot:ClientId}/*"},
		{"Effect":"Allow","Action":"iot:Receive","Resource":"arn:aws:iot:*:*:topic/${iot:ClientId}/*"}]}`)}))
	check(things.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: name, Target: keys.CertificateArn}))
	start := func() func() sdkResult {
		t.Helper()
		wait, err := sdkDevice{
			Version: version, Host: "localhost", Port: int(address.Port()), ClientID: *name, Certificate: *keys.CertificatePem, Key: *keys.KeyPair.PrivateKey,
			RootCA: registry.CA().PEM(), Topic: "pump/up", Payload: "from the device", Subscribe: "pump/down",
		}.start(ctx)
		check(nil, err)
		return func() sdkResult {
			t.Helper()
			r, err := wait()
			check(nil, err)
			return r
		}
	}

	result := start()
	_, began := next("$aws/events/presence/connected/pump")
	next("$aws/events/subscriptions/subscribed/pump")
	if m, _ := next("pump/up"); string(m.Payload) != "from the device" || m.Principal != *keys.CertificateId || m.ThingName != "pump" {
		t.Errorf("got %+v, want the device's payload, certificate and thing", m)
	}
	check(iotdataplane.NewFromConfig(config).Publish(ctx, &iotdataplane.PublishInput{Topic: aws.String("pump/down"), Payload: []byte("from the cloud"), Qos: 1}))
	_, ended := next("$aws/events/presence/disconnected/pump")
	if ended["disconnectReason"] != string(mqtt.ClientInitiatedDisconnect) || ended["clientInitiatedDisconnect"] != true ||
		began["sessionIdentifier"] != ended["sessionIdentifier"] || began["thingName"] != "pump" {
		t.Errorf("connected event %v, disconnected event %v, want one session that the client ended", began, ended)
	}
	if r := result(); !r.Connected || r.ReasonCode != 0 || r.Received != "from the cloud" || version == 5 && (r.MaximumQoS == nil || *r.MaximumQoS != 1) {
		t.Errorf("the device reports %+v, want a connection and the cloud's message", r)
	}

	check(things.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: keys.CertificateId, NewStatus: iottypes.CertificateStatusRevoked}))
	refused := start()
	if _, e := next("$aws/events/presence/connect_failed/pump"); e["principalIdentifier"] != *keys.CertificateId {
		t.Errorf("event %v, want the principal %s", e, *keys.CertificateId)
	}
	if r := refused(); r.Connected || version == 5 && r.ReasonCode != 0x87 {
		t.Errorf("the refused device reports %+v, want no connection", r)
	}
}
