package handler_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// connections returns a report with a number of connections. It lists the first 50, as
// AWS's agent for Python does. last is the address of the last listed one.
func connections(id int, when float64, total int, last string) events.SQSMessage {
	var list []string
	for i := range min(total, 50) - 1 {
		list = append(list, fmt.Sprintf(`{"remote_addr":"10.0.0.%d:443"}`, i+1))
	}
	list = append(list, fmt.Sprintf(`{"remote_addr":"%s:443"}`, last))
	return report(fmt.Sprint(id), "pump", at(when), fmt.Appendf(nil,
		`{"header":{"report_id":%d,"version":"1.0"},"metrics":{"tcp_connections":{"established_connections":{"connections":[%s],"total":%d}}}}`, id, strings.Join(list, ","), total))
}

func TestSampledConnections(t *testing.T) {
	r := newRig(t, profile(
		defender.Behavior{Name: "peers", Criteria: defender.DestinationIPAddresses.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"))},
		defender.Behavior{Name: "many", Criteria: defender.EstablishedTCPConnections.LessThan(100)},
	))
	r.deliver(connections(1, 0, 126, "192.0.2.1"))
	r.deliver(connections(2, 10, 126, "10.0.0.50")) // the listed connections conform
	r.close(at(20))
	if got := r.changes(); got != "pump many in-alarm, pump peers in-alarm" {
		t.Fatalf("changes %q, want both alarms", got)
	}
	if s := r.messages()[1].Transition.Sampled; s == nil || s.String() != "50 of 126" {
		t.Errorf("sampled %v, want 50 of 126", s)
	}
	if s := r.messages()[0].Transition.Sampled; s != nil {
		t.Errorf("sampled %v, want none for the count", s)
	}
	if n := r.counted(contract.MetricSampledLists); n != 2 {
		t.Errorf("%d sampled lists counted, want 2", n)
	}
	r.deliver(connections(3, 30, 40, "10.0.0.50")) // the whole list
	r.close(at(40))
	if got := r.changes(); got != "pump many in-alarm, pump many alarm-cleared, pump peers in-alarm, pump peers alarm-cleared" {
		t.Errorf("changes %q, want both alarms cleared", got)
	}
	if s := r.messages()[3].Transition.Sampled; s != nil {
		t.Errorf("sampled %v, want none for the complete list", s)
	}
}
