package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mutation is a fault in the product that the simulation must find. This list was fixed before
// the first run with it. A change of the product may change file, old and new, not the rest.
type mutation struct {
	name string
	// area is order, confirm, retry or another part.
	area, what string
	// file is relative to the module; old occurs in it once.
	file, old, new string
}

var mutations = []mutation{
	{"older-signal-overrides", "order", "a signal that is older than the confirmed one is imported", "lambda/internal/forwarder/ledger/decide.go",
		"	case order <= 0:\n		return *e, nothing\n	case e.Status == Confirmed && repeats", "	case e.Status == Confirmed && repeats"},
	{"first-signal-of-a-batch-wins", "order", "merging a batch keeps the oldest signal", "lambda/internal/forwarder/signal/signal.go",
		"return a.Order.Compare(b.Order) })", "return b.Order.Compare(a.Order) })"},
	{"end-wins-ties", "order", "of two signals of one time, the end wins", "lambda/internal/forwarder/signal/signal.go",
		"	if state == asff.Active {\n		return \"1\"", "	if state != asff.Active {\n		return \"1\""},
	{"early-end-is-dropped", "order", "an end that arrives before its beginning is not kept", "lambda/internal/forwarder/ledger/decide.go",
		"	e.Finding, e.Inherits = &s.Finding, s.Inherits\n	return e, note", "	e.Finding, e.Inherits = &s.Finding, s.Inherits\n	return e, nothing"},
	{"late-beginning-is-active", "order", "a finding that ended before its beginning arrived becomes active", "lambda/internal/forwarder/ledger/decide.go",
		"			return lateBeginning(*e, s, now), claim", "			return take(*e, s, now), claim"},
	{"updated-at-is-event-time", "order", "UpdatedAt does not rise with a signal of an earlier time", "lambda/internal/forwarder/ledger/decide.go",
		"e.UpdatedAt = max(e.UpdatedAt+1, min(s.Time, now))", "e.UpdatedAt = min(s.Time, now)"},
	{"confirm-overwrites-newer-claim", "confirm", "a confirmation that lost against a newer claim writes over it", "lambda/internal/forwarder/ledger/dynamodb.go",
		`	return attribute.Put(ctx, d.api, attribute.Next(d.name, encodeItem(r), r.Revision), ErrConflict)`, `	in := attribute.Next(d.name, encodeItem(r), r.Revision)
	if r.Revision > 1 {
		in.ConditionExpression = aws.String("attribute_exists(#revision) OR #revision = :before")
	}
	return attribute.Put(ctx, d.api, in, ErrConflict)`},
	{"confirm-before-import", "confirm", "a finding that failed alone is confirmed", "lambda/internal/forwarder/delivery/delivery.go",
		"	case outcome.Failing:\n		over", "	case outcome.Failing:\n		_ = d.Ledger.Confirm(ctx, now, []ledger.Claim{t.claimed})\n		over"},
	{"confirm-is-forgotten", "confirm", "a new claim does not become pending, so that a crash before the import loses it", "lambda/internal/forwarder/ledger/entry.go",
		"	e.Status = Pending\n	return e", "	e.Status = Confirmed\n	return e"},
	{"confirm-keeps-created-at", "confirm", "a claim after a confirmed import counts as new", "lambda/internal/forwarder/ledger/decide.go",
		"return e.ImportedAt == 0 ||", "return e.ImportedAt >= 0 ||"},
	{"partial-failure-is-success", "retry", "findings that failed alone count as imported", "lambda/internal/forwarder/importer/importer.go",
		"		if !bad && unnamed {", "		if bad = false; !bad && unnamed {"},
	{"lost-answer-is-success", "retry", "an import without an answer counts as imported", "lambda/internal/forwarder/importer/importer.go",
		"		return outcome.Retry, true // no response from the service", "		return outcome.Done, false"},
	{"retry-is-deleted", "retry", "a message that must be retried is deleted", "lambda/internal/forwarder/handler/batch.go",
		"		if !m.done {", "		if !m.done && hubOff {"},
	{"unconfirmed-repeat-is-nothing", "retry", "a retried message does not import an unconfirmed claim again", "lambda/internal/forwarder/ledger/decide.go",
		"		return *e, again\n	case order <= 0:", "		return *e, nothing\n	case order <= 0:"},
	{"refused-is-dropped", "dead letters", "an invalid message is deleted", "lambda/internal/forwarder/handler/batch.go",
		"		if err := h.deadLetter(ctx, m); err != nil {", "		if err := error(nil); err != nil {"},
	{"outbox-empties-unsent", "retry", "an outbox is emptied although a message was not sent", "lambda/internal/evaluator/handler/outbox.go",
		"			l.of.send = false\n			h.count", "			h.count"},
	{"lateness-is-ignored", "order", "a window is judged before all telemetry has arrived", "internal/engine/window.go",
		"return ClockSkew + batching + DeliveryMargin", "return batching"},
	{"closer-ignores-backlog", "order", "silence is judged although telemetry waits", "lambda/internal/evaluator/handler/progress.go",
		"return at, !waiting && !received, nil", "return at, true || waiting || received, nil"},
	{"gone-is-forgotten", "registry", "why a device is gone is forgotten when the registry is asked again", "lambda/internal/evaluator/handler/recheck.go",
		"	return before\n}", "	return state.Gone{}\n}"},
	{"stages-in-any-order", "incidents", "the stages of a rule in order may come in any order", "lambda/internal/correlator/incident/satisfied.go",
		"	if r.rule.InOrder {", "	if r.rule.InOrder && len(need) > 2 {"},
	{"window-never-passes", "incidents", "parts count until they end, however short the window is", "lambda/internal/correlator/incident/replay.go",
		"		if !p.Shared {\n			s.to,", "		if !p.Shared && r.rule.WindowSeconds > 10*3600 {\n			s.to,"},
	{"incident-ends-with-its-stage", "incidents", "an incident ends when its rule is not satisfied any more, although parts are left", "lambda/internal/correlator/incident/replay.go",
		"	case r.own == 0 && r.Active:", "	case !r.satisfied() && r.Active:"},
	{"removed-rule-stays", "incidents", "incidents of a removed rule stay active", "lambda/internal/forwarder/sweep/sweep.go",
		"		return s.Rules[e.Behavior] //", "		return true || s.Rules[e.Behavior] //"},
	{"capped-line-is-lost", "messages", "a change that exceeds the cap is in no list", "lambda/internal/notifier/handler/publish.go",
		"	return b.Table.PutLine(ctx, moreOf(b.minute()), n.Event.Key(), n.Line(), n.Event.Order, b.now)", "	return nil"},
	{"digest-is-deleted-unsent", "messages", "a digest is deleted although it was not sent", "lambda/internal/notifier/handler/lists.go",
		"list+\"#\"+hex.EncodeToString(id.Sum(nil))); err != nil {", "list+\"#\"+hex.EncodeToString(id.Sum(nil))); err != nil && len(lines) == 0 {"},
	{"older-event-is-news", "messages", "an event that is older than the record changes it", "lambda/internal/notifier/handler/decide.go",
		"	switch e.Order.Compare(f.Order) {\n	case 1:", "	switch e.Order.Compare(f.Order) {\n	case 1, -1:"},
	{"reminder-skips-critical", "messages", "a reminder lacks the CRITICAL findings", "lambda/internal/notifier/record/record.go",
		"s <= defender.Critical; s++", "s < defender.Critical; s++"},
	{"ended-incident-covers", "messages", "an incident that has ended still covers what it named", "lambda/internal/notifier/handler/finding.go",
		"if f.Open && !incident.Order.Updated.Before(f.Opened) {", "if f.Revision > 0 {"},
}

