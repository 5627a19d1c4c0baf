// Package offline judges recorded telemetry with the self-managed engine, without any service. It
// does the work of the IoT rules, of the evaluator's function and of its closer. Its transitions
// equal those of the deployed functions; a test of the function proves it.
//
// It has no registry: every client is a thing of the profiles' targets, and one whose ID matches
// the client pattern belongs to that thing. A client is connected as its lifecycle events say. One
// without events counts as always connected.
package offline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// Kind is what a record is.
type Kind string

// The kinds.
const (
	// Lifecycle is an event that AWS IoT published on $aws/events/presence/...
	Lifecycle Kind = "lifecycle"
	// Message is a message that a device published.
	Message Kind = "message"
	// Report is a device report.
	Report Kind = "report"
)

// Record is one message of a recording.
type Record struct {
	Kind Kind `json:"kind"`
	// ID distinguishes messages. Records with the same ID are one message.
	// Default: the record's place in the recording.
	ID string `json:"id,omitempty"`
	// Client is the sender's client ID, or that in a lifecycle event. It is "" or n/a for a
	// message over HTTPS, which is judged only if Thing is set.
	Client    string `json:"client,omitempty"`
	Thing     string `json:"thing,omitempty"`
	Principal string `json:"principal,omitempty"`
	SourceIP  string `json:"sourceIp,omitempty"`
	Time      Time   `json:"time"`
	Topic     string `json:"topic,omitempty"`
	// Payload is the published payload: a JSON object, or base64 in a string.
	Payload Payload `json:"payload,omitempty"`
	// Bytes is the size of a message that was recorded without its payload.
	Bytes int64 `json:"bytes,omitempty"`
	// Unnamed is true if [Read] set the ID.
	Unnamed bool `json:"-"`
}

// Time is in ms since 1970. In JSON it may also be a string in the format of RFC 3339.
type Time int64

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Time) UnmarshalJSON(data []byte) error {
	if text, err := strconv.Unquote(string(data)); err == nil {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return fmt.Errorf("time %q, want milliseconds since 1970 or the format 2006-01-02T15:04:05Z", text)
		}
		*t = Time(at.UnixMilli())
		return nil
	}
	n, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		return fmt.Errorf("time %s, want milliseconds since 1970 or the format 2006-01-02T15:04:05Z", data)
	}
	*t = Time(n)
	return nil
}

// Payload is a payload as it was published.
type Payload []byte

// MarshalJSON writes base64.
func (p Payload) MarshalJSON() ([]byte, error) { return json.Marshal([]byte(p)) }

// UnmarshalJSON reads a JSON object or base64.
func (p *Payload) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte("{")) {
		*p = bytes.Clone(data)
		return nil
	}
	var decoded []byte
	if err := json.Unmarshal(data, &decoded); err != nil {
		return errors.New("payload is neither a JSON object nor a string of base64")
	}
	*p = decoded
	return nil
}

// maxRecord limits a record: a payload has at most 128 KB, a third more in base64.
// https://docs.aws.amazon.com/general/latest/gr/iot-core.html
const maxRecord = 1 << 20

// Read reads a recording: JSON objects, one per line or one after the other, as in concatenated
// objects of Amazon S3. The error names the record, from 1.
func Read(from io.Reader) ([]Record, error) {
	var all []Record
	decoder := json.NewDecoder(from)
	for n := 1; ; n++ {
		var text json.RawMessage
		err := decoder.Decode(&text)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		r := Record{}
		switch {
		case err != nil:
		case len(text) > maxRecord:
			err = fmt.Errorf("%d bytes, want at most %d", len(text), maxRecord)
		default:
			if r, err = decode(text); err == nil {
				err = r.validate()
			}
		}
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", n, err)
		}
		if r.ID == "" {
			r.ID, r.Unnamed = "record-"+strconv.Itoa(n), true
		}
		all = append(all, r)
	}
}

// decode reads a record, or a device report as a deployed rule sends it.
func decode(text []byte) (Record, error) {
	var in struct {
		Record
		TraceID  string `json:"traceId"`
		ClientID string `json:"clientId"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return Record{}, err
	}
	if in.Kind == Report {
		in.ID, in.Client = cmp.Or(in.TraceID, in.ID), cmp.Or(in.Client, in.ClientID)
	}
	return in.Record, nil
}

func (r Record) validate() error {
	switch r.Kind {
	case Lifecycle:
		_, err := r.event()
		return err
	case Message:
		if r.Topic == "" {
			return errors.New("message without a topic")
		}
	case Report:
	default:
		return fmt.Errorf("kind %q, want lifecycle, message or report", r.Kind)
	}
	if r.Time <= 0 || r.Bytes < 0 {
		return fmt.Errorf("%s at time %d with %d bytes, want a time after 1970 and no negative size", r.Kind, r.Time, r.Bytes)
	}
	return nil
}

// event reads a lifecycle event. Its own time is the record's, if the record has none.
func (r Record) event() (engine.Lifecycle, error) {
	var l engine.Lifecycle
	if err := json.Unmarshal(r.Payload, &l); err != nil {
		return l, fmt.Errorf("lifecycle event: %w", err)
	}
	if l.ClientID == "" {
		l.ClientID = r.Client
	}
	if l.Timestamp == 0 {
		l.Timestamp = int64(r.Time)
	}
	if l.ClientID == "" || l.Timestamp <= 0 {
		return l, errors.New("lifecycle event without clientId or timestamp")
	}
	if l.EventType == "" { // $aws/events/presence/TYPE/CLIENT
		if levels := strings.SplitN(r.Topic, "/", 5); len(levels) == 5 {
			l.EventType = levels[3]
		}
	}
	return l, nil
}

// at returns when the record arrived, in ms.
func (r Record) at() int64 {
	if r.Kind == Lifecycle && r.Time == 0 {
		if l, err := r.event(); err == nil {
			return l.Timestamp
		}
	}
	return int64(r.Time)
}

// Size returns the size of the payload in bytes.
func (r Record) Size() int64 {
	if r.Bytes > 0 {
		return r.Bytes
	}
	return int64(len(r.Payload))
}

func (r Record) telemetry(kind iotrule.TelemetryKind) iotrule.Telemetry {
	t := iotrule.Telemetry{Kind: kind, Topic: r.Topic, Time: int64(r.Time), ID: r.ID, ClientID: r.Client, Principal: r.Principal, SourceIP: r.SourceIP, Bytes: r.Size()}
	if t.ClientID == "" {
		t.ClientID = iotrule.NotMQTT
	}
	return t
}
