package localaws

import (
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
	page := func(names []string, token *string, size *int32) ([]string, *string, error) {
		return iotcore.Page(names, self, token, size, 25)
	}
	iotcore.Handle(h, "ListCustomMetrics", paged, func(in *iot.ListCustomMetricsInput) (*iot.ListCustomMetricsOutput, error) {
		all, next, err := page(names("AWS::IoT::CustomMetric"), in.NextToken, in.MaxResults)
		return &iot.ListCustomMetricsOutput{MetricNames: all, NextToken: next}, err
	})
	iotcore.Handle(h, "ListDimensions", paged, func(in *iot.ListDimensionsInput) (*iot.ListDimensionsOutput, error) {
		all, next, err := page(names("AWS::IoT::Dimension"), in.NextToken, in.MaxResults)
		return &iot.ListDimensionsOutput{DimensionNames: all, NextToken: next}, err
	})
	d := &c.Detect
	iotcore.Handle(h, "ListSecurityProfiles", paged, func(in *iot.ListSecurityProfilesInput) (*iot.ListSecurityProfilesOutput, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		all, next, err := page(slices.Sorted(slices.Values(append(names("AWS::IoT::SecurityProfile"), d.profiles...))), in.NextToken, in.MaxResults)
		out := &iot.ListSecurityProfilesOutput{NextToken: next}
		for _, name := range all {
			out.SecurityProfileIdentifiers = append(out.SecurityProfileIdentifiers, types.SecurityProfileIdentifier{Name: &name, Arn: aws.String(c.IoT.ARN("securityprofile/" + name))})
		}
		return out, err
	})
	iotcore.Handle(h, "CreateSecurityProfile", "securityProfileName tags", func(in *iot.CreateSecurityProfileInput) (*iot.CreateSecurityProfileOutput, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.Closed {
			return nil, iotcore.InvalidRequest("Device Defender Detect is not available to new customers")
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
