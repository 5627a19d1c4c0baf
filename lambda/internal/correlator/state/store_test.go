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

// recorder records the items of writes and answers reads with the last one.
type recorder struct {
	API
	put  *dynamodb.PutItemInput
	fail error
}

func (r *recorder) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	r.put = in
	return &dynamodb.PutItemOutput{}, r.fail
}

func (r *recorder) GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return &dynamodb.GetItemOutput{Item: r.put.Item}, r.fail
}

func TestRecordIsReadAsItIsWritten(t *testing.T) {
	r := &recorder{}
	s := New(r, "t")
	want := Record{Key: Key{"device#" + strings.Repeat("x", 3000), Main}, Revision: 2, Doc: []byte("{}"), Due: time.UnixMilli(1000).UTC(), Expires: time.Unix(2, 0).UTC()}
	if err := s.Put(context.Background(), want); err != nil {
		t.Fatal(err)
	}
	stored := attribute.TextOf(r.put.Item, "pk")
	if len(stored) > 1024 || !strings.HasPrefix(stored, "device#sha256:") {
		t.Errorf("partition key %q", stored)
	}
	got, err := s.Subject(context.Background(), stored)
	if err != nil || got.Partition != want.Partition || got.Revision != 2 || !got.Due.Equal(want.Due) || !got.Expires.Equal(want.Expires) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFailedWrites(t *testing.T) {
	r := &recorder{fail: &types.ConditionalCheckFailedException{}}
	s := New(r, "t")
	ctx := context.Background()
	if err := s.Put(ctx, Record{Key: Key{"a", "b"}, Revision: 1}); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v", err)
	}
	if free, err := s.Slot(ctx, time.Now()); free || err != nil {
		t.Errorf("got %t, %v", free, err)
	}
	r.fail = errors.New("throttled")
	if free, err := s.Slot(ctx, time.Now()); free || !errors.Is(err, r.fail) {
		t.Errorf("got %t, %v", free, err)
	}
	if err := s.Put(ctx, Record{Key: Key{"a", "b"}, Revision: 1, Doc: make([]byte, 400<<10)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// The devices of a campaign share no partition that would take all writes.
func TestPartsOfACampaignAreDistributed(t *testing.T) {
	shards := map[string]int{}
	for i := range 1000 {
		shards[PartKey("campaign#x", 7, strings.Repeat("s", i)).Partition]++
	}
	for key, n := range shards {
		if n > 400 {
			t.Errorf("%s has %d of 1000 parts", key, n)
		}
	}
	if len(shards) != CampaignShards {
		t.Errorf("%d shards", len(shards))
	}
}
