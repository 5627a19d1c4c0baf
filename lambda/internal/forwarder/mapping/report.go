package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// rejection is the answer of Device Defender to a metrics report that it refused.
type rejection struct {
	ThingName     string  `json:"thingName"`
	Status        string  `json:"status"`
	Timestamp     millis  `json:"timestamp"`
	StatusDetails details `json:"statusDetails"`
}

type details struct {
	ErrorCode    string `json:"ErrorCode"`
	ErrorMessage string `json:"ErrorMessage"`
}

// cborRejection is the same in CBOR, where a time may be any kind of number.
type cborRejection struct {
	ThingName     string  `cbor:"thingName"`
	Status        string  `cbor:"status"`
	Timestamp     float64 `cbor:"timestamp"`
	StatusDetails details `cbor:"statusDetails"`
}

// decodeCBOR limits how much memory and stack a payload of 128 KB can use.
var decodeCBOR = func() cbor.DecMode {
	mode, err := cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 4096, MaxMapPairs: 4096}.DecMode()
	if err != nil {
		panic(fmt.Sprintf("options of the CBOR decoder: %v", err)) // constant options
	}
	return mode
}()

func decodeRejection(topic string, payload []byte) (rejection, error) {
	var r rejection
	if !strings.HasSuffix(topic, "/cbor/rejected") {
		err := json.Unmarshal(payload, &r)
		return r, err
	}
	var c cborRejection
	if err := decodeCBOR.Unmarshal(payload, &c); err != nil {
		return r, err
	}
	r = rejection{ThingName: c.ThingName, Status: c.Status, StatusDetails: c.StatusDetails}
	if c.Timestamp > 0 && c.Timestamp < 1<<53 {
		r.Timestamp = millis(c.Timestamp)
		if c.Timestamp < secondsBelow {
			r.Timestamp = millis(c.Timestamp * 1000)
		}
	}
	return r, nil
}

// rejectedReport accepts an unreadable answer too: the topic, which belongs to AWS, shows that a
// report of that thing was refused.
func (m Mapper) rejectedReport(e iotrule.Envelope) (signal.Signal, error) {
	const source = defender.RejectedReports
	claim := topicfilter.Claim(iotrule.Of(source).TopicFilter, e.Topic)
	r, unreadable := decodeRejection(e.Topic, e.Payload)
	if unreadable != nil {
		r = rejection{}
	}
	thing := r.ThingName
	if thing == "" {
		thing = claim
	}
	if thing == "" {
		return signal.Signal{}, errors.New("rejected report names no thing in its payload or its topic")
	}
	code := r.StatusDetails.ErrorCode
	if code == "" {
		code = "Unknown"
	}
	p := m.here()
	f := m.finding(asff.FindingID(source, m.Region, thing, code), ruleGenerator(source))
	f.FindingProviderFields = unusual(m.severity(source))
	f.Title = rejectedTitle(thing, code)
	f.Description = "AWS IoT Device Defender refused a device-side metrics report for thing " + thing + " with " + code + "."
	if text := r.StatusDetails.ErrorMessage; text != "" {
		f.Description += " " + sentence(text)
	}
	if unreadable != nil {
		f.Description += " The answer of Device Defender could not be read."
	}
	f.Description += errorActionNote(source, e)
	f.Remediation = rejectedRemedy()
	f.SourceURL = p.thingURL(thing)
	fields := pairs{"ThingName": thing, "ErrorCode": code}
	fields.set("ErrorMessage", r.StatusDetails.ErrorMessage)
	fields.set("Status", r.Status)
	envelopeFields(fields, e)
	if claim != "" && claim != thing {
		fields.set("TopicMismatch", claim)
		f.Description += fmt.Sprintf(" The topic names another thing: %s.", claim)
	}
	f.ProductFields = fields
	f = m.notAWS(f, source, e, thing, code)
	f.Resources = []asff.Resource{p.thing(thing)}
	order := signal.Order{Time: e.Time}
	if r.Timestamp > 0 {
		order.Time = int64(r.Timestamp)
	}
	s := signal.New(source, f, e.Time, order, r.StatusDetails.ErrorMessage)
	if by := known(e.ClientID); by != "" { // also about itself: it invents error codes
		s = m.forged(s, source, by, e.Time)
	}
	return s, nil
}

func rejectedTitle(thing, code string) string {
	return "Device Defender rejected a metrics report of " + thing + ": " + code + "."
}

func rejectedRemedy() *asff.Remediation {
	return remedy("Compare the device's report with the documented format: custom metrics are arrays with one object, report IDs rise, and reports are at least 5 minutes apart. If earlier reports were accepted, the firmware may have been tampered with.", deviceURL)
}

// sentence ends a text with one full stop.
func sentence(text string) string {
	return strings.TrimRight(strings.TrimSpace(text), ".") + "."
}
