// Package importer imports findings into AWS Security Hub. It keeps batches within the service's
// limits, retries after throttling and service failures, and returns a result for each finding.
package importer

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/retry"
)

// API is the part of the Security Hub client that the importer calls. The client must not retry
// by itself: the importer knows the deadline and retries only failed findings.
type API interface {
	BatchImportFindings(context.Context, *securityhub.BatchImportFindingsInput, ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error)
}

// Verdict is what became of a finding.
type Verdict int

const (
	// Failed: not imported, or not known; worth another try later.
	Failed Verdict = iota
	// Imported: Security Hub has it, or something newer.
	Imported
	// Doubtful: Security Hub failed it several times in a row, for a reason that does not say
	// whether it will ever take it.
	Doubtful
	// Refused: Security Hub will never take it.
	Refused
	// HubOff: Security Hub is not enabled in this account and Region.
	HubOff
)

// Result is a Verdict, and Security Hub's reason where it is not Imported.
type Result struct {
	Verdict Verdict
	Reason  string
}

// Importer imports findings. It is safe for concurrent use.
type Importer struct {
	api     API
	backoff retry.Backoff
}

// New returns an Importer. random returns a number in [0, n); nil means math/rand/v2.
func New(api API, random func(n int64) int64) *Importer {
	return &Importer{api: api, backoff: retry.Backoff{First: 200 * time.Millisecond, Longest: 10 * time.Second, Random: random}}
}

// Import imports findings with different IDs, until each has a result or the deadline of ctx is
// near. It retries failed findings after all others, so that they block none. The result has an
// entry for each ID.
func (i *Importer) Import(ctx context.Context, findings []asff.Finding) map[string]Result {
	run := &run{Importer: i, results: make(map[string]Result, len(findings)), doubts: map[string]int{}}
	for left := findings; len(left) > 0; {
		var again []asff.Finding
		for _, batch := range batches(left) {
			again = append(again, run.batch(ctx, batch)...)
		}
		left = again
	}
	return run.results
}

// run is one call of Import.
type run struct {
	*Importer
	results map[string]Result
	// failures counts consecutive calls that imported nothing.
	failures int
	// doubts counts for each finding the failures that make it Doubtful.
	doubts map[string]int
	// over is why nothing more is sent: Security Hub is off, or time is up.
	over *Result
}

// batch sends a batch once. It returns the findings to send again, after waiting as long as the
// failures require.
func (r *run) batch(ctx context.Context, batch []asff.Finding) (again []asff.Finding) {
	if r.over != nil {
		r.settle(batch, *r.over)
		return nil
	}
	reason := ""
	out, err := r.api.BatchImportFindings(ctx, input(batch))
	switch judge(err) {
	case good:
		again, reason = r.answer(batch, out)
	case hubOff:
		r.over = &Result{HubOff, err.Error()}
		r.settle(batch, *r.over)
	case invalid:
		if len(batch) == 1 {
			r.settle(batch, Result{Refused, err.Error()})
			return nil
		}
		// One finding makes the call fail, and nothing was imported. Find it.
		again = r.batch(ctx, batch[:len(batch)/2])
		return append(again, r.batch(ctx, batch[len(batch)/2:])...)
	case hopeless:
		r.settle(batch, Result{Failed, err.Error() + deniedHint(err, batch)})
	case passing:
		again, reason = batch, err.Error()
	}
	if len(again) < len(batch) {
		r.failures = 0 // progress: restart with short waits
	}
	if len(again) == 0 || r.over != nil {
		return again
	}
	if r.failures++; !r.backoff.Wait(ctx, r.failures) {
		r.over = &Result{Failed, "no time left in this invocation; the last answer was: " + reason}
	}
	return again
}

// deniedHint names the causes of a denied call. Security Hub accepts findings of an account's
// default product only from that account, and its error does not say which cause it is.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html
func deniedHint(err error, batch []asff.Finding) string {
	var api smithy.APIError
	if !errors.As(err, &api) || !strings.HasPrefix(api.ErrorCode(), "AccessDenied") {
		return ""
	}
	return " (if the function does not run in account " + batch[0].AWSAccountID + ", this is why: Security Hub takes findings of an account from that account alone, and the account is that of the queue; " +
		"else the role lacks securityhub:BatchImportFindings for " + batch[0].ProductARN + ", or a boundary, a service control policy or the endpoint's policy takes it away)"
}

// mostDoubts is how often a finding is sent that Security Hub fails alone.
const mostDoubts = 5

