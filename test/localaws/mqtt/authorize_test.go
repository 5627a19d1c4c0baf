package mqtt_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	datatypes "github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"
	"github.com/eclipse/paho.golang/paho"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

func TestConnectIsAuthorized(t *testing.T) {
	own := policyOf(statement("Allow", "iot:Connect", arn+"client/${iot:Connection.Thing.ThingName}"))
	tests := []struct {
		name, document, thing, clientID string
		want                            bool
	}{
		{"no policy", "", "", "c", false},
		{"any client", policyOf(statement("Allow", "iot:Connect", "*")), "", "c", true},
		{"this client", policyOf(statement("Allow", "iot:Connect", arn+"client/c")), "", "c", true},
		{"another client", policyOf(statement("Allow", "iot:Connect", arn+"client/d")), "", "c", false},
		{"publish only", policyOf(statement("Allow", "iot:Publish", "*")), "", "c", false},
		{"deny before allow", policyOf(statement("Allow", "*", "*"), statement("Deny", "iot:Connect", arn+"client/c")), "", "c", false},
		{"named like its thing", own, "c", "c", true},
		{"not named like its thing", own, "other", "c", false},
		{"no thing", own, "", "c", false},
		{"attached", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}}}`, "c", "c", true},
		{"not attached", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}}}`, "", "c", false},
		{"over TLS from here", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"},"IpAddress":{"aws:SourceIp":"127.0.0.0/8"},"StringEquals":{"iot:DomainName":"localhost"}}}}`, "", "c", true},
		{"clean sessions only", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"iot:ConnectAttributes":["PersistentConnect"]}}}}`, "", "c", false},
	}
	w := newWorld(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := w.newDevice(tt.document)
			if tt.thing != "" {
				w.newThing(tt.thing, d, "")
			}
			c, err := w.dial3(w.options(d, tt.clientID))
			if (err == nil) != tt.want {
				t.Errorf("connected: %v (%v), want %v", err == nil, err, tt.want)
			}
			if err != nil {
				w.event("connect_failed", tt.clientID)
				return
			}
			leave(c)
			w.event("disconnected", tt.clientID)
		})
	}
}

func TestExclusiveThingNeedsNoMatchingClientID(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(policyOf(statement("Allow", "iot:Connect", "*"), statement("Allow", "iot:Publish", arn+"topic/of/${iot:Connection.Thing.ThingName}")))
	w.newThing("pump", d, "exclusive")
	c := w.connect3(d, "some-client")
	w.do(nil, finish(c.Publish("of/pump", 1, false, "1")))
	if m := w.on("of/pump"); m.ThingName != "pump" || m.ClientID != "some-client" {
		t.Errorf("got %+v, want a message of pump", m)
	}
}

func TestPoliciesOfThingGroupsApply(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	d := w.newDevice("")
	w.newThing("pump", d, "")
	w.do(w.iot.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("fleet")}))
	w.do(w.iot.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: aws.String("fleet"), ThingName: aws.String("pump")}))
	w.do(w.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("fleet"), PolicyDocument: aws.String(allowAll)}))
	w.do(w.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("fleet"), Target: aws.String(arn + "thinggroup/fleet")}))
	w.connect3(d, "pump")
	if _, err := w.dial3(w.options(d, "other")); err == nil {
		t.Error("the group's policy applies to a client that is not the thing")
	}
}

func TestPublishAndSubscribeAreAuthorizedInMQTT5(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(policyOf(
		statement("Allow", "iot:Connect", "*"), statement("Allow", "iot:Publish", arn+"topic/up/*"),
		statement("Allow", "iot:Subscribe", arn+"topicfilter/down/+"), statement("Allow", "iot:Receive", arn+"topic/down/mine")))
	c := w.connect5(d, "c")

	if r, err := w.publish5(c, "elsewhere", 1, "x"); err == nil || r == nil || r.ReasonCode != 0x87 {
		t.Errorf("publish that is denied: %+v, %v", r, err)
	}
	if _, err := w.publish5(c, "up/1", 1, "x"); err != nil {
		t.Errorf("publish that is allowed, on the same connection: %v", err)
	}
	w.next("message on up/1", func(m mqtt.Message) bool {
		if m.Topic == "elsewhere" {
			t.Error("the denied message was reported")
		}
		return m.Topic == "up/1"
	})

	suback, err := c.Subscribe(context.Background(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
		{Topic: "down/+", QoS: 1}, {Topic: "down/#", QoS: 0}, {Topic: "1/2/3/4/5/6/7/8/9", QoS: 0}}})
	if err == nil || suback == nil || len(suback.Reasons) != 3 || suback.Reasons[0] != 1 || suback.Reasons[1] != 0x87 || suback.Reasons[2] != 0x8f {
		t.Errorf("SUBACK %+v, %v", suback, err)
	}
	if topics := w.event("subscribed", "c")["topics"].([]any); len(topics) != 1 || topics[0] != "down/+" {
		t.Errorf("got the subscriptions %v", topics)
	}
	// down/theirs may be subscribed to, but not received.
	for _, topic := range []string{"down/theirs", "down/mine"} {
		w.do(w.data.Publish(context.Background(), &iotdataplane.PublishInput{Topic: aws.String(topic), Qos: 1}))
	}
	if p := c.next(t); p.Topic != "down/mine" {
		t.Errorf("received a message on %s, want down/mine", p.Topic)
	}
}

func TestDeniedSubscriptionsFailInMQTT3(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(policyOf(statement("Allow", "iot:Connect", "*"), statement("Allow", "iot:Subscribe", arn+"topicfilter/a")))
	c := w.connect3(d, "c")
	token := c.SubscribeMultiple(map[string]byte{"a": 1, "b": 1}, nil)
	finish(token)
	results := token.(interface{ Result() map[string]byte }).Result()
	if results["a"] != 1 || results["b"] != 0x80 {
		t.Errorf("SUBACK %v", results)
	}
}

func TestRetainNeedsItsOwnPermission(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(policyOf(statement("Allow", "iot:Connect", "*"), statement("Allow", "iot:Publish", "*"), statement("Allow", "iot:RetainPublish", arn+"topic/kept")))
	c := w.connect3(d, "c")
	w.do(nil, finish(c.Publish("kept", 1, true, "1")))
	c.Publish("not/kept", 1, true, "1")
	w.wantDisconnect("c", mqtt.AuthError)
	reader := w.connect5(w.newDevice(allowAll), "reader")
	w.do(nil, w.subscribe5(reader, "#"))
	if p := reader.next(t); p.Topic != "kept" || !p.Retain {
		t.Errorf("received %+v, want the retained message on kept", p)
	}
}

func TestTopicAliasesDoNotHideTheTopic(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(policyOf(statement("Allow", "iot:Connect", "*"), statement("Allow", "iot:Publish", arn+"topic/up")))
	c := w.connect5(d, "c")
	publish := func(topic string, alias uint16) (*paho.PublishResponse, error) {
		return c.Publish(context.Background(), &paho.Publish{Topic: topic, QoS: 1, Properties: &paho.PublishProperties{TopicAlias: &alias}})
	}
	w.do(publish("up", 1))
	w.do(publish("", 1))
	for range 2 {
		w.on("up")
	}
	if r, err := publish("elsewhere", 2); err == nil || r.ReasonCode != 0x87 {
		t.Errorf("a denied topic with an alias: %+v, %v", r, err)
	}
	if r, err := publish("", 2); err == nil || r.ReasonCode != 0x87 {
		t.Errorf("the alias of a denied topic: %+v, %v", r, err)
	}
}

func TestBasicIngestAndReportsReachNoSubscriber(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	all := w.connect5(w.newDevice(allowAll), "all")
	w.do(nil, w.subscribe5(all, "#"))
	w.do(nil, w.subscribe5(all, "$aws/things/+/defender/metrics/+/+"))
	c := w.connect3(d, "pump")
	for _, topic := range []string{"$aws/rules/my_rule/1/2/3/4/5/6/7/8", "$aws/things/pump/defender/metrics/json", "$aws/things/pump/defender/metrics/cbor"} {
		w.do(nil, finish(c.Publish(topic, 1, false, "{}")))
		if m := w.on(topic); m.ClientID != "pump" {
			t.Errorf("got %+v, want the client pump", m)
		}
	}
	w.broker.PublishAsService("$aws/things/pump/defender/metrics/json/accepted", []byte(`{"status":"ACCEPTED"}`))
	if m := w.on("$aws/things/pump/defender/metrics/json/accepted"); m.Origin != mqtt.FromService || m.ClientID != "" {
		t.Errorf("got %+v, want a message of the service", m)
	}
	if p := all.next(t); p.Topic != "$aws/things/pump/defender/metrics/json/accepted" {
		t.Errorf("received a message on %s, want only the answer", p.Topic)
	}
}

func TestDataPlaneMessagesReachSubscribers(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	c := w.connect5(w.newDevice(allowAll), "c")
	w.do(nil, w.subscribe5(c, "down"))
	w.do(w.data.Publish(ctx, &iotdataplane.PublishInput{Topic: aws.String("down"), Payload: []byte("x"), Qos: 1}))
	if p := c.next(t); string(p.Payload) != "x" {
		t.Errorf("received %q, want x", p.Payload)
	}
	for topic, want := range map[string]string{"a/+": "wildcard", strings.Repeat("x", 257): "257", "$aws/events/presence/connected/x": "lifecycle"} {
		if _, err := w.data.Publish(ctx, &iotdataplane.PublishInput{Topic: &topic}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("publish to %.20s: %v, want %q", topic, err, want)
		}
	}
}

func TestLifecycleEventsCanBeSubscribedTo(t *testing.T) {
	w := newWorld(t)
	watcher := w.connect5(w.newDevice(allowAll), "watcher")
	w.do(nil, w.subscribe5(watcher, "$aws/events/presence/+/pump"))
	d := w.newDevice(allowAll)
	leave(w.connect3(d, "pump"))
	for _, want := range []string{"connected", "disconnected"} {
		if p := watcher.next(t); p.Topic != "$aws/events/presence/"+want+"/pump" {
			t.Errorf("received %s, want %s", p.Topic, want)
		}
	}
	w.do(w.iot.UpdateCertificate(context.Background(), &iot.UpdateCertificateInput{CertificateId: &d.id, NewStatus: types.CertificateStatusRevoked}))
	w.dial3(w.options(d, "pump"))
	if p := watcher.next(t); p.Topic != "$aws/events/presence/connect_failed/pump" {
		t.Errorf("received %s, want connect_failed", p.Topic)
	}
}

// TestReservedTopicsAcceptOnlyMQTT checks that neither the data plane nor a rule can publish to the
// topics of Device Defender, and that a rule cannot publish to topics where its message would be
// lost silently.
func TestReservedTopicsAcceptOnlyMQTT(t *testing.T) {
	w := newWorld(t)
	const report = "$aws/things/camera-1/defender/metrics/json"
	_, err := w.data.Publish(t.Context(), &iotdataplane.PublishInput{Topic: aws.String(report), Payload: []byte("{}")})
	var refused *datatypes.UnauthorizedException
	if !errors.As(err, &refused) || !strings.Contains(refused.ErrorMessage(), "only MQTT clients may publish") {
		t.Errorf("a report over HTTPS: %v", err)
	}
	for topic, want := range map[string]string{
		report: "only MQTT clients", "": "at least one character", "a/+": "without wildcards", "1/2/3/4/5/6/7/8/9": "8 slashes",
		"$aws/things/camera-1/shadow/update": "not supported by the local AWS IoT", "$aws/events/presence/connected/a": "only AWS",
		"a/b": "", "$aws/rules/r/a": "",
	} {
		err := w.broker.Republish(topic, []byte("{}"), 0)
		if want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("republish to %q: %v, want %q", topic, err, want)
		}
	}
	if err := w.broker.Republish("a", make([]byte, iotcore.MaxPayload+1), 0); err == nil || !strings.Contains(err.Error(), "131073 bytes") {
		t.Errorf("republish of too much: %v", err)
	}
}
