package contract

import "fmt"

// BatchMemoryRow says how much memory the forwarder needs for a batch.
type BatchMemoryRow struct {
	// Messages is the largest batch for which the memory is enough.
	Messages int
	// MemoryMiB is the memory that the function needs, in MiB.
	MemoryMiB int
}

// BatchMemory returns how much memory the forwarder needs, by size of batch. A batch has at most
// 6 MB, Lambda's limit for an invocation. A test measures the numbers under [MemoryLimit], with
// room for the runtime.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
func BatchMemory() []BatchMemoryRow {
	return []BatchMemoryRow{{1000, 128}, {4000, 256}, {8000, 320}, {10000, 384}}
}

// MemoryForBatch returns how many MiB the forwarder needs for batches of that many messages.
func MemoryForBatch(messages int) int {
	rows := BatchMemory()
	for _, row := range rows {
		if messages <= row.Messages {
			return row.MemoryMiB
		}
	}
	return rows[len(rows)-1].MemoryMiB
}

// MemoryLimit returns GOMEMLIMIT for a function with that much memory. It leaves room for memory
// that the Go runtime does not count.
// https://pkg.go.dev/runtime#hdr-Environment_Variables
func MemoryLimit(memoryMiB int) string { return fmt.Sprintf("%dMiB", memoryMiB*8/10) }
