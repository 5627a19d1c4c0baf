package handler

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
)

// settings are the prepared configuration.
type settings struct {
	// baselines are the populations of behaviors with a baseline.
	baselines  []engine.FleetKey
	batching   time.Duration
	membership time.Duration
	// reportInterval is the configured interval of device reports.
	reportInterval time.Duration
	// targets are those of the profiles that do not apply to all things, with the names of thing groups.
	targets     map[string][]string
	reportTopic string
	// unregistered is [engine.Config.UnregisteredLifetime].
	unregistered time.Duration
}

func newSettings(c engine.Config, all []engine.Compiled, groups []string) (settings, error) {
	e := settings{
		batching: time.Duration(c.BatchSeconds) * time.Second, membership: time.Duration(c.MembershipMinutes) * time.Minute,
		targets: map[string][]string{}, reportTopic: c.ReportTopic,
		unregistered: c.UnregisteredLifetime(), reportInterval: c.ReportInterval(),
	}
	for _, b := range all {
		if k, ok := b.FleetKey(); ok && b.Behavior.Criteria.Confidence() != "" && !slices.Contains(e.baselines, k) {
			e.baselines = append(e.baselines, k)
		}
		targets := c.Targets(b.Profile)
		if targets == nil || e.targets[b.Profile] != nil {
			continue
		}
		for _, t := range targets {
			t, err := named(t, groups)
			if err != nil {
				return settings{}, fmt.Errorf("security profile %s: %w", b.Profile, err)
			}
			e.targets[b.Profile] = append(e.targets[b.Profile], t)
		}
	}
	return e, nil
}

// named returns the target with its group's name instead of the index.
func named(target string, groups []string) (string, error) {
	position, isGroup := strings.CutPrefix(target, groupPrefix)
	if !isGroup {
		return target, nil
	}
	i, err := strconv.Atoi(position)
	if err != nil || i < 0 || i >= len(groups) || groups[i] == "" {
		return "", fmt.Errorf("target %s names none of the %d thing groups in %s", target, len(groups), contract.EnvThingGroups)
	}
	return groupPrefix + groups[i], nil
}

var groupPrefix = defender.ThingGroup("").Resource()

// watches reports whether the thing is among the targets of a profile.
func (e settings) watches(profile string, t registry.Thing) bool {
	targets := e.targets[profile]
	return targets == nil || slices.ContainsFunc(targets, func(target string) bool {
		switch target {
		case defender.AllThings.Resource():
			return true
		case defender.RegisteredThings.Resource():
			return t.Registered
		case defender.UnregisteredThings.Resource():
			return !t.Registered
		}
		return slices.Contains(t.Groups, strings.TrimPrefix(target, groupPrefix))
	})
}

func (e settings) lateness() time.Duration { return engine.Lateness(e.batching) }
