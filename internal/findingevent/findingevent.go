// Package findingevent reads the events that Security Hub sends to Amazon EventBridge for each
// finding of each import and each update.
// https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-cwe-event-formats.html
//
// Any product may have imported the finding, so every text in it is data. [Parse] reads what it
// needs and ignores values of other types than the documented ones.
package findingevent

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// DetailType is the detail-type of the events, and Source their source.
const (
	DetailType = "Security Hub Findings - Imported"
	Source     = "aws.securityhub"
)

// Event is one event and its finding. A text that the event lacks is "", a time is zero.
type Event struct {
	// HubAccount and HubRegion are where Security Hub sent the event. Account and Region are those
	// of the resource that the finding is about. They differ in an administrator account and in a
	// home Region.
	HubAccount, HubRegion string
	Account, Region       string

	// ProductARN and ID together identify the finding.
	ProductARN, ID string
	// Generator is the GeneratorId.
	Generator string
	// Title and Description are texts for people. They name no resource reliably: a device may have
	// chosen them.
	Title, Description string
	// Severity is what Security Hub shows, which an analyst may have changed. It is
	// defender.SeverityDefault if the finding has none.
	Severity defender.Severity
	Types    []string
	// RecordState is asff.Active unless the event says asff.Archived.
	RecordState asff.RecordState
	// Workflow is NEW, NOTIFIED, SUPPRESSED or RESOLVED, and Verification UNKNOWN, TRUE_POSITIVE,
	// FALSE_POSITIVE or BENIGN_POSITIVE.
	Workflow, Verification string
	// Original reports whether severity and types are those of the product: no analyst changed
	// them.
	Original bool

	CreatedAt time.Time
	// FirstObservedAt and LastObservedAt are zero if the product does not set them.
	FirstObservedAt, LastObservedAt time.Time
	Order                           Order

	Resources     []Resource
	ProductFields map[string]string
	Related       []asff.RelatedFinding
	// Remediation is the product's recommendation.
	Remediation asff.Recommendation
	SourceURL   string
}

// Resource is a resource of a finding. Details has only Details.Other: all that AWS IoT resources
// have.
type Resource struct {
	Type, ID, Partition, Region string
	Details                     map[string]string
}

// Open reports whether the finding needs attention: it is active, and no analyst has suppressed or
// resolved it.
func (e Event) Open() bool {
	return e.RecordState == asff.Active && e.Workflow != "SUPPRESSED" && e.Workflow != "RESOLVED"
}

// Key identifies the finding in all accounts and Regions.
func (e Event) Key() string { return e.ProductARN + "/" + e.ID }

// Product returns the part of the product's ARN after "product/", such as "aws/guardduty". It
// returns "default" for the default product of an account, under which defenderhub imports.
func (e Event) Product() string {
	_, name, _ := strings.Cut(e.ProductARN, ":product/")
	if strings.HasSuffix(name, "/"+DefaultProduct) {
		return DefaultProduct
	}
	return name
}

// The products of findings about AWS IoT, as [Event.Product] returns them.
const (
	DefaultProduct = "default"
	AuditProduct   = "aws/iot-device-defender-audit"
	DetectProduct  = "aws/iot-device-defender-detect"
)

// DeviceSource returns the source of a finding of defenderhub or of AWS's own integration. It is
// false for findings of other products.
func (e Event) DeviceSource() (defender.Source, bool) {
	switch e.Product() {
	case AuditProduct:
		return defender.AuditNotifications, true
	case DetectProduct:
		return defender.DetectNotifications, true
	case DefaultProduct:
		// The generator of findings of audits and of Detect is AWS's, so the ID says the source.
		rest, ours := strings.CutPrefix(e.ID, "defenderhub/")
		name, _, _ := strings.Cut(rest, "/")
		s, err := defender.ParseSource(name)
		return s, ours && err == nil
	}
	return 0, false
}

// The parts of an event that are read. Values of any other type than the documented one are
// ignored.
type (
	envelope struct {
		DetailType text `json:"detail-type"`
		Source     text `json:"source"`
		Account    text `json:"account"`
		Region     text `json:"region"`
		Time       text `json:"time"`
		Detail     struct {
			Findings []json.RawMessage `json:"findings"`
		} `json:"detail"`
	}
	finding struct {
		ID              text `json:"Id"`
		ProductARN      text `json:"ProductArn"`
		GeneratorID     text `json:"GeneratorId"`
		AWSAccountID    text `json:"AwsAccountId"`
		Region          text
		Title           text
		Description     text
		SourceURL       text `json:"SourceUrl"`
		CreatedAt       text
		UpdatedAt       text
		ProcessedAt     text
		FirstObservedAt text
		LastObservedAt  text
		RecordState     text
		Workflow        lenient[struct{ Status text }]
		VerifiedAs      text `json:"VerificationState"`
		Severity        lenient[severity]
		Types           lenient[[]text]
		ProductFields   texts
		Resources       lenient[[]lenient[resource]]
		RelatedFindings lenient[[]lenient[related]]
		Remediation     lenient[struct {
			Recommendation lenient[struct {
				Text text
				URL  text `json:"Url"`
			}]
		}]
		FindingProviderFields lenient[struct {
			Severity        lenient[severity]
			Types           lenient[[]text]
			RelatedFindings lenient[[]lenient[related]]
		}]
	}
	severity struct{ Label text }
	related  struct {
		ProductARN text `json:"ProductArn"`
		ID         text `json:"Id"`
	}
	resource struct {
		Type, Partition, Region text
		ID                      text `json:"Id"`
		Details                 lenient[struct{ Other texts }]
	}
)