// TestMutations builds the simulation with each mutation and runs seeds until one fails. It needs
// MUTATE; MUTATE=NAME runs one.
func TestMutations(t *testing.T) {
	only := os.Getenv("MUTATE")
	if only == "" {
		t.Skip("make simulate runs this")
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	table := "| mutation | area | what it does | found by seed |\n|---|---|---|---|\n"
	for _, m := range mutations {
		if only != "1" && only != m.name {
			continue
		}
		begin := time.Now()
		seeds, err := m.run(t, root)
		found := strconv.Itoa(seeds)
		if err != nil {
			found = fmt.Sprintf("not in %d", mutantSeeds)
		}
		row := fmt.Sprintf("| `%s` | %s | %s | %s |\n", m.name, m.area, m.what, found)
		fmt.Print(row)
		table += row
		if err != nil {
			t.Errorf("%s survives %d seeds after %v: %v", m.name, mutantSeeds, time.Since(begin).Round(time.Second), err)
		}
	}
	if only == "1" {
		publish(t, "mutations", table)
	}
}

// mutantSeeds is within how many seeds a mutation must be found.
const mutantSeeds = 200

// run returns how many seeds were needed to find the mutation.
func (m mutation) run(t *testing.T, root string) (seeds int, err error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(root, m.file)
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return 0, fmt.Errorf("%s has the mutated text %d times", m.file, n)
	}
	mutated := filepath.Join(dir, "mutated.go")
	overlay := filepath.Join(dir, "overlay.json")
	replaced, err := json.Marshal(map[string]any{"Replace": map[string]string{file: mutated}})
	if err != nil {
		return 0, err
	}
	for name, content := range map[string][]byte{mutated: []byte(strings.Replace(string(text), m.old, m.new, 1)), overlay: replaced} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return 0, err
		}
	}
	binary := filepath.Join(dir, "simulation.test")
	build := exec.CommandContext(context.Background(), "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	run := exec.CommandContext(context.Background(), binary, "-test.run", "^TestMutant$", "-test.timeout", "30m")
	run.Env = append(os.Environ(), "MUTANT=1")
	out, err := run.CombinedOutput()
	var exit *exec.ExitError
	if err == nil {
		return mutantSeeds, errors.New("no seed failed")
	}
	if !errors.As(err, &exit) {
		return 0, err
	}
	_, after, found := strings.Cut(string(out), "found by seed ")
	if !found {
		return 0, fmt.Errorf("the program ended: %s", out)
	}
	word, _, _ := strings.Cut(after, " ")
	return strconv.Atoi(word)
}

