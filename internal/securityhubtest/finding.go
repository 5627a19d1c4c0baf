package securityhubtest

import (
	"encoding/json"
	"fmt"
	"time"
)

// Finding is a stored finding. JSON is the whole finding; the fields are those that most tests
// need.
type Finding struct {
	JSON json.RawMessage `json:"-"`

	ID            string `json:"Id"`
	ProductARN    string `json:"ProductArn"`
	AWSAccountID  string `json:"AwsAccountId"`
	GeneratorID   string `json:"GeneratorId"`
	Region        string
	ProductName   string
	CompanyName   string
	Title         string
	Description   string
	SourceURL     string `json:"SourceUrl"`
	RecordState   string
	CreatedAt     time.Time
	UpdatedAt     time.Time
	ProcessedAt   time.Time
	Severity      Severity
	Types         []string
	Workflow      struct{ Status string }
	Note          *Note
	ProductFields map[string]string
	Resources     []Resource

	UserDefinedFields     map[string]string
	VerificationState     string
	FindingProviderFields struct {
		Severity Severity
		Types    []string
	}
	Remediation struct {
		Recommendation struct {
			Text string
			URL  string `json:"Url"`
		}
	}
}

// Severity of a finding. Normalized, 0 to 100, is not in FindingProviderFields.
type Severity struct {
	Label      string
	Normalized int
	Original   string
}

// Note is an analyst's note.
type Note struct {
	Text, UpdatedBy string
	UpdatedAt       time.Time
}

// Resource is a resource that the finding is about.
type Resource struct {
	Type      string
	ID        string `json:"Id"`
	Partition string
	Region    string
	Details   struct{ Other map[string]string }
}

func (r *record) finding() Finding {
	text := encode(r.content)
	var f Finding
	if err := json.Unmarshal(text, &f); err != nil {
		panic(fmt.Sprintf("securityhubtest: stored finding %s does not fit its own format: %v", r.key.id, err))
	}
	f.JSON = text
	return f
}

// Finding returns a finding, even if the hub is disabled.
func (h *Hub) Finding(productARN, id string) (f Finding, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire()
	r, ok := h.findings[findingKey{productARN, id}]
	if !ok {
		return Finding{}, false
	}
	return r.finding(), true
}

// Findings returns all findings in the order of their creation, even if the hub is disabled.
func (h *Hub) Findings() []Finding {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire()
	findings := make([]Finding, len(h.order))
	for i, r := range h.order {
		findings[i] = r.finding()
	}
	return findings
}
