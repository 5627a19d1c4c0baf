package mqtt_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
	packets3 "github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

func TestMessagesPassBetweenBothVersions(t *testing.T) {
	w := newWorld(t)
	old, new5 := w.connect3(w.newDevice(allowAll), "old"), w.connect5(w.newDevice(allowAll), "new")
	received := make(chan paho3.Message, 10)
	w.do(nil, finish(old.Subscribe("to/old/+", 1, func(_ paho3.Client, m paho3.Message) { received <- m })))
	w.do(nil, w.subscribe5(new5, "to/new/#"))

	w.do(nil, finish(old.Publish("to/new", 1, false, "to the parent, which to/new/# does not match")))
	w.do(nil, finish(old.Publish("to/new/a/b", 1, false, "hello")))
	if p := new5.next(t); p.Topic != "to/new/a/b" || string(p.Payload) != "hello" || p.QoS != 1 {
		t.Errorf("received %+v, want hello on to/new/a/b with QoS 1", p)
	}
	w.do(w.publish5(new5, "to/old/x", 0, "hi"))
	select {
	case m := <-received:
		if m.Topic() != "to/old/x" || string(m.Payload()) != "hi" {
			t.Errorf("received %s %s", m.Topic(), m.Payload())
		}
	case <-time.After(patience):
		t.Error("nothing received")
	}
}

func TestOnMessageKnowsTheSender(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	w.newThing("pump", d, "")
	w.do(nil, finish(w.connect3(d, "pump").Publish("up", 1, false, "1")))
	got := w.on("up")
	if got.ClientID != "pump" || got.Principal != d.id || got.ThingName != "pump" || got.Origin != mqtt.FromClient ||
		got.SourceIP != netip.MustParseAddr("127.0.0.1") || !got.Time.Equal(w.clock()) || string(got.Payload) != "1" || got.QoS != 1 {
		t.Errorf("got %+v, want the message with its client, certificate and thing", got)
	}
	w.do(w.data.Publish(context.Background(), &iotdataplane.PublishInput{Topic: aws.String("down"), Payload: []byte("2")}))
	if got := w.on("down"); got.Origin != mqtt.FromDataPlane || got.ClientID != "" || got.Principal != "" {
		t.Errorf("got the data plane's message: %+v", got)
	}
}

// So a test can wait for the effects of a message as soon as the client has its answer.
func TestListenersAreNotifiedBeforeTheClient(t *testing.T) {
	w := newWorld(t)
	var notified atomic.Int32
	w.broker.OnMessage(func(mqtt.Message) {
		time.Sleep(50 * time.Millisecond)
		notified.Add(1)
	})
	c := w.connect3(w.newDevice(allowAll), "c")
	if n := notified.Load(); n != 1 {
		t.Errorf("when the client was connected, listeners had %d messages, want 1, the event", n)
	}
	w.do(nil, finish(c.Publish("up", 1, false, "1")))
	if n := notified.Load(); n != 2 {
		t.Errorf("when the client had its PUBACK, listeners had %d messages, want 2", n)
	}
}

