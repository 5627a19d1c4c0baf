package contract

import "maps"

// functions are the functions that the constructs deploy, by the end of their logical ID before
// its hash, with the names that the simulation gives them.
var functions = map[string]string{
	"ForwarderFunction":          "forwarder",
	"ForwarderAuditFunction":     "auditor",
	"AuditStartFunction":         "auditresources",
	"AuditSuppressFunction":      "auditresources",
	"DetectEvaluator":            "evaluator",
	"DetectCloser":               "closer",
	"CorrelateFunction":          "correlator",
	"NotifyFunction":             "notifier",
	"DetectVerificationFunction": "verification",
}

// Functions returns the functions that the constructs may deploy: the end of the logical ID, before
// its hash, and the name in the simulation. Tests hold the templates and the simulation to it, so
// that no function is deployed that the simulation does not run.
func Functions() map[string]string { return maps.Clone(functions) }
