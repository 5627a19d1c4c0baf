// Package correlation holds what the constructs, the correlator, the notifier and the forwarder
// agree on: the rules' file, which findings match a rule, the event pattern of the rules, and the
// message in which the correlator sends a composite finding to the forwarder.
//
// The constructs write the file, and the correlator and the notifier read it.
package correlation

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
)

// File is the file with the [Config], beside the executables of the correlator and the notifier:
// environment variables are limited to 4 KB.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const File = "correlation.json"

// MaxRules is the maximum number of rules. Their digests must leave room in an environment of 4 KB.
const MaxRules = 50

// Config is the content of the rules' file.
type Config struct {
	Rules []Rule `json:"rules"`
	// Attributes are the names of the things' attributes that name resources, such as "instanceId".
	Attributes []string `json:"attributes,omitempty"`
	// Elsewhere includes findings of other accounts and Regions.
	Elsewhere bool `json:"elsewhere,omitempty"`
	// MaxAgeMinutes is how long an answer of the registry is cached.
	MaxAgeMinutes int `json:"maxAgeMinutes,omitempty"`
	// ClientPattern is for [contract.ParseClientPattern]: which client IDs are further connections
	// of a thing.
	ClientPattern string `json:"clientPattern,omitempty"`
}

// DefaultMaxAge is the default of [Config.MaxAgeMinutes].
const DefaultMaxAge = time.Hour

// ReadFile reads a rules' file.
func ReadFile(file string) (Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("the correlation rules: %w", err)
	}
	var c Config
	if err := json.Unmarshal(text, &c); err != nil {
		return Config{}, fmt.Errorf("the correlation rules in %s: %w", file, err)
	}
	return c, nil
}

// MaxAge returns MaxAgeMinutes with its default.
func (c Config) MaxAge() time.Duration {
	if c.MaxAgeMinutes == 0 {
		return DefaultMaxAge
	}
	return time.Duration(c.MaxAgeMinutes) * time.Minute
}

// Rule is a rule with its defaults, as the file has it.
type Rule struct {
	Name             string   `json:"name"`
	Title            string   `json:"title"`
	Description      string   `json:"description,omitempty"`
	Remedy           string   `json:"remedy"`
	Stages           []Stage  `json:"stages"`
	InOrder          bool     `json:"inOrder,omitempty"`
	WindowSeconds    int64    `json:"windowSeconds"`
	Severity         Label    `json:"severity"`
	DistinctProducts int      `json:"distinctProducts,omitempty"`
	Resources        []string `json:"resources,omitempty"`
	// Devices is how many devices make a campaign; 0 for a rule about one device.
	Devices int `json:"devices,omitempty"`
}

// Window returns how long a part counts after its last update.
func (r Rule) Window() time.Duration { return time.Duration(r.WindowSeconds) * time.Second }

// Campaign reports whether the rule is about many devices.
func (r Rule) Campaign() bool { return r.Devices > 0 }

// Shared reports whether a stage matches findings about policies and role aliases.
func (r Rule) Shared() bool {
	return slices.ContainsFunc(r.Stages, func(s Stage) bool { return s.Shared })
}

// Stage is a stage of a [Rule].
type Stage struct {
	Name    string    `json:"name"`
	Match   []Matcher `json:"match"`
	AtLeast int       `json:"atLeast"`
	Shared  bool      `json:"shared,omitempty"`
}

// Matcher has the names of what it matches. An empty field matches anything.
type Matcher struct {
	Products      []string `json:"products,omitempty"`
	Sources       []string `json:"sources,omitempty"`
	Checks        []string `json:"checks,omitempty"`
	Behaviors     []string `json:"behaviors,omitempty"`
	Metrics       []string `json:"metrics,omitempty"`
	ExceptMetrics []string `json:"exceptMetrics,omitempty"`
	Events        []string `json:"events,omitempty"`
	Reasons       []string `json:"reasons,omitempty"`
	Types         []string `json:"types,omitempty"`
	Generators    []string `json:"generators,omitempty"`
	Severity      Label    `json:"severity,omitempty"`
}

// Label is a severity, which is text in JSON.
type Label defender.Severity

// MarshalText writes the ASFF label, "" for defender.SeverityDefault.
func (l Label) MarshalText() ([]byte, error) { return []byte(defender.Severity(l).String()), nil }

// UnmarshalText reads an ASFF label or "".
func (l *Label) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*l = 0
		return nil
	}
	s, err := defender.ParseSeverity(string(text))
	*l = Label(s)
	return err
}

// CodeNoFleetSize is the code of the fault that a rule's spread is a share of a fleet of unknown
// size.
const CodeNoFleetSize = "no-fleet-size"

