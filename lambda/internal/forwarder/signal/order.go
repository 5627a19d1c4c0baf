package signal

import "cmp"

// Order is the position of a signal among those with the same finding ID.
type Order struct {
	// Time in ms since 1970.
	Time int64 `json:"time"`
	// Session and Version are sessionIdentifier and versionNumber of a lifecycle event, numbered
	// by AWS IoT per client ID; otherwise "" and 0.
	Session string `json:"session,omitempty"`
	Version int64  `json:"version,omitempty"`
	// Tie orders signals that are otherwise equal, so that every order of arrival has the same
	// result.
	Tie string `json:"tie,omitempty"`
}

// versionsRestart, in ms, separates one sequence of version numbers from the next. AWS IoT
// restarts at 0 after about an hour offline, and its timestamps are precise to 2 minutes. So
// events with a longer distance are ordered by time, closer ones by number.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
const versionsRestart = 30 * 60 * 1000

// Compare returns -1, 0 or 1 if o is older than, equal to or newer than other.
func (o Order) Compare(other Order) int {
	if o.Session != "" && other.Session != "" {
		distance := o.Time - other.Time
		near := -versionsRestart <= distance && distance <= versionsRestart
		if o.Session == other.Session || near {
			if c := cmp.Compare(o.Version, other.Version); c != 0 {
				return c
			}
		}
		if o.Session == other.Session {
			return cmp.Compare(o.Tie, other.Tie)
		}
	}
	return cmp.Or(cmp.Compare(o.Time, other.Time), cmp.Compare(o.Session, other.Session), cmp.Compare(o.Tie, other.Tie))
}
