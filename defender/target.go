package defender

// Target is the set of things that a security profile applies to. The zero value is [AllThings].
// https://docs.aws.amazon.com/iot/latest/apireference/API_AttachSecurityProfile.html
type Target struct {
	kind  targetKind
	group string
}

type targetKind int

const (
	allThings targetKind = iota
	registeredThings
	unregisteredThings
	thingGroup
)

var (
	// AllThings are all devices, registered or not.
	AllThings = Target{}
	// RegisteredThings are the devices in the registry.
	RegisteredThings = Target{kind: registeredThings}
	// UnregisteredThings are the devices that are not in the registry. AWS identifies each by its
	// client ID, which must not change.
	UnregisteredThings = Target{kind: unregisteredThings}
)

// ThingGroup is the target of all things in a group. The name is 1 to 128 of A-Z a-z 0-9 : _ -, or
// a deploy-time reference, such as that of a group that the same stack creates.
func ThingGroup(name string) Target { return Target{kind: thingGroup, group: name} }

// Group returns the thing group's name, "" for the other targets.
func (t Target) Group() string { return t.group }

// Resource returns the last part of the target's ARN, after arn:PARTITION:iot:REGION:ACCOUNT:.
func (t Target) Resource() string {
	switch t.kind {
	case registeredThings:
		return "all/registered-things"
	case unregisteredThings:
		return "all/unregistered-things"
	case thingGroup:
		return "thinggroup/" + t.group
	}
	return "all/things"
}

// Validate reports a thing group without a valid name.
func (t Target) Validate() error {
	if t.kind == thingGroup && !validName(t.group) {
		return invalid("", orMissing(t.group), "a thing group's name: %s", nameRule)
	}
	return nil
}
