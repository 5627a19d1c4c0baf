package ledger_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
)

type item = map[string]types.AttributeValue

// fakeDynamoDB stores items. An expression that the ledger does not use fails the test. Its
// pages are short, and limit the items before the filter, as DynamoDB's do.
type fakeDynamoDB struct {
	t     *testing.T
	items map[[2]string]item
	// unprocessed is how many keys of a batch are left unprocessed.
	unprocessed int
	// failing is n if every nth statement of a batch is throttled, after it took effect if late is
	// set; 0 means none.
	failing int
	late    bool
	// broken, if set, is the error of each batch of statements.
	broken error

	mu    sync.Mutex
	calls map[string]int
}

func (f *fakeDynamoDB) count(call string) func() {
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[call]++
	return f.mu.Unlock
}

func (f *fakeDynamoDB) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	defer f.count("BatchGetItem")()
	request := in.RequestItems["ledger"]
	if n := len(request.Keys); len(in.RequestItems) != 1 || n < 2 || n > 100 || !aws.ToBool(request.ConsistentRead) {
		f.t.Errorf("BatchGetItem of %d keys, consistent: %v", n, request.ConsistentRead)
	}
	out := &dynamodb.BatchGetItemOutput{Responses: map[string][]item{}}
	for i, k := range slices.Backward(request.Keys) { // in any order
		if i < f.unprocessed {
			out.UnprocessedKeys = map[string]types.KeysAndAttributes{"ledger": {Keys: request.Keys[:i+1], ConsistentRead: aws.Bool(true)}}
			break
		}
		if it := f.items[keyOf(k)]; it != nil {
			out.Responses["ledger"] = append(out.Responses["ledger"], it)
		}
	}
	return out, nil
}

var (
	insertStatement = regexp.MustCompile(`^INSERT INTO "ledger" VALUE \{(.*)\}$`)
	updateStatement = regexp.MustCompile(`^UPDATE "ledger"((?: SET "\w+" = \?)+)((?: REMOVE "\w+")*) WHERE "pk" = \? AND "sk" = \? AND "revision" = \?$`)
	attributeName   = regexp.MustCompile(`["'](\w+)["']`)
)

func (f *fakeDynamoDB) BatchExecuteStatement(_ context.Context, in *dynamodb.BatchExecuteStatementInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error) {
	defer f.count("BatchExecuteStatement")()
	if n := len(in.Statements); n < 2 || n > 25 {
		f.t.Errorf("BatchExecuteStatement of %d statements", n)
	}
	if f.broken != nil {
		return nil, f.broken
	}
	out := &dynamodb.BatchExecuteStatementOutput{}
	for i, s := range in.Statements {
		fails := f.failing > 0 && i%f.failing == 0
		var failed *types.BatchStatementError
		if !fails || f.late {
			failed = f.execute(*s.Statement, s.Parameters)
		}
		if fails {
			failed = &types.BatchStatementError{Code: types.BatchStatementErrorCodeEnumThrottlingError}
		}
		out.Responses = append(out.Responses, types.BatchStatementResponse{Error: failed})
	}
	return out, nil
}

// execute runs a statement. A form that the ledger does not use fails the test.
func (f *fakeDynamoDB) execute(statement string, parameters []types.AttributeValue) *types.BatchStatementError {
	names := func(text string) (all []string) {
		for _, found := range attributeName.FindAllStringSubmatch(text, -1) {
			all = append(all, found[1])
		}
		return all
	}
	it := item{}
	if insert := insertStatement.FindStringSubmatch(statement); insert != nil {
		for i, name := range names(insert[1]) {
			it[name] = parameters[i]
		}
		if f.items[keyOf(it)] != nil {
			return &types.BatchStatementError{Code: types.BatchStatementErrorCodeEnumDuplicateItem}
		}
		f.items[keyOf(it)] = it
		return nil
	}
	update := updateStatement.FindStringSubmatch(statement)
	if update == nil {
		f.t.Fatalf("unexpected statement %s", statement)
	}
	where := parameters[len(parameters)-3:]
	k := keyOf(item{"pk": where[0], "sk": where[1]})
	stored := f.items[k]
	if stored == nil || num(stored, "revision") != num(item{"n": where[2]}, "n") {
		return &types.BatchStatementError{Code: types.BatchStatementErrorCodeEnumConditionalCheckFailed}
	}
	it = maps.Clone(stored)
	for i, name := range names(update[1]) {
		it[name] = parameters[i]
	}
	for _, name := range names(update[2]) {
		delete(it, name)
	}
	f.items[k] = it
	return nil
}

