package devicedefender

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// Seconds is a time in a request: seconds since 1970, with a fraction.
type Seconds struct{ time.Time }

// UnmarshalJSON reads a number of seconds.
func (t *Seconds) UnmarshalJSON(data []byte) error {
	var seconds float64
	if err := json.Unmarshal(data, &seconds); err != nil {
		return invalidRequest("%s is no time; want seconds since 1970", data)
	}
	if math.Abs(seconds) > 1e11 {
		return invalidRequest("the time %s is not in seconds since 1970", data)
	}
	t.Time = time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
	return nil
}

// stamp is a time in an answer, absent when t is zero.
func stamp(t time.Time) *iotcore.Timestamp {
	if t.IsZero() {
		return nil
	}
	out := iotcore.Timestamp(t)
	return &out
}

// Paging is the part of a list operation's input that says which page is wanted.
// Pages have 1 to 250 items, 25 when MaxResults is nil.
type Paging struct {
	MaxResults *int   `json:"maxResults" query:"maxResults"`
	NextToken  string `json:"nextToken" query:"nextToken"`
}

const (
	defaultPage = 25
	maxPage     = 250
)

// page returns the items of the wanted page and the token of the next. Items are in
// the order of their keys. It goes on behind the key that the token holds, so that
// items that come or go between two pages shift nothing.
func page[T any](in Paging, items []T, descending bool, key func(T) string) ([]T, string, error) {
	size := defaultPage
	if in.MaxResults != nil {
		size = *in.MaxResults
	}
	if size < 1 || size > maxPage {
		return nil, "", invalidRequest("maxResults is %d, want 1 to %d", size, maxPage)
	}
	last, err := base64.StdEncoding.DecodeString(in.NextToken)
	if err != nil {
		return nil, "", invalidRequest("nextToken %q is not one of this service", in.NextToken)
	}
	out := []T{}
	for i := range items {
		if descending {
			i = len(items) - 1 - i
		}
		k := key(items[i])
		if in.NextToken != "" && (!descending && k <= string(last) || descending && k >= string(last)) {
			continue
		}
		if len(out) == size {
			return out, base64.StdEncoding.EncodeToString([]byte(key(out[size-1]))), nil
		}
		out = append(out, items[i])
	}
	return out, "", nil
}
