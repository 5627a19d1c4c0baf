package attribute

import (
	"context"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func TestAttributesAreReadAsWritten(t *testing.T) {
	item := map[string]types.AttributeValue{"s": Text("pump-7"), "n": Number(-7), "bad": &types.AttributeValueMemberN{Value: "7.5"}}
	if got := TextOf(item, "s"); got != "pump-7" {
		t.Errorf("text: got %q, want pump-7", got)
	}
	if n, err := NumberOf(item, "n"); n != -7 || err != nil || OptionalNumberOf(item, "n") != -7 {
		t.Errorf("number: got %d, error %v; want -7", n, err)
	}
	for _, name := range []string{"none", "s", "bad"} {
		if _, err := NumberOf(item, name); err == nil || OptionalNumberOf(item, name) != 0 {
			t.Errorf("attribute %s was read as a number", name)
		}
	}
	if TextOf(item, "n") != "" || TextOf(item, "none") != "" {
		t.Error("a number or a missing attribute was read as a text")
	}
}

type putter struct {
	in  *dynamodb.PutItemInput
	err error
}

func (p *putter) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	p.in = in
	return &dynamodb.PutItemOutput{}, p.err
}

func TestNextRevisionIsWrittenOnlyAfterTheOneBefore(t *testing.T) {
	conflict := errors.New("conflict")
	for revision, condition := range map[int64]string{1: "attribute_not_exists(#revision)", 2: "#revision = :before", 7: "#revision = :before"} {
		p := &putter{err: &types.ConditionalCheckFailedException{}}
		if err := Put(t.Context(), p, Next("table", map[string]types.AttributeValue{}, revision), conflict); err != conflict {
			t.Errorf("revision %d: error %v, want a conflict", revision, err)
		}
		if got := *p.in.ConditionExpression; got != condition || OptionalNumberOf(p.in.Item, Revision) != revision || revision > 1 && OptionalNumberOf(p.in.ExpressionAttributeValues, ":before") != revision-1 {
			t.Errorf("revision %d: request %+v, want the condition %s", revision, p.in, condition)
		}
	}
	p := &putter{err: errors.New("throttled")}
	if err := Put(t.Context(), p, Next("table", map[string]types.AttributeValue{}, 1), conflict); err == nil || err.Error() != "PutItem of table table: throttled" {
		t.Errorf("error %v does not name the table and the reason", err)
	}
}
