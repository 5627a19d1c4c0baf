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

// record is a message of the queue, or a record of the stream, on its way.
type record struct {
	// id by which the transport knows it.
	id   string
	body []byte
	// sent is when the transport took it, again that it was delivered before.
	sent  time.Time
	again bool

	// kind for the metrics, "unknown" where the record does not say.
	kind string
	// subject is what the device is told from others by, "" where the record says nothing
	// that can be judged. principal is the sender's.
	subject, principal string
	// certificate is what the client used or, if AWS IoT refused it, tried.
	certificate string
	// thing is set where the registry had to be asked for the subject.
	thing  *registry.Thing
	points []engine.Datapoint
	// discarded counts by field what cannot be read in a report.
	discarded map[string]int
	// answer is for a message that contains no report.
	answer *answer
	// failed tells that the record has to come again.
	failed bool
}

const unknownKind = "unknown"

// maxSubject bounds client ids, of which AWS IoT takes 128 bytes, below the 2048 of a key:
// one that is no key would fail the read of all things of its batch.
// https://docs.aws.amazon.com/general/latest/gr/iot-core.html
const maxSubject = 1024

// fromQueue handles messages and names those that have to come again.
func (h *Handler) fromQueue(ctx context.Context, messages []events.SQSMessage) events.SQSEventResponse {
	records := make([]*record, len(messages))
	for i, m := range messages {
		sent, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64)
		if err != nil {
			sent = h.Now().UnixMilli() // Amazon SQS always tells
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

// fromStream handles records of a shard and names the lowest sequence number that failed:
// from there on they come again.
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

// read finds out what a record says, and of whom. What no rule of the engine wrote is
// counted and gone.
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
		err = fmt.Errorf("client id of %d bytes, want at most %d", len(r.subject), maxSubject)
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
			return errors.New("lifecycle event says neither who nor when")
		}
		if t.Forged(l.ClientID) {
			return errors.New("lifecycle event was published by another client than the one it is about, not by AWS IoT")
		}
		r.subject, r.principal, r.certificate, r.points = l.ClientID, l.Principal, l.Principal, l.Datapoints()
		if l.EventType == "connect_failed" {
			r.principal = "" // whoever was refused need not be the device
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

// join makes the thing the subject of what a further connection of it says. A client whose
// certificate proves no thing stays a device of its own.
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

// identify finds the thing of a message that did not come over MQTT by its principal.
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