// TestMutant runs seeds until one fails; TestMutations calls it.
func TestMutant(t *testing.T) {
	if os.Getenv("MUTANT") == "" {
		t.Skip("TestMutations runs this")
	}
	s := newSummary()
	next := make(chan uint64)
	done := make(chan bool)
	go func() {
		defer close(next)
		for seed := uint64(1); seed <= mutantSeeds; seed++ {
			select {
			case next <- seed:
			case <-done:
				return
			}
		}
	}()
	t.Run("seeds", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				for seed := range next {
					s.add(simulate(t, seed, false))
					s.mu.Lock()
					failed := len(s.failed) > 0
					s.mu.Unlock()
					if failed {
						select {
						case done <- true:
						default:
						}
						return
					}
				}
			})
		}
	})
	if len(s.failed) > 0 {
		t.Fatalf("found by seed %d by %s", s.failed[0].seed, s.failed[0].violations)
	}
}

// TestMutationsApply keeps the list of mutations in step with the code.
func TestMutationsApply(t *testing.T) {
	for _, m := range mutations {
		text, err := os.ReadFile(filepath.Join("../../..", m.file))
		if n := strings.Count(string(text), m.old); err != nil || n != 1 {
			t.Errorf("%s: %s has the text %d times, want it once: %v", m.name, m.file, n, err)
		}
	}
}
