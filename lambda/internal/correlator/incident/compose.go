package incident

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/correlation"
)

// Entity is what a composite finding is about.
type Entity struct {
	Account string           `json:"account"`
	Region  string           `json:"region"`
	Kind    correlation.Kind `json:"kind"`
	// Name is a thing's name, a client ID, a resource's ID or a campaign's key.
	Name string `json:"name"`
}

// Compose returns the composite finding of an outcome, without its revision. aliases are the
// device's resources from the registry; the first is the device. atLeast reports whether parts were
// left out.
func Compose(rule Rule, e Entity, o Outcome, aliases []asff.Resource, atLeast bool) correlation.Composite {
	c := correlation.Composite{
		Rule: rule.Name, Digest: rule.Digest, Account: e.Account, Region: e.Region, Kind: e.Kind, Entity: e.Name,
		State: asff.Archived, End: o.End, Time: o.Time.UnixMilli(), Severity: correlation.Label(o.Severity),
		Title: rule.Title, Description: rule.Description, Remedy: rule.Remedy, Resources: aliases,
	}
	if e.Kind == correlation.Campaign {
		c.Entity, c.Key = "", e.Name
	}
	if !o.Active {
		c.Resources = limit(aliases)
		return c
	}
	c.State, c.End, c.AtLeast = asff.Active, "", atLeast
	c.Parts = len(o.Counted)
	if e.Kind == correlation.Campaign {
		c.Parts = len(o.Devices())
	}
	for i, s := range rule.Stages {
		n := 0
		for _, p := range o.Counted {
			if slices.Contains(p.Stages, i) {
				n++
			}
		}
		c.Stages = append(c.Stages, correlation.StageParts{Name: s.Name, Parts: n})
	}
	c.Related = related(len(rule.Stages), o.Counted)
	all := slices.Clone(aliases)
	for _, p := range byAge(o.Counted) {
		all = append(all, p.Resources...)
	}
	c.Resources = limit(all)
	return c
}

// byAge returns the parts oldest first, so that a composite finding keeps its resources when parts
// are added.
func byAge(counted []Counted) []Counted {
	sorted := slices.Clone(counted)
	slices.SortFunc(sorted, func(a, b Counted) int { return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Key(), b.Key())) })
	return sorted
}

// limit returns the first resources, each once.
func limit(all []asff.Resource) []asff.Resource {
	seen := map[string]bool{}
	var distinct []asff.Resource
	for _, r := range all {
		key := r.Type + " " + r.ID
		if !seen[key] && len(distinct) < asff.MaxResources {
			distinct = append(distinct, r)
		}
		seen[key] = true
	}
	return distinct
}

// related returns the newest parts, taking one of each stage in turn.
func related(stages int, counted []Counted) []asff.RelatedFinding {
	var all []asff.RelatedFinding
	taken := map[string]bool{}
	for more := true; more; {
		more = false
		for stage := range stages {
			for _, p := range counted { // newest first
				if taken[p.Key()] || !slices.Contains(p.Stages, stage) {
					continue
				}
				if len(all) == correlation.MaxRelated {
					return all
				}
				taken[p.Key()], more = true, true
				all = append(all, p.Finding)
				break
			}
		}
	}
	return all
}

// Digest identifies what a composite finding shows, whatever its revision and time.
func Digest(c correlation.Composite) string {
	c.Revision, c.Time = 1, 1
	text, _ := json.Marshal(c) // cannot fail for strings and numbers
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12])
}
