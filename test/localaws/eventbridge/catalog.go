package eventbridge

import (
	"context"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
)

// Emulated is the catalog of the rules that the emulator keeps. It reads them again
// only after a change.
type Emulated struct {
	API awsapi.Client // the emulator itself

	mu      sync.Mutex
	known   bool
	rules   []Rule
	created map[string]time.Time // of rules with a schedule, by name
}

// Rules implements [Catalog].
func (e *Emulated) Rules(ctx context.Context) ([]Rule, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known {
		return e.rules, nil
	}
	rules, err := e.read(ctx)
	if err != nil {
		return nil, err
	}
	e.rules, e.known = rules, true
	return rules, nil
}

func (e *Emulated) read(ctx context.Context) ([]Rule, error) {
	rules, err := everyPage(func(token map[string]string) (page []Rule, next string, err error) {
		var out struct {
			Rules     []Rule
			NextToken string
		}
		err = e.API.Target(ctx, "events", target+"ListRules", token, &out)
		return out.Rules, out.NextToken, err
	})
	for i := range rules {
		r := &rules[i]
		r.Created = e.created[r.Name]
		if err == nil {
			r.Targets, err = e.targets(ctx, r.Name)
		}
	}
	return rules, err
}

func (e *Emulated) targets(ctx context.Context, rule string) ([]Target, error) {
	return everyPage(func(in map[string]string) (page []Target, next string, err error) {
		var out struct {
			Targets   []Target
			NextToken string
		}
		in["Rule"] = rule
		err = e.API.Target(ctx, "events", target+"ListTargetsByRule", in, &out)
		return out.Targets, out.NextToken, err
	})
}

// everyPage asks for all pages of a list. The input of ask holds the token of the page.
func everyPage[T any](ask func(in map[string]string) (page []T, next string, err error)) ([]T, error) {
	var all []T
	for in := (map[string]string{}); ; {
		page, next, err := ask(in)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if next == "" {
			return all, nil
		}
		in = map[string]string{"NextToken": next}
	}
}

// scheduled remembers from when on the rate of a rule counts: the emulator does not
// tell when a rule was made. A rule that is put again keeps its time.
func (e *Emulated) scheduled(name string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.created == nil {
		e.created = map[string]time.Time{}
	}
	if _, before := e.created[name]; !before {
		e.created[name] = at
	}
}

// changed says that rules or targets may have changed.
func (e *Emulated) changed(operation, rule string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known = false
	if operation == "DeleteRule" {
		delete(e.created, rule)
	}
}
