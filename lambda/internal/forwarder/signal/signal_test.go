package signal_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

func state(active bool) asff.RecordState {
	if active {
		return asff.Active
	}
	return asff.Archived
}

func at(ms int64, s asff.RecordState) signal.Signal {
	return signal.New(defender.DetectNotifications, asff.Finding{ID: "f", RecordState: s}, ms, signal.Order{Time: ms})
}

func TestMergeIsTheNewestWithTheEarliestTime(t *testing.T) {
	merged := signal.Merge([]signal.Signal{at(30, asff.Archived), at(10, asff.Active), at(20, asff.Active)})
	if merged.Finding.RecordState != asff.Archived || merged.Time != 30 || merged.First != 10 || !merged.Raised {
		t.Errorf("got %s at %d, first %d, raised %v", merged.Finding.RecordState, merged.Time, merged.First, merged.Raised)
	}
}

func TestActiveStateWinsATie(t *testing.T) {
	for _, merged := range []signal.Signal{
		signal.Merge([]signal.Signal{at(1, asff.Active), at(1, asff.Archived)}),
		signal.Merge([]signal.Signal{at(1, asff.Archived), at(1, asff.Active)}),
	} {
		if merged.Finding.RecordState != asff.Active {
			t.Errorf("got %s, want ACTIVE", merged.Finding.RecordState)
		}
	}
}

func TestDigestIgnoresTimesAndSeesContent(t *testing.T) {
	finding := asff.Finding{ID: "f", Title: "t", RecordState: asff.Active, ProductFields: map[string]string{"SessionIdentifier": "a"}}
	other := finding
	other.ProductFields = map[string]string{"SessionIdentifier": "b"}
	other.FindingProviderFields.RelatedFindings = []asff.RelatedFinding{{ID: "of another run"}}
	a := signal.New(defender.DeviceEvents, finding, 1, signal.Order{Time: 1}, "x")
	if b := signal.New(defender.DeviceEvents, other, 2, signal.Order{Time: 2}, "x"); a.Digest != b.Digest {
		t.Error("another session or related finding changes the digest")
	}
	if b := signal.New(defender.DeviceEvents, finding, 1, signal.Order{Time: 1}, "y"); a.Digest == b.Digest {
		t.Error("another text of the event does not change the digest")
	} else if b := signal.New(defender.DeviceEvents, other, 1, signal.Order{Time: 1}); len(b.Finding.FindingProviderFields.RelatedFindings) != 1 {
		t.Error("the related finding is lost")
	}
}

// The ledger keeps digests. If the hashed text had another form, every finding would look changed.
func TestDigestIsOfOneJSONArray(t *testing.T) {
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "plain", "\"<&>\\", "\u2028\x00", "\xff", "é漢"}), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		f := asff.Finding{ID: "f", Title: text.Draw(t, "title"), RecordState: state(rapid.Bool().Draw(t, "active"))}
		f.FindingProviderFields.Severity = asff.FindingSeverity{Label: text.Draw(t, "label"), Original: text.Draw(t, "original")}
		f.FindingProviderFields.Types = rapid.SliceOfN(text, 0, 3).Draw(t, "types")
		for _, id := range rapid.SliceOfN(text, 0, 3).Draw(t, "resources") {
			f.Resources = append(f.Resources, asff.Resource{Type: "Other", ID: id})
		}
		substance := rapid.OneOf(rapid.Just[[]string](nil), rapid.SliceOfN(text, 0, 3)).Draw(t, "substance")
		s := signal.New(defender.DeviceEvents, f, 1, signal.Order{Time: 1}, substance...)
		resources := []string{}
		for _, r := range s.Finding.Resources {
			resources = append(resources, r.Type+" "+r.ID)
		}
		array, err := json.Marshal([]any{s.Finding.Title, s.Finding.RecordState, s.Finding.FindingProviderFields, resources, substance})
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%x", sha256.Sum256(array))[:24]; s.Digest != want {
			t.Fatalf("digest %s, want %s of %s", s.Digest, want, array)
		}
	})
}

func TestNotAfterBoundsEveryTime(t *testing.T) {
	s := at(5000, asff.Active).NotAfter(time.UnixMilli(3000))
	if s.Time != 3000 || s.First != 3000 || s.Order.Time != 3000 {
		t.Errorf("time %d, first %d, order %d; want 3000 for each", s.Time, s.First, s.Order.Time)
	}
}

// history returns a possible lifecycle of a client: sessions, version numbers that rise and restart at
// 0 after an hour offline, and timestamps that are precise to 2 minutes.
func history(t *rapid.T) []signal.Order {
	var orders []signal.Order
	clock, version := int64(1_700_000_000_000), int64(0)
	for i := range rapid.IntRange(2, 8).Draw(t, "sessions") {
		if i > 0 {
			if rapid.Bool().Draw(t, "offline for long") {
				clock += rapid.Int64Range(60, 600).Draw(t, "minutes") * 60_000
				version = 0
			} else {
				clock += rapid.Int64Range(0, 3_000_000).Draw(t, "ms")
				version += rapid.Int64Range(1, 3).Draw(t, "step")
			}
		}
		skew := rapid.Int64Range(-120_000, 120_000).Draw(t, "skew")
		orders = append(orders, signal.Order{Time: clock + skew, Session: "s" + strconv.Itoa(i), Version: version})
	}
	return orders
}

func TestLifecycleEventsAreOrderedByVersionNumberAndByTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		orders := history(t)
		for i, a := range orders {
			for j, b := range orders {
				want := min(1, max(-1, i-j))
				if got := a.Compare(b); got != want {
					t.Fatalf("compared event %d %+v with event %d %+v: %d, want %d", i, a, j, b, got, want)
				}
			}
		}
	})
}

func TestMergeDoesNotDependOnTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		signals := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) signal.Signal {
			f := asff.Finding{ID: "f", Title: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "title"), RecordState: state(rapid.Bool().Draw(t, "active"))}
			f.FindingProviderFields.Severity.Label = rapid.SampledFrom([]string{"LOW", "HIGH"}).Draw(t, "severity")
			ms := rapid.Int64Range(0, 5).Draw(t, "time")
			s := signal.New(defender.DetectNotifications, f, ms, signal.Order{Time: ms})
			s.Inherits = f.RecordState == asff.Archived
			return s
		}), 2, 6).Draw(t, "signals")
		shuffled := rapid.Permutation(slices.Concat(signals, signals[:1])).Draw(t, "shuffled")
		a, b := signal.Merge(slices.Clone(signals)), signal.Merge(shuffled)
		if a.Order != b.Order || a.Finding.RecordState != b.Finding.RecordState || a.Finding.Title != b.Finding.Title || a.First != b.First || a.Raised != b.Raised || a.Finding.FindingProviderFields.Severity != b.Finding.FindingProviderFields.Severity {
			t.Fatalf("in order: %+v\nshuffled: %+v", a, b)
		}
	})
}
