package defenderhub

import (
	"fmt"
	"maps"
	"slices"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// judged holds the behaviors of one Detect. A forwarder must know them before their first alarm.
type judged struct {
	// selfManaged reports whether the self-managed engine judges the behaviors.
	selfManaged bool
	// severities are the severities of the behaviors. The keys are digests of profile and behavior
	// for the self-managed engine, and names of behaviors for Device Defender Detect, whose alarms
	// have no severity.
	severities map[string]defender.Severity
}

func (p DetectProps) judged() judged {
	if p.SelfManaged != nil {
		return judged{selfManaged: true, severities: p.live()}
	}
	severities, _ := p.severities()
	return judged{severities: severities}
}

func (j judged) equal(other judged) bool {
	return j.selfManaged == other.selfManaged && maps.Equal(j.severities, other.severities)
}

// behaviors returns the behaviors of all Detects that the self-managed engine judges, nil if there
// is none, and the severities of all other behaviors by name.
func (p ForwarderProps) behaviors() (live contract.LiveBehaviors, severities map[string]defender.Severity) {
	for _, d := range p.Detects {
		if d == nil { // reported by validateDetects
			continue
		}
		j := d.judged()
		if j.selfManaged {
			if live == nil {
				live = contract.LiveBehaviors{}
			}
			maps.Copy(live, j.severities)
			continue
		}
		if severities == nil {
			severities = map[string]defender.Severity{}
		}
		maps.Copy(severities, j.severities)
	}
	return live, severities
}

// validateDetects reports behaviors that several Detects share. Profile, behavior and device alone
// identify a finding of the self-managed engine. NewDetect reports the faults of each Detect.
func (p ForwarderProps) validateDetects() error {
	var f faults
	live, severities := contract.LiveBehaviors{}, map[string]defender.Severity{}
	for i, d := range p.Detects {
		field := "Detects" + index(i)
		if d == nil || d.Native == nil && d.SelfManaged == nil {
			f.add(field, nil, "DetectProps with an engine")
			return f.err()
		}
		j := d.judged()
		if !j.selfManaged {
			_, err := d.severities()
			f.under(field, err)
			for _, name := range slices.Sorted(maps.Keys(j.severities)) {
				if other, ok := severities[name]; ok && other != j.severities[name] {
					f.add(field, fmt.Sprintf("%s of the behavior %s", severityName(j.severities[name]), name),
						"%s, as a behavior of that name in another Detect has, or another name", severityName(other))
				}
			}
			maps.Copy(severities, j.severities)
			continue
		}
		f.under(field, d.validateUnique(live))
		maps.Copy(live, j.severities)
	}
	if len(live) > contract.MaxLiveBehaviors && len(p.Detects) > 1 {
		f.add("Detects", fmt.Sprintf("%d behaviors", len(live)), "at most %d behaviors of all Detects together", contract.MaxLiveBehaviors)
	}
	return f.err()
}

// validateUnique reports profiles with behaviors that another Detect of the same forwarder also
// has.
func (p DetectProps) validateUnique(others contract.LiveBehaviors) error {
	var f faults
	for i, profile := range p.profiles() {
		name := p.profileName(i, profile)
		if !slices.ContainsFunc(profile.Behaviors, func(b defender.Behavior) bool { return others.Has(name, b.Name) }) {
			continue
		}
		if p.profileField(i) == "" {
			f.add("Behaviors", "behaviors of the profile "+name, "behaviors that no other Detect of the same Forwarder has: move them to Profiles under another name")
		} else {
			f.add(p.profileField(i)+".Name", name, "a name that no other Detect of the same Forwarder uses")
		}
	}
	return f.err()
}
