package mqtt_test

import (
	"strings"
	"testing"
	"time"

	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

// A payload of more than 128 KB ends the sender's connection and reaches no subscriber.
func TestOversizePayloadIsAConnectionError(t *testing.T) {
	w := newWorld(t)
	tooBig := strings.Repeat("x", iotcore.MaxPayload+1)
	watcher := w.connect5(w.newDevice(allowAll), "watcher")
	w.do(nil, w.subscribe5(watcher, "#"))

	lost := make(chan error, 1)
	old, err := w.dial3(w.options(w.newDevice(allowAll), "old").SetConnectionLostHandler(func(_ paho3.Client, err error) { lost <- err }))
	w.do(nil, err)
	old.Publish("big/old", 1, false, tooBig)
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("the MQTT 3.1.1 client did not lose its connection")
	}
	w.wantDisconnect("old", mqtt.ClientError)

	young := w.connect5(w.newDevice(allowAll), "young")
	w.publish5(young, "big/young", 0, tooBig) // whether it returns an error depends on timing
	w.wantDisconnect("young", mqtt.ClientError)
	select {
	case p := <-young.disconnected:
		if p.ReasonCode != 0x95 {
			t.Errorf("got %#x, want 0x95, packet too large", p.ReasonCode)
		}
	case <-time.After(patience):
		t.Error("the MQTT 5 client got no reason")
	}

	w.do(w.publish5(watcher, "after", 1, "small"))
	if p := watcher.next(t); p.Topic != "after" {
		t.Errorf("%d bytes on %s were delivered", len(p.Payload), p.Topic)
	}
}
