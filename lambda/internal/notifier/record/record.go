// Package record stores what the notifier has reported: one item per finding, the open incidents
// by their resources, the lines of lists that are due later, and the messages of a minute.
package record

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/message"
)

// DynamoDB is the part of the DynamoDB client that a [Table] calls.
type DynamoDB interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
}

// Finding is the record of a finding. The zero value is a finding that is not known.
type Finding struct {
	// Order is that of the newest event.
	Order findingevent.Order `json:"o"`
	// Open reports whether the finding is open.
	Open bool `json:"a,omitempty"`
	// Reported is the highest severity that was reported since the finding opened, by a message or
	// by an incident; 0 for none.
	Reported defender.Severity `json:"r,omitempty"`
	// Incident is the key of the incident that reported it if no message of its own did, else "".
	Incident string `json:"i,omitempty"`
	// Held is the highest severity of events that wait for an incident; 0 for none.
	Held defender.Severity `json:"h,omitempty"`
	// Owed is a message that may not have reached all topics; nil if there is none.
	Owed *Owed `json:"w,omitempty"`
	// Opened is the UpdatedAt of the event that opened the finding last.
	Opened time.Time `json:"s,omitzero"`
	// Line is the finding in a reminder, with the severity that it has now.
	Line message.Line `json:"n,omitzero"`

	// Revision counts the writes; 0 if there is no item.
	Revision int64 `json:"-"`
}

// Owed is a message that is being published.
type Owed struct {
	// Order is that of the event that caused it.
	Order  findingevent.Order `json:"o"`
	Change message.Change     `json:"c"`
	// Before is the severity that was reported before.
	Before defender.Severity `json:"b,omitempty"`
	// ChatOnly reports whether only the topic for chat still lacks it.
	ChatOnly bool `json:"t,omitempty"`
	// Until is when the invocation that publishes it has ended, in ms since 1970.
	Until int64 `json:"u,omitempty"`
}

// ErrConflict is the error of a write if another invocation has written first.
var ErrConflict = errors.New("the record was changed by another invocation")

// The lifetimes of items. A finding that is not updated is deleted by Security Hub after 90 days;
// a message may wait in a queue for 14 days, and EventBridge retries for one.
const (
	openLifetime   = 100 * 24 * time.Hour
	closedLifetime = 16 * 24 * time.Hour
	minuteLifetime = time.Hour
)

// Table is the notifier's table.
type Table struct {
	API  DynamoDB
	Name string
}

type item = map[string]types.AttributeValue

const (
	attrDoc     = "doc"
	attrCount   = "n"
	attrUpdated = "updated"
)

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func findingKey(finding string) item { return findingKeyOf(digest(finding)) }

func findingKeyOf(digest string) item { return key("finding#"+digest, "state") }

func key(pk, sk string) item {
	return item{contract.NotifyPartitionKey: attribute.Text(pk), contract.NotifySortKey: attribute.Text(sk)}
}

// Finding reads a finding's record consistently. finding is [findingevent.Event.Key].
func (t Table) Finding(ctx context.Context, finding string) (Finding, error) {
	return t.finding(ctx, findingKey(finding))
}

// FindingOf reads the record of a line's finding consistently.
func (t Table) FindingOf(ctx context.Context, line Stored) (Finding, error) {
	return t.finding(ctx, findingKeyOf(line.sk))
}

func (t Table) finding(ctx context.Context, key item) (Finding, error) {
	out, err := t.API.GetItem(ctx, &dynamodb.GetItemInput{TableName: &t.Name, Key: key, ConsistentRead: aws.Bool(true)})
	if err != nil {
		return Finding{}, fmt.Errorf("GetItem of table %s: %w", t.Name, err)
	}
	if len(out.Item) == 0 {
		return Finding{}, nil
	}
	return decode(out.Item)
}

