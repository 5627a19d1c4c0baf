package mqtt_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"

	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

// installDeviceSDK returns a folder with the node_modules of testdata/devicesdk,
// from the user's cache when it is there.
func installDeviceSDK(t *testing.T) string {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Fatal("npm is not on PATH: AWS's device SDK cannot be installed; install Node.js (package.json pins a version) and put it on PATH")
	}
	lock, err := os.ReadFile("testdata/devicesdk/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	installed := filepath.Join(cache, "defenderhub", "devicesdk-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(installed); err == nil {
		return installed
	}
	// Two tests may install at once: each does it beside, the first to rename wins.
	if err := os.MkdirAll(filepath.Dir(installed), 0o755); err != nil {
		t.Fatal(err)
	}
	beside, err := os.MkdirTemp(filepath.Dir(installed), "devicesdk-new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(beside)
	if err := os.CopyFS(beside, os.DirFS("testdata/devicesdk")); err != nil {
		t.Fatal(err)
	}
	install := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = beside
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci of AWS's device SDK: %v\n%s", err, out)
	}
	if err := os.Rename(beside, installed); err != nil && !errors.Is(err, os.ErrExist) {
		if _, there := os.Stat(installed); there != nil {
			t.Fatal(err)
		}
	}
	return installed
}

type peerResult struct {
	Connected  bool
	ReasonCode int
	Received   string
	MaximumQoS *int
	Error      string
}

// startPeer runs the device with a version of MQTT; the function waits for its result.
func (w *world) startPeer(sdk, version string, d device, clientID string) func() peerResult {
	w.t.Helper()
	dir := w.t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		w.do(nil, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	_, port, err := net.SplitHostPort(w.broker.TLSAddress())
	w.do(nil, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	w.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "node", "testdata/devicesdk/peer.js", version, port, clientID,
		file("cert.pem", d.pem), file("key.pem", d.key), file("ca.pem", w.ca))
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(sdk, "node_modules"))
	var out, failure strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &failure
	w.do(nil, cmd.Start())
	return func() (r peerResult) {
		w.t.Helper()
		if err := cmd.Wait(); err != nil {
			w.t.Fatalf("device with MQTT %s: %v\n%s", version, err, failure.String())
		}
		w.do(nil, json.Unmarshal([]byte(out.String()), &r))
		return r
	}
}

// AWS's own device SDK takes the broker for AWS IoT Core.
func TestAWSDeviceSDK(t *testing.T) {
	sdk := installDeviceSDK(t)
	for _, version := range []string{"3", "5"} {
		t.Run("MQTT "+version, func(t *testing.T) {
			w := newWorld(t)
			d := w.newDevice(policyOf(
				statement("Allow", "iot:Connect", arn+"client/${iot:Connection.Thing.ThingName}"),
				statement("Allow", "iot:Publish", arn+"topic/${iot:ClientId}/up"),
				statement("Allow", "iot:Subscribe", arn+"topicfilter/${iot:ClientId}/*"),
				statement("Allow", "iot:Receive", arn+"topic/${iot:ClientId}/*")))
			w.newThing("pump", d, "exclusive")
			result := w.startPeer(sdk, version, d, "pump")
			began := w.event("connected", "pump")
			w.event("subscribed", "pump")
			if m := w.on("pump/up"); string(m.Payload) != "from the device" || m.Principal != d.id || m.ThingName != "pump" {
				t.Errorf("told %+v", m)
			}
			w.do(w.data.Publish(context.Background(), &iotdataplane.PublishInput{Topic: aws.String("pump/down"), Payload: []byte("from the cloud"), Qos: 1}))
			ended := w.wantDisconnect("pump", mqtt.ClientInitiatedDisconnect)
			if began["sessionIdentifier"] != ended["sessionIdentifier"] || began["thingName"] != "pump" {
				t.Errorf("began %v, ended %v", began, ended)
			}
			if r := result(); !r.Connected || r.ReasonCode != 0 || r.Received != "from the cloud" || version == "5" && (r.MaximumQoS == nil || *r.MaximumQoS != 1) {
				t.Errorf("the device saw %+v", r)
			}

			w.do(w.iot.UpdateCertificate(context.Background(), &iot.UpdateCertificateInput{CertificateId: &d.id, NewStatus: types.CertificateStatusRevoked}))
			refused := w.startPeer(sdk, version, d, "pump")
			if e := w.event("connect_failed", "pump"); e["principalIdentifier"] != d.id {
				t.Errorf("event %v", e)
			}
			if r := refused(); r.Connected || version == "5" && r.ReasonCode != 0x87 {
				t.Errorf("the refused device saw %+v", r)
			}
		})
	}
}
