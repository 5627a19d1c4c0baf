package localaws

import (
	"net/http"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// Detect is what the account has of Device Defender Detect besides stacks: security profiles
// that evaluate no metric. Its zero value is an account that may use Detect.
type Detect struct {
	// Closed refuses new profiles, as AWS does for new customers since 2026-08-31. Its error is
	// not documented (unverified).
	Closed bool

	mu       sync.Mutex
	profiles []string
}

// serveDetect answers the lists of what stacks deploy for Detect, and single profiles.
func (c *Cloud) serveDetect(h *iotcore.Handler) {
	const paged = "?maxResults ?nextToken"
	names := func(kind string) []string {
		var all []string
		for _, d := range c.Resources.Deployed(kind) {
			all = append(all, d.PhysicalID)
		}
		slices.Sort(all)
		return all
	}
	self := func(name string) string { return name }
	iotcore.Handle(h, "ListCustomMetrics", paged, func(in *iot.ListCustomMetricsInput) (out *iot.ListCustomMetricsOutput, err error) {
		out = &iot.ListCustomMetricsOutput{}
		out.MetricNames, out.NextToken, err = iotcore.Page(names("AWS::IoT::CustomMetric"), self, in.NextToken, in.MaxResults, 25)
		return out, err
	})
	iotcore.Handle(h, "ListDimensions", paged, func(in *iot.ListDimensionsInput) (out *iot.ListDimensionsOutput, err error) {
		out = &iot.ListDimensionsOutput{}
		out.DimensionNames, out.NextToken, err = iotcore.Page(names("AWS::IoT::Dimension"), self, in.NextToken, in.MaxResults, 25)
		return out, err
	})
	d := &c.Detect
	iotcore.Handle(h, "ListSecurityProfiles", paged, func(in *iot.ListSecurityProfilesInput) (*iot.ListSecurityProfilesOutput, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		page, next, err := iotcore.Page(slices.Sorted(slices.Values(append(names("AWS::IoT::SecurityProfile"), d.profiles...))), self, in.NextToken, in.MaxResults, 25)
		out := &iot.ListSecurityProfilesOutput{NextToken: next}
		for _, name := range page {
			out.SecurityProfileIdentifiers = append(out.SecurityProfileIdentifiers, types.SecurityProfileIdentifier{Name: &name, Arn: aws.String(c.IoT.ARN("securityprofile/" + name))})
		}
		return out, err
	})
	iotcore.Handle(h, "CreateSecurityProfile", "securityProfileName tags", func(in *iot.CreateSecurityProfileInput) (*iot.CreateSecurityProfileOutput, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.Closed {
			return nil, &iotcore.Error{Code: "InvalidRequestException", Status: http.StatusBadRequest, Message: "Device Defender Detect is not available to new customers"}
		}
		d.profiles = append(d.profiles, *in.SecurityProfileName)
		return &iot.CreateSecurityProfileOutput{SecurityProfileName: in.SecurityProfileName, SecurityProfileArn: aws.String(c.IoT.ARN("securityprofile/" + *in.SecurityProfileName))}, nil
	})
	iotcore.Do(h, "DeleteSecurityProfile", "securityProfileName", func(in *iot.DeleteSecurityProfileInput) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.profiles = slices.DeleteFunc(d.profiles, func(name string) bool { return name == *in.SecurityProfileName })
		return nil // also of a profile that does not exist
	})
}
