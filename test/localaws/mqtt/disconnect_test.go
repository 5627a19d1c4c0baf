package mqtt_test

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/smithy-go"
	"github.com/eclipse/paho.golang/paho"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

// rawConnect connects without a library, which would send pings and a DISCONNECT.
func (w *world) rawConnect(d device, clientID string, keepAlive byte) *tls.Conn {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.broker.TLSAddress(), d.tls)
	w.do(nil, err)
	w.t.Cleanup(func() { conn.Close() })
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, keepAlive, 0, byte(len(clientID))}, clientID...) // clean session
	_, err = conn.Write(append([]byte{0x10, byte(len(body))}, body...))
	w.do(nil, err)
	var connack [4]byte
	if _, err := conn.Read(connack[:]); err != nil || connack[3] != 0 {
		w.t.Fatalf("CONNACK %v, %v", connack, err)
	}
	w.event("connected", clientID)
	return conn
}

func TestDisconnectReasons(t *testing.T) {
	deadTopic := policyOf(statement("Allow", "iot:*", "*"), statement("Deny", "iot:Publish", arn+"topic/dead"))
	publish := func(topic string, payload int) func(*world, device) {
		return func(w *world, d device) {
			w.connect3(d, "c").Publish(topic, 0, false, make([]byte, payload))
		}
	}
	subscribe := func(filter string) func(*world, device) {
		return func(w *world, d device) { w.connect3(d, "c").Subscribe(filter, 0, nil) }
	}
	write := func(packet ...byte) func(*world, device) {
		return func(w *world, d device) { w.do(w.rawConnect(d, "c", 200).Write(packet)) }
	}
	tests := []struct {
		name  string
		cause func(w *world, d device)
		want  mqtt.DisconnectReason
	}{
		{"DISCONNECT", func(w *world, d device) { leave(w.connect3(d, "c")) }, mqtt.ClientInitiatedDisconnect},
		{"DISCONNECT of MQTT 5", func(w *world, d device) { w.do(nil, w.connect5(d, "c").Disconnect(&paho.Disconnect{})) }, mqtt.ClientInitiatedDisconnect},
		{"DISCONNECT with will", func(w *world, d device) {
			w.do(nil, w.connect5(d, "c").Disconnect(&paho.Disconnect{ReasonCode: 4}))
		}, mqtt.ClientInitiatedDisconnect},
		{"connection closed", func(w *world, d device) { w.rawConnect(d, "c", 200).Close() }, mqtt.ConnectionLost},
		{"TCP reset", func(w *world, d device) { w.rawConnect(d, "c", 200).NetConn().Close() }, mqtt.ConnectionLost},
		{"no ping", func(w *world, d device) { w.rawConnect(d, "c", 1) }, mqtt.KeepAliveTimeout},
		{"not MQTT", write(0xf0, 0x00, 0x00, 0x01), mqtt.ClientError},
		{"second CONNECT", write(append([]byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 1}, 0, 0)...), mqtt.ClientError},
		{"payload at the limit and then too big", func(w *world, d device) {
			c := w.connect3(d, "c")
			w.do(nil, finish(c.Publish("big", 1, false, make([]byte, iotcore.MaxPayload))))
			c.Publish("big", 0, false, make([]byte, iotcore.MaxPayload+1))
		}, mqtt.ClientError},
		{"packet too big", publish("big", 200<<10), mqtt.ClientError},
		{"QoS 2", func(w *world, d device) { w.connect3(d, "c").Publish("a", 2, false, "1") }, mqtt.ClientError},
		{"too many slashes", publish("1/2/3/4/5/6/7/8/9", 1), mqtt.ClientError},
		{"topic too long", publish(strings.Repeat("x", 257), 1), mqtt.ClientError},
		{"wildcard in a topic", publish("a/+", 1), mqtt.ClientError},
		{"too many filters", func(w *world, d device) {
			filters := map[string]byte{}
			for _, f := range strings.Split("a b c d e f g h i", " ") {
				filters[f] = 0
			}
			w.connect3(d, "c").SubscribeMultiple(filters, nil)
		}, mqtt.ClientError},
		{"publish that is denied", publish("dead", 1), mqtt.AuthError},
		{"certificate deactivated", func(w *world, d device) {
			w.connect3(d, "c")
			w.do(w.iot.UpdateCertificate(context.Background(), &iot.UpdateCertificateInput{CertificateId: &d.id, NewStatus: types.CertificateStatusInactive}))
		}, mqtt.AuthError},
		{"publish a lifecycle event", publish("$aws/events/presence/connected/c", 1), mqtt.ForbiddenAccess},
		{"publish an answer to a report", publish("$aws/things/c/defender/metrics/json/accepted", 1), mqtt.ForbiddenAccess},
		{"subscribe to reports", subscribe("$aws/things/+/defender/metrics/json"), mqtt.ForbiddenAccess},
		{"subscribe to Basic Ingest", subscribe("$aws/rules/r/#"), mqtt.ForbiddenAccess},
		{"publish to a shadow", publish("$aws/things/c/shadow/update", 1), mqtt.ServerError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.cause(w, w.newDevice(deadTopic))
			w.wantDisconnect("c", tt.want)
			if c, ok := w.broker.Connection("c"); ok {
				t.Errorf("still connected: %+v", c)
			}
		})
	}
}

