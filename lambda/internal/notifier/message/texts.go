package message

import (
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/safetext"
)

var (
	regionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z0-9]+){1,4}$`)
	accountID  = regexp.MustCompile(`^[0-9]{12}$`)
	number     = regexp.MustCompile(`^[0-9]{1,6}$`)
	arnStart   = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):`)
)

// why says why a finding matters, by its source.
func (n Notice) why() string {
	if n.Incident {
		return "Several findings together show more than each of them alone. Treat them as one incident."
	}
	source, ok := n.Event.DeviceSource()
	if !ok {
		return ""
	}
	switch source {
	case defender.RejectedReports:
		return "Device Defender does not judge a device whose reports it refuses."
	case defender.SecurityDisconnects, defender.RefusedConnections:
		return "Wrong, expired or copied credentials look like this, and so does an attacker who tries some."
	case defender.DeviceEvents:
		return "The device itself reports a security event."
	case defender.AuditNotifications:
		return "A weak configuration lets one compromised device do more than it should."
	case defender.DetectNotifications, defender.BehaviorTransitions:
		return "A device that leaves its normal behavior may be compromised, misconfigured or failing."
	}
	return ""
}

func severity(s defender.Severity) string {
	if s == defender.SeverityDefault {
		return "UNKNOWN"
	}
	return s.String()
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// partitionOf returns the partition of a product's ARN.
func partitionOf(arn string) string {
	if m := arnStart.FindStringSubmatch(arn); m != nil {
		return m[1]
	}
	return "aws"
}

// awsPage returns a link if it leads to a page of AWS, else "": any product could set another one.
func awsPage(link string) string {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" || len(link) > 500 || safetext.Escape(link) != link || strings.ContainsAny(link, "<>|`\"' ()[]*\\") {
		return ""
	}
	for _, host := range []string{"docs.aws.amazon.com", "docs.amazonaws.cn", "aws.amazon.com", "repost.aws"} {
		if u.Host == host {
			return link
		}
	}
	return ""
}

// account and region return text of a finding only if it looks like an account or a Region.
func account(s string) string { return matching(accountID, s) }
func region(s string) string  { return matching(regionName, s) }

func matching(pattern *regexp.Regexp, s string) string {
	if pattern.MatchString(s) {
		return s
	}
	return "unknown"
}
