package defender_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

// Each audit check has a constant. String returns AWS's name of the check.
func ExampleCheck() {
	accounts := []defender.Check{
		defender.AuthenticatedCognitoRoleOverlyPermissive, defender.UnauthenticatedCognitoRoleOverlyPermissive,
		defender.IoTPolicyOverlyPermissive, defender.IoTPolicyPotentialMisconfiguration,
		defender.RoleAliasAllowsAccessToUnusedServices, defender.RoleAliasOverlyPermissive, defender.LoggingDisabled,
	}
	authorities := []defender.Check{
		defender.CACertificateExpiring, defender.CACertificateKeyQuality, defender.IntermediateCARevoked, defender.RevokedCACertificateStillActive,
	}
	devices := []defender.Check{
		defender.ConflictingClientIDs, defender.DeviceCertificateAge, defender.DeviceCertificateExpiring, defender.DeviceCertificateKeyQuality,
		defender.DeviceCertificateShared, defender.RevokedDeviceCertificateStillActive,
	}
	fmt.Println(len(accounts)+len(authorities)+len(devices) == len(defender.Checks()))
	fmt.Println(defender.LoggingDisabled, defender.LoggingDisabled.Severity())
	// Output:
	// true
	// LOGGING_DISABLED_CHECK LOW
}

// AWS chooses the time of day of a scheduled audit.
func ExampleSchedule() {
	for _, s := range []defender.Schedule{
		defender.Daily(), defender.Weekly(time.Sunday), defender.Biweekly(time.Monday), defender.Monthly(1), defender.MonthlyOnLastDay(),
	} {
		fmt.Printf("%s/%s%s\n", s.Frequency(), s.DayOfWeek(), s.DayOfMonth())
	}
	weekly, err := defender.ParseSchedule("weekly:SUN")
	fmt.Println(weekly == defender.Weekly(time.Sunday), err)
	// Output:
	// DAILY/
	// WEEKLY/SUN
	// BIWEEKLY/MON
	// MONTHLY/1
	// MONTHLY/LAST
	// true <nil>
}

// The type of a metric says what a behavior may compare it with.
func ExampleMetric() {
	var (
		sizes     = []defender.SizeMetric{defender.MessageByteSize, defender.EstablishedTCPConnections}
		rates     = []defender.RateMetric{defender.MessagesSent, defender.MessagesReceived, defender.AuthorizationFailures, defender.ConnectionAttempts, defender.Disconnects}
		traffic   = []defender.RateMetric{defender.AllBytesIn, defender.AllBytesOut, defender.AllPacketsIn, defender.AllPacketsOut}
		counts    = []defender.RateMetric{defender.NumListeningTCPPorts, defender.NumListeningUDPPorts}
		durations = []defender.DurationMetric{defender.DisconnectDuration}
		addresses = []defender.AddressMetric{defender.SourceIPAddress, defender.DestinationIPAddresses}
		ports     = []defender.PortMetric{defender.ListeningTCPPorts, defender.ListeningUDPPorts}
	)
	n := len(sizes) + len(rates) + len(traffic) + len(counts) + len(durations) + len(addresses) + len(ports)
	fmt.Println(n == len(defender.Metrics()))
	fmt.Println(defender.DisconnectDuration.LessThan(60).Normal())
	fmt.Println(defender.ListeningTCPPorts.InPorts(22, 443).Normal())
	// Output:
	// true
	// aws:disconnect-duration less-than 60
	// aws:listening-tcp-ports in-port-set [22 443]
}

// The metrics that devices measure themselves have a type as well.
func ExampleCustomNumber() {
	var temperature defender.NumberMetric = defender.CustomNumber("temperature")
	var levels defender.NumberListMetric = defender.CustomNumberList("levels")
	var modules defender.StringListMetric = defender.CustomStringList("modules")
	var peers defender.AddressMetric = defender.CustomIPAddressList("peers")
	for _, c := range []defender.Criteria{
		temperature.LessThan(40.5, defender.Window5m), levels.In(1, 2.5), modules.NotIn("telnetd"), peers.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")),
	} {
		fmt.Println(c.Normal())
	}
	// Output:
	// temperature less-than 40.5 in 300 s
	// levels in-set [1 2.5]
	// modules not-in-set ["telnetd"]
	// peers in-cidr-set [10.0.0.0/8]
}

