package mapping

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"

	"github.com/defenderhub/defenderhub/internal/leanjson"
)

// millis is a time in ms since 1970. It accepts ms, as in the notifications of AWS IoT, and
// seconds with a fraction, as in its API.
type millis int64

// secondsBelow distinguishes the two: as ms it is March 1973, as seconds the year 5138.
const secondsBelow = 1e11

// errNoTime does not quote text that a client may have written.
var errNoTime = errors.New("a time is not a number of ms or s since 1970")

func (m *millis) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	return m.UnmarshalValue(leanjson.Value(data))
}

// UnmarshalValue also accepts a string that is a number, as [json.Number] does.
func (m *millis) UnmarshalValue(v leanjson.Value) error {
	if v.Kind() == '"' {
		var n json.Number
		if err := json.Unmarshal([]byte(v), &n); err != nil || n == "" {
			return errNoTime
		}
		v = leanjson.Value(n)
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f < 0 || f > 1<<53 {
		return errNoTime
	}
	if f < secondsBelow {
		f *= 1000
	}
	*m = millis(math.Round(f))
	return nil
}

func (m millis) String() string { return strconv.FormatInt(int64(m), 10) }
