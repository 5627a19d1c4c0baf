package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// importsPerSecond is how many calls of BatchImportFindings, of 100 findings each, are allowed
// per second, per account and Region.
// https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub_limits.html
const importsPerSecond = 10

// measured are the results of one benchmark by unit, such as ns/op.
type measured map[string]float64

// mapping measures how fast messages are mapped to findings, compared with decoding the same
// message into plain Go values.
func (b *bench) mapping() error {
	results, names, err := b.benchmark("./lambda/internal/forwarder/mapping", "0.5s", ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		kind, ours := strings.CutSuffix(name, "/map")
		if !ours {
			continue
		}
		m, d := results[name], results[kind+"/decode"]
		if d == nil {
			return fmt.Errorf("no benchmark decodes what %s maps", name)
		}
		b.row(strings.TrimPrefix(kind, "Mapping/")+", findings/s", fmt.Sprintf("%.0f", 1e9/m["ns/op"]), fmt.Sprintf("%.0f JSON decoded alone", 1e9/d["ns/op"]), number(d["ns/op"]/m["ns/op"]), "")
		b.row("  allocations", fmt.Sprintf("%.0f", m["allocs/op"]), fmt.Sprintf("%.0f JSON decoded alone", d["allocs/op"]), number(m["allocs/op"]/d["allocs/op"]), "")
	}
	return nil
}

// batches measures whole invocations, compared with the time that Security Hub's quota needs for
// as many findings.
func (b *bench) batches() error {
	results, names, err := b.benchmark("./lambda/internal/forwarder/handler", "5x", ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		records, err := strconv.Atoi(strings.TrimPrefix(name, "Batch/"))
		if err != nil {
			continue // a benchmark of something else
		}
		quota := float64((records+99)/100) / importsPerSecond
		took := results[name]["ns/op"] / 1e9
		b.row(fmt.Sprintf("%d new findings", records), seconds(took), seconds(quota)+" by Security Hub's quota", number(took/quota), "")
	}
	return nil
}

var benchmarkLine = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)$`)

// benchmark runs the matching benchmarks inside the module of the functions, because no other
// module may import their internals. names are in the order of the output.
func (b *bench) benchmark(pkg, time, match string) (results map[string]measured, names []string, err error) {
	out, err := b.command(b.repository, nil, "go", "test", "-run", "^$", "-bench", match, "-benchmem", "-benchtime", time, pkg)
	if err != nil {
		return nil, nil, err
	}
	results = map[string]measured{}
	for line := range strings.Lines(out) {
		found := benchmarkLine.FindStringSubmatch(strings.TrimSpace(line))
		if found == nil {
			continue
		}
		m := measured{}
		fields := strings.Fields(found[2])
		for i := 0; i+1 < len(fields); i += 2 {
			if m[fields[i+1]], err = strconv.ParseFloat(fields[i], 64); err != nil {
				return nil, nil, fmt.Errorf("line %q of go test: %w", line, err)
			}
		}
		results[found[1]], names = m, append(names, found[1])
	}
	if len(names) == 0 {
		return nil, nil, fmt.Errorf("go test printed no benchmark of %s:\n%s", pkg, out)
	}
	return results, names, nil
}
