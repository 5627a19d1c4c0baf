package console_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/lambda/internal/console"
)

func TestLinks(t *testing.T) {
	for got, want := range map[string]string{
		console.Thing("aws", "eu-central-1", "pump-7#2"):      "https://eu-central-1.console.aws.amazon.com/iot/home?region=eu-central-1#/thing/pump-7%232?tab=violations",
		console.IoT("aws-cn", "cn-north-1", ""):               "https://console.amazonaws.cn/iot/home?region=cn-north-1",
		console.Finding("aws-us-gov", "us-gov-west-1", "a/b"): "https://console.amazonaws-us-gov.com/securityhub/home?region=us-gov-west-1#/findings?search=Id%3D%255Coperator%255C%253AEQUALS%255C%253Aa%252Fb",
		console.Finding("aws", "eu-central-1", "defenderhub"): "https://eu-central-1.console.aws.amazon.com/securityhub/home?region=eu-central-1#/findings?search=Id%3D%255Coperator%255C%253AEQUALS%255C%253Adefenderhub",
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// A device chooses parts of a finding's ID.
func TestIDCannotLeaveItsFilter(t *testing.T) {
	const id = "a&b=c d+e%2Ff#g<h>|\"i\"\n`j`"
	link := console.Finding("aws", "eu-central-1", id)
	if strings.ContainsAny(link, " <>|\"`\n") {
		t.Errorf("link %q has characters that are not escaped", link)
	}
	_, search, _ := strings.Cut(link, "search=")
	outer, err := url.PathUnescape(search)
	inner, err2 := url.PathUnescape(strings.TrimPrefix(outer, "Id="))
	if want := `\operator\:EQUALS\:` + id; err != nil || err2 != nil || inner != want {
		t.Errorf("got %q, errors %v and %v; want %q", inner, err, err2, want)
	}
}
