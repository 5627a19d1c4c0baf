package handler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/report"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
)

// record is a message of the queue, or a record of the stream, in progress.
type record struct {
	// id is the transport's ID of the record.
	id   string
	body []byte
	// sent is when the transport received it; again reports whether it was delivered before.
	sent  time.Time
	again bool

	// kind is the value for the metrics, "unknown" if the record has none.
	kind string
	// subject identifies the device, "" if the record has nothing to judge. principal is the
	// sender's.
	subject, principal string
	// certificate is the ID of the certificate that the client presented, even if AWS IoT refused
	// it.
	certificate string
	// thing is set if the registry had to be asked for the subject.
	thing  *registry.Thing
	points []engine.Datapoint
	// discarded counts a report's unreadable values, by field.
	discarded map[string]int
	// answer is for a message that contains no report.
	answer *answer
	// failed reports whether the record must be retried.
	failed bool
}

const unknownKind = "unknown"

// maxSubject limits client IDs, which have at most 128 bytes in AWS IoT, to less than a key's
// 2048: an invalid key would fail the read of all things in its batch.
// https://docs.aws.amazon.com/general/latest/gr/iot-core.html
const maxSubject = 1024

// fromQueue handles messages and returns those that must be retried.
func (h *Handler) fromQueue(ctx context.Context, messages []events.SQSMessage) events.SQSEventResponse {
	records := make([]*record, len(messages))
	for i, m := range messages {
		sent, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64)
		if err != nil {
			sent = h.Now().UnixMilli() // Amazon SQS always sets it
		}
		count := m.Attributes["ApproximateReceiveCount"]
		records[i] = &record{id: m.MessageId, body: []byte(m.Body), sent: time.UnixMilli(sent).UTC(), again: count != "" && count != "1"}
	}
	h.batch(ctx, records)
	response := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for _, r := range records {
		if r.failed {
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: r.id})
		}
	}
	return response
}

// fromStream handles records of a shard and returns the lowest sequence number that failed: the
// shard is retried from there.
func (h *Handler) fromStream(ctx context.Context, all []events.KinesisEventRecord) events.KinesisEventResponse {
	records := make([]*record, len(all))
	for i, r := range all {
		records[i] = &record{id: r.Kinesis.SequenceNumber, body: r.Kinesis.Data, sent: r.Kinesis.ApproximateArrivalTimestamp.UTC()}
	}
	h.batch(ctx, records)
	response := events.KinesisEventResponse{BatchItemFailures: []events.KinesisBatchItemFailure{}}
	lowest := ""
	for _, r := range records {
		if r.failed && (lowest == "" || lower(r.id, lowest)) {
			lowest = r.id
		}
	}
	if lowest != "" {
		response.BatchItemFailures = append(response.BatchItemFailures, events.KinesisBatchItemFailure{ItemIdentifier: lowest})
	}
	return response
}

// lower compares sequence numbers, which have up to 128 digits.
func lower(a, b string) bool { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) < 0 }

// read decodes a record and identifies its device. It counts and drops records that no rule of
// the engine wrote.
func (h *Handler) read(ctx context.Context, r *record) {
	r.kind = unknownKind
	t, err := iotrule.DecodeTelemetry(r.body, h.ReportsRule)
	if err == nil {
		r.kind = string(t.Kind)
		if t.Time == 0 {
			t.Time = r.sent.UnixMilli()
		}
		if t.ID == "" {
			t.ID = r.id
		}
		err = h.understand(r, t)
	}
	if err == nil && len(r.subject) > maxSubject {
		err = fmt.Errorf("client ID of %d bytes, want at most %d", len(r.subject), maxSubject)
	}
	h.count(r.kind, contract.MetricReceived, 1)
	if err != nil {
		r.points = nil
		h.count(r.kind, contract.MetricUnreadable, 1)
		h.Log.Error("telemetry cannot be read", "record", r.id, "kind", r.kind, "bytes", len(r.body), "reason", err.Error())
		return
	}
	switch {
	case len(r.points) == 0:
	case r.subject == "":
		h.identify(ctx, r)
	default:
		h.join(ctx, r)
	}
}

func (h *Handler) understand(r *record, t iotrule.Telemetry) error {
	if t.Kind == iotrule.LifecycleEvent {
		var l engine.Lifecycle
		if err := json.Unmarshal(t.Payload, &l); err != nil {
			return fmt.Errorf("lifecycle event: %w", err)
		}
		if l.ClientID == "" || l.Timestamp <= 0 {
			return errors.New("lifecycle event lacks its clientId or its timestamp")
		}
		if t.Forged(l.ClientID) {
			return errors.New("lifecycle event was published by another client than the one it is about, not by AWS IoT")
		}
		r.subject, r.principal, r.certificate, r.points = l.ClientID, l.Principal, l.Principal, l.Datapoints()
		if l.EventType == "connect_failed" {
			r.principal = "" // the refused client need not be the device
		}
		return nil
	}
	if t.ClientID != iotrule.NotMQTT {
		r.subject = t.ClientID
	}
	r.principal, r.certificate = t.Principal, t.Principal
	if t.Kind != iotrule.DeviceReport {
		r.points = engine.MessageDatapoints(t)
		return nil
	}
	read, err := report.Decode(t.Payload)
	if err != nil {
		h.count(r.kind, contract.MetricUnreadableReports, 1)
		h.Log.Warn("device report cannot be read", "record", r.id, "device", r.subject, "bytes", len(t.Payload))
		r.points, r.answer = engine.UnreadableReport(t.ID, t.Time), h.rejection(t, err)
		return nil
	}
	r.discarded = read.Discarded
	r.points = engine.Report("report/"+cmp.Or(read.ID, t.ID), t.Time, read.Values, read.Partial, read.Unreadable())
	return nil
}

// join makes the thing the subject of its additional connection's record. A client whose
// certificate proves no thing stays its own device.
func (h *Handler) join(ctx context.Context, r *record) {
	thing, err := h.Registry.Join(ctx, r.subject, r.certificate, r.sent)
	switch {
	case err != nil:
		r.failed = certificate.CanRetry(err)
		h.count(r.kind, contract.MetricUnresolved, 1)
		h.Log.Warn("certificate of a further connection was not looked up", "record", r.id, "device", r.subject, "again", r.failed, "reason", err.Error())
		if r.failed {
			r.subject = ""
		}
	case thing != "":
		r.subject = thing
	}
}

// identify returns the thing of a message that was not sent over MQTT, by its principal.
func (h *Handler) identify(ctx context.Context, r *record) {
	t, err := h.Registry.Resolve(ctx, iotrule.NotMQTT, r.principal, r.sent)
	if err == nil && t.Name != "" {
		r.subject, r.thing = t.Name, &t
		return
	}
	reason := "the principal has no thing of its own"
	if err != nil {
		reason, r.failed = err.Error(), certificate.CanRetry(err)
	}
	h.count(r.kind, contract.MetricUnresolved, 1)
	h.Log.Warn("sender is not known and is not judged", "record", r.id, "kind", r.kind, "again", r.failed, "reason", reason)
}