// answer sets the results that are final and returns the findings to send again.
func (r *run) answer(sent []asff.Finding, out *securityhub.BatchImportFindingsOutput) (again []asff.Finding, reason string) {
	failed := map[string]types.ImportFindingsError{}
	for _, f := range out.FailedFindings {
		if f.Id != nil {
			failed[*f.Id] = f
		}
	}
	named := 0
	for _, f := range sent {
		if _, bad := failed[f.ID]; bad {
			named++
		}
	}
	unnamed := int(aws.ToInt32(out.FailedCount)) > named
	for _, f := range sent {
		e, bad := failed[f.ID]
		if !bad && unnamed {
			// It may be one of those that failed.
			e, bad = types.ImportFindingsError{ErrorMessage: aws.String("some of the findings failed, it is not said which")}, true
		}
		if !bad {
			r.results[f.ID] = Result{Verdict: Imported}
			continue
		}
		code, text := aws.ToString(e.ErrorCode), aws.ToString(e.ErrorCode)+": "+aws.ToString(e.ErrorMessage)
		switch code {
		case "InvalidInput", "FindingSizeExceeded":
			r.results[f.ID] = Result{Refused, text}
		case "InvalidAccess":
			r.results[f.ID] = Result{HubOff, text}
			r.over = &Result{HubOff, text}
		default:
			again, reason = append(again, f), text
			if slices.Contains(throttles, code) {
				continue
			}
			if r.doubts[f.ID]++; r.doubts[f.ID] == mostDoubts {
				r.results[f.ID] = Result{Doubtful, text}
				again = again[:len(again)-1]
			}
		}
	}
	return again, reason
}

func (r *run) settle(findings []asff.Finding, result Result) {
	for _, f := range findings {
		r.results[f.ID] = result
	}
}

func input(findings []asff.Finding) *securityhub.BatchImportFindingsInput {
	in := &securityhub.BatchImportFindingsInput{Findings: make([]types.AwsSecurityFinding, len(findings))}
	for i, f := range findings {
		in.Findings[i] = toSDK(f)
	}
	return in
}

// callOverhead is a generous limit for the part of a call that is not findings.
const callOverhead = 4 << 10

// batches splits findings into calls within the limits of number and size.
func batches(findings []asff.Finding) [][]asff.Finding {
	var all [][]asff.Finding
	size := 0
	for _, f := range findings {
		n := bytesOf(f) + 1
		last := len(all) - 1
		if last < 0 || len(all[last]) == asff.MaxFindingsPerImport || size+n > asff.MaxImportBytes {
			all = append(all, nil)
			last++
			size = callOverhead
		}
		all[last] = append(all[last], f)
		size += n
	}
	return all
}

// bytesOf returns the size of a finding as JSON. encoding/json escapes at least what the SDK
// escapes.
func bytesOf(f asff.Finding) int {
	text, err := json.Marshal(f)
	if err != nil {
		return asff.MaxFindingBytes
	}
	return len(text)
}

// kind says what an error of a call means for its findings.
type kind int

const (
	good kind = iota
	// passing: throttling, a service failure, no response.
	passing
	// hopeless: denied, wrong credentials; not in this invocation.
	hopeless
	// hubOff: Security Hub is not enabled.
	hubOff
	// invalid: something in the call is not acceptable.
	invalid
)

func judge(err error) kind {
	if err == nil {
		return good
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return passing // no response from the service
	}
	switch api.ErrorCode() {
	case "InvalidAccessException":
		return hubOff
	case "InvalidInputException", "ValidationException", "SerializationException", "RequestEntityTooLargeException":
		return invalid
	}
	status := statusOf(err)
	switch {
	case status == http.StatusRequestEntityTooLarge:
		return invalid
	case slices.Contains(throttles, api.ErrorCode()), status == http.StatusTooManyRequests, status == http.StatusRequestTimeout,
		status >= 500, status == 0:
		return passing
	}
	return hopeless
}

// throttles are the codes that AWS services use, some of them with status 400.
var throttles = []string{
	"LimitExceededException", "ThrottlingException", "Throttling", "ThrottledException",
	"TooManyRequestsException", "RequestThrottled", "RequestThrottledException", "RequestLimitExceeded", "SlowDown",
	"ServiceUnavailable", "RequestTimeout", "RequestTimeoutException",
}

func statusOf(err error) int {
	var response interface{ HTTPStatusCode() int }
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