// Parse reads an event. An error means that retrying is useless: the event is not JSON, is not of
// [DetailType], has not exactly one finding, or the finding lacks its identity or its UpdatedAt.
func Parse(message []byte) (Event, error) {
	var e envelope
	if err := json.Unmarshal(message, &e); err != nil {
		return Event{}, fmt.Errorf("event is not JSON as Security Hub sends it: %w", err)
	}
	if e.Source != Source || e.DetailType != DetailType {
		return Event{}, fmt.Errorf("event %q of %q, want %q of %q", e.DetailType, e.Source, DetailType, Source)
	}
	if n := len(e.Detail.Findings); n != 1 {
		return Event{}, fmt.Errorf("event has %d findings, want 1", n)
	}
	parsed, err := ParseFinding(e.Detail.Findings[0])
	parsed.HubAccount, parsed.HubRegion = string(e.Account), string(e.Region)
	parsed.Order.Event, _ = parseTime(e.Time)
	if parsed.Region == "" {
		parsed.Region = parsed.HubRegion
	}
	return parsed, err
}

// ParseFinding reads a finding as GetFindings returns it. The event has no hub and no event time.
func ParseFinding(message []byte) (Event, error) {
	var f finding
	if err := json.Unmarshal(message, &f); err != nil {
		return Event{}, fmt.Errorf("finding is not JSON as Security Hub sends it: %w", err)
	}
	p := f.FindingProviderFields.value
	e := Event{
		Account: string(f.AWSAccountID), Region: string(f.Region), ProductARN: string(f.ProductARN), ID: string(f.ID), Generator: string(f.GeneratorID),
		Title: string(f.Title), Description: string(f.Description), SourceURL: string(f.SourceURL),
		RecordState: asff.Active, Workflow: string(f.Workflow.value.Status), Verification: string(f.VerifiedAs),
		ProductFields: f.ProductFields,
	}
	if f.RecordState == text(asff.Archived) {
		e.RecordState = asff.Archived
	}
	for _, label := range []text{f.Severity.value.Label, p.Severity.value.Label} {
		if s, err := defender.ParseSeverity(string(label)); err == nil {
			e.Severity = s
			break
		}
	}
	for _, t := range orElse(f.Types.value, p.Types.value) {
		if t != "" {
			e.Types = append(e.Types, string(t))
		}
	}
	for _, r := range f.Resources.value {
		v := r.value
		e.Resources = append(e.Resources, Resource{
			Type: string(v.Type), ID: string(v.ID), Partition: string(v.Partition), Region: string(v.Region), Details: v.Details.value.Other,
		})
	}
	for _, r := range orElse(f.RelatedFindings.value, p.RelatedFindings.value) {
		if r.value.ID != "" {
			e.Related = append(e.Related, asff.RelatedFinding{ProductARN: string(r.value.ProductARN), ID: string(r.value.ID)})
		}
	}
	e.Original = (p.Severity.value.Label == "" || f.Severity.value.Label == "" || f.Severity.value.Label == p.Severity.value.Label) &&
		(len(p.Types.value) == 0 || len(f.Types.value) == 0 || slices.Equal(f.Types.value, p.Types.value))
	recommendation := f.Remediation.value.Recommendation.value
	e.Remediation = asff.Recommendation{Text: string(recommendation.Text), URL: string(recommendation.URL)}
	e.CreatedAt, _ = parseTime(f.CreatedAt)
	e.FirstObservedAt, _ = parseTime(f.FirstObservedAt)
	e.LastObservedAt, _ = parseTime(f.LastObservedAt)
	e.Order.Processed, _ = parseTime(f.ProcessedAt)
	var err error
	if e.Order.Updated, err = parseTime(f.UpdatedAt); err != nil {
		return e, fmt.Errorf("finding's UpdatedAt: %w", err)
	}
	if e.ID == "" || e.ProductARN == "" {
		return e, errors.New("finding lacks Id or ProductArn")
	}
	return e, nil
}

func orElse[E any](list, other []E) []E {
	if len(list) > 0 {
		return list
	}
	return other
}

// timeForms are the forms of times in findings, which have any precision. An offset may lack its
// colon, or its minutes.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/Welcome.html#timestamps
var timeForms = []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07"}

// parseTime reads a time from 1970 to 2200, also in lower case.
func parseTime(s text) (time.Time, error) {
	for _, form := range timeForms {
		if t, err := time.Parse(form, strings.ToUpper(string(s))); err == nil && t.Year() >= 1970 && t.Year() <= 2200 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("time %.40q, want RFC 3339 from 1970 to 2200", string(s))
}
