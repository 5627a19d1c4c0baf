package correlation

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

// The limits of rules keep the file of rules, the event pattern and the composite findings small.
const (
	maxStages   = 10
	maxMatchers = 20
	maxElements = 100
	maxText     = 256
	maxDevices  = 10_000
	maxAtLeast  = 100

	shortestWindow = time.Minute
	longestWindow  = 30 * 24 * time.Hour
)

var (
	ruleName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	// productName matches the company and product at the end of a product's ARN.
	// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_Product.html
	productName = regexp.MustCompile(`^(default|[A-Za-z0-9._-]+/[A-Za-z0-9._-]+)$`)
)

// Validate reports every fault of the rule.
func (r Rule) Validate() error {
	var f faults
	if !ruleName.MatchString(r.Name) {
		f.add("Name", orMissing(r.Name), "1 to 64 of a-z 0-9 -")
	}
	f.text("Title", r.Title, 128)
	f.text("Description", r.Description, 512)
	f.text("Remedy", r.Remedy, 512)
	f.stages(r)
	if r.Window != 0 && (r.Window < shortestWindow || r.Window > longestWindow) {
		f.add("Window", r.Window, "1 minute to 30 days, or 0 for the default of 24 hours")
	}
	f.severity("Severity", r.Severity)
	if r.DistinctProducts < 0 || r.DistinctProducts > maxStages {
		f.add("DistinctProducts", r.DistinctProducts, "0 to 10")
	}
	f.list("Resources", r.Resources, maxStages)
	if r.Spread.Enabled() {
		f.spread(r)
	}
	return errors.Join(f...)
}

// faults collects FieldErrors.
type faults []error

func (f *faults) add(field string, value any, want string) {
	*f = append(*f, &defender.FieldError{Field: field, Value: value, Want: want})
}

func (f *faults) text(field, text string, most int) {
	if !printable(text) || utf8.RuneCountInString(text) > most {
		f.add(field, text, fmt.Sprintf("at most %d printable characters", most))
	}
}

func (f *faults) severity(field string, s defender.Severity) {
	if s < defender.SeverityDefault || s > defender.Critical {
		f.add(field, int(s), "SeverityDefault, Informational, Low, Medium, High or Critical")
	}
}

// list reports a list that is too long, and blank, long and repeated elements.
func (f *faults) list(field string, elements []string, most int) {
	if len(elements) > most {
		f.add(field, fmt.Sprintf("%d elements", len(elements)), fmt.Sprintf("at most %d", most))
	}
	seen := map[string]bool{}
	for i, e := range elements {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case strings.TrimSpace(e) == "":
			f.add(at, nil, "a string that is not blank")
		case !printable(e) || utf8.RuneCountInString(e) > maxText:
			f.add(at, e, fmt.Sprintf("at most %d printable characters", maxText))
		case seen[e]:
			f.add(at, e, "each element once")
		}
		seen[e] = true
	}
}

func (f *faults) stages(r Rule) {
	if n := len(r.Stages); n < 1 || n > maxStages {
		f.add("Stages", fmt.Sprintf("%d stages", n), "1 to 10 stages")
	}
	own, seen := 0, map[string]bool{}
	for i, s := range r.Stages {
		at := fmt.Sprintf("Stages[%d]", i)
		*f = append(*f, defender.Under(at, s.validate()))
		if s.Name != "" && seen[s.Name] {
			f.add(at+".Name", s.Name, "a name that no other stage of the rule has")
		}
		seen[s.Name] = true
		if !s.Shared {
			own++
		}
		if s.Shared && (r.InOrder || r.Spread.Enabled() || len(r.Resources) > 0) {
			f.add(at+".Shared", true, "false in a rule with InOrder, Resources or Spread: a finding about a policy belongs to many devices and has no place in an order")
		}
	}
	if own == 0 && len(r.Stages) > 0 {
		f.add("Stages", "only shared stages", "at least one stage about the device itself, which selects the devices")
	}
}

func (s Stage) validate() error {
	var f faults
	if strings.TrimSpace(s.Name) == "" {
		f.add("Name", nil, "1 to 64 printable characters")
	}
	f.text("Name", s.Name, 64)
	if n := len(s.Match); n < 1 || n > maxMatchers {
		f.add("Match", fmt.Sprintf("%d matchers", n), "1 to 20 matchers")
	}
	for i, m := range s.Match {
		f = append(f, defender.Under(fmt.Sprintf("Match[%d]", i), m.validate()))
	}
	if s.AtLeast < 0 || s.AtLeast > maxAtLeast {
		f.add("AtLeast", s.AtLeast, "1 to 100 findings, or 0 for the default of 1")
	}
	return errors.Join(f...)
}

