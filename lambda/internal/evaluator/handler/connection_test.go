package handler_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// AWS IoT is asked for the connection once before silence raises or clears an alarm, and never
// otherwise.
func TestSilenceAsksForTheConnection(t *testing.T) {
	some, small := defender.MessagesSent.GreaterThan(0, defender.Window5m), defender.MessageByteSize.LessThan(100)
	disconnected := iotdataplane.GetConnectionOutput{DisconnectedSince: at(4).UnixMilli()}
	for _, row := range []struct {
		name    string
		normal  defender.Criteria
		size    int64 // size of each of four messages
		answer  iotdataplane.GetConnectionOutput
		fails   error
		changes string
		asked   int
		unknown int // windows not judged
	}{
		{"connected, too few", some, 8, iotdataplane.GetConnectionOutput{Connected: true, ConnectedSince: 1}, nil, "pump-7 b0 in-alarm", 1, 0},
		{"connected, too large before", small, 800, iotdataplane.GetConnectionOutput{Connected: true, ConnectedSince: 1}, nil, "pump-7 b0 in-alarm, pump-7 b0 alarm-cleared", 1, 0},
		{"disconnected, too few", some, 8, disconnected, nil, "", 1, 0},
		{"disconnected, too large before", small, 800, disconnected, nil, "pump-7 b0 in-alarm", 1, 0},
		{"unknown to AWS IoT, too few", some, 8, iotdataplane.GetConnectionOutput{}, &types.ResourceNotFoundException{}, "", 1, 0},
		{"throttled, too few", some, 8, iotdataplane.GetConnectionOutput{}, &types.ThrottlingException{}, "", 1, 1},
		{"denied, too large before", small, 800, iotdataplane.GetConnectionOutput{}, &types.ForbiddenException{}, "pump-7 b0 in-alarm", 1, 1},
		{"unreachable, too large before", small, 800, iotdataplane.GetConnectionOutput{}, errors.New("dial tcp: timeout"), "pump-7 b0 in-alarm", 1, 1},
	} {
		r := newRig(t, profile(defender.Behavior{Criteria: row.normal}))
		r.iot.connections, r.iot.unknown = map[string]iotdataplane.GetConnectionOutput{"pump-7": row.answer}, row.fails
		r.deliver(lifecycle("pump-7", "connected", "s", at(0)))
		for i := range 4 {
			r.deliver(message(fmt.Sprint(i), "pump-7", at(float64(i+1)), row.size))
		}
		r.close(at(9.5))
		if len(r.iot.asked) > 0 {
			t.Errorf("%s: asked for %q before silence matters", row.name, r.iot.asked)
		}
		r.close(at(14.5))
		if got := r.changes(); got != row.changes || len(r.iot.asked) != row.asked {
			t.Errorf("%s: changes %q, want %q; asked for %q, want %d", row.name, got, row.changes, r.iot.asked, row.asked)
		}
		if n := r.counted(contract.MetricUnconfirmed); n != row.unknown || (n > 0) != strings.Contains(r.logs.String(), "its silence is not judged") {
			t.Errorf("%s: %d windows counted as not judged, want %d; log %s", row.name, n, row.unknown, &r.logs)
		}
	}
}

// AWS IoT is asked once for all behaviors of a device, even if a write is repeated.
func TestConnectionIsAskedForOncePerRun(t *testing.T) {
	r := newRig(t, profile(defender.Behavior{Criteria: defender.MessagesSent.GreaterThan(0, defender.Window5m)},
		defender.Behavior{Criteria: defender.MessagesSent.GreaterThan(1, defender.Window5m)}))
	r.deliver(lifecycle("pump-7", "connected", "s", at(0)), message("1", "pump-7", at(1), 8), message("2", "pump-7", at(2), 8))
	var conflicted atomic.Bool // the closer's calls may be concurrent
	r.table.step = func(operation, key string, done bool) error {
		if operation == "PutItem" && !done && conflicted.CompareAndSwap(false, true) {
			r.deliver(message("3", "pump-7", at(14), 8))
		}
		return nil
	}
	r.iot.asked = nil
	r.close(at(14.5))
	if got := r.changes(); got != "pump-7 b0 in-alarm, pump-7 b1 in-alarm" || !conflicted.Load() {
		t.Errorf("changes %q, a conflict: %v", got, conflicted.Load())
	}
	if len(r.iot.asked) > 2 { // the closer, and the winner of the conflict
		t.Errorf("asked for %q, want at most two", r.iot.asked)
	}
}
