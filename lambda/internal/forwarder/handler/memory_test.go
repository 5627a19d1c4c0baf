//go:build linux && !race

// The peak is read from /proc. The race detector's own memory must not count.

package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/deviceevent"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/backlog"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/bound"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/delivery"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/importer"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

// batchFile is the environment variable that makes the test binary handle the batch in a file and
// print its memory use.
const batchFile = "DEFENDERHUB_TEST_BATCH_FILE"

// invocationBytes is the maximum size of an invocation's event.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const invocationBytes = 6 << 20

// TestMemoryOfABatch measures the peak memory of the function for batches of 6 MB. Each batch has its
// own process, under the memory limit that the construct sets. The construct chooses MemoryMiB for a
// BatchSize by these numbers.
func TestMemoryOfABatch(t *testing.T) {
	if file := os.Getenv(batchFile); file != "" {
		handleBatchOf(t, file)
		return
	}
	for _, c := range contract.BatchMemory() {
		t.Run(fmt.Sprint(c.Messages), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "batch.json")
			if err := os.WriteFile(file, batchText(t, newRig(t), c.Messages), 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.Command(os.Args[0], "-test.run=^TestMemoryOfABatch$")
			command.Env = append(os.Environ(), batchFile+"="+file, "GOMEMLIMIT="+contract.MemoryLimit(c.MemoryMiB))
			out, err := command.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			peak := regexp.MustCompile(`peak (\d+) kB`).FindStringSubmatch(string(out))
			if peak == nil {
				t.Fatalf("no peak in %s", out)
			}
			kB, _ := strconv.Atoi(peak[1])
			t.Logf("%d messages: %d MiB of %d", c.Messages, kB/1024, c.MemoryMiB)
			if kB/1024 > c.MemoryMiB {
				t.Errorf("%d messages of 6 MB take %d MiB, want at most %d", c.Messages, kB/1024, c.MemoryMiB)
			}
		})
	}
}

// voidTable stores nothing, so that only the function's own memory is measured.
type voidTable struct{ ledger.Table }

func (voidTable) Get(_ context.Context, k ledger.Key) (ledger.Record, error) {
	return ledger.Record{Key: k}, nil
}
func (voidTable) Put(context.Context, ledger.Record) error { return nil }
func (t voidTable) GetAll(ctx context.Context, keys []ledger.Key) ([]ledger.Record, []error) {
	return ledgertest.GetEach(ctx, t, keys)
}
func (t voidTable) PutAll(ctx context.Context, records []ledger.Record) []error {
	return ledgertest.PutEach(ctx, t, records)
}

func handleBatchOf(t *testing.T, file string) {
	// A Security Hub that stores nothing.
	hub := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"FailedCount":0,"SuccessCount":100,"FailedFindings":[]}`)
	})
	client := securityhub.NewFromConfig(inprocess.Config(hub, account, region))
	log, metrics := slog.New(slog.DiscardHandler), emf.New(contract.MetricDimensionForwarder, "f", io.Discard, time.Now)
	book := ledger.New(voidTable{}, region, contract.DefaultQuietTime)
	h := &handler.Handler{
		Backlog: &backlog.Backlog{Table: voidTable{}, Now: time.Now},
		Bounds:  &bound.Bounds{Table: voidTable{}, Region: region, Now: time.Now}, Ledger: book, Metrics: metrics, Log: log, Now: time.Now, Things: &things{},
		Deliver: &delivery.Delivery{Ledger: book, Importer: importer.New(client, nil), Metrics: metrics, Log: log},
		Region:  region, EventTopic: "defenderhub/events/+", DeadLetterQueueURL: deadURL,
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // an environment handles one batch after the other
		answer, err := h.Handle(context.Background(), text)
		if err != nil || len(answer.(events.SQSEventResponse).BatchItemFailures) > 0 {
			t.Fatal(answer, err)
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	fmt.Printf("peak %s kB for %d bytes\n", peak[1], len(text))
}

// batchText returns a batch of n events of the maximum size of an invocation, each with as many
// details as fit.
func batchText(t *testing.T, r *rig, n int) []byte {
	size := func(details int) []byte {
		pairs := map[string]string{}
		for k := 0; details > 0; k++ {
			pairs[fmt.Sprint("k", k)] = strings.Repeat("x", min(details, 1024))
			details -= 1024
		}
		var batch events.SQSEvent
		for i := range n {
			event, err := json.Marshal(deviceevent.Event{Type: "tamper", Details: pairs})
			if err != nil {
				t.Fatal(err)
			}
			batch.Records = append(batch.Records, r.device(fmt.Sprintf("pump-%d", i), start, string(event)))
		}
		text, err := json.Marshal(batch)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	fits := size(0)
	for low, high := 0, 20*1024; low+512 < high; {
		middle := (low + high) / 2
		if text := size(middle); len(text) <= invocationBytes {
			fits, low = text, middle
		} else {
			high = middle
		}
	}
	return fits
}
