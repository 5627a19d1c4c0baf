package simulation

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// corpora are the fuzz targets that parse what a queue carries.
var corpora = map[string]string{
	"ingest":           "lambda/internal/forwarder/handler/testdata/fuzz/FuzzMessage",
	"errors":           "lambda/internal/forwarder/handler/testdata/fuzz/FuzzMessage",
	"audits":           "lambda/internal/forwarder/handler/testdata/fuzz/FuzzMessage",
	"telemetry":        "lambda/internal/evaluator/handler/testdata/fuzz/FuzzMessage",
	"telemetry-errors": "lambda/internal/evaluator/handler/testdata/fuzz/FuzzMessage",
	"notify":           "internal/findingevent/testdata/fuzz/FuzzParse",
}

// values are what messages of one shape differ in.
var values = regexp.MustCompile(`\d+|signal|true|false|active|cleared|ACTIVE|ARCHIVED|type-|[A-Za-z0-9+/]{40,}={0,2}`)

// mostSeeds is how many messages a queue adds to its corpus.
const mostSeeds = 8

// TestCorpus writes the shapes of messages that the simulation has sent into the corpora of the
// fuzz targets, if CORPUS is set.
func TestCorpus(t *testing.T) {
	if os.Getenv("CORPUS") == "" {
		t.Skip("CORPUS=1 writes the corpora")
	}
	shapes := map[string]map[string]bool{}
	for seed := uint64(1); seed <= 20; seed++ {
		for _, sent := range simulate(t, seed, false).sent {
			shape := values.ReplaceAllString(sent.body, "0")
			if shapes[sent.queue] == nil {
				shapes[sent.queue] = map[string]bool{}
			}
			if corpora[sent.queue] == "" || shapes[sent.queue][shape] || len(shapes[sent.queue]) == mostSeeds {
				continue
			}
			shapes[sent.queue][shape] = true
			file := filepath.Join("../../..", corpora[sent.queue], fmt.Sprintf("simulated-%s-%d", sent.queue, len(shapes[sent.queue])))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, fmt.Appendf(nil, "go test fuzz v1\nstring(%q)\n", sent.body), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