func decode(it item) (Finding, error) {
	var f Finding
	if err := json.Unmarshal([]byte(attribute.TextOf(it, attrDoc)), &f); err != nil {
		return Finding{}, fmt.Errorf("record of a finding: %w", err)
	}
	revision, err := attribute.NumberOf(it, attribute.Revision)
	if err != nil || revision < 1 {
		return Finding{}, errors.New("record of a finding has no revision")
	}
	f.Revision = revision
	return f, nil
}

// PutFinding writes the successor of the record that was read, and increments its revision. remind
// is the lowest severity in the reminder, 0 for no reminder.
func (t Table) PutFinding(ctx context.Context, finding string, f *Finding, now time.Time, remind defender.Severity) error {
	doc, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("record of a finding: %w", err)
	}
	it := findingKey(finding)
	it[attrDoc] = attribute.Text(string(doc))
	lifetime := closedLifetime
	if f.Open {
		lifetime = openLifetime
	}
	it[contract.NotifyExpiry] = attribute.Number(now.Add(lifetime).Unix())
	if s := f.Line.Severity; f.Open && f.Reported > 0 && remind > 0 && s >= remind {
		it[contract.NotifyOpenSeverity], it[contract.NotifyOpenSince] = attribute.Text(s.String()), attribute.Number(f.Line.Since.UnixMilli())
	}
	if err := t.put(ctx, attribute.Next(t.Name, it, f.Revision+1)); err != nil {
		return err
	}
	f.Revision++
	return nil
}

func (t Table) put(ctx context.Context, in *dynamodb.PutItemInput) error {
	return attribute.Put(ctx, t.API, in, ErrConflict)
}

// Incident is an incident under one of its aliases.
type Incident struct {
	// Key is that of the incident's finding.
	Key string `json:"k"`
	// Rule is the name of its rule.
	Rule  string             `json:"r"`
	Open  bool               `json:"a,omitempty"`
	Order findingevent.Order `json:"o"`
}

// PutIncident records an incident under an alias, unless a newer state is recorded.
func (t Table) PutIncident(ctx context.Context, alias string, i Incident, now time.Time) error {
	doc, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("record of an incident: %w", err)
	}
	lifetime := closedLifetime
	if i.Open {
		lifetime = openLifetime
	}
	it := key("alias#"+digest(alias), digest(i.Key))
	// The revision is UpdatedAt in ns, which rises with each state of a composite finding.
	it[attrDoc], it[attribute.Revision], it[contract.NotifyExpiry] = attribute.Text(string(doc)), attribute.Number(i.Order.Updated.UnixNano()), attribute.Number(now.Add(lifetime).Unix())
	err = t.put(ctx, &dynamodb.PutItemInput{
		TableName: &t.Name, Item: it, ConditionExpression: aws.String("attribute_not_exists(#revision) OR #revision <= :at"),
		ExpressionAttributeNames:  map[string]string{"#revision": attribute.Revision},
		ExpressionAttributeValues: item{":at": attribute.Number(i.Order.Updated.UnixNano())},
	})
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}

// Incidents returns the incidents that were open when they were recorded under an alias last, read
// consistently. One that has ended since need not be closed under each alias: its own record says so.
func (t Table) Incidents(ctx context.Context, alias string) ([]Incident, error) {
	var open []Incident
	err := t.query(ctx, &dynamodb.QueryInput{
		ConsistentRead: aws.Bool(true), KeyConditionExpression: aws.String("#pk = :pk"),
		ExpressionAttributeNames:  map[string]string{"#pk": contract.NotifyPartitionKey},
		ExpressionAttributeValues: item{":pk": attribute.Text("alias#" + digest(alias))},
	}, func(it item) error {
		var i Incident
		if err := json.Unmarshal([]byte(attribute.TextOf(it, attrDoc)), &i); err != nil {
			return fmt.Errorf("record of an incident: %w", err)
		}
		if i.Open {
			open = append(open, i)
		}
		return nil
	})
	return open, err
}

