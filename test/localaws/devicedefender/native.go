package devicedefender

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
)

// native is AWS's own integration with Security Hub (AWS IoT Device Defender Developer Guide,
// "Integration with AWS Security Hub CSPM"). It sends each finding of a task and a summary of each
// check. If a check completes, it archives the check's earlier findings that are no longer found.
// Findings that Security Hub refuses, because it is off or the product is not subscribed, are not
// sent again before the next task.
type native struct {
	place place
	to    NativeImporter

	mu   sync.Mutex
	sent map[string]*nativeFinding // by ID, including archived ones
}

type nativeFinding struct {
	check   defender.Check
	summary bool
	asff    findingASFF
}

// findingASFF is a finding as the integration imports it. Its fields have the order of AWS's
// samples.
type findingASFF struct {
	SchemaVersion         string
	ID                    string `json:"Id"`
	ProductARN            string `json:"ProductArn"`
	ProductName           string
	CompanyName           string
	Region                string
	GeneratorID           string `json:"GeneratorId"`
	AWSAccountID          string `json:"AwsAccountId"`
	CreatedAt             asff.Timestamp
	UpdatedAt             asff.Timestamp
	Title                 string
	Description           string
	SourceURL             string `json:"SourceUrl"`
	ProductFields         map[string]string
	Resources             []asff.Resource
	RecordState           asff.RecordState
	FindingProviderFields asff.FindingProviderFields
}

const (
	nativeProductName = "IoT Device Defender - Audit"
	importBatch       = securityhubtest.MaxFindings
)

// send sends the findings of a task to Security Hub. The task has ended, so it does not change.
func (n *native) send(t *task) error {
	if n.to == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var due []*nativeFinding
	for _, d := range t.checks {
		found := map[string]bool{}
		for _, f := range d.findings {
			made := n.finding(f)
			if !found[made.asff.ID] {
				found[made.asff.ID] = true
				due = append(due, made)
			}
		}
		if d.completed() {
			due = append(due, n.vanished(d.check, found, t)...)
		}
		due = append(due, n.summary(t, d))
	}
	var faults []error
	for batch := range slices.Chunk(due, importBatch) {
		faults = append(faults, n.importAll(batch))
	}
	return errors.Join(faults...)
}

func (n *native) importAll(batch []*nativeFinding) error {
	var raw []json.RawMessage
	for _, f := range batch {
		n.keepOrder(f)
		text, err := json.Marshal(f.asff)
		if err != nil {
			return err
		}
		raw = append(raw, text)
	}
	result, err := n.to.ImportNative(raw...)
	if err != nil {
		return err
	}
	refused, reasons := map[string]bool{}, map[string][]string{}
	for _, f := range result.Failed {
		refused[f.ID] = true
		reason := f.Code + ": " + f.Message
		reasons[reason] = append(reasons[reason], f.ID)
	}
	var faults []error
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		faults = append(faults, fmt.Errorf("%d findings, the first %s: %s", len(reasons[reason]), reasons[reason][0], reason))
	}
	for _, f := range batch {
		if !refused[f.asff.ID] {
			n.sent[f.asff.ID] = f
		}
	}
	return errors.Join(faults...)
}

// keepOrder keeps the first CreatedAt, and makes UpdatedAt later than the last one: Security Hub
// ignores an import that is not newer than the stored finding.
func (n *native) keepOrder(f *nativeFinding) {
	before, ok := n.sent[f.asff.ID]
	if !ok {
		return
	}
	f.asff.CreatedAt = before.asff.CreatedAt
	if last := before.asff.UpdatedAt; !f.asff.UpdatedAt.Truncate(time.Millisecond).After(last.Truncate(time.Millisecond)) {
		f.asff.UpdatedAt.Time = last.Add(time.Millisecond)
	}
}

// vanished returns the archived versions of the active findings that the check's latest run did not
// find.
func (n *native) vanished(check defender.Check, found map[string]bool, t *task) []*nativeFinding {
	var gone []*nativeFinding
	for _, id := range slices.Sorted(maps.Keys(n.sent)) {
		f := n.sent[id]
		if f.check != check || f.summary || found[id] || f.asff.RecordState == asff.Archived {
			continue
		}
		archived := *f
		archived.asff.RecordState = asff.Archived
		archived.asff.UpdatedAt = asff.Timestamp{Time: t.ended.UTC()}
		gone = append(gone, &archived)
	}
	return gone
}

func (n *native) base(check defender.Check, id, generator string, at time.Time) findingASFF {
	kind := asff.TypeVulnerabilities
	if check.Info().UnusualBehavior {
		kind = asff.TypeUnusualBehaviors
	}
	when := asff.Timestamp{Time: at.UTC()}
	return findingASFF{
		SchemaVersion: "2018-10-08", ID: id,
		ProductARN:  fmt.Sprintf("arn:%s:securityhub:%s::product/aws/iot-device-defender-audit", n.place.partition(), n.place.region),
		ProductName: nativeProductName, CompanyName: "AWS", Region: n.place.region,
		GeneratorID: generator, AWSAccountID: n.place.account, CreatedAt: when, UpdatedAt: when, RecordState: asff.Active,
		FindingProviderFields: asff.FindingProviderFields{
			Severity: asff.FindingSeverity{Label: check.Severity().String()}, Types: []string{kind},
		},
	}
}

