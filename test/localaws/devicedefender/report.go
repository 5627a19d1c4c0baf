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

// AnswerReport returns Device Defender's answer to a device report, and the topic of the answer:
// accepted or rejected below the report's topic, in the report's format. ok is false for a
// message that is not a device report. It evaluates no report, and accepts reports at any
// interval, because AWS does not document how it refuses one within 300 s.
func AnswerReport(topic string, payload []byte, at time.Time) (answerTopic string, encoded []byte, ok bool) {
	thing, format, ok := reportTopic(topic)
	if !ok {
		return "", nil, false
	}
	answer, kind := map[string]any{"thingName": thing, "timestamp": at.UnixMilli()}, "accepted"
	if received, err := decodeReport(format, payload); err != nil {
		kind = "rejected"
		answer["status"] = "REJECTED"
		answer["statusDetails"] = map[string]string{"ErrorCode": "InvalidPayload", "ErrorMessage": "Malformed metrics report"}
	} else {
		answer["status"] = "ACCEPTED"
		// In AWS's only sample, the report ID is a key, and its value is in seconds.
		answer[received.ID] = at.Unix()
	}
	encode := json.Marshal
	if format == "cbor" {
		encode = cbor.Marshal
	}
	encoded, err := encode(answer)
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	return topic + "/" + kind, encoded, true
}

// reportTopic parses $aws/things/THING/defender/metrics/FORMAT.
func reportTopic(topic string) (thing, format string, ok bool) {
	levels := strings.Split(topic, "/")
	if len(levels) != 6 || levels[0] != "$aws" || levels[1] != "things" || levels[2] == "" ||
		levels[3] != "defender" || levels[4] != "metrics" || levels[5] != "json" && levels[5] != "cbor" {
		return "", "", false
	}
	return levels[2], levels[5], true
}

// decodeReport also refuses a report in another format than that of its topic, and a report with a
// value that cannot be read: AWS refuses a custom metric without its list.
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
