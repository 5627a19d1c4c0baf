package providers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
)

const (
	securityProfile = "AWS::IoT::SecurityProfile"
	customMetric    = "AWS::IoT::CustomMetric"
	dimension       = "AWS::IoT::Dimension"

	profilesPerTarget = 5 // https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
)

func (a Account) detect() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		securityProfile: {Make: a.createSecurityProfile},
		customMetric:    {Make: a.createCustomMetric, Remove: a.removeCustomMetric},
		dimension: {
			Make: func(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
				id := named(r, "Name", 128)
				return kept(id, map[string]any{"Arn": r.ARN("iot", "dimension/"+id)}, "filters no metric"), a.unique(r, id)
			},
		},
	}
}

func (a Account) createSecurityProfile(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	id := named(r, "SecurityProfileName", 128)
	faults := []error{a.unique(r, id)}
	behaviors, _ := r.ResourceProperties["Behaviors"].([]any)
	seen := map[any]bool{}
	for i, b := range behaviors {
		behavior := b.(map[string]any) // the schema has validated it
		path := fmt.Sprintf("Behaviors/%d", i)
		if seen[behavior["Name"]] {
			faults = append(faults, fmt.Errorf("%s: the name %v is used twice", path, behavior["Name"]))
		}
		seen[behavior["Name"]] = true
		if err := a.checkBehavior(behavior); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", path, err))
		}
	}
	targets, _ := r.ResourceProperties["TargetArns"].([]any)
	for _, t := range targets {
		if n := a.profilesOf(t); n >= profilesPerTarget {
			faults = append(faults, fmt.Errorf("target %v has %d security profiles, the quota is %d", t, n, profilesPerTarget))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return cloudformation.Resource{}, fmt.Errorf("%w (Service: Iot, Status Code: 400)", err)
	}
	return kept(id, map[string]any{"SecurityProfileArn": r.ARN("iot", "securityprofile/"+id)}, "evaluates no metric"), nil
}

func (a Account) profilesOf(target any) int {
	n := 0
	for _, d := range a.Registry.Deployed(securityProfile) {
		if targets, _ := d.Properties["TargetArns"].([]any); slices.Contains(targets, target) {
			n++
		}
	}
	return n
}

// checkBehavior refuses a custom metric or a dimension that does not exist.
func (a Account) checkBehavior(b map[string]any) error {
	if name, _ := b["Metric"].(string); name != "" && !strings.HasPrefix(name, "aws:") {
		if _, there := a.Registry.Find(customMetric, name); !there {
			return fmt.Errorf("custom metric %s does not exist", name)
		}
	}
	if d, ok := b["MetricDimension"].(map[string]any); ok {
		id, _ := d["DimensionName"].(string)
		if _, there := a.Registry.Find(dimension, id); !there {
			return fmt.Errorf("dimension %s does not exist", id)
		}
	}
	return nil
}

func (a Account) createCustomMetric(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	id := named(r, "MetricName", 128)
	if strings.HasPrefix(id, "aws:") {
		return cloudformation.Resource{}, fmt.Errorf("metric name %s: names that begin with aws: are reserved (Service: Iot, Status Code: 400)", id)
	}
	return kept(id, map[string]any{"MetricArn": r.ARN("iot", "custommetric/"+id)}, "collects no values"), a.unique(r, id)
}

// removeCustomMetric refuses to delete a metric that a profile uses.
func (a Account) removeCustomMetric(_ context.Context, r cloudformation.Request) error {
	for _, d := range a.Registry.Deployed(securityProfile) {
		behaviors, _ := d.Properties["Behaviors"].([]any)
		for _, b := range behaviors {
			if behavior, _ := b.(map[string]any); behavior["Metric"] == r.PhysicalResourceID {
				return fmt.Errorf("custom metric %s is used by security profile %s (Service: Iot, Status Code: 400)", r.PhysicalResourceID, d.PhysicalID)
			}
		}
	}
	return nil
}