func keyOf(it item) [2]string {
	return [2]string{str(it, contract.LedgerPartitionKey), str(it, contract.LedgerSortKey)}
}

func str(it item, name string) string {
	s, _ := it[name].(*types.AttributeValueMemberS)
	if s == nil {
		return ""
	}
	return s.Value
}

func num(it item, name string) int64 {
	n, _ := it[name].(*types.AttributeValueMemberN)
	if n == nil {
		return 0
	}
	v, _ := strconv.ParseInt(n.Value, 10, 64)
	return v
}

func (f *fakeDynamoDB) GetItem(_ context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	defer f.count("GetItem")()
	if !aws.ToBool(in.ConsistentRead) {
		f.t.Error("GetItem without ConsistentRead")
	}
	return &dynamodb.GetItemOutput{Item: f.items[keyOf(in.Key)]}, nil
}

func (f *fakeDynamoDB) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	defer f.count("PutItem")()
	stored, exists := f.items[keyOf(in.Item)]
	attribute := in.ExpressionAttributeNames["#revision"]
	ok := false
	switch *in.ConditionExpression {
	case "attribute_not_exists(#revision)":
		ok = !exists && len(in.ExpressionAttributeValues) == 0
	case "#revision = :before":
		ok = exists && num(stored, attribute) == num(in.ExpressionAttributeValues, ":before")
	default:
		f.t.Errorf("unexpected condition %s", *in.ConditionExpression)
	}
	if !ok {
		return nil, &types.ConditionalCheckFailedException{}
	}
	f.items[keyOf(in.Item)] = in.Item
	return &dynamodb.PutItemOutput{}, nil
}

func (f *fakeDynamoDB) Query(_ context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	names, values := in.ExpressionAttributeNames, in.ExpressionAttributeValues
	var found []item
	index := aws.ToString(in.IndexName) != ""
	for _, it := range f.items {
		switch *in.KeyConditionExpression {
		case "#pk = :pk":
			if !aws.ToBool(in.ConsistentRead) {
				f.t.Error("Query without ConsistentRead")
			}
			if str(it, names["#pk"]) == str(values, ":pk") {
				found = append(found, it)
			}
		case "#shard = :shard AND #at <= :at":
			if *in.IndexName != contract.LedgerRefreshIndex {
				f.t.Errorf("unexpected index %s", *in.IndexName)
			}
			if str(it, names["#shard"]) == str(values, ":shard") && num(it, names["#at"]) <= num(values, ":at") {
				found = append(found, it)
			}
		default:
			f.t.Fatalf("unexpected key condition %s", *in.KeyConditionExpression)
		}
	}
	order := func(a, b item) int {
		if index {
			if c := cmp.Compare(num(a, names["#at"]), num(b, names["#at"])); c != 0 {
				return c
			}
		}
		return cmp.Compare(keyOf(a)[0]+"\x00"+keyOf(a)[1], keyOf(b)[0]+"\x00"+keyOf(b)[1])
	}
	slices.SortFunc(found, order)
	out := &dynamodb.QueryOutput{}
	if start := in.ExclusiveStartKey; start != nil {
		if index && (start[contract.LedgerRefreshShard] == nil || start[contract.LedgerRefreshAt] == nil) {
			f.t.Error("ExclusiveStartKey without the keys of the index")
		}
		found = slices.DeleteFunc(found, func(it item) bool { return order(it, start) <= 0 })
	}
	const page = 7
	if len(found) > page {
		found = found[:page]
		out.LastEvaluatedKey = found[page-1]
	}
	for _, it := range found {
		open, _ := it[names["#open"]].(*types.AttributeValueMemberBOOL)
		keep := true
		switch aws.ToString(in.FilterExpression) {
		case "":
		case "#open = :true":
			keep = open != nil && open.Value
		case "#open = :true AND (attribute_not_exists(#active) OR #active < :before)":
			keep = open != nil && open.Value && (it[names["#active"]] == nil || num(it, names["#active"]) < num(values, ":before"))
		default:
			f.t.Errorf("unexpected filter %s", *in.FilterExpression)
		}
		if keep {
			out.Items = append(out.Items, it)
		}
	}
	out.Count = int32(len(out.Items))
	if in.Select == types.SelectCount {
		out.Items = nil
	}
	return out, nil
}

