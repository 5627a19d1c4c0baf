package providers

import (
	"fmt"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// checkNative refuses what the emulator would take without a word. It has more types than
// those of [schema.Native], and would make them without effect or wrongly: nothing runs a
// state machine, and Ref of an IoT policy is no name there.
func checkNative(r cloudformation.Request) error {
	if !schema.Known(r.ResourceType) {
		return fmt.Errorf("the local AWS supports no property of %s", r.ResourceType)
	}
	if err := schema.Validate(r.ResourceType, r.ResourceProperties); err != nil {
		return fmt.Errorf("%w\nThe local AWS follows some properties of %s only: correct it, leave it out of the local deployment, or try it on AWS", err, r.ResourceType)
	}
	if r.RequestType == cloudformation.Update {
		return checkUpdate(r)
	}
	return nil
}
