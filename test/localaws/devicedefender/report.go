package devicedefender

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/defenderhub/defenderhub/internal/report"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// Reports answers device reports as Device Defender does: on accepted or rejected below
// the topic of the report, in the report's own format. It evaluates none of them, and
// it accepts reports at any interval: how AWS refuses one within 300 s
// is not documented.
type Reports struct {
	// Publish publishes an answer. Required.
	Publish func(topic string, payload []byte)
	// Now is the clock of answers. Default: time.Now.
	Now func() time.Time
}

// Receive answers a message that is a device report; any other it ignores. It may be
// passed every message that clients publish.
func (r *Reports) Receive(topic string, payload []byte) {
	thing, format, ok := reportTopic(topic)
	if !ok {
		return
	}
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	at := now()
	answer, kind := map[string]any{"thingName": thing, "timestamp": at.UnixMilli()}, "accepted"
	if received, err := decodeReport(format, payload); err != nil {
		kind = "rejected"
		answer["status"] = "REJECTED"
		answer["statusDetails"] = map[string]string{"ErrorCode": "InvalidPayload", "ErrorMessage": "Malformed metrics report"}
	} else {
		answer["status"] = "ACCEPTED"
		// AWS's only sample has the report id as a key and seconds as its value.
		answer[received.ID] = at.Unix()
	}
	encode := json.Marshal
	if format == "cbor" {
		encode = cbor.Marshal
	}
	encoded, err := encode(answer)
	if err != nil {
		panic(err) // texts and numbers only
	}
	r.Publish(topic+"/"+kind, encoded)
}

// reportTopic reads $aws/things/THING/defender/metrics/FORMAT.
func reportTopic(topic string) (thing, format string, ok bool) {
	levels := strings.Split(topic, "/")
	if len(levels) != 6 || levels[0] != "$aws" || levels[1] != "things" || levels[2] == "" ||
		levels[3] != "defender" || levels[4] != "metrics" || levels[5] != "json" && levels[5] != "cbor" {
		return "", "", false
	}
	return levels[2], levels[5], true
}

// decodeReport also refuses a report in the format of the other topic, and one with a value
// that cannot be read, as AWS refuses a custom metric without its list.
func decodeReport(format string, payload []byte) (report.Report, error) {
	isJSON := bytes.HasPrefix(bytes.TrimLeft(payload, " \t\r\n"), []byte("{"))
	if isJSON != (format == "json") {
		return report.Report{}, iotcore.InvalidRequest("the report is not in the format of its topic, %s", format)
	}
	received, err := report.Decode(payload)
	if err == nil && len(received.Discarded) > 0 {
		err = iotcore.InvalidRequest("the report has values that cannot be read: %v", received.Discarded)
	}
	return received, err
}
