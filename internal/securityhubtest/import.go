package securityhubtest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

type findingKey struct{ productARN, id string }

// record is a finding and its bookkeeping.
type record struct {
	key     findingKey
	content object
	changed time.Time       // when the last import or update happened, by the hub's clock
	edited  map[string]bool // top-level fields that a customer has set
}

// FindingError says why a single finding was not imported or updated.
type FindingError struct {
	ID      string `json:"Id"`
	Code    string `json:"ErrorCode"`
	Message string `json:"ErrorMessage"`
}

// ImportResult is the result of an import.
type ImportResult struct {
	// Succeeded includes the findings that were ignored because they are not newer than the
	// stored ones.
	Succeeded int
	Failed    []FindingError
}

// submission is a finding before it is imported.
type submission struct {
	id      string
	bytes   int
	content object
}

// decodeImportBody decodes the input of BatchImportFindings. Member names are case-sensitive,
// unlike in encoding/json.
func decodeImportBody(body []byte) ([]submission, error) {
	var input map[string]json.RawMessage
	if err := json.Unmarshal(body, &input); err != nil {
		return nil, invalidInput("the body is not a JSON object: %v", err)
	}
	for name := range input {
		if name != "Findings" {
			return nil, invalidInput("BatchImportFindings has no member %q", name)
		}
	}
	var findings []json.RawMessage
	if listed, ok := input["Findings"]; ok {
		if err := json.Unmarshal(listed, &findings); err != nil {
			return nil, invalidInput("Invalid parameter 'Findings'. data.Findings should be array: %v", err)
		}
	}
	return decodeImport(findings)
}

// decodeImport decodes the Findings of BatchImportFindings. If the list is invalid, or a finding has no
// Id, the whole call fails.
func decodeImport(findings []json.RawMessage) ([]submission, error) {
	if err := checkCount("Findings", len(findings)); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var submissions []submission
	for i, raw := range findings {
		content, err := decodeObject(raw)
		if err != nil {
			return nil, invalidInput("Invalid parameter 'Findings'. data.Findings[%d] should be object: %v", i, err)
		}
		id, _ := content["Id"].(string)
		if strings.TrimSpace(id) == "" {
			return nil, invalidInput("Invalid parameter 'Findings'. data.Findings[%d] should have required property 'Id', a text that is not blank", i)
		}
		if seen[id] {
			return nil, invalidInput("Invalid parameter 'Findings'. data.Findings[%d].Id %q is used twice in the call: answers name findings by Id only", i, id)
		}
		seen[id] = true
		submissions = append(submissions, submission{id, len(raw), content})
	}
	return submissions, nil
}

// checkCount returns the service's errors for 0 and for more than 100 findings.
func checkCount(parameter string, n int) error {
	switch {
	case n == 0:
		return invalidInput("Invalid parameter '%s'. Size '0' is less than minimum value: 1.", parameter)
	case n > MaxFindings:
		return invalidInput("Invalid parameter '%s'. Size '%d' is greater than maximum value: %d.", parameter, n, MaxFindings)
	}
	return nil
}

// ImportNative imports findings, JSON objects, as AWS's own integrations do: for a product to
// which the account must subscribe. Without the subscription, a finding fails with InvalidAccess.
func (h *Hub) ImportNative(findings ...json.RawMessage) (ImportResult, error) {
	submissions, err := decodeImport(findings)
	if err != nil {
		return ImportResult{}, err
	}
	return h.importAll(submissions, h.admitNative)
}

// importOwn imports findings of the account for its default product; refuse may fail single ones.
func (h *Hub) importOwn(submissions []submission, refuse func(id string) *FindingError) (ImportResult, error) {
	return h.importAll(submissions, func(s submission) (product, *FindingError, error) {
		p, err := h.admitOwn(s)
		return p, refuse(s.id), err
	})
}

