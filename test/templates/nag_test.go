package templates

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/cxapi"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
)

// TestCdkNagFindsNothing runs the AwsSolutions rules. Findings about the embedding stack's
// network do not count.
func TestCdkNagFindsNothing(t *testing.T) {
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			stack := s.build()
			awscdk.Aspects_Of(stack).Add(cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{Verbose: jsii.Bool(true)}), nil)
			annotations := assertions.Annotations_FromStack(stack)
			anything := assertions.Match_StringLikeRegexp(jsii.String("AwsSolutions-.*"))
			for _, found := range []*[]*cxapi.SynthesisMessage{
				annotations.FindError(jsii.String("*"), anything), annotations.FindWarning(jsii.String("*"), anything),
			} {
				for _, m := range *found {
					t.Errorf("%s: %v", *m.Id, m.Entry.Data)
				}
			}
		})
	}
}

func TestEverySuppressionHasAReason(t *testing.T) {
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			_, tpl := synth(t, s.name, s.build)
			for _, id := range slices.Sorted(maps.Keys(tpl.Resources)) {
				nag, _ := tpl.Resources[id].Metadata["cdk_nag"].(map[string]any)
				for _, rule := range list(nag["rules_to_suppress"]) {
					suppression, _ := rule.(map[string]any)
					if reason := fmt.Sprint(suppression["reason"]); len(strings.Fields(reason)) < 5 {
						t.Errorf("%s: %v is suppressed with the reason %q, want at least five words", id, suppression["id"], reason)
					}
				}
			}
		})
	}
}
