package asff

import (
	"encoding/json"
	"maps"
	"slices"
)

// AppendJSON appends the JSON form of f, the same that [json.Marshal] returns. It is several times
// as fast, and the functions encode each finding at least once.
func (f Finding) AppendJSON(b []byte) []byte {
	if b == nil { // few texts have characters to escape
		fixed, raw := f.sizes()
		b = make([]byte, 0, fixed+raw)
	}
	b = appendField(append(b, '{'), "SchemaVersion", f.SchemaVersion)
	b = appendField(append(b, ','), "Id", f.ID)
	b = appendField(append(b, ','), "ProductArn", f.ProductARN)
	b = appendField(append(b, ','), "GeneratorId", f.GeneratorID)
	b = appendField(append(b, ','), "AwsAccountId", f.AWSAccountID)
	b = appendOptional(b, "CompanyName", f.CompanyName)
	b = appendOptional(b, "ProductName", f.ProductName)
	b = appendTime(b, "CreatedAt", f.CreatedAt)
	b = appendTime(b, "UpdatedAt", f.UpdatedAt)
	if !f.FirstObservedAt.IsZero() {
		b = appendTime(b, "FirstObservedAt", f.FirstObservedAt)
	}
	if !f.LastObservedAt.IsZero() {
		b = appendTime(b, "LastObservedAt", f.LastObservedAt)
	}
	b = appendField(append(b, ','), "Title", f.Title)
	b = appendField(append(b, ','), "Description", f.Description)
	b = appendOptional(b, "SourceUrl", f.SourceURL)
	if f.Remediation != nil {
		b = append(b, `,"Remediation":{"Recommendation":{`...)
		start := len(b)
		b = appendOptional(b, "Text", f.Remediation.Recommendation.Text)
		b = appendOptional(b, "Url", f.Remediation.Recommendation.URL)
		b = append(withoutComma(b, start), `}}`...)
	}
	if len(f.ProductFields) > 0 {
		b = appendPairs(append(b, `,"ProductFields":`...), f.ProductFields)
	}
	b = append(b, `,"Resources":`...)
	if f.Resources == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, '[')
		start := len(b)
		for _, r := range f.Resources {
			b = r.appendJSON(append(b, ','))
		}
		b = append(withoutComma(b, start), ']')
	}
	b = appendField(append(b, ','), "RecordState", string(f.RecordState))
	b = f.FindingProviderFields.AppendJSON(append(b, `,"FindingProviderFields":`...))
	return append(b, '}')
}

// AppendJSON appends the JSON form of p, the same that [json.Marshal] returns.
func (p FindingProviderFields) AppendJSON(b []byte) []byte {
	b = appendField(append(b, `{"Severity":{`...), "Label", p.Severity.Label)
	b = appendOptional(b, "Original", p.Severity.Original)
	b = AppendStrings(append(b, `},"Types":`...), p.Types)
	if len(p.RelatedFindings) > 0 {
		b = append(b, `,"RelatedFindings":[`...)
		start := len(b)
		for _, r := range p.RelatedFindings {
			b = appendField(append(b, ',', '{'), "ProductArn", r.ProductARN)
			b = append(appendField(append(b, ','), "Id", r.ID), '}')
		}
		b = append(withoutComma(b, start), ']')
	}
	return append(b, '}')
}

func (r Resource) appendJSON(b []byte) []byte {
	b = appendField(append(b, '{'), "Type", r.Type)
	b = appendField(append(b, ','), "Id", r.ID)
	b = appendOptional(b, "Partition", r.Partition)
	b = appendOptional(b, "Region", r.Region)
	if r.Details != nil {
		b = append(b, `,"Details":{`...)
		if len(r.Details.Other) > 0 {
			b = appendPairs(append(b, `"Other":`...), r.Details.Other)
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// withoutComma removes the comma that begins a list at start.
func withoutComma(b []byte, start int) []byte {
	if len(b) > start {
		return slices.Delete(b, start, start+1)
	}
	return b
}

func appendField(b []byte, name, value string) []byte {
	b = append(append(append(b, '"'), name...), '"', ':')
	return AppendString(b, value)
}

func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendField(append(b, ','), name, value)
}

func appendTime(b []byte, name string, t Timestamp) []byte {
	b = append(append(append(b, ',', '"'), name...), `":"`...)
	return append(t.UTC().AppendFormat(b, timestampForm), '"')
}

func appendPairs(b []byte, pairs map[string]string) []byte {
	var few [maxOtherDetails]string
	b = append(b, '{')
	for i, key := range sortedInto(few[:0], pairs) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(AppendString(b, key), ':')
		b = AppendString(b, pairs[key])
	}
	return append(b, '}')
}

// sortedInto appends the sorted keys of pairs to keys.
func sortedInto(keys []string, pairs map[string]string) []string {
	keys = slices.AppendSeq(keys, maps.Keys(pairs))
	slices.Sort(keys)
	return keys
}

// AppendStrings appends the JSON form of list, the same that [json.Marshal] returns.
func AppendStrings(b []byte, list []string) []byte {
	if list == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	start := len(b)
	for _, s := range list {
		b = AppendString(append(b, ','), s)
	}
	return append(withoutComma(b, start), ']')
}

// AppendString appends the JSON form of s, the same that [json.Marshal] returns.
func AppendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // cannot fail for a string
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