// Slot counts a message of a minute, and reports whether it may be sent.
func (t Table) Slot(ctx context.Context, minute time.Time, class string, most int, now time.Time) (bool, error) {
	err := t.count(ctx, minute, class, 1, now, &dynamodb.UpdateItemInput{
		ConditionExpression:       aws.String("attribute_not_exists(#n) OR #n < :most"),
		ExpressionAttributeValues: item{":most": attribute.Number(int64(most))},
	})
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return false, nil
	}
	return err == nil, err
}

// ReturnSlot takes back the count of a message that was not sent.
func (t Table) ReturnSlot(ctx context.Context, minute time.Time, class string, now time.Time) error {
	return t.count(ctx, minute, class, -1, now, &dynamodb.UpdateItemInput{ExpressionAttributeValues: item{}})
}

func (t Table) count(ctx context.Context, minute time.Time, class string, n int64, now time.Time, in *dynamodb.UpdateItemInput) error {
	in.TableName, in.Key = &t.Name, key("minute#"+minute.UTC().Format(time.RFC3339), class)
	in.UpdateExpression = aws.String("SET #expires = :expires ADD #n :add")
	in.ExpressionAttributeNames = map[string]string{"#n": attrCount, "#expires": contract.NotifyExpiry}
	in.ExpressionAttributeValues[":add"], in.ExpressionAttributeValues[":expires"] = attribute.Number(n), attribute.Number(now.Add(minuteLifetime).Unix())
	if _, err := t.API.UpdateItem(ctx, in); err != nil {
		return fmt.Errorf("UpdateItem of table %s: %w", t.Name, err)
	}
	return nil
}

// Stored is a line of a list.
type Stored struct {
	message.Line
	sk, revision string
}

// ID identifies the stored line.
func (s Stored) ID() string { return s.sk + s.revision }

// PutLine stores a line for a list: that of the newest event of each finding. An invocation that
// handles an older event may come later, and learn only then that the event is old.
func (t Table) PutLine(ctx context.Context, list, finding string, line message.Line, order findingevent.Order, now time.Time) error {
	doc, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("line of a list: %w", err)
	}
	it := key("list#"+list, digest(finding))
	it[attrDoc], it[attribute.Revision], it[contract.NotifyExpiry] = attribute.Text(string(doc)), attribute.Text(digest(string(doc)+now.String())), attribute.Number(now.Add(closedLifetime).Unix())
	it[attrUpdated] = attribute.Number(order.Updated.UnixNano())
	err = t.put(ctx, &dynamodb.PutItemInput{
		TableName: &t.Name, Item: it, ConditionExpression: aws.String("attribute_not_exists(#updated) OR #updated <= :updated"),
		ExpressionAttributeNames: map[string]string{"#updated": attrUpdated}, ExpressionAttributeValues: item{":updated": it[attrUpdated]},
	})
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}

// Lines returns the lines of a list.
func (t Table) Lines(ctx context.Context, list string) ([]Stored, error) {
	var all []Stored
	err := t.query(ctx, &dynamodb.QueryInput{
		ConsistentRead: aws.Bool(true), KeyConditionExpression: aws.String("#pk = :pk"),
		ExpressionAttributeNames:  map[string]string{"#pk": contract.NotifyPartitionKey},
		ExpressionAttributeValues: item{":pk": attribute.Text("list#" + list)},
	}, func(it item) error {
		s := Stored{sk: attribute.TextOf(it, contract.NotifySortKey), revision: attribute.TextOf(it, attribute.Revision)}
		err := json.Unmarshal([]byte(attribute.TextOf(it, attrDoc)), &s.Line)
		all = append(all, s)
		return err
	})
	return all, err
}

// DeleteLine deletes a line that was sent, unless it was replaced since.
func (t Table) DeleteLine(ctx context.Context, list string, s Stored) error {
	return t.delete(ctx, key("list#"+list, s.sk), attribute.Revision, s.revision)
}

// delete deletes an item if an attribute still has a value.
func (t Table) delete(ctx context.Context, key item, name, value string) error {
	_, err := t.API.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &t.Name, Key: key, ConditionExpression: aws.String("#name = :value"),
		ExpressionAttributeNames: map[string]string{"#name": name}, ExpressionAttributeValues: item{":value": attribute.Text(value)},
	})
	var failed *types.ConditionalCheckFailedException
	if err != nil && !errors.As(err, &failed) {
		return fmt.Errorf("DeleteItem of table %s: %w", t.Name, err)
	}
	return nil
}

