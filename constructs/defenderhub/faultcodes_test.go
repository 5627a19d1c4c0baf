package defenderhub_test

import (
	"fmt"
	"testing"

	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// TestFaultsNameTheOtherFieldsThatFixThem gives props with faults that another field can fix. The
// name of each test is the fault's code, its field and the alternatives.
func TestFaultsNameTheOtherFieldsThatFixThem(t *testing.T) {
	off := &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off}
	existing := &defenderhub.AuditProps{Configuration: defenderhub.Existing}
	onMessages := func(p defenderhub.SelfManagedProps) *defenderhub.DetectProps {
		p.Prebuilt = prebuilt
		return &defenderhub.DetectProps{Behaviors: defender.DemoBehaviors(), SelfManaged: &p}
	}
	long := map[string]defender.Severity{}
	for i := range 100 {
		long[fmt.Sprintf("a-type-of-events-with-a-long-name-%d", i)] = defender.Low
	}
	for want, props := range map[string]defenderhub.DefenderHubProps{
		"two-engines Detect.SelfManaged [{Detect.Native nil}]": {Detect: &defenderhub.DetectProps{
			Behaviors: defender.DemoBehaviors(), Native: &defenderhub.NativeProps{}, SelfManaged: &defenderhub.SelfManagedProps{},
		}},
		"no-behaviors Detect.Behaviors [{Detect.Native nil}]": {Detect: &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}}},
		"no-behaviors Detect.Behaviors [{Detect.SelfManaged.ReportsEvery } {Detect.SelfManaged nil}]": {
			Detect: &defenderhub.DetectProps{SelfManaged: &defenderhub.SelfManagedProps{}},
		},
		"no-reports Detect.SelfManaged.ReportTopic [{Detect.Behaviors } {Detect.SelfManaged.ReportsEvery }]": {
			Detect: onMessages(defenderhub.SelfManagedProps{ReportTopic: "fleet/+/report"}),
		},
		"shared-topic Detect.SelfManaged.ReportTopic [{Rules.EventTopic fleet/#}]": {
			Detect: selfManaged(defenderhub.SelfManagedProps{ReportTopic: "fleet/+/report"}), Rules: &defenderhub.RulesProps{EventTopic: "fleet/#"},
		},
		"sent-already Forward[0] [{Subscriptions.Audit Off}]":                {Forward: []defender.Source{defender.AuditNotifications}},
		"no-engine Forward[0] [{Detect.Native }]":                            {Forward: []defender.Source{defender.DetectNotifications}},
		"no-engine Forward[0] [{Detect.SelfManaged }]":                       {Forward: []defender.Source{defender.BehaviorTransitions}},
		"unjudged Detect.Behaviors [{Detect.Native } {Detect.SelfManaged }]": {Detect: &defenderhub.DetectProps{Behaviors: defender.DemoBehaviors()}},
		"no-transitions Forward [{Detect.SelfManaged nil}]":                  {Detect: onMessages(defenderhub.SelfManagedProps{}), Forward: iotrule.Sources()},
		"no-transitions Forward [{NoForwarder false} {Detect.SelfManaged nil}]": {
			Detect: onMessages(defenderhub.SelfManagedProps{}), NoForwarder: true,
		},
		"no-audit-topic Forward[0] [{Audit.Topic }]":                                     {Subscriptions: off, Audit: existing, Forward: []defender.Source{defender.AuditNotifications}},
		"lost-audits Subscriptions.Audit [{Audit.Topic } {Forward } {NoForwarder true}]": {Subscriptions: off, Audit: existing},
		"nothing-scheduled Audit.Except [{Audit.NoSchedule true}]":                       {Audit: &defenderhub.AuditProps{Except: defender.Checks()}},
		"nothing-forwarded Forward [{NoForwarder false}]":                                {Forward: iotrule.Sources(), NoForwarder: true},
		"no-forwarder Correlate [{NoForwarder false} {Correlate nil}]":                   {Correlate: &defenderhub.CorrelateProps{Prebuilt: prebuilt}, NoForwarder: true},
		"no-fleet-size Correlate.Rules[0].Spread.Share [{Correlate.FleetSize }]": {
			Correlate: &defenderhub.CorrelateProps{Prebuilt: prebuilt, Rules: []correlation.Rule{correlation.Campaign(correlation.Spread{Share: 0.1})}},
		},
		"products-and-sources Notify.Filters[0].Products [{Notify.Filters[0].Sources nil}]": {Notify: &defenderhub.NotifyProps{
			Prebuilt: prebuilt, Filters: []defenderhub.NotifyFilter{{Products: []string{"default"}, Sources: iotrule.Sources()}},
		}},
		"ruled-out Notify.RemindAt [{Notify.NoReminder false}]": {Notify: &defenderhub.NotifyProps{Prebuilt: prebuilt, NoReminder: true, RemindAt: "08:00"}},
		"ruled-out Detect.SelfManaged.Shards [{Detect.SelfManaged.Transport TransportKinesis}]": {
			Detect: selfManaged(defenderhub.SelfManagedProps{Shards: 2}),
		},
		" Rules.Sources []":        {Rules: &defenderhub.RulesProps{Sources: iotrule.Sources()}},
		" Forwarder.EventTopic []": {Forwarder: &defenderhub.ForwarderProps{EventTopic: "a/+"}},
		"long-environment Forwarder [{Forwarder.EventTypes } {Forwarder.Severities }]": {Forwarder: &defenderhub.ForwarderProps{EventTypes: long}},
		" Audit.Schedule []": {Audit: &defenderhub.AuditProps{Schedule: defender.Monthly(32)}},
	} {
		t.Run(want, func(t *testing.T) {
			defer func() {
				err, _ := recover().(error)
				found := defender.FieldErrors(err)
				if len(found) != 1 {
					t.Fatalf("got %v, want one fault", err)
				}
				if got := fmt.Sprint(found[0].Code, " ", found[0].Field, " ", found[0].Alternatives); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}()
			defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), withPrebuilt(&props))
		})
	}
}

// Notify reads the rules of Correlate, so its faults have the same alternatives.
func TestFaultsOfRulesHaveTheirAlternativesInNotifyToo(t *testing.T) {
	defer func() {
		err, _ := recover().(error)
		for _, f := range defender.FieldErrors(err) {
			if got, want := fmt.Sprint(f.Field, " ", f.Alternatives), "Correlate.Rules[0].Spread.Share [{Correlate.FleetSize }]"; f.Code == defenderhub.CodeNoFleetSize && got == want {
				return
			}
		}
		t.Errorf("got %v, want a fault that Correlate.FleetSize fixes", err)
	}()
	rules := []correlation.Rule{correlation.Campaign(correlation.Spread{Share: 0.1})}
	defenderhub.NewNotify(newStack(), jsii.String("Notify"), &defenderhub.NotifyProps{Prebuilt: prebuilt, Correlate: &defenderhub.CorrelateProps{Rules: rules}})
}