// importAll stores submissions. admit returns the product of a finding. Its *FindingError refuses
// that finding, its error the whole call.
func (h *Hub) importAll(submissions []submission, admit func(submission) (product, *FindingError, error)) (result ImportResult, err error) {
	var changed []Finding
	defer func() { h.service.announce(h, changed) }()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.needOn(); err != nil {
		return result, err
	}
	h.expire()
	products := make([]product, len(submissions))
	refusals := make([]*FindingError, len(submissions))
	for i, s := range submissions {
		if products[i], refusals[i], err = admit(s); err != nil {
			return result, err
		}
	}
	for i, s := range submissions {
		refusal := refusals[i]
		if refusal == nil {
			refusal = s.check()
		}
		if refusal != nil {
			result.Failed = append(result.Failed, *refusal)
			continue
		}
		result.Succeeded++
		if r := h.put(s, products[i]); r != nil && h.service.config.OnImported != nil {
			changed = append(changed, r.finding())
		}
	}
	return result, nil
}

// admitOwn requires the caller's own account and default product. The error for another account
// is as in https://github.com/prowler-cloud/prowler/issues/867.
func (h *Hub) admitOwn(s submission) (product, error) {
	account, _ := s.content["AwsAccountId"].(string)
	arn, _ := s.content["ProductArn"].(string)
	switch {
	case !isProductARN(arn):
		return product{}, invalidInput("Invalid parameter 'Findings'. productArn: %q", arn)
	case arn != h.DefaultProductARN(), account != h.account:
		return product{}, accessDenied("Account %s is not authorized to perform: securityhub:BatchImportFindings for account %q on resource: %s",
			h.account, account, arn)
	}
	return h.defaultProduct(), nil
}

func (h *Hub) admitNative(s submission) (product, *FindingError, error) {
	account, _ := s.content["AwsAccountId"].(string)
	arn, _ := s.content["ProductArn"].(string)
	p, ok := h.nativeProduct(arn)
	if !ok || account != h.account {
		return product{}, nil, accessDenied("%q of account %q is not a native product of account %s in %s", arn, account, h.account, h.region)
	}
	for _, subscription := range h.subscriptions {
		if subscription == h.subscriptionARN(p) {
			return p, nil, nil
		}
	}
	return p, &FindingError{s.id, "InvalidAccess", "Product " + arn + " is not enabled for import"}, nil
}

// check validates a finding against the limits of the ASFF.
func (s submission) check() *FindingError {
	if s.bytes > MaxFindingBytes {
		return &FindingError{s.id, "FindingSizeExceeded", "Finding exceeds the maximum size of 240 KB"}
	}
	faults := faultsOf(asff, s.content)
	severityAndTypes(s.content, func(fault string) { faults = append(faults, fault) })
	if len(faults) > 0 {
		return &FindingError{s.id, "InvalidInput",
			"Finding does not adhere to Amazon Finding Format. " + strings.Join(faults, ", ") + "."}
	}
	return nil
}

// put creates or updates the finding and returns its record, or nil if the stored finding is not
// older.
func (h *Hub) put(s submission, p product) *record {
	key := findingKey{s.content["ProductArn"].(string), s.id}
	incoming := normalizeInstants(s.content)
	r := h.findings[key]
	if r == nil {
		r = &record{key: key, content: created(incoming), edited: map[string]bool{}}
		h.findings[key] = r
		h.order = append(h.order, r)
	} else {
		if !instantOf(incoming, "UpdatedAt").After(instantOf(r.content, "UpdatedAt")) {
			return nil
		}
		r.content = updated(r.content, incoming, r.edited)
	}
	r.changed = h.now()
	h.derive(r.content, key, p)
	return r
}

// expire deletes findings that were not changed for 90 days. It scans them only if the oldest may
// have expired.
func (h *Hub) expire() {
	now := h.now()
	if now.Before(h.expiresAt) {
		return
	}
	h.expiresAt = now.Add(FindingLifetime)
	kept := h.order[:0]
	for _, r := range h.order {
		due := r.changed.Add(FindingLifetime)
		if !due.After(now) {
			delete(h.findings, r.key)
			continue
		}
		kept = append(kept, r)
		if due.Before(h.expiresAt) {
			h.expiresAt = due
		}
	}
	clear(h.order[len(kept):])
	h.order = kept
}

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
