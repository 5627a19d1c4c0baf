package eventbridge

import (
	"context"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
)

// Emulated is the catalog of the rules that the emulator keeps. It reads them again
// only after Changed.
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
	var rules []Rule
	for token := ""; ; {
		var page struct {
			Rules     []Rule
			NextToken string
		}
		if err := e.API.Target(ctx, "events", target+"ListRules", paged(token, nil), &page); err != nil {
			return nil, err
		}
		for _, r := range page.Rules {
			var err error
			if r.Targets, err = e.targets(ctx, r.Name); err != nil {
				return nil, err
			}
			r.Created = e.created[r.Name]
			rules = append(rules, r)
		}
		if token = page.NextToken; token == "" {
			return rules, nil
		}
	}
}

func (e *Emulated) targets(ctx context.Context, rule string) ([]Target, error) {
	var targets []Target
	for token := ""; ; {
		var page struct {
			Targets   []Target
			NextToken string
		}
		if err := e.API.Target(ctx, "events", target+"ListTargetsByRule", paged(token, map[string]string{"Rule": rule}), &page); err != nil {
			return nil, err
		}
		targets = append(targets, page.Targets...)
		if token = page.NextToken; token == "" {
			return targets, nil
		}
	}
}

func paged(token string, body map[string]string) map[string]string {
	if body == nil {
		body = map[string]string{}
	}
	if token != "" {
		body["NextToken"] = token
	}
	return body
}

// Changed says that rules or targets may have changed.
func (e *Emulated) Changed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known = false
}

// scheduled remembers from when on the rate of a rule counts: the emulator does not
// tell when a rule was made. A rule that is put again keeps its time.
func (e *Emulated) scheduled(name string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known = false
	if e.created == nil {
		e.created = map[string]time.Time{}
	}
	if _, before := e.created[name]; !before {
		e.created[name] = at
	}
}

func (e *Emulated) deleted(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known = false
	delete(e.created, name)
}
