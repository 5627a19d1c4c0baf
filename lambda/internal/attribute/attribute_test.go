package attribute

import (
	"testing"

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
