package engine

import (
	"fmt"
	"maps"
	"strings"
)

// Generations tell a behavior from one of the same name that was removed before: what is
// remembered of that one says nothing about this one, and its findings may have been
// archived. They go by profile and name; a profile's name has no slash.
type Generations map[string]int64

// Next are the generations of behaviors that follow those of g, and whether they differ. What
// g does not have begins with number, which must be greater than all in g.
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

// Of are behaviors of these generations. Those that g does not have keep theirs.
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

// keyOf names the behavior in a thing's state.
func (c Compiled) keyOf() string {
	if c.generation == 0 {
		return c.name()
	}
	return fmt.Sprintf("%s#%d", c.name(), c.generation)
}

// nameOf is the name of a behavior, of whatever generation, that a key is of.
func nameOf(key string) string {
	name, _, _ := strings.Cut(key, "#")
	return name
}
