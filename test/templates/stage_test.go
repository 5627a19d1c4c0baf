package templates

import (
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// TestLogicalIDsAreTheSameInAStage moves each stack into a stage, as a pipeline does.
// CloudFormation would create a resource with another logical ID a second time. AWS refuses that
// for resources that may exist only once, such as an event source mapping.
func TestLogicalIDsAreTheSameInAStage(t *testing.T) {
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			_, alone := synth(t, s.name, s.build)
			_, staged := synth(t, s.name+" in a stage", func() awscdk.Stack {
				defer func(before func() constructs.Construct) { newScope = before }(newScope)
				newScope = func() constructs.Construct {
					return awscdk.NewStage(awscdk.NewApp(nil), jsii.String("Production"), nil)
				}
				return s.build()
			})
			for _, id := range slices.Sorted(maps.Keys(alone.Resources)) {
				if staged.Resources[id].Type != alone.Resources[id].Type {
					t.Errorf("%s (%s) is not in the stage", id, alone.Resources[id].Type)
				}
			}
			for _, id := range slices.Sorted(maps.Keys(staged.Resources)) {
				if alone.Resources[id].Type == "" {
					t.Errorf("%s (%s) is only in the stage", id, staged.Resources[id].Type)
				}
			}
		})
	}
}
