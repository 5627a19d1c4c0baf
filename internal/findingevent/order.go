package findingevent

import (
	"cmp"
	"time"
)

// Order orders the events of one finding. BatchUpdateFindings does not change Updated, so an
// analyst's change has the Updated of the last import. AWS does not document the order of such
// events; a later Processed, then a later Event, is assumed to be newer (unverified).
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchUpdateFindings.html
type Order struct {
	// Updated is the finding's UpdatedAt, and Processed its ProcessedAt: when Security Hub received
	// it.
	Updated   time.Time `json:"u"`
	Processed time.Time `json:"p,omitzero"`
	// Event is the event's time, to the second.
	Event time.Time `json:"e,omitzero"`
}

// Compare returns -1 if o is older than other, 1 if it is newer, and 0 if the events do not say:
// then only GetFindings says which state is the present one. A missing time is older than any
// other.
func (o Order) Compare(other Order) int {
	return cmp.Or(o.Updated.Compare(other.Updated), o.Processed.Compare(other.Processed), o.Event.Compare(other.Event))
}
