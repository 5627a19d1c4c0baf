package iotapi

// CheckInfo is the row of the check table.
type CheckInfo struct {
	// APIName is the name in the AWS IoT API, in notifications and in findings.
	APIName string
	// Property is the property of AWS::IoT::AccountAuditConfiguration's
	// AuditCheckConfigurations.
	Property string
	// OldName is what some AWS tables still call the check. Read, never sent.
	OldName string
	// UnusualBehavior tells that Device Defender files the check's findings under
	// "Unusual Behaviors"; the others stand under vulnerabilities.
	UnusualBehavior bool
	// OptIn keeps the check out of the default schedule. It can be added by name.
	OptIn bool
	// Threshold is the check's only parameter, nil for most checks.
	Threshold *Threshold
	// Remediation tells an operator what to do about a finding, at most 512 characters.
	Remediation string
}

// Threshold is the parameter of a check, in whole days.
type Threshold struct {
	// APIKey is its key in the AWS IoT API, Property its name in CloudFormation.
	// Both take the number as a string.
	APIKey, Property  string
	Min, Max, Default int
}
