package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

const useNative = "or DetectProps.Native in an account that has Detect"

// Support returns an error for every behavior that this engine cannot judge, with the reason and
// the fix. It expects behaviors that [defender.SecurityProfile.Validate] accepts.
func Support(behaviors []defender.Behavior) error {
	var faults []error
	for i, b := range behaviors {
		if want := unsupported(b); want != "" {
			faults = append(faults, &defender.FieldError{
				Field: fmt.Sprintf("[%d].Criteria", i),
				Value: fmt.Sprintf("%s (behavior %s)", b.Criteria.Metric().Name, b.Name),
				Want:  want,
			})
		}
		if b.Dimension == nil {
			continue
		}
		for j, filter := range b.Dimension.TopicFilters {
			// The evaluator replaces the client ID, and no other variable.
			if err := iotrule.ValidateFrom(strings.ReplaceAll(filter, clientIDVariable, "client")); err != nil {
				faults = append(faults, defender.Under(fmt.Sprintf("[%d].Dimension.TopicFilters[%d]", i, j), err))
			}
		}
	}
	return errors.Join(faults...)
}

func unsupported(b defender.Behavior) string {
	switch b.Criteria.Metric().Name {
	case defender.MessagesReceived.Info().Name:
		return "a metric that some event shows, such as defender.MessagesSent: AWS IoT has no event for messages that a device receives; " + useNative
	case defender.AuthorizationFailures.Info().Name:
		if b.Dimension != nil {
			return "no Dimension here: the events of refused connections name no topic; " + useNative
		}
	}
	return ""
}
