// Package securityhubtest is a local AWS Security Hub CSPM (API 2018-10-26). It is an
// http.Handler for AWS SDKs and the aws CLI. It is also a Go value whose state tests can read,
// change and make fail.
//
// It keeps one hub per account and Region, in memory. The Region is the one in the request's
// signature; signatures are not verified. It enforces what AWS documents: the limits of the AWS
// Security Finding Format (ASFF) and of the calls, who may import for which product, what an
// import may change, what an analyst's change protects, and the deletion of findings after 90
// days.
//
// Where AWS documents nothing, it is strict, so that code that works here probably works with
// AWS:
//
//   - the three product fields that Security Hub adds count toward the 50;
//   - a member that is not in the ASFF is refused, not dropped;
//   - two findings with one Id in a call are refused, because answers name only the Id;
//   - an import still updates a finding that an analyst has suppressed;
//   - an import without RecordState keeps the state, one without a field of
//     FindingProviderFields keeps that field.
//
// CreatedAt may differ from UpdatedAt on a new finding: AWS asks importers to send equal values,
// but nothing shows that the service requires it.
//
// An unsupported operation returns NotImplementedException with status 501.
package securityhubtest
