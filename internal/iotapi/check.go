package iotapi

// CheckInfo is a row of the table of audit checks.
type CheckInfo struct {
	// APIName is the name in the AWS IoT API, in notifications and in findings.
	APIName string
	// Property is the property in AuditCheckConfigurations of
	// AWS::IoT::AccountAuditConfiguration.
	Property string
	// OldName is the check's name in some tables of the AWS documentation. It is accepted, never
	// sent.
	OldName string
	// UnusualBehavior reports whether Device Defender classifies the check's findings as "Unusual
	// Behaviors"; the others are vulnerabilities.
	UnusualBehavior bool
	// Identifier is the field of a resource identifier by which a suppression names a resource of
	// this check, "" if no AWS page names it.
	Identifier string
	// OptIn keeps the check out of the default schedule. It can be added by name.
	OptIn bool
	// Threshold is the check's only parameter, nil for most checks.
	Threshold *Threshold
	// Remediation says how to fix a finding, in at most 512 characters.
	Remediation string
}

// Threshold is the parameter of a check, in whole days.
type Threshold struct {
	// APIKey is its key in the AWS IoT API, Property its name in CloudFormation. Both take the
	// number as a string.
	APIKey, Property  string
	Min, Max, Default int
}
