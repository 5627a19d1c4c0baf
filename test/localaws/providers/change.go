package providers

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
)

// all means all properties of a type.
const all = "*"

// updated are the properties of the emulator's own types that can change in place. A change takes
// effect, or has no effect here.
var updated = map[string][]string{
	"AWS::CloudFormation::Stack": {all},
	"AWS::DynamoDB::Table": {
		"BillingMode", "DeletionProtectionEnabled", "PointInTimeRecoverySpecification", "ProvisionedThroughput", "SSESpecification",
		"TableClass", "Tags", "TimeToLiveSpecification",
	},
	"AWS::ECR::Repository":      {all},
	"AWS::IAM::AccessKey":       {"Status"},
	"AWS::IAM::Policy":          {all},
	"AWS::IAM::Role":            {all},
	"AWS::KMS::Alias":           {all},
	"AWS::KMS::Key":             {"Description", "EnableKeyRotation", "KeyPolicy", "PendingWindowInDays", "Tags"},
	"AWS::Lambda::Function":     {all},
	"AWS::Logs::LogGroup":       {"RetentionInDays", "KmsKeyId", "Tags"},
	"AWS::Logs::ResourcePolicy": {"PolicyDocument"},
	"AWS::S3::Bucket":           {all},
	"AWS::SNS::Topic":           {"ContentBasedDeduplication", "DisplayName", "KmsMasterKeyId", "Tags", "TracingConfig"},
	"AWS::SQS::Queue":           {all},
	"AWS::SSM::Parameter":       {all},
}

// checkUpdate refuses an update in place that the emulator would accept and ignore.
func checkUpdate(r cloudformation.Request) error {
	followed := updated[r.ResourceType]
	if slices.Contains(followed, all) {
		return nil
	}
	var lost []string
	both := map[string]any{}
	maps.Copy(both, r.OldResourceProperties)
	maps.Copy(both, r.ResourceProperties)
	for _, name := range slices.Sorted(maps.Keys(both)) {
		if !reflect.DeepEqual(r.OldResourceProperties[name], r.ResourceProperties[name]) && !slices.Contains(followed, name) {
			lost = append(lost, name)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return fmt.Errorf("the local AWS does not update %s of %s: start a new local AWS and deploy to it", strings.Join(lost, ", "), r.ResourceType)
}
