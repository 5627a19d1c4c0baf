package engine

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// bytesOf evaluates PayloadBytes as IoT SQL does: whole numbers, left to right.
func bytesOf(payload []byte) int {
	encoded := base64.StdEncoding.EncodeToString(payload)
	n := len(encoded) / 4 * 3
	for _, suffix := range []string{"=", "=="} {
		if strings.HasSuffix(encoded, suffix) {
			n--
		}
	}
	return n
}

func TestPayloadSizeIsExact(t *testing.T) {
	for n := range 21 {
		if got := bytesOf(make([]byte, n)); got != n {
			t.Errorf("%d bytes are counted as %d", n, got)
		}
	}
	if n := 128 << 10; bytesOf(make([]byte, n)) != n {
		t.Errorf("%d bytes are counted as %d", n, bytesOf(make([]byte, n)))
	}
}

func TestRuleLetsThroughWhatViolates(t *testing.T) {
	size := func(name string, c defender.Criteria) defender.Behavior {
		return defender.Behavior{Name: name, Criteria: c}
	}
	for _, row := range []struct {
		behaviors []defender.Behavior
		want      string
	}{
		{defender.DemoBehaviors(), "(SIZE) >= 8"},
		{[]defender.Behavior{size("a", defender.MessageByteSize.LessThanEquals(8)), size("b", defender.MessageByteSize.GreaterThan(2))}, "(SIZE) > 8 OR (SIZE) <= 2"},
		{[]defender.Behavior{size("a", defender.MessageByteSize.GreaterThanEquals(2)), size("b", defender.ListeningTCPPorts.InPorts(1))}, "(SIZE) < 2"},
		{[]defender.Behavior{
			size("a", defender.MessageByteSize.LessThan(90)), size("b", defender.MessageByteSize.GreaterThan(2)), size("c", defender.MessageByteSize.LessThan(8)),
			size("d", defender.MessageByteSize.GreaterThan(5)), size("e", defender.MessageByteSize.LessThan(10)), size("f", defender.MessageByteSize.GreaterThan(1)),
		}, "(SIZE) >= 8 OR (SIZE) <= 5"},
		{[]defender.Behavior{size("a", defender.MessageByteSize.Statistical(iotapi.LessThan, defender.P90, defender.Window5m))}, ""},
	} {
		compiled, err := Compile("P", row.behaviors)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(PushDown(compiled), PayloadBytes, "(SIZE)"); got != row.want {
			t.Errorf("got %s, want %s", got, row.want)
		}
	}
}
