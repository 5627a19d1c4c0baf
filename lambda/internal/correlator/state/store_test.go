package state

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
)

// recorder answers reads with the item of the last write.
type recorder struct {
	API
	last *dynamodb.PutItemInput
	fail error
}

func (r *recorder) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	r.last = in
	return &dynamodb.PutItemOutput{}, r.fail
}

func (r *recorder) GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return &dynamodb.GetItemOutput{Item: r.last.Item}, r.fail
}

func TestRecordIsReadAsItIsWritten(t *testing.T) {
	r := &recorder{}
	s := New(r, "t")
	want := Record{Key: Key{"device#" + strings.Repeat("x", 3000), Main}, Revision: 2, Doc: []byte("{}"), Due: time.UnixMilli(1000).UTC(), Expires: time.Unix(2, 0).UTC()}
	if err := s.Put(context.Background(), want); err != nil {
		t.Fatal(err)
	}
	stored := attribute.TextOf(r.last.Item, "pk")
	if len(stored) > 1024 || !strings.HasPrefix(stored, "device#sha256:") {
		t.Errorf("partition key %q, want at most 1024 bytes that begin with device#sha256:", stored)
	}
	got, err := s.Subject(context.Background(), stored)
	if err != nil || got.Partition != want.Partition || got.Revision != 2 || !got.Due.Equal(want.Due) || !got.Expires.Equal(want.Expires) {
		t.Errorf("got %+v, error %v; want %+v", got, err, want)
	}
}

func TestFailedWrites(t *testing.T) {
	r := &recorder{fail: &types.ConditionalCheckFailedException{}}
	s := New(r, "t")
	ctx := context.Background()
	if err := s.Put(ctx, Record{Key: Key{"a", "b"}, Revision: 1}); !errors.Is(err, ErrConflict) {
		t.Errorf("conflict: error %v, want ErrConflict", err)
	}
	if free, err := s.Slot(ctx, time.Now()); free || err != nil {
		t.Errorf("conflict: the slot is free: %t, error %v; want neither", free, err)
	}
	r.fail = errors.New("throttled")
	if free, err := s.Slot(ctx, time.Now()); free || !errors.Is(err, r.fail) {
		t.Errorf("throttled: the slot is free: %t, error %v; want the error alone", free, err)
	}
	if err := s.Put(ctx, Record{Key: Key{"a", "b"}, Revision: 1, Doc: make([]byte, 400<<10)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("400 KiB: error %v, want ErrTooLarge", err)
	}
}

// The devices of a campaign are spread over partitions, so that none receives all writes.
func TestPartsOfACampaignAreDistributed(t *testing.T) {
	shards := map[string]int{}
	for i := range 1000 {
		shards[PartKey("campaign#x", 7, strings.Repeat("s", i)).Partition]++
	}
	for key, n := range shards {
		if n > 400 {
			t.Errorf("%s has %d of 1000 parts, want at most 400", key, n)
		}
	}
	if len(shards) != CampaignShards {
		t.Errorf("%d shards, want %d", len(shards), CampaignShards)
	}
}
