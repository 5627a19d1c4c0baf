package correlation

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// Product fields of composite findings.
const (
	// FieldRule is the rule's name.
	FieldRule = "CorrelationRule"
	// FieldEntity is the device: its thing's name, or its client ID. It is a resource's ID in a rule
	// about resources, and missing in a campaign.
	FieldEntity = "CorrelationEntity"
	// FieldKey is what a campaign's findings share, such as "behavior small-messages"; see [Key].
	FieldKey = "CorrelationKey"
	// FieldParts is the number of parts, and FieldMore how many of them RelatedFindings lacks. For
	// a campaign, FieldParts counts devices.
	FieldParts = "CorrelationParts"
	FieldMore  = "CorrelationMore"
	// FieldStages lists the stages with their number of parts.
	FieldStages = "CorrelationStages"
)

// MaxRelated is how many parts a composite finding names: the ASFF allows 10 related findings.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_FindingProviderFields.html
const MaxRelated = 10

// Kind is what a composite finding is about.
type Kind string

// The kinds. A thing is in the registry, a client is not or is not known to be.
const (
	Thing    Kind = "thing"
	Client   Kind = "client"
	Resource Kind = "resource"
	Campaign Kind = "campaign"
)

// End is why a composite finding ended.
type End string

// The reasons, "" while the finding is active.
const (
	// PartsEnded: its last part was archived, suppressed or resolved.
	PartsEnded End = "parts-ended"
	// WindowPassed: parts are open, but none was updated within the window.
	WindowPassed End = "window-passed"
)

// Composite is the state of one composite finding. It is the message in which the correlator
// sends it to the forwarder's queue.
type Composite struct {
	Rule string `json:"rule"`
	// Digest is the rule's [Rule.Digest].
	Digest string `json:"digest"`
	// Account and Region are those of the parts.
	Account string `json:"account"`
	Region  string `json:"region"`
	Kind    Kind   `json:"kind"`
	// Entity is the thing's name, the client ID or the resource's ID; "" for a campaign.
	Entity string `json:"entity,omitempty"`
	// Key is a campaign's [Key], else "".
	Key string `json:"key,omitempty"`
	// Revision orders the states of the finding. It rises over all time: it is at least the
	// correlator's time in ms since 1970 when it wrote the state.
	Revision int64            `json:"revision"`
	State    asff.RecordState `json:"state"`
	End      End              `json:"end,omitempty"`
	// Time is when the parts reached this state, in ms since 1970.
	Time     int64 `json:"time"`
	Severity Label `json:"severity"`
	// Parts is the number of open parts, a campaign's number of devices. AtLeast reports that there
	// are more, which the correlator's limits leave out.
	Parts   int  `json:"parts"`
	AtLeast bool `json:"atLeast,omitempty"`
	// Related are the newest parts of each stage, at most [MaxRelated].
	Related []asff.RelatedFinding `json:"related,omitempty"`
	// Stages are the rule's stages with their number of parts.
	Stages []StageParts `json:"stages,omitempty"`
	// Title, Description and Remedy are the rule's texts.
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	Remedy      string `json:"remedy,omitempty"`
	// Resources are the device, then its aliases and the resources of its parts.
	Resources []asff.Resource `json:"resources"`
}

// StageParts is how many parts a stage has.
type StageParts struct {
	Name  string `json:"name"`
	Parts int    `json:"parts"`
}

// FindingID returns the finding's ID in the hub of that account and Region.
func (c Composite) FindingID(account, region string) string {
	parts := []string{c.Rule, c.Entity}
	switch c.Kind {
	case Resource:
		parts = []string{c.Rule, "resource", c.Entity}
	case Campaign:
		parts = []string{c.Rule, "campaign", c.Key}
	}
	if c.Account != account || c.Region != region {
		parts = append(parts, c.Account, c.Region)
	}
	return asff.FindingID(defender.CorrelatedFindings, region, parts...)
}

// plain is a Composite without its JSON methods, which would call themselves.
type plain Composite

type compositeJSON struct {
	Source string `json:"source"`
	plain
}

// MarshalJSON writes the form of the forwarder's queue.
func (c Composite) MarshalJSON() ([]byte, error) {
	return json.Marshal(compositeJSON{defender.CorrelatedFindings.String(), plain(c)})
}

// maxTime in ms is the largest number that every reader of JSON reads exactly.
const maxTime = 1 << 53

// UnmarshalJSON reads what MarshalJSON writes.
func (c *Composite) UnmarshalJSON(data []byte) error {
	var in compositeJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("composite finding: %w", err)
	}
	p := Composite(in.plain)
	switch {
	case in.Source != defender.CorrelatedFindings.String():
		return fmt.Errorf("composite finding has source %q, want %s", in.Source, defender.CorrelatedFindings)
	case p.Rule == "" || p.Digest == "" || p.Account == "" || p.Region == "":
		return errors.New("composite finding lacks its rule, digest, account or Region")
	case p.Kind != Thing && p.Kind != Client && p.Kind != Resource && p.Kind != Campaign:
		return fmt.Errorf("composite finding is about a %q, want %s, %s, %s or %s", p.Kind, Thing, Client, Resource, Campaign)
	case (p.Kind == Campaign) != (p.Entity == "") || (p.Kind == Campaign) != (p.Key != ""):
		return fmt.Errorf("composite finding about a %s has entity %q and key %q", p.Kind, p.Entity, p.Key)
	case p.State != asff.Active && p.State != asff.Archived:
		return fmt.Errorf("composite finding has state %q, want %s or %s", p.State, asff.Active, asff.Archived)
	case p.Revision <= 0 || p.Revision > maxTime || p.Time <= 0 || p.Time > maxTime:
		return errors.New("composite finding has no revision or no time")
	case defender.Severity(p.Severity) < defender.Informational:
		return errors.New("composite finding has no severity")
	}
	*c = p
	return nil
}
