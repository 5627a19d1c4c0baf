//go:build !race

// The race detector takes a minute for so many events. It runs with the tests of other floods, which
// run the same code.

package handler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
)

// The most findings of a device, with the longest histories and long details, fit into an item.
func TestFloodFitsIntoAnItem(t *testing.T) {
	r := newRig(t, correlation.StolenIdentity(), correlation.TwoProducts())
	r.must(stolen()...)
	at := start.Add(time.Minute)
	long := strings.Repeat("x", 190)
	details := map[string]any{}
	for d := range 10 {
		details[fmt.Sprintf("%s%d", long, d)] = long
	}
	var flood []string
	for round := range 33 {
		for i := range 200 {
			at = at.Add(time.Second)
			f := deviceEvent("pump-7", fmt.Sprintf("%064d", i))
			f.resources[0]["Details"] = map[string]any{"Other": details}
			flood = append(flood, f.at(at, []string{"o", "x"}[round%2]).event())
		}
	}
	r.now = at
	for batch := range slices.Chunk(flood, 2200) {
		r.must(batch...)
	}
	r.want("stolen-identity/pump-7 CRITICAL 2")
	for _, it := range r.table.Items("state") {
		if n := len(attribute.TextOf(it, "doc")); n > 390<<10 {
			t.Errorf("item %s has %d bytes, want at most 390 KiB", attribute.TextOf(it, contract.StatePartitionKey), n)
		}
	}
	r.must(duplicate("pump-7").at(r.now, "x").event(), behavior("pump-7", "aws:source-ip-address").at(r.now, "x").event())
	r.want("")
}

// With many rules, the composite findings of one device exceed an item together. They are sent one
// after the other, also while a flood changes them all.
func TestManyRulesFitIntoAnItem(t *testing.T) {
	const rules = 50
	var all []correlation.Rule
	for i := range rules {
		rule := anything()
		rule.Name, rule.Title, rule.Description = fmt.Sprint("any-", i), strings.Repeat("t", 128), strings.Repeat("d", 500)
		all = append(all, rule)
	}
	r := newRig(t, all...)
	flood := func(minute int) string {
		f := deviceEvent("pump-7", fmt.Sprintf("%064d", minute))
		for j := range 3 {
			details := map[string]any{"Other": map[string]any{"a": strings.Repeat("x", 400)}}
			f.resources = append(f.resources, map[string]any{"Type": "Other", "Id": fmt.Sprintf("%0128d-%d", minute, j), "Details": details})
		}
		return f.at(r.now, "o").event()
	}
	var first []string
	for i := range 40 {
		first = append(first, flood(i))
	}
	r.must(first...)
	for minute := range 10 {
		r.now = start.Add(time.Duration(minute+1) * time.Minute)
		r.must(flood(40 + minute))
		if err := r.due(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.composites()); n != rules {
		t.Errorf("%d composite findings, want %d", n, rules)
	}
	for range 10 {
		r.now = r.now.Add(time.Minute)
		if err := r.due(); err != nil {
			t.Fatal(err)
		}
	}
	for id, c := range r.composites() {
		if c.Parts != 50 {
			t.Errorf("%s has %d parts, want all 50", id, c.Parts)
		}
	}
	for _, it := range r.table.Items("state") {
		if n := len(attribute.TextOf(it, "doc")); n > 390<<10 {
			t.Errorf("item %s has %d bytes, want at most 390 KiB", attribute.TextOf(it, contract.StatePartitionKey), n)
		}
	}
}
