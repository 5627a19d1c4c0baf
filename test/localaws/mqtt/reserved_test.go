package mqtt

import (
	"strings"
	"testing"
)

func TestGuardPublish(t *testing.T) {
	for topic, want := range map[string]verdict{
		"a":                              allowed,
		"a/$aws/b":                       allowed,
		"1/2/3/4/5/6/7/8":                allowed,
		"1/2/3/4/5/6/7/8/9":              invalid,
		strings.Repeat("x", 256):         allowed,
		strings.Repeat("x", 257):         invalid,
		strings.Repeat("ü", 129):         invalid,
		"$SYS/broker":                    forbidden,
		"$anything":                      forbidden,
		"$aws/rules/r":                   allowed,
		"$aws/rules/my_rule2/a/b":        allowed,
		"$aws/rules/r/1/2/3/4/5/6/7/8":   allowed,
		"$aws/rules/r/1/2/3/4/5/6/7/8/9": invalid,
		"$aws/rules/r/" + strings.Repeat("x", 256):     allowed,
		"$aws/rules/r/" + strings.Repeat("x", 257):     invalid,
		"$aws/rules/two-words/a":                       invalid,
		"$aws/rules":                                   invalid,
		"$aws/things/t/defender/metrics/json":          allowed,
		"$aws/things/t/defender/metrics/cbor":          allowed,
		"$aws/things/t/defender/metrics/xml":           forbidden,
		"$aws/things/t/defender/metrics":               forbidden,
		"$aws/things//defender/metrics/json":           forbidden,
		"$aws/things/t/defender/metrics/json/accepted": forbidden,
		"$aws/things/t/defender/metrics/cbor/rejected": forbidden,
		"$aws/events/presence/connected/c":             forbidden,
		"$aws/events/subscriptions/subscribed/c":       forbidden,
		"$aws/things/t/shadow/update":                  unknownHere,
		"$aws/things/t/jobs/get":                       unknownHere,
		"$aws/provisioning-templates/t/provision/json": unknownHere,
		"$aws": unknownHere,
	} {
		if got := guardPublish(topic); got.verdict != want || (want == allowed) != (got.why == "") {
			t.Errorf("publish to %.60q: %v (%s), want %v", topic, got.verdict, got.why, want)
		}
	}
}

func TestGuardSubscribe(t *testing.T) {
	for filter, want := range map[string]verdict{
		"#":                        allowed,
		"+/a":                      allowed,
		"1/2/3/4/5/6/7/8":          allowed,
		"1/2/3/4/5/6/7/8/#":        invalid,
		"$share/g/a/#":             allowed,
		"a+":                       invalid,
		"a/#/b":                    invalid,
		"$share/g/#a":              invalid,
		"$aws/events/+x/#":         invalid,
		"$share/g/$aws/rules/r":    forbidden,
		"$SYS/#":                   forbidden,
		"$aws/#":                   forbidden,
		"$aws/+/x":                 forbidden,
		"$aws/rules/r/a":           forbidden,
		"$aws/events/#":            allowed,
		"$aws/events/presence/+/+": allowed,
		"$aws/things/t/defender/metrics/json/accepted": allowed,
		"$aws/things/t/defender/metrics/cbor/rejected": allowed,
		"$aws/things/+/defender/metrics/+/+":           allowed,
		"$aws/things/t/defender/metrics/json":          forbidden,
		"$aws/things/t/defender/metrics/+":             forbidden,
		"$aws/things/t/defender/metrics/#":             forbidden,
		"$aws/things/t/defender/metrics/json/#":        forbidden,
		"$aws/things/t/defender/metrics/json/other":    forbidden,
		"$aws/things/t/defender/#":                     forbidden,
		"$aws/things/t/#":                              forbidden,
		"$aws/things/#":                                forbidden,
		"$aws/things/t/+/metrics/json":                 forbidden,
		"$aws/things/t/shadow/update/accepted":         unknownHere,
		"$aws/things/t/jobs/notify":                    unknownHere,
	} {
		if got := guardSubscribe(filter); got.verdict != want {
			t.Errorf("subscribe to %q: %v (%s), want %v", filter, got.verdict, got.why, want)
		}
	}
}

func TestFirstDisconnectReasonIsKept(t *testing.T) {
	var c connection
	c.because(DuplicateClientID)
	c.because(AuthError)
	if c.cause() != DuplicateClientID {
		t.Errorf("cause %s, want %s", c.cause(), DuplicateClientID)
	}
}
