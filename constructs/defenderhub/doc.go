// Package defenderhub sends the findings of AWS IoT Device Defender, and the security events of
// AWS IoT Core, to AWS Security Hub.
//
// [DefenderHub] deploys everything with safe defaults. Its parts can be used alone:
// [ProductSubscriptions] enable Device Defender's own integration, [Audit] configures Device
// Defender's audits, [Detect] judges the behavior of devices, with or without Device Defender,
// [Rules] select security events of AWS IoT Core, and [Forwarder] imports audit results, alarms and
// these events as findings.
// [Correlate] finds incidents, [Notify] reports findings to people, [Dashboard] shows all parts,
// and [Verification] copies the verification states of findings to Device Defender Detect.
//
// Props are plain Go values; nil and zero mean the defaults. A constructor panics before it
// creates a resource, with one error that lists every fault of its props. [defender.FieldErrors]
// returns them one by one.
package defenderhub
