package engine

import (
	"net/netip"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// peers returns a report of a list of peers. x and . are complete lists, X and o samples of 2 of 126
// peers. x and X violate.
func peers(letter rune, at int64, id string) []Datapoint {
	list := map[rune][]string{'x': {"10.0.0.1", "192.0.2.1"}, 'X': {"10.0.0.1", "192.0.2.1"}, '.': {"10.0.0.1"}, 'o': {"10.0.0.1", "10.0.0.2"}}[letter]
	if list == nil {
		return nil
	}
	name := defender.DestinationIPAddresses.Info().Name
	partial := map[string]iotapi.Partial{}
	if letter == 'X' || letter == 'o' {
		partial[name] = iotapi.Partial{Listed: 2, Total: 126}
	}
	return Report(id, at, map[string]iotapi.Value{name: {CIDRs: list}, defender.EstablishedTCPConnections.Info().Name: count(int64(len(list)))}, partial, false)
}

func TestSampledListsClearNoAlarm(t *testing.T) {
	for _, row := range []struct {
		why              string
		toAlarm, toClear int
		in, want         string
	}{
		{"a sample that violates raises the alarm", 1, 1, ".X", ".A"},
		{"a sample that conforms does not clear it", 1, 1, "xooo", "AAAA"},
		{"a complete list clears it", 1, 1, "xo.o", "AA.."},
		{"a sample that conforms is no datapoint for clearing", 1, 2, "x.o.", "AAA."},
		{"a sample that conforms does not break a run", 2, 1, "XoX", "..A"},
	} {
		b := behavior(defender.DestinationIPAddresses.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")))
		b.ToAlarm, b.ToClear = row.toAlarm, row.toClear
		if got := alarmStates(evaluator(t, b), row.in, peers); got != row.want {
			t.Errorf("%s: reports %q: got %q, want %q", row.why, row.in, got, row.want)
		}
	}
	// The number of connections is complete although their list is a sample.
	if got := alarmStates(evaluator(t, behavior(defender.EstablishedTCPConnections.LessThan(2))), "x.", peers); got != "A." {
		t.Errorf("number of connections: got %q, want A.", got)
	}
}
