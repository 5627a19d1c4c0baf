package engine

import (
	"fmt"
	"maps"
	"strings"
)

// Generations distinguish a behavior from a removed one of the same name. The state of the removed
// one must not be used, and its findings may have been archived. The keys are profile and name,
// separated by a slash, which a profile's name cannot contain.
type Generations map[string]int64

// Next returns the generations of behaviors, and whether they differ from g. Behaviors that g does
// not have get number, which must be greater than all in g.
func (g Generations) Next(behaviors []Compiled, number int64) (next Generations, changed bool) {
	next = Generations{}
	for _, c := range behaviors {
		known, ok := g[c.name()]
		if !ok {
			known = number
		}
		next[c.name()] = known
	}
	return next, !maps.Equal(g, next)
}

// Of returns the behaviors with these generations. Those that g does not have keep theirs.
func (g Generations) Of(behaviors []Compiled) []Compiled {
	all := make([]Compiled, len(behaviors))
	for i, c := range behaviors {
		if known, ok := g[c.name()]; ok {
			c.generation = known
			c.key = c.keyOf()
		}
		all[i] = c
	}
	return all
}

func (c Compiled) name() string { return c.Profile + "/" + c.Behavior.Name }

// keyOf is the behavior's key in a thing's state.
func (c Compiled) keyOf() string {
	if c.generation == 0 {
		return c.name()
	}
	return fmt.Sprintf("%s#%d", c.name(), c.generation)
}

// nameOf is the name of a key's behavior, without its generation.
func nameOf(key string) string {
	name, _, _ := strings.Cut(key, "#")
	return name
}
