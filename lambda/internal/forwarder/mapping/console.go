package mapping

import (
	"net/url"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/console"
)

// console returns the URL of the AWS IoT console in the partition and Region.
func (p place) console(fragment string) string {
	return console.IoT(p.partition, p.region, fragment)
}

func (p place) thingURL(name string) string { return console.Thing(p.partition, p.region, name) }

func (p place) policyURL(name string) string { return p.console("#/policy/" + url.PathEscape(name)) }

func (p place) profileURL(name string) string {
	return p.console("#/dd/securityProfile/" + url.PathEscape(name) + "?tab=violations")
}

func (p place) auditURL(task, check string) string {
	return p.console("#/dd/audit/results/" + url.PathEscape(task) + "/" + url.PathEscape(check))
}

// deviceURL links to a thing, or to the console if only a client ID is known.
func (p place) deviceURL(thing string) string {
	if thing == "" {
		return p.console("")
	}
	return p.thingURL(thing)
}

// AWS pages that explain a finding's problem.
const (
	lifecycleURL   = "https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html"
	deviceURL      = "https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-device-side-metrics.html"
	detectURL      = "https://docs.aws.amazon.com/iot-device-defender/latest/devguide/device-defender-detect.html"
	auditChecksURL = "https://docs.aws.amazon.com/iot-device-defender/latest/devguide/device-defender-audit-checks.html"
	policiesURL    = "https://docs.aws.amazon.com/iot/latest/developerguide/iot-policies.html"
)

func remedy(text, link string) *asff.Remediation {
	r := &asff.Remediation{}
	r.Recommendation.Text, r.Recommendation.URL = text, link
	return r
}