func TestTablesInMemoryAndInDynamoDBBehaveAlike(t *testing.T) {
	with := func(f *fakeDynamoDB) ledger.Table {
		f.t, f.items = t, map[[2]string]item{}
		return ledger.NewDynamoDB(f, "ledger")
	}
	for name, table := range map[string]ledger.Table{
		"memory":                              &ledgertest.Table{},
		"DynamoDB":                            with(&fakeDynamoDB{}),
		"DynamoDB that leaves keys":           with(&fakeDynamoDB{unprocessed: 3}),
		"DynamoDB that throttles statements":  with(&fakeDynamoDB{failing: 3}),
		"DynamoDB without PartiQL permission": with(&fakeDynamoDB{broken: &smithy.GenericAPIError{Code: "AccessDeniedException"}}),
	} {
		if err := ledgertest.Check(context.Background(), table); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDamagedItemIsReported(t *testing.T) {
	k := ledger.Key{Partition: "finding#a", Sort: "finding"}
	fake := &fakeDynamoDB{t: t, items: map[[2]string]item{{k.Partition, k.Sort}: {"pk": &types.AttributeValueMemberS{Value: k.Partition}}}}
	if _, err := ledger.NewDynamoDB(fake, "ledger").Get(context.Background(), k); err == nil {
		t.Error("an item without a revision was read")
	}
}

// After an outage of a whole batch, the records are not written one by one.
func TestOutageFailsTheWholeBatch(t *testing.T) {
	fake := &fakeDynamoDB{t: t, items: map[[2]string]item{}, broken: &smithy.GenericAPIError{Code: "InternalServerError", Fault: smithy.FaultServer}}
	var records []ledger.Record
	for i := range 30 {
		records = append(records, ledger.Record{Key: ledger.Key{Partition: "p", Sort: strconv.Itoa(i)}, Revision: 1, Doc: []byte("{}")})
	}
	for i, err := range ledger.NewDynamoDB(fake, "ledger").PutAll(context.Background(), records) {
		if err == nil || errors.Is(err, ledger.ErrConflict) {
			t.Errorf("record %d: error %v, want one other than ErrConflict", i, err)
		}
	}
	if fake.calls["PutItem"] != 0 {
		t.Errorf("calls %v, want no PutItem", fake.calls)
	}
}

// A statement is throttled after it took effect. Its retry is a conflict, as after a lost answer.
func TestStatementThatTookEffectIsAConflict(t *testing.T) {
	fake := &fakeDynamoDB{t: t, items: map[[2]string]item{}, failing: 2, late: true}
	var records []ledger.Record
	for i := range 10 {
		records = append(records, ledger.Record{Key: ledger.Key{Partition: "p", Sort: strconv.Itoa(i)}, Revision: 1, Doc: []byte("{}")})
	}
	for i, err := range ledger.NewDynamoDB(fake, "ledger").PutAll(context.Background(), records) {
		if want := i%2 == 0; errors.Is(err, ledger.ErrConflict) != want {
			t.Errorf("record %d: error %v, want a conflict: %v", i, err, want)
		}
	}
}

func TestBatchesUseAsFewCallsAsPossible(t *testing.T) {
	fake := &fakeDynamoDB{t: t, items: map[[2]string]item{}}
	table := ledger.NewDynamoDB(fake, "ledger")
	var records []ledger.Record
	var keys []ledger.Key
	for i := range 250 {
		keys = append(keys, ledger.Key{Partition: "p", Sort: strconv.Itoa(i)})
		records = append(records, ledger.Record{Key: keys[i], Revision: 1, Doc: []byte("{}")})
	}
	table.PutAll(context.Background(), records)
	table.GetAll(context.Background(), keys)
	table.PutAll(context.Background(), records[:1])
	table.GetAll(context.Background(), keys[:1])
	if want := map[string]int{"BatchExecuteStatement": 10, "BatchGetItem": 3, "PutItem": 1, "GetItem": 1}; !maps.Equal(fake.calls, want) {
		t.Errorf("calls %v, want %v", fake.calls, want)
	}
}