func TestMQTT5ClientsGetTheReason(t *testing.T) {
	w := newWorld(t)
	c := w.connect5(w.newDevice(allowAll), "c")
	w.publish5(c, "$aws/things/c/jobs/get", 0, "{}")
	w.wantDisconnect("c", mqtt.ServerError)
	p := <-c.disconnected
	if p.ReasonCode != 0x83 || p.Properties == nil || !strings.Contains(p.Properties.ReasonString, "$aws/things/c/jobs/get") {
		t.Errorf("got %+v, want reason code 0x83 and the topic", p)
	}
}

func TestGetConnection(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	ask := func() *iotdataplane.GetConnectionOutput {
		t.Helper()
		out, err := w.data.GetConnection(context.Background(), &iotdataplane.GetConnectionInput{ClientId: aws.String("c#2")})
		w.do(nil, err)
		return out
	}
	_, err := w.data.GetConnection(context.Background(), &iotdataplane.GetConnectionInput{ClientId: aws.String("c#2")})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "ResourceNotFoundException" {
		t.Errorf("before it connected: %v", err)
	}
	began := w.clock().UnixMilli()
	c := w.connect3(d, "c#2") // which has no lifecycle event
	w.step(time.Hour)
	if out := ask(); !out.Connected || out.ConnectedSince != began || out.DisconnectedSince != 0 || out.DisconnectReason != nil {
		t.Errorf("connected: %+v", out)
	}
	leave(c)
	for w.connected("c#2") {
		time.Sleep(time.Millisecond)
	}
	ended := w.clock().UnixMilli()
	w.step(30 * time.Minute)
	if out := ask(); out.Connected || out.ConnectedSince != 0 || out.DisconnectedSince != ended || aws.ToString(out.DisconnectReason) != "CLIENT_INITIATED_DISCONNECT" {
		t.Errorf("disconnected for 30 minutes: %+v", out)
	}
	w.step(time.Second)
	if out := ask(); out.Connected || out.DisconnectedSince != 0 || out.DisconnectReason != nil {
		t.Errorf("disconnected for longer: %+v", out)
	}
}

func (w *world) connected(clientID string) bool {
	_, ok := w.broker.Connection(clientID)
	return ok
}

func TestLastWill(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(policyOf(statement("Allow", "iot:Connect", "*"), statement("Allow", "iot:Publish", arn+"topic/will/*")))
	_, err := w.dial3(w.options(d, "bad").SetWill("elsewhere", "x", 0, false))
	if err == nil {
		t.Error("a client with a will that it may not publish was connected")
	}
	w.event("connect_failed", "bad")
	if _, err = w.dial3(w.options(d, "keep").SetWill("will/keep", "x", 0, true)); err == nil {
		t.Error("a client with a retained will that it may not publish was connected")
	}
	w.event("connect_failed", "keep")
	if _, err = w.dial3(w.options(d, "reserved").SetWill("$aws/events/presence/connected/x", "x", 0, false)); err == nil {
		t.Error("a client with a will on a reserved topic was connected")
	}
	w.event("connect_failed", "reserved")

	good, err := w.dial3(w.options(d, "good").SetWill("will/good", "gone", 1, false))
	w.do(nil, err)
	watcher := w.connect5(w.newDevice(allowAll), "watcher")
	w.do(nil, w.subscribe5(watcher, "will/#"))
	good.Publish("$aws/rules/r/x", 0, false, "1") // not allowed: the connection ends without a DISCONNECT
	if p := watcher.next(t); p.Topic != "will/good" || string(p.Payload) != "gone" {
		t.Errorf("received %+v, want the will of good", p)
	}
	if m := w.on("will/good"); m.ClientID != "good" || m.Origin != mqtt.FromClient {
		t.Errorf("got %+v, want a message of the client good", m)
	}
	w.wantDisconnect("good", mqtt.AuthError)
}

func TestClientIDRules(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	for _, id := range []string{"$mine", strings.Repeat("x", 129)} {
		if _, err := w.dial3(w.options(d, id)); err == nil || !strings.Contains(strings.ToLower(err.Error()), "identifier rejected") {
			t.Errorf("client id %.10q: %v", id, err)
		}
	}
	w.connect3(d, strings.Repeat("x", 128))
	w.event("connected", strings.Repeat("x", 128))
	_, connack, err := w.dial5(d, &paho.Connect{KeepAlive: 60, CleanStart: true})
	if err != nil || connack.Properties.AssignedClientID == "" {
		t.Errorf("without a client id: %+v, %v", connack, err)
	} else {
		w.event("connected", connack.Properties.AssignedClientID)
	}
	// Clients whose ID has a wildcard can connect, but have no lifecycle events.
	leave(w.connect3(d, "a+b"))
	w.connect3(d, "after")
	w.next("event of after only", func(m mqtt.Message) bool {
		if strings.Contains(m.Topic, "a+b") {
			t.Errorf("event on %s", m.Topic)
		}
		return strings.HasSuffix(m.Topic, "/after")
	})
}

func TestKeepAliveIsGrantedWithinLimits(t *testing.T) {
	w := newWorld(t)
	d := w.newDevice(allowAll)
	for requested, want := range map[uint16]uint16{0: 1200, 60: 0, 1200: 0, 1201: 1200} {
		_, connack, err := w.dial5(d, &paho.Connect{ClientID: "c", KeepAlive: requested, CleanStart: true})
		w.do(nil, err)
		got := uint16(0)
		if connack.Properties.ServerKeepAlive != nil {
			got = *connack.Properties.ServerKeepAlive
		}
		if got != want {
			t.Errorf("requested %d s: got %d, want %d", requested, got, want)
		}
	}
}
