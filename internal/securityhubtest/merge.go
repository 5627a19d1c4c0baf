package securityhubtest

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// customerFields belong to the customer once a finding exists.
var customerFields = []string{"Note", "UserDefinedFields", "VerificationState", "Workflow"}

// sharedFields are written by importers in FindingProviderFields and by customers at the top
// level.
var sharedFields = []string{"Confidence", "Criticality", "RelatedFindings", "Severity", "Types"}

// created returns a new finding. FindingProviderFields override the top level, and missing ones
// are filled from it.
func created(incoming object) object {
	f := maps.Clone(incoming)
	provided, _ := incoming["FindingProviderFields"].(object)
	provided = cloneOrNew(provided)
	for _, name := range sharedFields {
		if v, ok := provided[name]; ok {
			f[name] = v
		} else if v, ok := f[name]; ok {
			provided[name] = v
			if severity, ok := v.(object); ok && name == "Severity" {
				provided[name] = providedSeverity(severity)
			}
		}
	}
	f["FindingProviderFields"] = provided
	f["Severity"] = fullSeverity(f["Severity"].(object))
	setDefault(f, "RecordState", "ACTIVE")
	if workflow, _ := f["Workflow"].(object); workflow["Status"] == nil {
		f["Workflow"] = object{"Status": "NEW"}
	}
	return f
}

// updated returns the imported finding with all fields that an importer cannot change taken from
// the old one.
func updated(old, incoming object, edited map[string]bool) object {
	f := maps.Clone(incoming)
	take := func(name string) {
		delete(f, name)
		if v, ok := old[name]; ok {
			f[name] = v
		}
	}
	for _, name := range customerFields {
		take(name)
	}
	oldProvided, _ := old["FindingProviderFields"].(object)
	provided := cloneOrNew(oldProvided)
	if sent, ok := incoming["FindingProviderFields"].(object); ok {
		maps.Copy(provided, sent)
	}
	f["FindingProviderFields"] = provided
	for _, name := range sharedFields {
		v, ok := provided[name]
		if !ok || edited[name] {
			take(name)
			continue
		}
		f[name] = v
		if severity, ok := v.(object); ok && name == "Severity" {
			f[name] = fullSeverity(severity)
		}
	}
	if _, ok := f["RecordState"]; !ok {
		take("RecordState")
	}
	if reopened(old, f) {
		status := f["Workflow"].(object)["Status"]
		if status == "NOTIFIED" || status == "RESOLVED" {
			f["Workflow"] = object{"Status": "NEW"}
		}
	}
	return f
}

// reopened reports whether an analyst must look at the finding again.
func reopened(old, f object) bool {
	if old["RecordState"] == "ARCHIVED" && f["RecordState"] == "ACTIVE" {
		return true
	}
	was, _ := old["Compliance"].(object)
	is, _ := f["Compliance"].(object)
	return was["Status"] == "PASSED" && is["Status"] != nil && is["Status"] != "PASSED"
}

// derive sets the fields that Security Hub itself writes into imported findings.
func (h *Hub) derive(f object, key findingKey, p product) {
	f["Region"] = h.region
	f["ProcessedAt"] = formatInstant(h.now())
	f["WorkflowState"] = "NEW" // deprecated in favor of Workflow.Status
	if p.id != h.defaultProduct().id {
		delete(f, "ProductName")
		delete(f, "CompanyName")
	}
	setDefault(f, "ProductName", p.name)
	setDefault(f, "CompanyName", p.company)
	fields, _ := f["ProductFields"].(object)
	fields = cloneOrNew(fields)
	fields[derivedPrefix+"FindingId"] = key.productARN + "/" + key.id
	fields[derivedPrefix+"ProductName"] = f["ProductName"]
	fields[derivedPrefix+"CompanyName"] = f["CompanyName"]
	f["ProductFields"] = fields
}

// labelFloors are the lowest normalized severities of the labels.
var labelFloors = []int{0, 1, 40, 70, 90}

// fullSeverity returns a severity with both Label and Normalized, without the deprecated Product.
func fullSeverity(s object) object {
	s = maps.Clone(s)
	delete(s, "Product")
	if label, ok := s["Label"].(string); ok {
		if _, ok := s["Normalized"]; !ok {
			s["Normalized"] = json.Number(strconv.Itoa(labelFloors[slices.Index(severityLabels, label)]))
		}
		return s
	}
	n, _ := s["Normalized"].(json.Number)
	normalized, _ := n.Int64()
	for i, floor := range labelFloors {
		if normalized >= int64(floor) {
			s["Label"] = severityLabels[i]
		}
	}
	return s
}

// providedSeverity returns the members of a top-level severity that FindingProviderFields can
// hold.
func providedSeverity(s object) object {
	s = fullSeverity(s)
	delete(s, "Normalized")
	return s
}

// normalizeInstants writes times as Security Hub stores them: with at most three decimals.
func normalizeInstants(f object) object {
	f = maps.Clone(f)
	if note, ok := f["Note"].(object); ok {
		f["Note"] = normalizeInstants(note)
	}
	for _, name := range []string{"CreatedAt", "UpdatedAt", "FirstObservedAt", "LastObservedAt"} {
		s, _ := f[name].(string)
		if t, ok := parseInstant(s); ok {
			if _, err := time.Parse(time.RFC3339, s); err != nil || len(s) > len("2006-01-02T15:04:05.000Z") {
				f[name] = t.Format("2006-01-02T15:04:05.000Z07:00")
			}
		}
	}
	return f
}

