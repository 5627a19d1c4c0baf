package mqtt_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"

	"github.com/defenderhub/defenderhub/test/localaws/devicesdk"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

// startPeer runs a device with a version of MQTT; the function waits for its result.
func (w *world) startPeer(version int, d device, clientID string) func() devicesdk.Result {
	w.t.Helper()
	address, err := netip.ParseAddrPort(w.broker.TLSAddress())
	w.do(nil, err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience) // installs the SDK where it is not yet
	w.t.Cleanup(cancel)
	wait, err := devicesdk.Device{
		Version: version, Host: "localhost", Port: int(address.Port()), ClientID: clientID, Certificate: d.pem, Key: d.key, RootCA: w.ca,
		Topic: clientID + "/up", Payload: "from the device", Subscribe: clientID + "/down",
	}.Start(ctx)
	w.do(nil, err)
	return func() devicesdk.Result {
		w.t.Helper()
		r, err := wait()
		w.do(nil, err)
		return r
	}
}

// AWS's own device SDK takes the broker for AWS IoT Core.
func TestAWSDeviceSDK(t *testing.T) {
	for _, version := range []int{3, 5} {
		t.Run(fmt.Sprintf("MQTT %d", version), func(t *testing.T) {
			w := newWorld(t)
			d := w.newDevice(policyOf(
				statement("Allow", "iot:Connect", arn+"client/${iot:Connection.Thing.ThingName}"),
				statement("Allow", "iot:Publish", arn+"topic/${iot:ClientId}/up"),
				statement("Allow", "iot:Subscribe", arn+"topicfilter/${iot:ClientId}/*"),
				statement("Allow", "iot:Receive", arn+"topic/${iot:ClientId}/*")))
			w.newThing("pump", d, "exclusive")
			result := w.startPeer(version, d, "pump")
			began := w.event("connected", "pump")
			w.event("subscribed", "pump")
			if m := w.on("pump/up"); string(m.Payload) != "from the device" || m.Principal != d.id || m.ThingName != "pump" {
				t.Errorf("got %+v", m)
			}
			w.do(w.data.Publish(context.Background(), &iotdataplane.PublishInput{Topic: aws.String("pump/down"), Payload: []byte("from the cloud"), Qos: 1}))
			ended := w.wantDisconnect("pump", mqtt.ClientInitiatedDisconnect)
			if began["sessionIdentifier"] != ended["sessionIdentifier"] || began["thingName"] != "pump" {
				t.Errorf("began %v, ended %v", began, ended)
			}
			if r := result(); !r.Connected || r.ReasonCode != 0 || r.Received != "from the cloud" || version == 5 && (r.MaximumQoS == nil || *r.MaximumQoS != 1) {
				t.Errorf("the device saw %+v", r)
			}

			w.do(w.iot.UpdateCertificate(context.Background(), &iot.UpdateCertificateInput{CertificateId: &d.id, NewStatus: types.CertificateStatusRevoked}))
			refused := w.startPeer(version, d, "pump")
			if e := w.event("connect_failed", "pump"); e["principalIdentifier"] != d.id {
				t.Errorf("event %v", e)
			}
			if r := refused(); r.Connected || version == 5 && r.ReasonCode != 0x87 {
				t.Errorf("the refused device saw %+v", r)
			}
		})
	}
}
