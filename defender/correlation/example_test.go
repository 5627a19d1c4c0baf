package correlation_test

import (
	"fmt"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
)

// Your own rule beside two built-in ones.
func Example() {
	rules := []correlation.Rule{
		correlation.StolenIdentity(),
		correlation.CompromiseChain(),
		{
			Name:  "loud-and-expired",
			Title: "Device with an expired certificate sends too much",
			Stages: []correlation.Stage{
				{Name: "an expired certificate", Match: []correlation.Matcher{{Checks: []defender.Check{defender.DeviceCertificateExpiring}}}},
				{Name: "too many messages", Match: []correlation.Matcher{{Behaviors: []string{"few-messages"}}}},
			},
			Window:   12 * time.Hour,
			Severity: defender.High,
		},
	}
	for _, r := range rules {
		fmt.Println(r.Name, r.WithDefaults().Window, r.Severity, r.Validate())
	}
	// Output:
	// stolen-identity 24h0m0s CRITICAL <nil>
	// compromise-chain 24h0m0s CRITICAL <nil>
	// loud-and-expired 12h0m0s HIGH <nil>
}

// Some of the built-in rules, with shorter windows.
func ExampleRule() {
	rules := []correlation.Rule{
		correlation.BlastRadius(), correlation.TamperAndSilence(), correlation.SilencedAfterAlarm(), correlation.TwoProducts(),
	}
	for i := range rules {
		rules[i].Window = 12 * time.Hour
		fmt.Println(rules[i].Name, rules[i].Validate())
	}
	// Output:
	// blast-radius <nil>
	// tamper-and-silence <nil>
	// silenced-after-alarm <nil>
	// two-products <nil>
}

// All faults of a rule are reported at once.
func ExampleRule_Validate() {
	r := correlation.Rule{
		Name:   "Loud",
		Window: time.Second,
		Stages: []correlation.Stage{{Name: "alarms", Match: []correlation.Matcher{{
			Checks:  []defender.Check{defender.DeviceCertificateShared},
			Sources: []defender.Source{defender.DeviceEvents},
		}}}},
	}
	fmt.Println(r.Validate())
	// Output:
	// Name: "Loud", want 1 to 64 of a-z 0-9 -
	// Stages[0].Match[0].Sources: "[device-event]", want a source whose findings have the other fields: Checks needs AuditNotifications; Behaviors and Metrics need BehaviorTransitions or DetectNotifications; Events needs DeviceEvents; Reasons needs AuditNotifications, SecurityDisconnects or RefusedConnections
	// Window: 1s, want 1 minute to 30 days, or 0 for the default of 24 hours
}

// The built-in rules. A campaign counts devices, or a share of the fleet.
func ExampleBuiltIn() {
	for _, r := range correlation.BuiltIn() {
		r = r.WithDefaults()
		fmt.Println(r.Name, r.Window, r.Severity, len(r.Stages), r.Spread.Enabled())
	}
	fmt.Println(correlation.Campaign(correlation.Spread{Share: 0.02}).Spread)
	// Output:
	// stolen-identity 24h0m0s CRITICAL 2 false
	// compromise-chain 24h0m0s CRITICAL 3 false
	// blast-radius 168h0m0s CRITICAL 2 false
	// tamper-and-silence 24h0m0s CRITICAL 2 false
	// silenced-after-alarm 24h0m0s HIGH 2 false
	// campaign 1h0m0s HIGH 1 true
	// two-products 24h0m0s CRITICAL 1 false
	// {0 0.02}
}
