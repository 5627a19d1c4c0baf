package awsstub_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/bench/awsstub"
)

func call(t *testing.T, table *awsstub.Table, operation, body string) (string, error) {
	t.Helper()
	answer, err := table.Call(operation, []byte(body))
	text, marshalErr := json.Marshal(answer)
	if marshalErr != nil {
		t.Fatal(marshalErr)
	}
	return string(text), err
}

func put(revision, condition string) string {
	return fmt.Sprintf(`{"TableName":"t","Item":{"pk":{"S":"a"},"sk":{"S":"b"},"revision":{"N":%q}},"ConditionExpression":%q,"ExpressionAttributeNames":{"#revision":"revision"}%s}`,
		revision, condition, map[bool]string{true: `,"ExpressionAttributeValues":{":before":{"N":"1"}}`}[strings.Contains(condition, ":before")])
}

func TestConditionsDecide(t *testing.T) {
	table := &awsstub.Table{}
	const first, later = "attribute_not_exists(#revision)", "#revision = :before"
	for _, step := range []struct {
		body string
		ok   bool
	}{{put("2", later), false}, {put("1", first), true}, {put("1", first), false}, {put("2", later), true}, {put("2", later), false}} {
		if _, err := call(t, table, "PutItem", step.body); (err == nil) != step.ok {
			t.Errorf("%s: error %v, want success %v", step.body, err, step.ok)
		}
	}
	insert := `{"Statement":"INSERT INTO \"t\" VALUE {'pk': ?, 'sk': ?, 'revision': ?}","Parameters":[{"S":"a"},{"S":%q},{"N":"1"}]}`
	update := `{"Statement":"UPDATE \"t\" SET \"revision\" = ? REMOVE \"open\" WHERE \"pk\" = ? AND \"sk\" = ? AND \"revision\" = ?","Parameters":[{"N":"3"},{"S":"a"},{"S":%q},{"N":%q}]}`
	for _, step := range []struct{ statement, want string }{
		{fmt.Sprintf(insert, "b"), "DuplicateItem"}, {fmt.Sprintf(insert, "c"), "[{}]"},
		{fmt.Sprintf(update, "b", "1"), "ConditionalCheckFailed"}, {fmt.Sprintf(update, "b", "2"), "[{}]"}, {fmt.Sprintf(update, "d", "1"), "ConditionalCheckFailed"},
	} {
		answer, err := call(t, table, "BatchExecuteStatement", `{"Statements":[`+step.statement+`]}`)
		if err != nil || !strings.Contains(answer, step.want) {
			t.Errorf("%s: %s, %v, want %s", step.statement, answer, err, step.want)
		}
	}
	if answer, _ := call(t, table, "GetItem", `{"TableName":"t","Key":{"pk":{"S":"a"},"sk":{"S":"b"}},"ConsistentRead":true}`); !strings.Contains(answer, `"revision":{"N":"3"}`) {
		t.Errorf("stored %s, want revision 3", answer)
	}
}

func TestUnknownRequestsAreRefused(t *testing.T) {
	for operation, body := range map[string]string{
		"DeleteItem":            `{}`,
		"PutItem":               put("1", "size(#revision) = :before"),
		"GetItem":               `{"TableName":"t","Key":{"pk":{"S":"a"},"sk":{"S":"b"}},"ProjectionExpression":"pk"}`,
		"Query":                 `{"TableName":"t","KeyConditionExpression":"pk = :pk"}`,
		"BatchGetItem":          `{"RequestItems":{"t":{"Keys":[{"pk":{"S":"a"},"sk":{"S":"b"}},{"pk":{"S":"a"},"sk":{"S":"b"}}]}}}`,
		"BatchExecuteStatement": `{"Statements":[{"Statement":"UPDATE \"t\" SET \"revision\" = ? WHERE \"pk\" = ?","Parameters":[{"N":"1"},{"S":"a"}]}]}`,
	} {
		if answer, err := call(t, &awsstub.Table{}, operation, body); err == nil {
			t.Errorf("%s %s: got %s, want an error", operation, body, answer)
		}
	}
}

func TestUnitsAreCharged(t *testing.T) {
	table := &awsstub.Table{}
	body := fmt.Sprintf(`{"TableName":"t","Item":{"pk":{"S":"a"},"sk":{"S":"b"},"revision":{"N":"1"},"refreshShard":{"S":"0"},"refreshAt":{"N":"5"},"doc":{"S":%q}},"ConditionExpression":"attribute_not_exists(#revision)","ExpressionAttributeNames":{"#revision":"revision"}}`, strings.Repeat("x", 2900))
	if _, err := call(t, table, "PutItem", body); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, table, "PutItem", body); err == nil {
		t.Fatal("the second write of a new item succeeded")
	}
	if _, err := call(t, table, "GetItem", `{"TableName":"t","Key":{"pk":{"S":"a"},"sk":{"S":"b"}},"ConsistentRead":true}`); err != nil {
		t.Fatal(err)
	}
	if got, want := table.Units(), (awsstub.Units{Read: 1, Write: 6, Index: 3}); got != want {
		t.Errorf("charged %+v, want %+v", got, want)
	}
}