// The lifecycle events have exactly the members of AWS's samples.
func TestLifecycleEventsAreLikeTheSamples(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	w.newThing("exampleThing", d, "exclusive")
	c := w.connect3(d, "186b5")
	events := map[string]map[string]any{"lifecycle-connected.json": w.event("connected", "186b5")}
	w.do(nil, finish(c.SubscribeMultiple(map[string]byte{"foo/bar": 0, "dog/cat": 1}, nil)))
	events["lifecycle-subscribed.json"] = w.event("subscribed", "186b5")
	w.do(nil, finish(c.Unsubscribe("foo/bar")))
	unsubscribed := w.event("unsubscribed", "186b5")
	leave(c)
	events["lifecycle-disconnected.json"] = w.wantDisconnect("186b5", mqtt.ClientInitiatedDisconnect)
	w.do(w.iot.UpdateCertificate(context.Background(), &iot.UpdateCertificateInput{CertificateId: &d.id, NewStatus: types.CertificateStatusRevoked}))
	if _, err := w.dial3(w.options(d, "186b5")); err == nil {
		t.Fatal("a revoked certificate connected")
	}
	events["lifecycle-connect-failed.json"] = w.event("connect_failed", "186b5")

	for file, event := range events {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		var sample map[string]any
		if err := json.Unmarshal(text, &sample); err != nil {
			t.Fatal(err)
		}
		if got, want := slices.Sorted(maps.Keys(event)), slices.Sorted(maps.Keys(sample)); !slices.Equal(got, want) {
			t.Errorf("%s has members %v\nthe broker's has %v", file, want, got)
		}
		for key, want := range sample {
			switch got := event[key]; key {
			case "clientId", "thingName", "eventType", "versionNumber", "connectFailureReason", "disconnectReason", "clientInitiatedDisconnect":
				if got != want {
					t.Errorf("%s: %s is %v, want %v", file, key, got, want)
				}
			case "timestamp":
				if got != float64(w.clock().UnixMilli()) {
					t.Errorf("%s: timestamp %v", file, got)
				}
			case "principalIdentifier":
				if got != d.id {
					t.Errorf("%s: principal %v, want %s", file, got, d.id)
				}
			case "sessionIdentifier":
				if s, _ := got.(string); len(s) != 32 {
					t.Errorf("%s: session %v", file, got)
				}
			}
		}
	}
	session := events["lifecycle-connected.json"]["sessionIdentifier"]
	for _, e := range []map[string]any{events["lifecycle-subscribed.json"], unsubscribed, events["lifecycle-disconnected.json"]} {
		if e["sessionIdentifier"] != session {
			t.Errorf("%v of session %v, want %v", e["eventType"], e["sessionIdentifier"], session)
		}
	}
	if events["lifecycle-connect-failed.json"]["sessionIdentifier"] == session {
		t.Error("the refused connection has the session of the one before")
	}
	if got := unsubscribed["topics"].([]any); len(got) != 1 || got[0] != "foo/bar" {
		t.Errorf("unsubscribed %v, want foo/bar", got)
	}
}

func TestOnlyExclusiveThingsAreNamedInEvents(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	w.newThing("pump", d, "")
	w.connect3(d, "pump")
	if name, has := w.event("connected", "pump")["thingName"]; has {
		t.Errorf("thingName %v", name)
	}
}

func TestUnusableCertificatesAreRefused(t *testing.T) {
	tests := map[string]func(w *world, d device){
		"inactive": func(w *world, d device) {
			w.do(w.iot.UpdateCertificate(context.Background(), &iot.UpdateCertificateInput{CertificateId: &d.id, NewStatus: types.CertificateStatusInactive}))
		},
		"revoked": func(w *world, d device) {
			w.do(w.iot.UpdateCertificate(context.Background(), &iot.UpdateCertificateInput{CertificateId: &d.id, NewStatus: types.CertificateStatusRevoked}))
		},
		"unknown": func(w *world, d device) {
			w.do(w.iot.DetachPolicy(context.Background(), &iot.DetachPolicyInput{PolicyName: aws.String("p" + d.id[:8]), Target: &d.arn}))
			w.do(w.iot.UpdateCertificate(context.Background(), &iot.UpdateCertificateInput{CertificateId: &d.id, NewStatus: types.CertificateStatusInactive}))
			w.do(w.iot.DeleteCertificate(context.Background(), &iot.DeleteCertificateInput{CertificateId: &d.id}))
		},
	}
	for name, disable := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := w.newDevice(allowAll)
			disable(w, d)
			if _, err := w.dial3(w.options(d, "c3")); err == nil || !strings.Contains(strings.ToLower(err.Error()), "not authorized") {
				t.Errorf("MQTT 3.1.1: %v", err)
			}
			if e := w.event("connect_failed", "c3"); e["principalIdentifier"] != d.id {
				t.Errorf("event %v, want the principal %s", e, d.id)
			}
			_, connack, err := w.dial5(d, &paho.Connect{ClientID: "c5", KeepAlive: 60, CleanStart: true})
			if err == nil || connack == nil || connack.ReasonCode != 0x87 {
				t.Errorf("MQTT 5: %+v, %v", connack, err)
			}
			w.event("connect_failed", "c5")
		})
	}
}

