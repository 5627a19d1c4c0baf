package contract

import "fmt"

// BatchMemoryRow says how much memory the forwarder needs for a batch.
type BatchMemoryRow struct {
	// Messages is the largest batch that the memory is enough for.
	Messages int
	// MemoryMiB is what the function needs, in MiB.
	MemoryMiB int
}

// BatchMemory returns how much memory the forwarder needs for batches of that many messages and
// 6 MB, which is what Lambda hands to an invocation at most. The numbers are measured under
// [MemoryLimit], with room for the runtime; a test measures them again.
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

// MemoryLimit is the value of GOMEMLIMIT for a function with that much memory: the rest is for
// what the runtime does not count.
// https://pkg.go.dev/runtime#hdr-Environment_Variables
func MemoryLimit(memoryMiB int) string { return fmt.Sprintf("%dMiB", memoryMiB*8/10) }
