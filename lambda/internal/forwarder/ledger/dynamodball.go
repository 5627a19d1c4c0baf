package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
)

const (
	// mostKeys and mostStatements are the limits of one call.
	// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
	// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
	mostKeys       = 100
	mostStatements = 25
	// parallel is the number of concurrent calls.
	parallel = 4
)

// GetAll reads consistently, 100 records per call. One record is read by GetItem.
func (d *DynamoDB) GetAll(ctx context.Context, keys []Key) ([]Record, []error) {
	records, faults := make([]Record, len(keys)), make([]error, len(keys))
	chunks(len(keys), mostKeys, func(from, to int) {
		d.getChunk(ctx, keys[from:to], records[from:to], faults[from:to])
	})
	return records, faults
}

// chunks calls f for every chunk of n elements, several at once.
func chunks(n, size int, f func(from, to int)) {
	var some errgroup.Group
	some.SetLimit(parallel)
	for from := 0; from < n; from += size {
		some.Go(func() error {
			f(from, min(from+size, n))
			return nil
		})
	}
	_ = some.Wait() // none fails
}

// getChunk reads what one call may read. DynamoDB leaves keys unprocessed if the answer would
// have over 16 MB, or if it throttles: those are read alone, because the client retries such
// calls.
func (d *DynamoDB) getChunk(ctx context.Context, keys []Key, records []Record, faults []error) {
	index := make(map[Key]int, len(keys))
	for i, k := range keys {
		index[k] = i
	}
	alone := func(k Key) { records[index[k]], faults[index[k]] = d.Get(ctx, k) }
	if len(keys) == 1 {
		alone(keys[0])
		return
	}
	request := types.KeysAndAttributes{ConsistentRead: aws.Bool(true), Keys: make([]item, len(keys))}
	for i, k := range keys {
		records[i].Key = k
		request.Keys[i] = keyItem(k)
	}
	out, err := d.api.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{d.name: request}})
	if err != nil {
		err = fmt.Errorf("BatchGetItem of table %s: %w", d.name, err)
		for i := range faults {
			faults[i] = err
		}
		return
	}
	for _, it := range out.Responses[d.name] {
		r, err := decodeItem(it)
		if i, asked := index[r.Key]; asked {
			records[i], faults[i] = r, err
		}
	}
	for _, it := range out.UnprocessedKeys[d.name].Keys {
		if k := keyOf(it); slices.Contains(keys, k) {
			alone(k)
		}
	}
}

func keyItem(k Key) item {
	return item{contract.LedgerPartitionKey: attribute.Text(k.Partition), contract.LedgerSortKey: attribute.Text(k.Sort)}
}

func keyOf(it item) Key {
	return Key{Partition: attribute.TextOf(it, contract.LedgerPartitionKey), Sort: attribute.TextOf(it, contract.LedgerSortKey)}
}

// PutAll writes 25 records per call. Each statement has its own condition and its own error. One
// record is written by PutItem.
func (d *DynamoDB) PutAll(ctx context.Context, records []Record) []error {
	faults := make([]error, len(records))
	chunks(len(records), mostStatements, func(from, to int) {
		d.putChunk(ctx, records[from:to], faults[from:to])
	})
	return faults
}

// putChunk writes what one call may write. A statement that fails for another reason than its
// condition is written alone: the client retries such a write, and it needs no permission for
// PartiQL. If the statement did take effect, the write is a conflict, as after any answer that is
// lost.
func (d *DynamoDB) putChunk(ctx context.Context, records []Record, faults []error) {
	if len(records) == 1 {
		faults[0] = d.Put(ctx, records[0])
		return
	}
	in := &dynamodb.BatchExecuteStatementInput{Statements: make([]types.BatchStatementRequest, len(records))}
	for i, r := range records {
		in.Statements[i] = d.statement(r)
	}
	out, err := d.api.BatchExecuteStatement(ctx, in)
	if err != nil && !denied(err) {
		err = fmt.Errorf("BatchExecuteStatement of table %s: %w", d.name, err)
		for i := range faults {
			faults[i] = err
		}
		return
	}
	for i, r := range records {
		failed := &types.BatchStatementError{}
		if err == nil && i < len(out.Responses) {
			failed = out.Responses[i].Error
		}
		switch {
		case failed == nil:
		case failed.Code == types.BatchStatementErrorCodeEnumConditionalCheckFailed, failed.Code == types.BatchStatementErrorCodeEnumDuplicateItem:
			faults[i] = ErrConflict
		default:
			faults[i] = d.Put(ctx, r)
		}
	}
}

func denied(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "AccessDeniedException"
}

// statement returns the write of a record in PartiQL, with Put's condition. An update replaces
// the whole record: it removes the attributes that the record does not have.
func (d *DynamoDB) statement(r Record) types.BatchStatementRequest {
	it := encodeItem(r)
	var b strings.Builder
	var parameters []types.AttributeValue
	if r.Revision == 1 {
		fmt.Fprintf(&b, `INSERT INTO "%s" VALUE {`, d.name)
		for _, name := range attributes {
			if v, ok := it[name]; ok {
				if len(parameters) > 0 {
					b.WriteString(", ")
				}
				b.WriteString("'" + name + "': ?")
				parameters = append(parameters, v)
			}
		}
		b.WriteString("}")
		return types.BatchStatementRequest{Statement: aws.String(b.String()), Parameters: parameters}
	}
	fmt.Fprintf(&b, `UPDATE "%s"`, d.name)
	removed := ""
	for _, name := range attributes[2:] {
		if v, ok := it[name]; ok {
			b.WriteString(` SET "` + name + `" = ?`)
			parameters = append(parameters, v)
		} else {
			removed += ` REMOVE "` + name + `"`
		}
	}
	b.WriteString(removed)
	fmt.Fprintf(&b, ` WHERE "%s" = ? AND "%s" = ? AND "%s" = ?`, contract.LedgerPartitionKey, contract.LedgerSortKey, attribute.Revision)
	parameters = append(parameters, attribute.Text(r.Partition), attribute.Text(r.Sort), attribute.Number(r.Revision-1))
	return types.BatchStatementRequest{Statement: aws.String(b.String()), Parameters: parameters}
}

// attributes are all attributes of an item, the keys first.
var attributes = []string{
	contract.LedgerPartitionKey, contract.LedgerSortKey,
	attribute.Revision, attrDoc, attrOpen, attrActive, contract.LedgerRefreshShard, contract.LedgerRefreshAt, contract.LedgerExpiry,
}
