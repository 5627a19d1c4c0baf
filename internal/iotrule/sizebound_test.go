package iotrule_test

import (
	"testing"

	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

func TestViolates(t *testing.T) {
	for operator, want := range map[iotapi.Operator][3]bool{ // for 7, 8 and 9 bytes; the bound is 8
		iotapi.LessThan: {false, true, true}, iotapi.LessThanEquals: {false, false, true},
		iotapi.GreaterThan: {true, true, false}, iotapi.GreaterThanEquals: {true, false, false},
	} {
		rule := iotrule.MessageRule(iotrule.Oversize, "t", iotrule.SizeBound{Operator: operator, Bytes: 8})
		for i, bytes := range []int64{7, 8, 9} {
			if got := rule.Violates(bytes); got != want[i] {
				t.Errorf("%s 8: %d bytes violate: %v, want %v", operator, bytes, got, want[i])
			}
		}
	}
}
