package securityhubtest

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
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

// a reopened finding needs an analyst again
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