// OpenLines returns the open findings that a reminder lists: those of a severity or above, without
// the parts of incidents that it lists.
func (t Table) OpenLines(ctx context.Context, least defender.Severity) ([]message.Line, error) {
	var all []Finding
	listed := map[string]bool{} // by partition key
	for s := least; s <= defender.Critical; s++ {
		err := t.query(ctx, &dynamodb.QueryInput{
			IndexName: aws.String(contract.NotifyOpenIndex), KeyConditionExpression: aws.String("#s = :s"),
			ExpressionAttributeNames: map[string]string{"#s": contract.NotifyOpenSeverity}, ExpressionAttributeValues: item{":s": attribute.Text(s.String())},
		}, func(it item) error {
			f, err := decode(it)
			all, listed[attribute.TextOf(it, contract.NotifyPartitionKey)] = append(all, f), true
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var lines []message.Line
	for _, f := range all {
		if f.Incident == "" || !listed[attribute.TextOf(findingKey(f.Incident), contract.NotifyPartitionKey)] {
			lines = append(lines, f.Line)
		}
	}
	return lines, nil
}

// Claim lets one invocation send a list, and returns the token of the invocation that may. It takes
// the list over from the invocation with the token replaces.
func (t Table) Claim(ctx context.Context, list, token, replaces string, now time.Time) (holder string, err error) {
	it := key("claim#"+list, "claim")
	it[attrDoc], it[contract.NotifyExpiry] = attribute.Text(token), attribute.Number(now.Add(closedLifetime).Unix())
	err = t.put(ctx, &dynamodb.PutItemInput{
		// The claim may be this one: the SDK repeats a write whose answer was lost.
		TableName: &t.Name, Item: it, ConditionExpression: aws.String("attribute_not_exists(#token) OR #token = :token OR #token = :replaces"),
		ExpressionAttributeNames:  map[string]string{"#token": attrDoc},
		ExpressionAttributeValues: item{":token": it[attrDoc], ":replaces": attribute.Text(cmp.Or(replaces, token))},
	})
	if !errors.Is(err, ErrConflict) {
		return token, err
	}
	out, err := t.API.GetItem(ctx, &dynamodb.GetItemInput{TableName: &t.Name, Key: key("claim#"+list, "claim"), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return "", fmt.Errorf("GetItem of table %s: %w", t.Name, err)
	}
	return attribute.TextOf(out.Item, attrDoc), nil
}

// Release ends a claim.
func (t Table) Release(ctx context.Context, list, token string) error {
	return t.delete(ctx, key("claim#"+list, "claim"), attrDoc, token)
}

// Done reports whether [Table.MarkDone] has recorded a request as done.
func (t Table) Done(ctx context.Context, request string) (bool, error) {
	out, err := t.API.GetItem(ctx, &dynamodb.GetItemInput{TableName: &t.Name, Key: key("done#"+request, "done"), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return false, fmt.Errorf("GetItem of table %s: %w", t.Name, err)
	}
	return len(out.Item) > 0, nil
}

// MarkDone records that a request was done.
func (t Table) MarkDone(ctx context.Context, request string, now time.Time) error {
	it := key("done#"+request, "done")
	it[contract.NotifyExpiry] = attribute.Number(now.Add(closedLifetime).Unix())
	return t.put(ctx, &dynamodb.PutItemInput{TableName: &t.Name, Item: it})
}

func (t Table) query(ctx context.Context, in *dynamodb.QueryInput, each func(item) error) error {
	in.TableName = &t.Name
	for pages := dynamodb.NewQueryPaginator(t.API, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("query of table %s: %w", t.Name, err)
		}
		for _, it := range page.Items {
			if err := each(it); err != nil {
				return err
			}
		}
	}
	return nil
}
