// Package securityhubtest is a local AWS Security Hub CSPM: an http.Handler that
// AWS SDKs and the aws CLI talk to (API 2018-10-26), and a Go value whose state can
// be read, changed and made to fail.
//
// It keeps one hub for each account and Region, in memory. The Region is the one
// that the caller signed for; signatures are not verified. It enforces what AWS
// documents: the limits of the AWS Security Finding Format (ASFF) and of the calls,
// who may import for which product, what an import may change, what an analyst's
// change protects, and the 90 days after which a finding is forgotten.
//
// Where AWS documents nothing, it takes the stricter reading, so that what passes
// here has a good chance there:
//
//   - the three product fields that Security Hub adds count to the 50;
//   - a member that the ASFF does not have is refused, not dropped;
//   - two findings with one Id in a call are refused, because answers name the Id only;
//   - an import still reaches a finding that an analyst has suppressed;
//   - an import without RecordState keeps the state, one without a field of
//     FindingProviderFields keeps that field.
//
// CreatedAt may differ from UpdatedAt on a new finding: AWS asks importers to send
// them equal, but nothing shows that the service insists.
//
// An operation that is not there answers NotImplementedException with status 501.
package securityhubtest
