package handler_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/transition"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
)

func outbox() []transition.Message {
	return []transition.Message{{Thing: "pump", ClientID: "c", Registered: new(true), Transition: engine.Transition{
		Time: start.UnixMilli(), Thing: "c", Change: engine.InAlarm, Profile: "P", ViolationID: "v", StartTime: start.UnixMilli(),
		Behavior: defender.Behavior{Name: "b", Criteria: defender.MessageByteSize.LessThan(8)},
	}}}
}

func TestItemComesBackAsItWasWritten(t *testing.T) {
	ctx := context.Background()
	store := handler.NewStore(newTable(t), "state")
	want := handler.Item{
		Subject: "thing#c", Revision: 1, Clock: at(1), Outbox: outbox(), Principal: "cert",
		Thing: registry.Thing{Name: "pump", Registered: true, Groups: []string{"g"}}, KnownAt: at(2), Due: at(3), Expires: at(4).Local(),
	}
	if err := store.Put(ctx, want); err != nil {
		t.Fatal(err)
	}
	got, err := store.Get(ctx, want.Subject)
	if len(got.Outbox) != 1 || got.Outbox[0].Transition.ViolationID != "v" || got.Outbox[0].ClientID != "c" {
		t.Errorf("outbox %+v", got.Outbox)
	}
	got.Outbox, want.Outbox = nil, nil
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v (%v)", got, want, err)
	}
	items, faults := store.Load(ctx, []string{want.Subject, "absent"})
	if len(faults) > 0 || items[want.Subject].Revision != 1 || !reflect.DeepEqual(items["absent"], handler.Item{Subject: "absent"}) {
		t.Errorf("%+v, %v", items, faults)
	}
	bare := handler.Item{Subject: "thing#c", Revision: 2, Clock: at(5)}
	if err := store.Put(ctx, bare); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Get(ctx, bare.Subject); err != nil || !reflect.DeepEqual(got, bare) {
		t.Errorf("got  %+v\nwant %+v (%v)", got, bare, err)
	}
}

func TestWritesAreConditional(t *testing.T) {
	ctx := context.Background()
	store := handler.NewStore(newTable(t), "state")
	for _, c := range []struct {
		revision int64
		want     error
	}{{2, handler.ErrConflict}, {1, nil}, {1, handler.ErrConflict}, {3, handler.ErrConflict}, {2, nil}, {3, nil}} {
		if err := store.Put(ctx, handler.Item{Subject: "c", Revision: c.revision, Clock: at(0)}); !errors.Is(err, c.want) {
			t.Errorf("revision %d: %v, want %v", c.revision, err, c.want)
		}
	}
}

func TestItemsThatNobodyWroteAreFaults(t *testing.T) {
	number := func(n string) types.AttributeValue { return &types.AttributeValueMemberN{Value: n} }
	for name, c := range map[string]struct {
		change func(item)
		want   string
	}{
		"no revision":     {func(it item) { delete(it, "revision") }, "revision"},
		"no clock":        {func(it item) { it["clock"] = text("soon") }, "clock"},
		"no state":        {func(it item) { delete(it, "state") }, "state"},
		"a newer state":   {func(it item) { it["state"] = text(`{"v":2}`) }, "version 2"},
		"a broken outbox": {func(it item) { it["outbox"] = text(`[{"source":"behavior"}]`) }, "client id"},
		"a broken thing":  {func(it item) { it["thing"] = number("7") }, "thing"},
	} {
		f := newTable(t)
		store := handler.NewStore(f, "state")
		if err := store.Put(context.Background(), handler.Item{Subject: "pump", Revision: 1, Clock: at(0), KnownAt: at(0), Outbox: outbox()}); err != nil {
			t.Fatal(err)
		}
		c.change(f.of("pump"))
		_, faults := store.Load(context.Background(), []string{"pump", "other"})
		if err := faults["pump"]; len(faults) != 1 || !errors.Is(err, handler.ErrState) || !strings.Contains(err.Error(), "pump") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want one that names pump and %s", name, faults, c.want)
		}
	}
}

func TestReadsThatFailAreFaultsOfTheirThings(t *testing.T) {
	f := newTable(t)
	f.step = func(string, string, bool) error { return fmt.Errorf("no capacity") }
	_, faults := handler.NewStore(f, "state").Load(context.Background(), []string{"a", "b"})
	if len(faults) != 2 || faults["a"] == nil || errors.Is(faults["a"], handler.ErrState) {
		t.Errorf("%v", faults)
	}
}
