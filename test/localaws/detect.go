package localaws

import (
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// Detect has the security profiles that the API created, which evaluate no metric. Its zero value
// is an account that may use Detect.
type Detect struct {
	// Closed refuses new profiles, as AWS does for new customers since 2026-08-31. AWS does not
	// document the error (unverified).
	Closed bool

	mu       sync.Mutex
	profiles []string
}

// serveDetect serves the lists of Detect's resources, which stacks deploy, and creates and deletes
// security profiles.
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
	iotcore.Handle(h, "ListCustomMetrics", paged, func(in *iot.ListCustomMetricsInput) (*iot.ListCustomMetricsOutput, error) {
		all, next, err := iotcore.Page(names("AWS::IoT::CustomMetric"), in.NextToken, in.MaxResults, 25)
		return &iot.ListCustomMetricsOutput{MetricNames: all, NextToken: next}, err
	})
	iotcore.Handle(h, "ListDimensions", paged, func(in *iot.ListDimensionsInput) (*iot.ListDimensionsOutput, error) {
		all, next, err := iotcore.Page(names("AWS::IoT::Dimension"), in.NextToken, in.MaxResults, 25)
		return &iot.ListDimensionsOutput{DimensionNames: all, NextToken: next}, err
	})
	d := &c.Detect
	iotcore.Handle(h, "ListSecurityProfiles", paged, func(in *iot.ListSecurityProfilesInput) (*iot.ListSecurityProfilesOutput, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		all, next, err := iotcore.Page(slices.Sorted(slices.Values(append(names("AWS::IoT::SecurityProfile"), d.profiles...))), in.NextToken, in.MaxResults, 25)
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
		return nil // also for a profile that does not exist
	})
}
