package eventsource

import (
	"net/http"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/edge"
)

// StreamAPI refuses operations that change a stream's shards, which pollers would not
// follow, and leaves all else of Kinesis to next, the emulator.
func StreamAPI(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		switch operation {
		case "SplitShard", "MergeShards", "UpdateShardCount", "UpdateStreamMode":
			edge.Refuse(w, r, "a stream keeps the shards that it was made with")
		default:
			next.ServeHTTP(w, r)
		}
	})
}
