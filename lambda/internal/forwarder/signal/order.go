package signal

import "cmp"

// Order places a signal among those with the same finding id.
type Order struct {
	// Time in ms since 1970.
	Time int64 `json:"time"`
	// Session and Version are sessionIdentifier and versionNumber of a lifecycle event,
	// which AWS IoT numbers for each client id; "" and 0 where there are none.
	Session string `json:"session,omitempty"`
	Version int64  `json:"version,omitempty"`
	// Tie decides where nothing else does, so that every order of arrival ends the same.
	Tie string `json:"tie,omitempty"`
}

// versionsRestart, in ms, tells the numbers of one row from those of the next. AWS IoT
// restarts at 0 after about an hour offline, and its timestamps are good to 2 minutes:
// events further apart than this are ordered by time, nearer ones by number.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
const versionsRestart = 30 * 60 * 1000

// Compare returns -1, 0 or 1 where o is older than, the same as or newer than other.
func (o Order) Compare(other Order) int {
	if o.Session != "" && other.Session != "" {
		apart := o.Time - other.Time
		near := -versionsRestart <= apart && apart <= versionsRestart
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
