package awsstub

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Check and KeyCheck are the audit checks that are enabled. All findings of [Server.Findings] are of
// Check.
const (
	Check    = "DEVICE_CERTIFICATE_EXPIRING_CHECK"
	KeyCheck = "DEVICE_CERTIFICATE_KEY_QUALITY_CHECK"
)

// Reason is the reason code of all audit findings.
const Reason = "CERTIFICATE_PAST_EXPIRATION"

// Audits are the results of audit tasks, for functions that share them.
type Audits struct {
	// PageSize limits a page, 0 means as many findings as the function asks for.
	PageSize int

	mu    sync.Mutex
	tasks map[string][]AuditFinding
}

// AuditFinding is a device certificate that a check reports.
type AuditFinding struct{ Check, Certificate string }

// Certificate returns the ID of a certificate.
func Certificate(i int) string { return fmt.Sprintf("%064x", i) }

// Add adds the results of a task.
func (a *Audits) Add(task string, findings []AuditFinding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tasks == nil {
		a.tasks = map[string][]AuditFinding{}
	}
	a.tasks[task] = findings
}

func (a *Audits) results(task string) ([]AuditFinding, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	findings, ok := a.tasks[task]
	if !ok {
		return nil, refused{"audit task " + task}
	}
	return findings, nil
}

// page returns at most size findings of a task from a position on, and the next position, 0 after
// the last.
func (s *Server) page(task string, at, size int) (page []AuditFinding, next int, err error) {
	n, most, finding := s.Findings, mostPerPage, func(i int) AuditFinding { return AuditFinding{Check, Certificate(i)} }
	if s.Audits != nil {
		findings, err := s.Audits.results(task)
		if err != nil {
			return nil, 0, err
		}
		n, most, finding = len(findings), cmp.Or(s.Audits.PageSize, mostPerPage), func(i int) AuditFinding { return findings[i] }
	}
	for i := at; i < min(at+size, at+most, n); i++ {
		page = append(page, finding(i))
	}
	if next = at + len(page); next >= n {
		next = 0
	}
	return page, next, nil
}

const (
	// usualPage and mostPerPage are the default and the maximum of ListAuditFindings.
	// https://docs.aws.amazon.com/iot/latest/apireference/API_ListAuditFindings.html
	usualPage   = 25
	mostPerPage = 250
)

// listFindings returns a page: this implementation asks in the query, boto3 in the body. A token
// is valid for its task alone.
func (s *Server) listFindings(w http.ResponseWriter, r *http.Request, body []byte) {
	var in struct {
		TaskID     string `json:"taskId"`
		MaxResults int    `json:"maxResults"`
		NextToken  string `json:"nextToken"`
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &in); err != nil {
			s.answer(w, nil, refused{err.Error()})
			return
		}
	}
	asked, _ := strconv.Atoi(r.URL.Query().Get("maxResults"))
	size := cmp.Or(in.MaxResults, asked, usualPage)
	at := 0
	if token := cmp.Or(in.NextToken, r.URL.Query().Get("nextToken")); token != "" {
		task, offset, _ := strings.Cut(token, "/")
		if at, _ = strconv.Atoi(offset); task != in.TaskID || at == 0 {
			s.answer(w, nil, refused{"page token " + token + " of audit task " + in.TaskID})
			return
		}
	}
	if size > mostPerPage {
		s.answer(w, nil, refused{fmt.Sprintf("a page of %d findings", size)})
		return
	}
	findings, next, err := s.page(in.TaskID, at, size)
	if err != nil {
		s.answer(w, nil, err)
		return
	}
	list := []any{}
	for i, f := range findings {
		list = append(list, map[string]any{
			"findingId": fmt.Sprintf("f-%d", at+i), "taskId": in.TaskID, "checkName": f.Check,
			"taskStartTime": 1764000000.0, "findingTime": 1764000100.0, "severity": "MEDIUM", "isSuppressed": false,
			"nonCompliantResource": map[string]any{
				"resourceType": "DEVICE_CERTIFICATE", "resourceIdentifier": map[string]any{"deviceCertificateId": f.Certificate}, "additionalInfo": map[string]any{"EXPIRATION_TIME": "1764500000000"},
			},
			"reasonForNonCompliance": "Certificate is past its expiration.", "reasonForNonComplianceCode": Reason, "relatedResources": []any{},
		})
	}
	out := map[string]any{"findings": list}
	if next > 0 {
		out["nextToken"] = fmt.Sprintf("%s/%d", in.TaskID, next)
	}
	s.answer(w, out, nil)
}