// finding returns the finding of an audit finding. AWS documents the ID, the product fields and the
// resource's type only for policies: others have the same form here (unverified). It does not
// document either whether suppressed findings are sent; the product field IsSuppressed suggests
// it.
func (n *native) finding(f *finding) *nativeFinding {
	resource := f.issue.resource
	parts := append([]string{n.place.account, string(resource.ResourceType)}, segments(resource.ResourceIdentifier)...)
	id := strings.Join(append(parts, f.check.String(), f.issue.code), "/")
	a := n.base(f.check, id, f.id, f.time)
	a.Title = f.check.String() + ": " + f.issue.code
	a.Description = fmt.Sprintf("%s %s is reported as non-compliant for %s by Audit task %s. The non-compliant reason is %s",
		resource.ResourceType, display(resource.ResourceIdentifier), f.check, f.task.id, f.issue.reason)
	a.SourceURL = n.place.console("#/dd/audit/results/" + f.task.id + "/" + f.check.String())
	a.ProductFields = map[string]string{
		"ReportType": "AuditFinding", "CheckName": f.check.String(), "TaskId": f.task.id, "TaskType": string(f.task.kind),
		"IsSuppressed": strconv.FormatBool(f.suppressed), "ReasonForNonComplianceCode": f.issue.code,
		"ResourceType": string(resource.ResourceType), "FindingId": f.id, "TaskStartTime": milliseconds(f.task.started),
	}
	a.Resources = []asff.Resource{{Type: "Other", ID: display(resource.ResourceIdentifier), Partition: n.place.partition(), Region: n.place.region}}
	if p := resource.ResourceIdentifier.PolicyVersionIdentifier; p != nil {
		a.SourceURL = n.place.console("#/policy/" + *p.PolicyName)
		a.ProductFields["PolicyName"], a.ProductFields["PolicyVersionId"] = *p.PolicyName, *p.PolicyVersionId
		a.Resources[0].Type, a.Resources[0].ID = "AwsIotPolicy", *p.PolicyName
		a.Resources[0].Details = &asff.ResourceDetails{Other: map[string]string{"PolicyVersionId": *p.PolicyVersionId}}
	} else if resource.ResourceType == types.ResourceTypeAccountSettings {
		a.Resources[0].Type = "AwsIotAccountSettings" // from AWS's announcement of the integration
	}
	return &nativeFinding{check: f.check, asff: a}
}

// summary returns the summary of a check. It is archived if all resources are compliant, and
// otherwise active. AWS shows the ID only for scheduled audits; that of an on-demand audit has no
// schedule (unverified).
func (n *native) summary(t *task, d *checkDetails) *nativeFinding {
	parts := []string{n.place.account, string(t.kind), t.schedule, d.check.String()}
	if t.schedule == "" {
		parts = []string{n.place.account, string(t.kind), d.check.String()}
	}
	a := n.base(d.check, strings.Join(parts, "/"), t.id, t.ended)
	a.Title, a.Description = d.summaryTexts(t)
	a.SourceURL = n.place.console("#/dd/audit/results/" + t.id + "/" + d.check.String())
	a.ProductFields = map[string]string{
		"ReportType": "CheckSummary", "TaskId": t.id, "TaskType": string(t.kind), "CheckName": d.check.String(), "CheckRunStatus": string(d.status),
		"NonComopliantResourcesCount":          strconv.Itoa(d.nonCompliant), // AWS's spelling
		"SuppressedNonCompliantResourcesCount": strconv.Itoa(d.suppressed),
		"TotalResourcesCount":                  strconv.Itoa(d.total),
	}
	if t.schedule != "" {
		a.ProductFields["ScheduledAuditName"] = t.schedule
	}
	a.Resources = []asff.Resource{{Type: "AwsIotAuditTask", ID: t.id, Region: n.place.region}}
	if d.check == defender.DeviceCertificateKeyQuality || d.check == defender.CACertificateKeyQuality {
		a.FindingProviderFields.Types[0] += "/CVE" // their reasons are CVEs
	}
	if d.status == compliant {
		a.RecordState = asff.Archived
	}
	return &nativeFinding{check: d.check, summary: true, asff: a}
}

func (d *checkDetails) summaryTexts(t *task) (title, description string) {
	whose := "Task " + t.id + " of on-demand audit"
	if t.schedule != "" {
		whose = "Task " + t.id + " of scheduled audit " + t.schedule
	}
	if d.status == failed {
		return fmt.Sprintf("%s Summary: Failed", d.check), fmt.Sprintf("%s completed. %s failed.", whose, d.check)
	}
	return fmt.Sprintf("%s Summary: Completed with %d non-compliant resources", d.check, d.nonCompliant),
		fmt.Sprintf("%s completed. %s reports %d non-compliant resources out of %d.", whose, d.check, d.nonCompliant, d.total)
}

// console returns a URL of the AWS IoT console in the partition and Region.
func (p place) console(fragment string) string {
	host := p.region + ".console.aws.amazon.com"
	switch p.partition() {
	case "aws-cn":
		host = "console.amazonaws.cn"
	case "aws-us-gov":
		host = "console.amazonaws-us-gov.com"
	}
	return "https://" + host + "/iot/home?region=" + p.region + fragment
}