// A behavior may compare a device with a percentile of the fleet over a window.
func ExampleStatistic() {
	windows := []defender.Window{defender.Window5m, defender.Window10m, defender.Window15m, defender.Window30m, defender.Window1h}
	percentiles := []defender.Statistic{
		defender.P0, defender.P0_01, defender.P0_1, defender.P1, defender.P10, defender.P50, defender.P90, defender.P99, defender.P99_9, defender.P99_99, defender.P100,
	}
	fmt.Println(windows[0].Duration(), "to", windows[4].Duration(), "and", percentiles[0], "to", percentiles[10])
	fmt.Println(defender.MessagesSent.LessThanEqualsPercentile(defender.P99, defender.Window15m).Normal())
	// Output:
	// 5m0s to 1h0m0s and p0 to p100
	// aws:num-messages-sent less-than-equals p99 in 900 s
}

// A learned behavior needs no number: it compares with what the fleet did before.
func ExampleConfidence() {
	for _, c := range []defender.Confidence{defender.LowConfidence, defender.MediumConfidence, defender.HighConfidence} {
		fmt.Println(defender.Disconnects.Learned(c).Normal())
	}
	// Output:
	// aws:num-disconnects as learned, confidence LOW
	// aws:num-disconnects as learned, confidence MEDIUM
	// aws:num-disconnects as learned, confidence HIGH
}

// A security profile applies to all things, or to some of them.
func ExampleTarget() {
	profile := defender.SecurityProfile{
		Name: "plant",
		Behaviors: append(append(defender.DemoBehaviors(), defender.StarterBehaviors()...), defender.Behavior{
			Name: "own-topics", Criteria: defender.MessagesSent.LessThan(100, defender.Window5m),
			Dimension: &defender.Dimension{TopicFilters: []string{"plant/${iot:ClientId}/#"}, NotIn: true}, Severity: defender.Low,
		}),
		Targets: []defender.Target{defender.RegisteredThings, defender.ThingGroup("cameras")},
	}
	fmt.Println(len(profile.Behaviors), "behaviors, fault:", profile.Validate())
	fmt.Println(defender.AllThings.Resource(), defender.UnregisteredThings.Resource())
	// Output:
	// 6 behaviors, fault: <nil>
	// all/things all/unregistered-things
}

// The zero value leaves the severity to the check, behavior or source.
func ExampleSeverity() {
	for _, s := range []defender.Severity{defender.SeverityDefault, defender.Informational, defender.Low, defender.Medium, defender.High, defender.Critical} {
		fmt.Println(s.Or(defender.Medium))
	}
	high, err := defender.ParseSeverity("high")
	fmt.Println(high == defender.High, err)
	// Output:
	// MEDIUM
	// INFORMATIONAL
	// LOW
	// MEDIUM
	// HIGH
	// CRITICAL
	// true <nil>
}

// Rules of AWS IoT send the first four sources. Device Defender's notifications, the
// self-managed engine and the correlator are the others.
func ExampleSource() {
	rules := []defender.Source{defender.RejectedReports, defender.SecurityDisconnects, defender.RefusedConnections, defender.DeviceEvents}
	others := []defender.Source{defender.AuditNotifications, defender.DetectNotifications, defender.BehaviorTransitions, defender.CorrelatedFindings}
	fmt.Println(len(rules)+len(others) == len(defender.Sources()))
	for _, s := range others {
		fmt.Println(s, s.Severity())
	}
	// Output:
	// true
	// audit MEDIUM
	// detect MEDIUM
	// behavior MEDIUM
	// correlation HIGH
}

// A program that writes messages of its own reads the faults as data.
func ExampleFieldErrors() {
	err := defender.Under("Detect", &defender.FieldError{
		Field: "Behaviors", Want: "at least one behavior, or no engine", Code: "no-behaviors",
		Alternatives: []defender.Alternative{{Field: "Native", Value: "nil"}},
	})
	for _, f := range defender.FieldErrors(err) {
		fmt.Println(f.Code, f.Field, f.Alternatives)
	}
	// Output: no-behaviors Detect.Behaviors [{Detect.Native nil}]
}