func (m Matcher) validate() error {
	var f faults
	if m.empty() {
		f.add("", nil, "at least one field, such as Sources or Severity")
	}
	f.list("Products", m.Products, maxElements)
	for i, p := range m.Products {
		if strings.TrimSpace(p) != "" && !productName.MatchString(p) {
			f.add(fmt.Sprintf("Products[%d]", i), p, `COMPANY/PRODUCT, such as "aws/guardduty", or "default"`)
		}
	}
	for i, s := range m.Sources {
		switch {
		case !s.Known():
			f.add(fmt.Sprintf("Sources[%d]", i), s.String(), "one of the sources of package defender, such as defender.DeviceEvents")
		case s == defender.CorrelatedFindings:
			f.add(fmt.Sprintf("Sources[%d]", i), s.String(), "any other source: a composite finding cannot be part of another one")
		}
	}
	for i, c := range m.Checks {
		if !c.Known() {
			f.add(fmt.Sprintf("Checks[%d]", i), c.String(), "one of the checks of package defender, such as defender.DeviceCertificateShared")
		}
	}
	f.metrics("Metrics", m.Metrics)
	f.metrics("ExceptMetrics", m.ExceptMetrics)
	if sources, contradiction := m.sources(); contradiction && !slices.Contains(m.Sources, defender.CorrelatedFindings) {
		f.add("Sources", fmt.Sprint(m.Sources), "a source whose findings have the other fields: Checks needs AuditNotifications; Behaviors and Metrics need BehaviorTransitions or DetectNotifications; Events needs DeviceEvents; Reasons needs AuditNotifications, SecurityDisconnects or RefusedConnections")
	} else if len(sources) > 0 && len(m.Products) > 0 && !m.ofDevices() {
		f.add("Products", fmt.Sprint(m.Products), `no products, or "default", "aws/iot-device-defender-audit" or "aws/iot-device-defender-detect": only their findings have the other fields`)
	}
	f.list("Behaviors", m.Behaviors, maxElements)
	f.list("Events", m.Events, maxElements)
	f.list("Reasons", m.Reasons, maxElements)
	f.list("Types", m.Types, maxElements)
	f.list("Generators", m.Generators, maxElements)
	f.severity("Severity", m.Severity)
	return errors.Join(f...)
}

func (f *faults) metrics(field string, list []defender.Metric) {
	if len(list) > maxElements {
		f.add(field, fmt.Sprintf("%d elements", len(list)), fmt.Sprintf("at most %d", maxElements))
	}
	for i, m := range list {
		if m == nil || m.Info().Name == "" {
			f.add(fmt.Sprintf("%s[%d]", field, i), nil, "one of the metrics of package defender, such as defender.SourceIPAddress")
		}
	}
}

// ofDevices reports whether one of the products has findings of defenderhub's sources.
func (m Matcher) ofDevices() bool {
	return slices.ContainsFunc(m.Products, func(p string) bool {
		return p == findingevent.DefaultProduct || p == findingevent.AuditProduct || p == findingevent.DetectProduct
	})
}

// FromSources returns the sources of defenderhub whose findings can match all fields. It returns
// nil if findings of other products can match, too.
func (m Matcher) FromSources() []defender.Source {
	all, _ := m.sources()
	return all
}

// sources also reports a contradiction: no source has findings that can match.
func (m Matcher) sources() (all []defender.Source, contradiction bool) {
	limited := len(m.Sources) > 0
	all = slices.Clone(m.Sources)
	limit := func(set bool, to ...defender.Source) {
		switch {
		case !set:
		case !limited:
			all, limited = to, true
		default:
			all = slices.DeleteFunc(all, func(s defender.Source) bool { return !slices.Contains(to, s) })
		}
	}
	limit(len(m.Checks) > 0, defender.AuditNotifications)
	limit(len(m.Behaviors)+len(m.Metrics) > 0, defender.BehaviorTransitions, defender.DetectNotifications)
	limit(len(m.Events) > 0, defender.DeviceEvents)
	limit(len(m.Reasons) > 0, defender.AuditNotifications, defender.SecurityDisconnects, defender.RefusedConnections)
	return all, limited && len(all) == 0
}

func (m Matcher) empty() bool {
	return len(m.Products)+len(m.Sources)+len(m.Checks)+len(m.Behaviors)+len(m.Metrics)+len(m.Events)+len(m.Reasons)+len(m.Types)+len(m.Generators) == 0 &&
		m.Severity == defender.SeverityDefault
}

func (f *faults) spread(r Rule) {
	c := r.Spread
	if c.Devices != 0 && (c.Devices < 2 || c.Devices > maxDevices) {
		f.add("Spread.Devices", c.Devices, "2 to 10000 devices")
	}
	if c.Share < 0 || c.Share > 1 || c.Share != c.Share {
		f.add("Spread.Share", c.Share, "a share of the fleet above 0 and up to 1")
	}
	if len(r.Stages) > 1 {
		f.add("Stages", fmt.Sprintf("%d stages", len(r.Stages)), "one stage in a rule with Spread")
	}
	for i, s := range r.Stages {
		if s.AtLeast > 1 {
			f.add(fmt.Sprintf("Stages[%d].AtLeast", i), s.AtLeast, "0 in a rule with Spread, which counts devices")
		}
	}
	if len(r.Resources) > 0 {
		f.add("Resources", fmt.Sprint(r.Resources), "no resources in a rule with Spread, which counts devices")
	}
	if r.DistinctProducts > 0 {
		f.add("DistinctProducts", r.DistinctProducts, "0 in a rule with Spread")
	}
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

func orMissing(s string) any {
	if s == "" {
		return nil
	}
	return s
}
