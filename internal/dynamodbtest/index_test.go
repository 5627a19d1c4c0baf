package dynamodbtest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

// TestIndexStaysInOrder writes at random, and compares the pages of two services. One keeps its index
// in order. The other may return stale items, so it searches all items.
func TestIndexStaysInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	ordered, searched := newService(), newService()
	ordered.PageItems, searched.PageItems = 3, 3
	searched.Now, searched.Stale = time.Now, func(time.Duration) bool { return false }
	found := 0
	for range 300 {
		it := item(fmt.Sprint(random.IntN(20)), 1)
		if random.IntN(4) > 0 {
			it["shard"], it["at"] = text(fmt.Sprint(random.IntN(2))), number(random.IntN(12))
		}
		for _, s := range []*dynamodbtest.Service{ordered, searched} {
			if err := put(s, it, "", nil); err != nil {
				t.Fatal(err)
			}
		}
		in := &dynamodb.QueryInput{
			TableName: aws.String("t"), IndexName: aws.String("due"), KeyConditionExpression: aws.String("#shard = :shard AND #at <= :at"),
			ExpressionAttributeNames:  map[string]string{"#shard": "shard", "#at": "at"},
			ExpressionAttributeValues: dynamodbtest.Item{":shard": text("1"), ":at": number(random.IntN(12))},
		}
		if random.IntN(3) == 0 {
			in.KeyConditionExpression = aws.String("#shard = :shard AND #at > :at")
		}
		for {
			got, err := ordered.Query(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			want, err := searched.Query(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if format(got) != format(want) {
				t.Fatalf("found %s, want %s", format(got), format(want))
			}
			found += len(got.Items)
			if in.ExclusiveStartKey = got.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
				break
			}
		}
	}
	if found < 300 {
		t.Errorf("the queries found %d items, want at least 300", found)
	}
}

func format(out *dynamodb.QueryOutput) string {
	text := ""
	for _, it := range append(out.Items, out.LastEvaluatedKey) {
		for _, name := range []string{"pk", "sk", "shard", "at"} {
			text += fmt.Sprintf("%+v ", it[name])
		}
	}
	return text
}
