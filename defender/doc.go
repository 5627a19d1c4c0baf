// Package defender is the vocabulary of AWS IoT Device Defender and of the
// findings that defenderhub makes of it: checks, schedules, metrics, behaviors,
// sources, the events that a device may report, the limits of the AWS Security
// Finding Format (ASFF) and the identity of a finding.
//
// Each vocabulary is one table or one type, and both sides derive from it: the
// constructs that deploy and the Lambda functions that run. It is plain Go and
// imports neither the CDK nor an AWS SDK.
//
// Constructors such as [Weekly] or [CountMetric.LessThan] never fail, so that
// they nest in literals. They keep what they were given; Validate reports it, as
// [FieldError] values, all at once.
package defender
