package defenderhub

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// resolvedProfile returns a copy of profile for validation. It replaces strings that are known only
// at deployment with valid ones. Equal groups, topic filters and metrics stay equal, so that
// validation reports them as repeated. Behaviors get different names.
func resolvedProfile(profile defender.SecurityProfile) defender.SecurityProfile {
	if unresolved(profile.Name) {
		profile.Name = ""
	}
	if unresolved(profile.Description) {
		profile.Description = ""
	}
	profile.Targets = slices.Clone(profile.Targets)
	for i, t := range profile.Targets {
		if unresolved(t.Group()) {
			profile.Targets[i] = defender.ThingGroup("token-" + digest(t.Group()))
		}
	}
	profile.Behaviors = slices.Clone(profile.Behaviors)
	for i, b := range profile.Behaviors {
		if unresolved(b.Name) {
			profile.Behaviors[i].Name = fmt.Sprintf("token-%d", i)
		}
		if unresolved(b.Criteria.Metric().Name) || lostToken(b.Criteria) { // reported by validateMetricNames, validateReferences
			profile.Behaviors[i].Criteria = defender.MessageByteSize.LessThan(1)
			profile.Behaviors[i].Dimension = nil
			continue
		}
		if b.Dimension == nil {
			continue
		}
		d := defender.Dimension{TopicFilters: slices.Clone(b.Dimension.TopicFilters), NotIn: b.Dimension.NotIn}
		for j, filter := range d.TopicFilters {
			if unresolved(filter) {
				d.TopicFilters[j] = "token-" + digest(filter)
			}
		}
		profile.Behaviors[i].Dimension = &d
	}
	profile.RetainedMetrics = slices.Clone(profile.RetainedMetrics)
	for i, m := range profile.RetainedMetrics {
		if m != nil && unresolved(m.Info().Name) {
			profile.RetainedMetrics[i] = defender.CustomNumber("token-" + digest(m.Info().Name))
		}
	}
	return profile
}

// validateMetricNames reports names of custom metrics that are known only at deployment. The IDs of
// constructs and the allowed comparisons depend on the name.
func validateMetricNames(profile defender.SecurityProfile) error {
	var f faults
	const value, want = deployTime, "a custom metric's name that is known at synthesis; if another stack creates the metric, write its name here and in NativeProps.ExistingCustomMetrics"
	for i, b := range profile.Behaviors {
		if unresolved(b.Criteria.Metric().Name) {
			f.add("Behaviors"+index(i)+".Criteria", value, want)
		}
	}
	for i, m := range profile.RetainedMetrics {
		if m != nil && unresolved(m.Info().Name) {
			f.add("RetainedMetrics"+index(i), value, want)
		}
	}
	return f.err()
}

// customMetricsOf returns the custom metrics of a profile, in the order of their first use.
func customMetricsOf(profile defender.SecurityProfile) []iotapi.MetricInfo {
	var all []iotapi.MetricInfo
	add := func(m iotapi.MetricInfo) {
		if m.Side == iotapi.CustomSide && !slices.ContainsFunc(all, func(o iotapi.MetricInfo) bool { return o.Name == m.Name }) {
			all = append(all, m)
		}
	}
	for _, b := range profile.Behaviors {
		add(b.Criteria.Metric())
	}
	for _, m := range profile.RetainedMetrics {
		if m != nil {
			add(m.Info())
		}
	}
	return all
}

func customNames(profile defender.SecurityProfile) []string {
	var names []string
	for _, m := range customMetricsOf(profile) {
		names = append(names, m.Name)
	}
	return names
}

// validateCustomMetrics reports a custom metric that has another type in another profile (an
// account has one metric per name), and names of existing metrics that nothing uses.
func validateCustomMetrics(p DetectProps) error {
	var f faults
	types := map[string]string{}
	for _, profile := range p.profiles() {
		for _, m := range customMetricsOf(profile) {
			t := m.CustomMetricType()
			if other, ok := types[m.Name]; ok && other != t {
				f.add("Profiles", fmt.Sprintf("custom metric %s as %s", m.Name, t), "one type for each custom metric: another profile has it as %s", other)
			}
			types[m.Name] = t
		}
	}
	for i, name := range value(p.Native).ExistingCustomMetrics {
		if types[name] == "" {
			f.add("Native.ExistingCustomMetrics"+index(i), name, "the name of a custom metric that a behavior or RetainedMetrics uses")
		}
	}
	return f.err()
}

// digest returns 8 hex digits that identify a text, for stable construct IDs.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}
