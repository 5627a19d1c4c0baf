// Package console returns links to the AWS consoles.
package console

import (
	"net/url"
	"strings"
)

// IoT returns a URL of the AWS IoT console. fragment is the part after the Region, such as
// "#/thing/pump-7".
func IoT(partition, region, fragment string) string {
	return home(partition, region, "iot", fragment)
}

// Thing returns the URL of a thing's page.
func Thing(partition, region, name string) string {
	// Names of things may have a colon.
	return IoT(partition, region, "#/thing/"+strings.ReplaceAll(escape(name), "%3A", ":")+"?tab=violations")
}

// Finding returns the URL of Security Hub CSPM's findings, filtered by a finding's ID. No AWS page
// documents the filter: it is the one that the console itself writes (unverified).
func Finding(partition, region, id string) string {
	return Findings(partition, region) + "?search=" + escape(`Id=`+escape(`\operator\:EQUALS\:`+id))
}

// Findings returns the URL of Security Hub CSPM's findings.
func Findings(partition, region string) string {
	return home(partition, region, "securityhub", "#/findings")
}

// escape escapes everything but letters, digits and - _ . ~
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func home(partition, region, service, fragment string) string {
	prefix, host := region, ".console.aws.amazon.com/"
	switch partition {
	case "aws-cn":
		prefix, host = "", "console.amazonaws.cn/"
	case "aws-us-gov":
		prefix, host = "", "console.amazonaws-us-gov.com/"
	}
	return "https://" + prefix + host + service + "/home?region=" + region + fragment
}
