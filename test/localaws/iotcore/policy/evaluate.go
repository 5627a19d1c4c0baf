package policy

import (
	"slices"
	"strings"
)

// Request is one thing that a client wants to do.
type Request struct {
	Action   string // "iot:Publish"
	Resource string // "arn:aws:iot:us-east-1:123456789012:topic/a/b"
	Values   Values
}

// Decision is the answer to a request.
type Decision struct {
	Allowed bool
	// ExplicitDeny is true when a Deny statement matched; a request that is
	// neither allowed nor explicitly denied is denied because nothing allows it.
	ExplicitDeny bool
}

// Evaluate decides a request by all documents together: a matching Deny wins
// over every Allow, and what nothing allows is denied.
func Evaluate(documents []*Document, request Request) Decision {
	allowed := false
	for _, d := range documents {
		for _, s := range d.Statements {
			if !s.applies(request) {
				continue
			}
			if s.Effect == Deny {
				return Decision{ExplicitDeny: true}
			}
			allowed = true
		}
	}
	return Decision{Allowed: allowed}
}

// applies takes care of variables without a value: such a pattern matches nothing, and
// an Allow on NotResource must not gain from that.
func (s Statement) applies(r Request) bool {
	action := strings.ToLower(r.Action)
	of := func(p Pattern) bool { m, _ := p.Match(action, nil); return m }
	unresolved := false
	on := func(p Pattern) bool {
		matched, resolved := p.Match(r.Resource, r.Values)
		unresolved = unresolved || !resolved
		return matched
	}
	if len(s.Actions) > 0 && !slices.ContainsFunc(s.Actions, of) || slices.ContainsFunc(s.NotActions, of) ||
		len(s.Resources) > 0 && !slices.ContainsFunc(s.Resources, on) || slices.ContainsFunc(s.NotResources, on) {
		return false
	}
	if len(s.NotResources) > 0 && unresolved && s.Effect == Allow {
		return false
	}
	return !slices.ContainsFunc(s.Conditions, func(c Condition) bool { return !c.Holds(r.Values) })
}
