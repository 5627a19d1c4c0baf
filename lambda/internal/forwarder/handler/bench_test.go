package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

// BenchmarkBatch handles batches of new findings: decode, map, claim, import into the
// local Security Hub through the SDK, confirm, answer.
func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				r := newRig(b)
				var batch events.SQSEvent
				for k := range n {
					batch.Records = append(batch.Records, r.device(fmt.Sprintf("pump-%d", k), start, tamper))
				}
				text, err := json.Marshal(batch)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if _, err := r.handler.Handle(context.Background(), text); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if len(r.hub.Findings()) != n {
					b.Fatalf("%d findings, want %d", len(r.hub.Findings()), n)
				}
				b.StartTimer()
			}
		})
	}
}
