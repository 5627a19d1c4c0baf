// Package importer imports findings into AWS Security Hub. It keeps batches within the service's
// limits, retries after throttling and service failures, and returns a result for each finding.
package importer

import (
	"context"
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
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/retry"
)

// API is the part of the Security Hub client that the importer calls. The client must not retry
// by itself: the importer knows the deadline and retries only failed findings.
type API interface {
	BatchImportFindings(context.Context, *securityhub.BatchImportFindingsInput, ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error)
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
func (i *Importer) Import(ctx context.Context, findings []asff.Finding) map[string]outcome.Outcome {
	return i.ImportOrLeave(ctx, findings, nil)
}

// ImportOrLeave is [Importer.Import], but the first time that Security Hub throttles a call it
// calls proceed, which reports whether to continue. If not, the findings that are not imported are
// [outcome.Left].
func (i *Importer) ImportOrLeave(ctx context.Context, findings []asff.Finding, proceed func(context.Context) bool) map[string]outcome.Outcome {
	run := &run{Importer: i, proceed: proceed, results: make(map[string]outcome.Outcome, len(findings)), doubts: map[string]int{}}
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
	results map[string]outcome.Outcome
	// failures counts consecutive calls that imported nothing.
	failures int
	// doubts counts for each finding the failures that make it Failing.
	doubts map[string]int
	// proceed is called once, at the first throttled call; nil means to continue.
	proceed func(context.Context) bool
	// over is why nothing more is sent: Security Hub is off, or time is up.
	over *outcome.Outcome
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
	switch verdict, repeat := judge(err); {
	case verdict == outcome.Done:
		again, reason = r.answer(batch, out)
	case verdict == outcome.HubOff:
		r.over = &outcome.Outcome{Verdict: outcome.HubOff, Reason: err.Error()}
		r.settle(batch, *r.over)
	case verdict == outcome.Refused:
		if len(batch) == 1 {
			r.settle(batch, outcome.Outcome{Verdict: outcome.Refused, Reason: err.Error()})
			return nil
		}
		// One finding makes the call fail, and nothing was imported. Find it.
		again = r.batch(ctx, batch[:len(batch)/2])
		return append(again, r.batch(ctx, batch[len(batch)/2:])...)
	case repeat && throttled(err) && r.proceed != nil && !r.proceed(ctx):
		r.over = &outcome.Outcome{Verdict: outcome.Left}
		r.settle(batch, *r.over)
	case repeat:
		if again, reason = batch, err.Error(); throttled(err) {
			r.proceed = nil // it was asked
		}
	default:
		r.settle(batch, outcome.Outcome{Verdict: outcome.Retry, Reason: err.Error() + deniedHint(err, batch)})
	}
	if len(again) < len(batch) {
		r.failures = 0 // progress: restart with short waits
	}
	if len(again) == 0 || r.over != nil {
		return again
	}
	if r.failures++; !r.backoff.Wait(ctx, r.failures) {
		r.over = &outcome.Outcome{Verdict: outcome.Retry, Reason: "no time left in this invocation; the last answer was: " + reason}
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
	return " (if the function does not run in account " + batch[0].AWSAccountID + ", this is why: Security Hub accepts an account's findings only from that account, and the findings have the queue's account; " +
		"else the role lacks securityhub:BatchImportFindings for " + batch[0].ProductARN + ", or a permissions boundary, a service control policy or the endpoint's policy denies it)"
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
			e, bad = types.ImportFindingsError{ErrorMessage: aws.String("some findings failed, but the answer does not name them")}, true
		}
		if !bad {
			r.results[f.ID] = outcome.Outcome{}
			continue
		}
		code, text := aws.ToString(e.ErrorCode), aws.ToString(e.ErrorCode)+": "+aws.ToString(e.ErrorMessage)
		switch code {
		case "InvalidInput", "FindingSizeExceeded":
			r.results[f.ID] = outcome.Outcome{Verdict: outcome.Refused, Reason: text}
		case "InvalidAccess":
			r.over = &outcome.Outcome{Verdict: outcome.HubOff, Reason: text}
			r.results[f.ID] = *r.over
		default:
			again, reason = append(again, f), text
			if slices.Contains(throttles, code) {
				continue
			}
			if r.doubts[f.ID]++; r.doubts[f.ID] == mostDoubts {
				r.results[f.ID] = outcome.Outcome{Verdict: outcome.Failing, Reason: text}
				again = again[:len(again)-1]
			}
		}
	}
	return again, reason
}

func (r *run) settle(findings []asff.Finding, result outcome.Outcome) {
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

// bytesOf returns a size that the finding's JSON does not exceed: the exact one if the size may
// matter.
func bytesOf(f asff.Finding) int {
	if bound := f.BytesBound(); bound < (asff.MaxImportBytes-callOverhead)/asff.MaxFindingsPerImport {
		return bound
	}
	return len(f.AppendJSON(nil))
}

// judge returns what an error of a call means for its findings. again reports whether the call may
// succeed in this invocation: after throttling, a failure of the service, or no answer. A denied
// call is not made again.
func judge(err error) (v outcome.Verdict, again bool) {
	if err == nil {
		return outcome.Done, false
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return outcome.Retry, true // no response from the service
	}
	switch api.ErrorCode() {
	case "InvalidAccessException":
		return outcome.HubOff, false
	case "InvalidInputException", "ValidationException", "SerializationException", "RequestEntityTooLargeException":
		return outcome.Refused, false
	}
	status := statusOf(err)
	switch {
	case status == http.StatusRequestEntityTooLarge:
		return outcome.Refused, false
	case slices.Contains(throttles, api.ErrorCode()), status == http.StatusTooManyRequests, status == http.StatusRequestTimeout,
		status >= 500, status == 0:
		return outcome.Retry, true
	}
	return outcome.Retry, false
}

// throttled reports whether an error of a call means that the quota is used up.
func throttled(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && (statusOf(err) == http.StatusTooManyRequests || slices.Contains(quotaCodes, api.ErrorCode()))
}

// quotaCodes are the codes of throttled calls.
var quotaCodes = []string{"LimitExceededException", "ThrottlingException", "Throttling", "ThrottledException", "TooManyRequestsException", "RequestThrottled", "RequestThrottledException", "RequestLimitExceeded"}

// throttles are the codes of throttled calls and of temporary failures, some of them with status
// 400.
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
