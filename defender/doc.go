// Package defender is the vocabulary of AWS IoT Device Defender and of defenderhub's findings:
// checks, schedules, metrics, behaviors, sources and severities.
//
// Both the constructs that deploy and the Lambda functions that run use it. It is plain Go and
// imports neither the CDK nor an AWS SDK.
//
// Constructors such as [Weekly] or [RateMetric.LessThan] never fail, so that they can be nested
// in literals. Validate reports all invalid values at once, as [FieldError] values.
package defender