func instantOf(f object, name string) time.Time {
	s, _ := f[name].(string)
	t, _ := parseInstant(s)
	return t
}

func cloneOrNew(o object) object {
	if o == nil {
		return object{}
	}
	return maps.Clone(o)
}

func setDefault(o object, name, value string) {
	if _, ok := o[name]; !ok {
		o[name] = value
	}
}

type updateRequest struct {
	identifiers []identifier
	changes     object
}

type identifier struct {
	ID         string `json:"Id"`
	ProductARN string `json:"ProductArn"`
}

var changesRule = members(map[string]rule{
	"Confidence":  percent,
	"Criticality": percent,
	"Note": members(map[string]rule{
		"Text":      text(512),
		"UpdatedBy": text(0),
	}, "Text", "UpdatedBy"),
	"RelatedFindings": relatedFindingsRule,
	"Severity": members(map[string]rule{
		"Label":      enum(severityLabels...),
		"Normalized": percent,
		"Product":    number,
	}),
	"Types":             typesRule,
	"UserDefinedFields": userDefinedRule,
	"VerificationState": enum(verificationStates...),
	"Workflow":          members(map[string]rule{"Status": enum(workflowStatuses...)}),
})

func decodeUpdate(body []byte) (updateRequest, error) {
	changes, err := decodeObject(body)
	if err != nil {
		return updateRequest{}, invalidInput("the body is not a JSON object: %v", err)
	}
	listed, _ := changes["FindingIdentifiers"].([]any)
	delete(changes, "FindingIdentifiers")
	if err := checkCount("FindingIdentifiers", len(listed)); err != nil {
		return updateRequest{}, err
	}
	request := updateRequest{changes: changes}
	rule := list(1, MaxFindings, members(map[string]rule{"Id": text(0), "ProductArn": text(0)}, "Id", "ProductArn"))
	faults := append(faultsOf(rule, listed), faultsOf(changesRule, changes)...)
	if severity, ok := changes["Severity"].(object); ok && severity["Label"] == nil && severity["Normalized"] == nil {
		faults = append(faults, "data.Severity should have Label or Normalized")
	}
	if workflow, ok := changes["Workflow"].(object); ok && workflow["Status"] == nil {
		faults = append(faults, "data.Workflow should have required property 'Status'")
	}
	if len(changes) == 0 {
		faults = append(faults, "data names nothing to update")
	}
	if len(faults) > 0 {
		return updateRequest{}, invalidInput("Invalid parameter. %s.", strings.Join(faults, ", "))
	}
	for _, each := range listed {
		o := each.(object)
		request.identifiers = append(request.identifiers, identifier{o["Id"].(string), o["ProductArn"].(string)})
	}
	return request, nil
}

type unprocessed struct {
	FindingIdentifier       identifier
	ErrorCode, ErrorMessage string
}

type updateAnswer struct {
	ProcessedFindings   []identifier
	UnprocessedFindings []unprocessed
}

// update is a customer's change of findings (BatchUpdateFindings). refuse may fail single ones.
func (h *Hub) update(request updateRequest, refuse func(id string) *FindingError) (updateAnswer, error) {
	var changed []Finding
	defer func() { h.service.announce(h, changed) }()
	h.mu.Lock()
	defer h.mu.Unlock()
	answer := updateAnswer{[]identifier{}, []unprocessed{}}
	if err := h.needOn(); err != nil {
		return answer, err
	}
	h.expire()
	seen := map[identifier]bool{}
	for _, each := range request.identifiers {
		r := h.findings[findingKey{each.ProductARN, each.ID}]
		refusal := refuse(each.ID)
		switch {
		case refusal != nil:
		case seen[each]:
			refusal = &FindingError{Code: "DuplicatedFindingIdentifier", Message: "Duplicated Finding Identifier"}
		case r == nil:
			refusal = &FindingError{Code: "FindingNotFound", Message: "Finding Not Found"}
		default:
			next, fits := h.edit(r.content, request.changes)
			if !fits {
				refusal = &FindingError{Code: "FindingSizeExceeded", Message: "Finding exceeds the maximum size of 240 KB"}
				break
			}
			r.content, r.changed = next, h.now()
			for name := range request.changes {
				r.edited[name] = true
			}
		}
		seen[each] = true
		if refusal != nil {
			answer.UnprocessedFindings = append(answer.UnprocessedFindings, unprocessed{each, refusal.Code, refusal.Message})
			continue
		}
		answer.ProcessedFindings = append(answer.ProcessedFindings, each)
		if h.service.config.OnImported != nil {
			changed = append(changed, r.finding())
		}
	}
	return answer, nil
}

// edit returns the finding with a customer's changes, and whether it is small enough. UpdatedAt
// stays: it belongs to the importer.
func (h *Hub) edit(old, changes object) (f object, fits bool) {
	f = maps.Clone(old)
	maps.Copy(f, changes)
	if severity, ok := changes["Severity"].(object); ok {
		severity = fullSeverity(severity)
		if before := old["Severity"].(object); before["Original"] != nil {
			severity["Original"] = before["Original"]
		}
		f["Severity"] = severity
	}
	if note, ok := changes["Note"].(object); ok {
		note = maps.Clone(note)
		note["UpdatedAt"] = formatInstant(h.now())
		f["Note"] = note
	}
	return f, len(encode(f)) <= MaxFindingBytes
}