func TestForeignCertificatesFailTheHandshake(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	d := other.newDevice("")
	d.tls.RootCAs.AppendCertsFromPEM([]byte(w.ca))
	if _, err := w.dial3(w.options(d, "c")); err == nil {
		t.Fatal("a certificate of another authority connected")
	}
}

func TestOlderConnectionOfAClientIDEnds(t *testing.T) {
	w := newWorld(t)
	first, second := w.newDevice(allowAll), w.newDevice(allowAll)
	old := w.connect5(first, "twin")
	began := w.event("connected", "twin")
	young := w.connect3(second, "twin")
	ended := w.wantDisconnect("twin", mqtt.DuplicateClientID)
	next := w.event("connected", "twin")
	if began["versionNumber"] != 0.0 || ended["versionNumber"] != 0.0 || next["versionNumber"] != 1.0 {
		t.Errorf("versions %v, %v, then %v", began["versionNumber"], ended["versionNumber"], next["versionNumber"])
	}
	if ended["principalIdentifier"] != first.id || next["principalIdentifier"] != second.id {
		t.Errorf("ended %v, began %v", ended, next)
	}
	select {
	case p := <-old.disconnected:
		if p.ReasonCode != 0x8e {
			t.Errorf("got %#x, want 0x8e, session taken over", p.ReasonCode)
		}
	case <-time.After(patience):
		t.Error("the older client got no DISCONNECT")
	}
	if err := finish(young.Publish("still/here", 1, false, "1")); err != nil {
		t.Errorf("the younger client: %v", err)
	}
	now, ok := w.broker.Connection("twin")
	if !ok || now.Principal != second.id {
		t.Errorf("connected: %+v", now)
	}
	conflicts := w.broker.Conflicts(w.clock())
	if len(conflicts) != 1 || conflicts[0].ClientID != "twin" || conflicts[0].Principal != first.id {
		t.Errorf("conflicts: %+v", conflicts)
	}
	if got := w.broker.Conflicts(w.clock().Add(time.Millisecond)); len(got) != 0 {
		t.Errorf("conflicts of the future: %+v", got)
	}
}

// The last client stays connected, however many connect at once.
func TestManyClientsOfOneIDLeaveOne(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	const clients = 12
	for range clients {
		go w.dial3(w.options(d, "crowd"))
	}
	connected, disconnected := 0, 0
	versions := map[float64]int{}
	for connected < clients || disconnected < clients-1 {
		m := w.next("event", func(m mqtt.Message) bool { return strings.HasSuffix(m.Topic, "/crowd") })
		var e map[string]any
		w.do(nil, json.Unmarshal(m.Payload, &e))
		versions[e["versionNumber"].(float64)]++
		if e["eventType"] == "connected" {
			connected++
		} else if disconnected++; e["disconnectReason"] != "DUPLICATE_CLIENTID" {
			t.Errorf("disconnected with %v", e["disconnectReason"])
		}
	}
	last, ok := w.broker.Connection("crowd")
	if !ok || last.VersionNumber != clients-1 || versions[clients-1] != 1 {
		t.Errorf("the last connection is %+v (%v), events by version: %v", last, ok, versions)
	}
}

func TestVersionsStartAgainAfterAnHourOffline(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	version := func(connect func(), offline time.Duration) any {
		t.Helper()
		w.step(offline)
		connect()
		v := w.event("connected", "c")["versionNumber"]
		if end := w.event("disconnected", "c")["versionNumber"]; end != v {
			t.Errorf("connected with version %v, disconnected with %v", v, end)
		}
		return v
	}
	clean := func() { leave(w.connect3(d, "c")) }
	steps := []struct {
		connect func()
		offline time.Duration
		want    float64
	}{
		{clean, 0, 0}, {clean, 59 * time.Minute, 1}, {clean, 61 * time.Minute, 0},
	}
	for i, s := range steps {
		if got := version(s.connect, s.offline); got != s.want {
			t.Errorf("connection %d after %v offline: version %v, want %v", i, s.offline, got, s.want)
		}
	}
}

