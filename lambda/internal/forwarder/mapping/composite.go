package mapping

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Composite returns the signal of a composite finding of the correlator. Its order is the message's
// revision. It is imported under this account, even if its parts are of another account or Region,
// which the description then names.
//
// A composite finding of a rule that is not deployed ends, and is ordered after signals of the
// same revision from when the rule was deployed.
func (m Mapper) Composite(message []byte, o Origin) (signal.Signal, error) {
	const source = defender.CorrelatedFindings
	var c correlation.Composite
	if err := json.Unmarshal(message, &c); err != nil {
		return signal.Signal{}, err
	}
	f := m.finding(c.FindingID(m.Account, m.Region), correlation.GeneratorPrefix+c.Rule)
	f.RecordState = c.State
	f.FindingProviderFields = unusual(defender.Severity(c.Severity))
	f.FindingProviderFields.RelatedFindings = c.Related
	subject := c.Entity
	if c.Kind == correlation.Campaign {
		subject = c.Key
	}
	f.Title = c.Title + ": " + subject + "."
	f.Description = describeComposite(c, m.here())
	f.Remediation = remedy(c.Remedy, "")
	p := place{m.Partition, c.Account, c.Region}
	f.SourceURL = p.console("")
	if c.Kind == correlation.Thing {
		f.SourceURL = p.thingURL(c.Entity)
	}
	f.Resources = c.Resources
	f.ProductFields = compositeFields(c)
	order := signal.Order{Time: c.Revision}
	if c.State == asff.Active && !m.Rules[c.Digest] {
		f = RemovedRule(f)
		order.Time++
	}
	substance := []string{fmt.Sprint(c.Parts, c.AtLeast, c.Stages), fmt.Sprint(c.Related), string(c.End)}
	s := signal.New(source, f, c.Time, order, substance...)
	order = s.Order
	s = s.NotAfter(o.Sent) // limits the displayed time
	s.Order = order
	s.Profile, s.Behavior = c.Rule, c.Digest
	return s, nil
}

// compositeEnds explain in a description why a composite finding ended.
var compositeEnds = map[correlation.End]string{
	correlation.PartsEnded:   " It ended with its last part.",
	correlation.WindowPassed: " It ended because the rule's window passed without a new part. Parts may still be active.",
}

// removedRule explains in a description why a composite finding ended although its parts did not.
const removedRule = " The rule was removed or changed, so it is not known whether it still matches."

// RemovedRule returns the ended composite finding of a rule that is no longer deployed.
func RemovedRule(f asff.Finding) asff.Finding {
	f.RecordState = asff.Archived
	return f.Noted(removedRule)
}

func describeComposite(c correlation.Composite, here place) string {
	text := c.Description
	if text != "" {
		text += " "
	}
	parts := "findings"
	if c.Kind == correlation.Campaign {
		parts = "devices"
	}
	least := ""
	if c.AtLeast {
		least = "at least "
	}
	text += fmt.Sprintf("Open %s: %s%d", parts, least, c.Parts)
	if c.Kind != correlation.Campaign && c.State == asff.Active {
		text += " (" + stagesText(c) + ")"
	}
	text += "."
	if c.Account != here.account || c.Region != here.region {
		text += fmt.Sprintf(" They are in account %s, Region %s.", c.Account, c.Region)
	}
	return text + compositeEnds[c.End]
}

// stagesText lists the stages with their number of parts.
func stagesText(c correlation.Composite) string {
	parts := make([]string, len(c.Stages))
	for i, s := range c.Stages {
		parts[i] = s.Name + " " + strconv.Itoa(s.Parts)
	}
	return strings.Join(parts, ", ")
}

func compositeFields(c correlation.Composite) pairs {
	f := pairs{
		correlation.FieldRule:  c.Rule,
		correlation.FieldParts: strconv.Itoa(c.Parts),
		correlation.FieldMore:  strconv.Itoa(max(0, c.Parts-len(c.Related))),
	}
	f.set(correlation.FieldEntity, c.Entity)
	f.set(correlation.FieldKey, c.Key)
	f.set(correlation.FieldStages, stagesText(c))
	if c.Kind == correlation.Thing {
		f.set("ThingName", c.Entity)
	}
	return f
}
