package engine

import (
	"math"
	"net/netip"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

func count(n int64) iotapi.Value     { return iotapi.Value{Count: &n} }
func number(n float64) iotapi.Value  { return iotapi.Value{Number: &n} }
func ports(p ...uint16) iotapi.Value { return iotapi.Value{Ports: append([]uint16{}, p...)} }
func cidrs(c ...string) iotapi.Value { return iotapi.Value{CIDRs: append([]string{}, c...)} }
func numbers(n ...float64) iotapi.Value {
	return iotapi.Value{Numbers: append([]float64{}, n...)}
}
func texts(s ...string) iotapi.Value {
	return iotapi.Value{Strings: append([]string{}, s...)}
}

// Each row has a value that conforms to the criteria, and one that violates them.
func TestCriteriaStateTheNormalValues(t *testing.T) {
	net := netip.MustParsePrefix
	w := defender.Window5m
	for _, row := range []struct {
		normal             defender.Criteria
		conforms, violates iotapi.Value
	}{
		{defender.MessageByteSize.LessThan(8), count(7), count(8)},
		{defender.MessageByteSize.LessThanEquals(8), count(8), count(9)},
		{defender.MessageByteSize.GreaterThan(10), count(11), count(10)},
		{defender.MessageByteSize.GreaterThan(10), count(11), count(0)}, // AWS's CLI example
		{defender.MessageByteSize.GreaterThanEquals(10), count(10), count(9)},
		{defender.MessagesSent.LessThan(math.MaxInt64, w), count(math.MaxInt64 - 1), count(math.MaxInt64)},
		{defender.CustomNumber("battery").GreaterThanEquals(20, w), number(20), number(19.999)},
		{defender.CustomNumber("battery").LessThan(0.3, w), number(0.2), number(math.Inf(1))},
		{defender.CustomNumber("battery").GreaterThan(-1, w), count(0), count(-1)},
		{defender.ListeningTCPPorts.InPorts(443, 80), ports(443), ports(443, 23)},
		{defender.ListeningTCPPorts.InPorts(443, 80), ports(), ports(0)},
		{defender.ListeningTCPPorts.NotInPorts(23), ports(443, 80), ports(443, 23)},
		{defender.ListeningTCPPorts.NotInPorts(23), ports(), ports(23)},
		{defender.SourceIPAddress.InCIDRs(net("192.0.2.0/24")), cidrs("192.0.2.255"), cidrs("192.0.3.0")},
		{defender.SourceIPAddress.InCIDRs(net("192.0.2.0/24")), cidrs("::ffff:192.0.2.1"), cidrs("::ffff:192.0.3.1")},
		{defender.SourceIPAddress.InCIDRs(net("192.0.2.0/24"), net("2001:db8::/32")), cidrs("2001:db8::1", "192.0.2.9"), cidrs("192.0.2.9", "2001:db9::1")},
		{defender.SourceIPAddress.InCIDRs(net("::ffff:192.0.2.0/120")), cidrs("192.0.2.9"), cidrs("192.0.3.9")},
		{defender.SourceIPAddress.InCIDRs(net("fe80::/10")), cidrs("fe80::1%eth0"), cidrs("fd00::1%eth0")},
		{defender.SourceIPAddress.InCIDRs(net("10.0.0.0/8")), cidrs("10.1.0.0/16"), cidrs("0.0.0.0/0")},
		{defender.SourceIPAddress.InCIDRs(net("10.0.0.0/8")), cidrs(), cidrs("junk", "192.0.2.1")},
		{defender.DestinationIPAddresses.NotInCIDRs(net("198.51.100.0/24")), cidrs("192.0.2.1"), cidrs("192.0.2.1", "198.51.100.7")},
		{defender.DestinationIPAddresses.NotInCIDRs(net("198.51.100.0/24")), cidrs("192.0.0.0/16"), cidrs("198.51.0.0/16")},
		{defender.DestinationIPAddresses.NotInCIDRs(net("0.0.0.0/0")), cidrs("2001:db8::1"), cidrs("1.2.3.4")},
		{defender.CustomNumberList("channels").In(1, 6, 11), numbers(6, 1), numbers(6, 13)},
		{defender.CustomNumberList("channels").NotIn(13), numbers(), numbers(1, 13)},
		{defender.CustomStringList("processes").In("agent", "sshd"), texts("sshd"), texts("agent", "xmrig")},
		{defender.CustomStringList("processes").NotIn("xmrig"), texts("XMRIG"), texts("xmrig")},
	} {
		c := newComparison(row.normal.Operator(), row.normal.Value())
		if got := c.judge(row.conforms); got != Conforms {
			t.Errorf("%s: %s has verdict %d, want it to conform", row.normal.Normal(), row.conforms, got)
		}
		if got := c.judge(row.violates); got != Violates {
			t.Errorf("%s: %s has verdict %d, want it to violate", row.normal.Normal(), row.violates, got)
		}
	}
}

func TestIncomparableValueIsNotADatapoint(t *testing.T) {
	anyIPv4 := defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("0.0.0.0/0"))
	for _, row := range []struct {
		normal   defender.Criteria
		measured iotapi.Value
	}{
		{defender.MessageByteSize.LessThan(8), iotapi.Value{}},
		{defender.MessageByteSize.LessThan(8), ports(1)},
		{defender.CustomNumber("x").LessThan(8, 300), number(math.NaN())},
		{defender.ListeningTCPPorts.InPorts(443), count(443)},
		{anyIPv4, ports(1)},
		{anyIPv4, cidrs("junk")},
		{anyIPv4, cidrs("192.0.2.1", "")},
		{defender.CustomNumberList("x").In(1), texts("1")},
		{defender.CustomStringList("x").In("1"), numbers(1)},
		{defender.MessagesSent.Learned(defender.HighConfidence), count(1)},
	} {
		if got := newComparison(row.normal.Operator(), row.normal.Value()).judge(row.measured); got != None {
			t.Errorf("%s: %s has verdict %d, want none", row.normal.Normal(), row.measured, got)
		}
	}
}
