package state_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/transition"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
)

func outbox() []transition.Message {
	return []transition.Message{{Thing: "pump", ClientID: "c", Registered: new(true), Transition: engine.Transition{
		Time: start.UnixMilli(), Thing: "c", Change: engine.InAlarm, Profile: "P", ViolationID: "v", StartTime: start.UnixMilli(),
		Behavior: defender.Behavior{Name: "b", Criteria: defender.MessageByteSize.LessThan(8)},
	}}}
}

func TestItemIsReadAsWritten(t *testing.T) {
	ctx := context.Background()
	store := state.New(newTable(), "state", nil)
	want := state.Item{
		Subject: "thing#c", Revision: 1, Clock: at(1), Outbox: outbox(), Principal: "cert",
		Thing: registry.Thing{Name: "pump", Registered: true, Groups: []string{"g"}}, KnownAt: at(2), Due: at(3), Expires: at(4).Local(),
	}
	if err := store.Put(ctx, want); err != nil {
		t.Fatal(err)
	}
	got, err := store.Get(ctx, want.Subject)
	if len(got.Outbox) != 1 || got.Outbox[0].Transition.ViolationID != "v" || got.Outbox[0].ClientID != "c" {
		t.Errorf("outbox %+v, want the violation v of client ID c", got.Outbox)
	}
	got.Outbox, want.Outbox = nil, nil
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v, error %v", got, want, err)
	}
	items, faults := store.Load(ctx, []string{want.Subject, "absent"})
	if len(faults) > 0 || items[want.Subject].Revision != 1 || !reflect.DeepEqual(items["absent"], state.Item{Subject: "absent"}) {
		t.Errorf("loaded %+v, faults %v; want the item and an empty one", items, faults)
	}
	bare := state.Item{Subject: "thing#c", Revision: 2, Clock: at(5)}
	if err := store.Put(ctx, bare); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Get(ctx, bare.Subject); err != nil || !reflect.DeepEqual(got, bare) {
		t.Errorf("got  %+v\nwant %+v, error %v", got, bare, err)
	}
}

func TestWritesAreConditional(t *testing.T) {
	ctx := context.Background()
	store := state.New(newTable(), "state", nil)
	for _, c := range []struct {
		revision int64
		want     error
	}{{2, state.ErrConflict}, {1, nil}, {1, state.ErrConflict}, {3, state.ErrConflict}, {2, nil}, {3, nil}} {
		if err := store.Put(ctx, state.Item{Subject: "c", Revision: c.revision, Clock: at(0)}); !errors.Is(err, c.want) {
			t.Errorf("revision %d: error %v, want %v", c.revision, err, c.want)
		}
	}
}

func TestDamagedItemsAreFaults(t *testing.T) {
	for name, c := range map[string]struct {
		change func(dynamodbtest.Item)
		want   string
	}{
		"no revision":     {func(it dynamodbtest.Item) { delete(it, "revision") }, "revision"},
		"a broken clock":  {func(it dynamodbtest.Item) { it["clock"] = attribute.Text("soon") }, "clock"},
		"no state":        {func(it dynamodbtest.Item) { delete(it, "state") }, "state"},
		"a newer state":   {func(it dynamodbtest.Item) { it["state"] = attribute.Text(`{"v":2}`) }, "version 2"},
		"a broken outbox": {func(it dynamodbtest.Item) { it["outbox"] = attribute.Text(`[{"source":"behavior"}]`) }, "client ID"},
		"a broken thing":  {func(it dynamodbtest.Item) { it["thing"] = attribute.Number(7) }, "thing"},
	} {
		f := newTable()
		store := state.New(f, "state", nil)
		if err := store.Put(context.Background(), state.Item{Subject: "pump", Revision: 1, Clock: at(0), KnownAt: at(0), Outbox: outbox()}); err != nil {
			t.Fatal(err)
		}
		it := f.Items("state")[0]
		c.change(it)
		if _, err := f.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: aws.String("state"), Item: it}); err != nil {
			t.Fatal(err)
		}
		_, faults := store.Load(context.Background(), []string{"pump", "other"})
		if err := faults["pump"]; len(faults) != 1 || !errors.Is(err, state.ErrState) || !strings.Contains(err.Error(), "pump") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: faults %v, want one that names pump and %s", name, faults, c.want)
		}
	}
}

func TestFailedReadsAreFaultsOfTheirSubjects(t *testing.T) {
	_, faults := state.New(failing("BatchGetItem", 1), "state", nil).Load(context.Background(), []string{"a", "b"})
	if len(faults) != 2 || faults["a"] == nil || errors.Is(faults["a"], state.ErrState) {
		t.Errorf("faults %v, want one each for a and b, none of them ErrState", faults)
	}
}

// The closer waits for the telemetry of a heartbeat that is missing, so a throttled one is repeated.
func TestThrottledHeartbeatIsRepeated(t *testing.T) {
	for failures, stored := range map[int]bool{4: true, 5: false} {
		store := state.New(failing("PutItem", failures), "state", func(int64) int64 { return 0 })
		err := store.Beat(t.Context(), state.Progress{At: at(1)})
		p, readErr := store.Progress(t.Context())
		if (err == nil) != stored || p.At.Equal(at(1)) != stored || readErr != nil {
			t.Errorf("%d failures: error %v, progress %+v, %v; want stored %t", failures, err, p, readErr, stored)
		}
	}
}