func TestPersistentSessionsAreRefused(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	if _, err := w.dial3(w.options(d, "c").SetCleanSession(false)); !errors.Is(err, packets3.ErrorRefusedServerUnavailable) {
		t.Errorf("MQTT 3.1.1: %v, want the server unavailable", err)
	}
	for _, connect := range []*paho.Connect{
		{ClientID: "c", KeepAlive: 60},
		{ClientID: "c", KeepAlive: 60, CleanStart: true, Properties: &paho.ConnectProperties{SessionExpiryInterval: aws.Uint32(60)}},
	} {
		if _, connack, err := w.dial5(d, connect); err == nil || connack == nil || connack.ReasonCode != 0x88 {
			t.Errorf("MQTT 5: %+v, %v, want the server unavailable", connack, err)
		}
	}
	w.connect3(d, "c")
	w.event("connected", "c")
}

func TestHistoryOfACertificate(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	leave(w.connect3(d, "one"))
	w.event("disconnected", "one")
	w.step(24 * time.Hour)
	yesterday := w.clock().Add(-time.Hour)
	w.connect3(d, "two")
	w.event("connected", "two")
	w.connect3(w.newDevice(allowAll), "other")
	ids := func(since time.Time) (out []string) {
		for _, c := range w.broker.ConnectionsOf(d.id, since) {
			out = append(out, c.ClientID)
		}
		return out
	}
	if got := ids(time.Time{}); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("ever: %v", got)
	}
	if got := ids(yesterday); !slices.Equal(got, []string{"two"}) {
		t.Errorf("since yesterday: %v", got)
	}
	w.step(40 * 24 * time.Hour)
	w.connect3(d, "three")
	if got := ids(time.Time{}); !slices.Equal(got, []string{"two", "three"}) {
		t.Errorf("after 40 days: %v, want the open connections", got)
	}
}

func TestPlainListenerUsesTheUserNameAsCertificateID(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(policyOf(statement("Allow", "iot:Connect", arn+"client/mine")))
	plain := func(clientID, user string) error {
		_, err := w.dial3(paho3.NewClientOptions().AddBroker("tcp://" + w.broker.PlainAddress()).SetClientID(clientID).SetUsername(user).SetAutoReconnect(false))
		return err
	}
	if err := plain("anyone", ""); err != nil {
		t.Errorf("without a user name: %v", err)
	}
	if e := w.event("connected", "anyone"); e["principalIdentifier"] != "anonymous" {
		t.Errorf("principal %v, want anonymous", e["principalIdentifier"])
	}
	if err := plain("mine", d.id); err != nil {
		t.Errorf("with a certificate id: %v", err)
	}
	if plain("theirs", d.id) == nil || plain("mine", "0123") == nil {
		t.Error("a client that its policy or its user name does not allow was connected")
	}
}

func TestPlainListenerIsOnTheLoopbackOnly(t *testing.T) {
	registry, err := iotcore.New(iotcore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := mqtt.Start(mqtt.Config{Registry: registry, PlainAddress: "0.0.0.0:0"}); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("started %v, %v", b, err)
	}
}

func TestCloseEndsConnectionsWithoutCONNECT(t *testing.T) {
	w := newWorld(t)
	silent, err := net.Dial("tcp", w.broker.PlainAddress())
	w.do(nil, err)
	defer silent.Close()
	w.connect3(w.newDevice(allowAll), "c")
	w.event("connected", "c")
	closed := make(chan error)
	go func() { closed <- w.broker.Close() }()
	select {
	case err := <-closed:
		w.do(nil, err)
	case <-time.After(patience): // shorter than the broker's timeout for CONNECT
		t.Fatal("the broker waits for a connection without a CONNECT")
	}
	w.wantDisconnect("c", mqtt.ServerInitiatedDisconnect)
}
