// Package defenderhub brings AWS IoT Device Defender, and the security events of AWS
// IoT Core, into AWS Security Hub.
//
// [DefenderHub] deploys everything with safe defaults. The parts under it are usable
// alone: [ProductSubscriptions] accept what Device Defender's own integration sends,
// [Audit] configures Device Defender's audits, [Detect] watches the behavior of devices,
// with Device Defender or without it, [Rules] select security events of AWS IoT Core, and
// [Forwarder] turns those into findings.
//
// Props are plain Go values; nil and zero stand for the defaults. A constructor panics
// with one error that lists every fault of its props, as [defender.FieldErrors] finds
// them, before it creates a resource.
package defenderhub
