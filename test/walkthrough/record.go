package walkthrough

import (
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/defenderhub/defenderhub/internal/offline"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

// recorder writes each message as a line that `defenderhub replay` reads.
type recorder struct {
	mu sync.Mutex
	to io.Writer
	// reports are the topics of device reports: one topic, or all of a rule in Basic Ingest.
	reports string
	failed  func(error)
}

// record records what is published from now on, once.
func (s *story) record() {
	if s.Record == nil || s.recording {
		return
	}
	s.recording = true
	r := &recorder{to: s.Record, reports: s.outputs["ReportTopic"], failed: func(err error) { s.note("the recording ended: %v", err) }}
	if strings.HasPrefix(r.reports, basicIngest) {
		r.reports = strings.Join(append(strings.SplitN(r.reports, "/", 4)[:3], "#"), "/")
	}
	s.cloud.Broker.OnMessage(r.write)
}

const basicIngest = "$aws/rules/"

const presence = "$aws/events/presence/#"

// reservedReports are the topics of reports to Device Defender itself.
var reservedReports = regexp.MustCompile(`^\$aws/things/[^/]+/defender/metrics/(json|cbor)$`)

func (r *recorder) write(m mqtt.Message) {
	line := offline.Record{
		Kind: offline.Message, Client: m.ClientID, Thing: m.ThingName, Principal: m.Principal, Time: offline.Time(m.Time.UnixMilli()),
		Topic: m.Topic, Payload: offline.Payload(m.Payload),
	}
	if m.SourceIP.IsValid() {
		line.SourceIP = m.SourceIP.String()
	}
	switch {
	case topicfilter.Matches(presence, m.Topic):
		line.Kind = offline.Lifecycle
	case r.reports != "" && topicfilter.Matches(r.reports, m.Topic), reservedReports.MatchString(m.Topic):
		line.Kind = offline.Report
	case strings.HasPrefix(m.Topic, "$aws/"):
		return // no behavior sees it
	}
	text, _ := json.Marshal(line) // texts and numbers always encode
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to == nil {
		return
	}
	if _, err := r.to.Write(append(text, '\n')); err != nil {
		r.to = nil
		r.failed(err)
	}
}