// Compile returns the rules as the file has them. fleetSize is the number of devices of which a
// spread is a share, 0 if it is unknown. It reports all faults of all rules at once, by index; the
// fleet size is the field "FleetSize" beside the rules.
func Compile(rules []correlation.Rule, fleetSize int) ([]Rule, error) {
	var all []Rule
	var faults []error
	if n := len(rules); n > MaxRules {
		faults = append(faults, &defender.FieldError{Value: fmt.Sprintf("%d rules", n), Want: fmt.Sprintf("at most %d", MaxRules)})
	}
	seen := map[string]bool{}
	for i, r := range rules {
		at := fmt.Sprintf("[%d]", i)
		faults = append(faults, defender.Under(at, r.Validate()))
		if r.Name != "" && seen[r.Name] {
			faults = append(faults, &defender.FieldError{Field: at + ".Name", Value: r.Name, Want: "a name that no other rule has"})
		}
		seen[r.Name] = true
		if r.Spread.Share > 0 && fleetSize == 0 {
			faults = append(faults, &defender.FieldError{
				Field: at + ".Spread.Share", Value: r.Spread.Share, Want: "0 and a number of Devices instead, or a FleetSize of which this is a share",
				Code: CodeNoFleetSize,
			})
		}
		all = append(all, ruleOf(r, fleetSize))
	}
	return all, errors.Join(faults...)
}

func ruleOf(r correlation.Rule, fleetSize int) Rule {
	r = r.WithDefaults()
	c := Rule{
		Name: r.Name, Title: r.Title, Description: r.Description, Remedy: r.Remedy, InOrder: r.InOrder, WindowSeconds: int64(r.Window / time.Second),
		Severity: Label(r.Severity), DistinctProducts: r.DistinctProducts, Resources: r.Resources,
	}
	if r.Spread.Enabled() {
		c.Devices = r.Spread.Devices
		if share := int(math.Ceil(r.Spread.Share * float64(fleetSize))); r.Spread.Share > 0 && (c.Devices == 0 || share < c.Devices) {
			c.Devices = share
		}
		c.Devices = max(c.Devices, 2)
	}
	for _, s := range r.Stages {
		stage := Stage{Name: s.Name, AtLeast: s.AtLeast, Shared: s.Shared}
		for _, m := range s.Match {
			stage.Match = append(stage.Match, matcherOf(m))
		}
		c.Stages = append(c.Stages, stage)
	}
	return c
}

func matcherOf(m correlation.Matcher) Matcher {
	names := func(metrics []defender.Metric) (all []string) {
		for _, metric := range metrics {
			if metric != nil {
				all = append(all, metric.Info().Name)
			}
		}
		return all
	}
	c := Matcher{
		Products: m.Products, Behaviors: m.Behaviors, Events: m.Events, Reasons: m.Reasons, Types: m.Types, Generators: m.Generators,
		Severity: Label(m.Severity), Metrics: names(m.Metrics), ExceptMetrics: names(m.ExceptMetrics),
	}
	for _, s := range m.FromSources() {
		c.Sources = append(c.Sources, s.String())
	}
	for _, check := range m.Checks {
		c.Checks = append(c.Checks, check.String())
	}
	return c
}

// digestLength is the length of a rule's digest: 48 bits.
const digestLength = 8

// Digest identifies the rule by everything that affects its decisions: all fields except the texts
// for people. A changed rule is a new rule, with new findings.
func (r Rule) Digest() string {
	r.Title, r.Description, r.Remedy = "", "", ""
	r.Stages = slices.Clone(r.Stages)
	text, _ := json.Marshal(r) // cannot fail for strings and numbers
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])[:digestLength]
}

// LiveRules are the digests of the deployed rules. From them the forwarder archives the composite
// findings of rules that were removed, renamed or changed. The text form, in contract.EnvLiveRules,
// is the digests one after the other.
type LiveRules map[string]bool

// Live returns the digests of the rules.
func Live(rules []Rule) LiveRules {
	l := LiveRules{}
	for _, r := range rules {
		l[r.Digest()] = true
	}
	return l
}

// String returns the text form, sorted.
func (l LiveRules) String() string {
	text := ""
	for _, d := range slices.Sorted(maps.Keys(l)) {
		text += d
	}
	return text
}

// ParseLiveRules parses the text form.
func ParseLiveRules(text string) (LiveRules, error) {
	if len(text)%digestLength != 0 {
		return nil, fmt.Errorf("live rules of %d characters, want a multiple of %d", len(text), digestLength)
	}
	l := LiveRules{}
	for d := range slices.Chunk([]byte(text), digestLength) {
		l[string(d)] = true
	}
	return l, nil
}
