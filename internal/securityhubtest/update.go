package securityhubtest

import (
	"maps"
	"strings"
)

// updateRequest is the input of BatchUpdateFindings.
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
	answer, changed, err := h.editAll(request, refuse)
	h.service.announce(h, changed)
	return answer, err
}

// editAll changes the findings and returns those that changed.
func (h *Hub) editAll(request updateRequest, refuse func(id string) *FindingError) (updateAnswer, []Finding, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	answer := updateAnswer{[]identifier{}, []unprocessed{}}
	if err := h.needOn(); err != nil {
		return answer, nil, err
	}
	h.expire()
	var changed []Finding
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
	return answer, changed, nil
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
