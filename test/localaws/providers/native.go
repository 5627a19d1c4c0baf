package providers

import (
	"fmt"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// checkNative refuses types and properties that the emulator would accept without effect. The emulator
// has more types than [schema.Native], but they do nothing or are wrong: nothing runs a state
// machine, and the Ref of an IoT policy is not its name.
func checkNative(r cloudformation.Request) error {
	if !schema.Known(r.ResourceType) {
		return fmt.Errorf("the local AWS supports no property of %s", r.ResourceType)
	}
	if err := schema.Validate(r.ResourceType, r.ResourceProperties); err != nil {
		return fmt.Errorf("%w\nThe local AWS supports only some properties of %s: correct it, leave it out of the local deployment, or try it on AWS", err, r.ResourceType)
	}
	if r.RequestType == cloudformation.Update {
		return checkUpdate(r)
	}
	return nil
}
