package handler

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// answer is the answer to a device's unreadable report.
type answer struct {
	topic   string
	payload []byte
}

// rejection has the format of Device Defender's answer, and its one documented error code.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-device-side-metrics.html
type rejection struct {
	ThingName     string        `json:"thingName"`
	Status        string        `json:"status"`
	StatusDetails statusDetails `json:"statusDetails"`
	Timestamp     int64         `json:"timestamp"`
}

type statusDetails struct {
	ErrorCode    string
	ErrorMessage string
}

// maxReason is the maximum length of an answer's reason, in characters.
const maxReason = 512

// rejection returns the answer to a report, or nil if there is no topic to answer on: with Basic
// Ingest, on AWS's reserved topics (where AWS answers), over HTTPS, and if the answer would be
// received as a report.
func (h *Handler) rejection(t iotrule.Telemetry, reason error) *answer {
	filter, topic := h.settings.reportTopic, t.Topic+"/rejected"
	if filter == "" || strings.HasPrefix(t.Topic, "$") || !topicfilter.Matches(filter, t.Topic) || topicfilter.Matches(filter, topic) ||
		t.ClientID == "" || t.ClientID == iotrule.NotMQTT {
		return nil
	}
	message := []rune(reason.Error())
	payload, err := json.Marshal(rejection{
		ThingName: t.ClientID, Status: "REJECTED", Timestamp: t.Time,
		StatusDetails: statusDetails{"InvalidPayload", string(message[:min(len(message), maxReason)])},
	})
	if err != nil {
		return nil // strings and numbers can always be encoded
	}
	return &answer{topic, payload}
}

// answerAll publishes the answers to finished records. A device whose answer fails is judged
// anyway.
func (h *Handler) answerAll(ctx context.Context, records []*record) {
	var answered []*record
	for _, r := range records {
		if r.answer != nil && !r.failed {
			answered = append(answered, r)
		}
	}
	forEach(answered, func(r *record) {
		_, err := h.IoTData.Publish(ctx, &iotdataplane.PublishInput{Topic: &r.answer.topic, Payload: r.answer.payload, Qos: 1})
		if err != nil {
			h.count(r.kind, contract.MetricUnanswered, 1)
			h.Log.Warn("answer to an unreadable report was not published", "device", r.subject, "reason", err.Error())
		}
	})
}
