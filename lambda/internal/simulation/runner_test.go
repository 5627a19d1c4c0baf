package simulation

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// summary adds up runs.
type summary struct {
	mu      sync.Mutex
	seeds   int
	signals int
	virtual time.Duration
	counts  map[string]int
	hits    map[hit]int
	failed  []result
}

func newSummary() *summary { return &summary{counts: map[string]int{}, hits: map[hit]int{}} }

func (s *summary) add(r result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seeds++
	s.signals += r.signals
	s.virtual += r.virtual
	for name, n := range r.counts {
		s.counts[name] += n
	}
	for h, n := range r.hits {
		s.hits[h] += n
	}
	if r.violations != "" {
		fmt.Printf("seed %d fails:\n%.2000s\n", r.seed, r.violations)
		s.failed = append(s.failed, r)
	}
}

// String is the part of docs/reliability.md that a run writes.
func (s *summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d seeds, %.0f hours of virtual time, %d signals.\n\n| counted | number |\n|---|---|\n", s.seeds, s.virtual.Hours(), s.signals)
	for _, name := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(&b, "| %s | %d |\n", name, s.counts[name])
	}
	b.WriteString("\n| fault |")
	for _, f := range handlers {
		fmt.Fprintf(&b, " %s |", f)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(handlers)) + "\n")
	for _, k := range kinds() {
		fmt.Fprintf(&b, "| `%s` |", k)
		for _, f := range handlers {
			if n := s.hits[hit{k, f}]; n > 0 || k.strikesIn(f) {
				fmt.Fprintf(&b, " %d |", n)
			} else {
				b.WriteString(" – |")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// empty returns the cells of the table of faults and handlers that are empty but must not be.
func (s *summary) empty() []string {
	var cells []string
	for _, k := range kinds() {
		for _, f := range handlers {
			if k.strikesIn(f) && s.hits[hit{k, f}] == 0 {
				cells = append(cells, string(k)+" in "+f)
			}
		}
	}
	return cells
}

// TestSimulate runs consecutive seeds for the duration in SIMULATE, or the seed in SEED, without
// the faults in WITHOUT. START is the first seed.
func TestSimulate(t *testing.T) {
	without, err := parseKinds(os.Getenv("WITHOUT"))
	if err != nil {
		t.Fatal(err)
	}
	if text := os.Getenv("SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		r := simulate(t, seed, true, without...)
		fmt.Println(r.log)
		if r.violations != "" {
			t.Errorf("seed %d:\n%s", seed, r.violations)
		}
		return
	}
	text := os.Getenv("SIMULATE")
	if text == "" {
		t.Skip("make simulate runs this")
	}
	span, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := strconv.ParseUint(os.Getenv("START"), 10, 64)
	first = max(first, 1)
	fmt.Printf("seeds from %d on, for %v\n", first, span)
	s := simulateFor(t, first, span, without...)
	fmt.Println(s)
	publish(t, "summary", s.String())
	for _, r := range s.failed {
		t.Errorf("seed %d: make simulate SEED=%d WITHOUT=%s\n%s", r.seed, r.seed, shrink(t, r.seed, without), r.violations)
	}
	if cells := s.empty(); len(cells) > 0 && span >= time.Minute && len(without) == 0 {
		t.Errorf("these faults never happened: %s", strings.Join(cells, ", "))
	}
}

// publish writes a result between its marks in docs/reliability.md, if UPDATE is set.
func publish(t *testing.T, mark, content string) {
	t.Helper()
	if os.Getenv("UPDATE") == "" {
		return
	}
	const file = "../../../docs/reliability.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+mark+" -->\n", "<!-- end of "+mark+" -->"
	before, rest, found := strings.Cut(string(text), begin)
	_, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("%s has no marks of %s", file, mark)
	}
	if err := os.WriteFile(file, []byte(before+begin+"\n"+strings.TrimSpace(content)+"\n\n"+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mostFailures ends a run that has found enough.
const mostFailures = 5

// simulateFor runs consecutive seeds on all cores.
func simulateFor(t *testing.T, first uint64, span time.Duration, without ...kind) *summary {
	s := newSummary()
	begin := time.Now()
	var mu sync.Mutex
	next, said := first, begin
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if s.mu.Lock(); time.Since(said) > 20*time.Second {
			said = time.Now()
			fmt.Printf("%v: %d seeds, %.0f virtual hours, %d signals, %d failed\n", time.Since(begin).Round(time.Second), s.seeds, s.virtual.Hours(), s.signals, len(s.failed))
		}
		enough := time.Since(begin) >= span || len(s.failed) >= mostFailures
		s.mu.Unlock()
		next++
		return next - 1, !enough
	}
	t.Run("seeds", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				for seed, ok := take(); ok; seed, ok = take() {
					s.add(simulate(t, seed, false, without...))
				}
			})
		}
	})
	return s
}

// shrink leaves out one kind of fault after the other for as long as the seed still fails.
func shrink(t *testing.T, seed uint64, without []kind) string {
	out := slices.Clone(without)
	for _, k := range kinds() {
		if slices.Contains(out, k) {
			continue
		}
		if r := simulate(t, seed, false, append(slices.Clone(out), k)...); r.violations != "" {
			out = append(out, k)
		}
	}
	names := make([]string, len(out))
	for i, k := range out {
		names[i] = string(k)
	}
	return strings.Join(names, ",")
}
