package simulation

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	datatypes "github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// registry is the registry of AWS IoT.
type registry struct {
	// things has the certificates of each thing.
	things map[string][]string
	// certificates has all certificates that exist.
	certificates map[string]bool
	// changed are the things and certificates that a change was about.
	changed map[string]bool
}

func newRegistry() *registry {
	return &registry{things: map[string][]string{}, certificates: map[string]bool{}, changed: map[string]bool{}}
}

// thingsOf returns the things to which a certificate is attached, sorted.
func (r *registry) thingsOf(certificate string) []string {
	var all []string
	for _, thing := range slices.Sorted(maps.Keys(r.things)) {
		if slices.Contains(r.things[thing], certificate) {
			all = append(all, thing)
		}
	}
	return all
}

// move attaches a certificate to one thing alone, "" for none.
func (r *registry) move(certificate, to string) {
	r.certificates[certificate], r.changed[certificate] = true, true
	for thing, all := range r.things {
		r.things[thing] = slices.DeleteFunc(slices.Clone(all), func(c string) bool { return c == certificate })
	}
	if to != "" {
		r.things[to], r.changed[to] = append(r.things[to], certificate), true
	}
}

// remove deletes a thing. AWS IoT wants its certificates detached before.
func (r *registry) remove(thing string) {
	delete(r.things, thing)
	r.changed[thing] = true
}

// things is the AWS IoT client of an environment.
type things struct{ *environment }

// meets counts a lookup of what a change was about.
func (t things) meets(name string) {
	if t.world.registry.changed[name] {
		t.world.faults.hits[hit{registryChange, t.fn.name}]++
	}
}

// registryEdit is a change of the registry about a device.
type registryEdit string

const (
	// thingRemoved: the device is out of service.
	thingRemoved registryEdit = "thing removed"
	// thingReplaced: a thing of another name has the certificate, and the device connects as that.
	thingReplaced registryEdit = "thing replaced"
	// thingRenamed: a thing of another name has the certificate, the device keeps its client ID.
	thingRenamed registryEdit = "thing renamed"
	// certificateMoved: another thing has the certificate, the device's own thing still exists.
	certificateMoved registryEdit = "certificate moved"
)

// editRegistry changes the registry about one device of the fleet.
func (w *world) editRegistry(active time.Duration) {
	var candidates []*device
	for _, d := range w.fleetOf {
		if d.registered && d.edit == "" {
			candidates = append(candidates, d)
		}
	}
	if len(candidates) < 2 {
		return
	}
	d, other := candidates[0], candidates[1]
	d.edit, d.edited = pick(w.scheduler, []registryEdit{thingRemoved, thingReplaced, thingRenamed, certificateMoved}), time.Now()
	d.known = w.knows(d)
	w.log.printf("%s of %s", d.edit, d.client)
	w.counts["changes of the registry"]++
	switch d.edit {
	case thingRemoved:
		w.registry.move(d.principal, "")
		w.registry.remove(d.client)
	case thingReplaced, thingRenamed:
		name := "new-" + d.client
		w.registry.things[name] = nil
		w.registry.move(d.principal, name)
		w.registry.remove(d.client)
		if d.edit == thingReplaced {
			w.join(&device{client: name, principal: d.principal, registered: true}, active)
		}
	case certificateMoved:
		other.edit = "certificate received"
		w.registry.move(d.principal, other.client)
	}
}

// knows reports whether the engine has the device's thing in its table. Of a client that it never
// asked about, it cannot know that it was a thing.
func (w *world) knows(d *device) bool {
	return slices.ContainsFunc(w.dynamodb.Items(stateTable), func(it map[string]dynamodbtypes.AttributeValue) bool {
		key, _ := it[contract.StatePartitionKey].(*dynamodbtypes.AttributeValueMemberS)
		thing, _ := it["thing"].(*dynamodbtypes.AttributeValueMemberS)
		return key != nil && thing != nil && key.Value == contract.StateThingPrefix+d.client && strings.Contains(thing.Value, `"Registered":true`)
	})
}

// retired reports whether the device of a client ID is out of service.
func (d *device) retired() bool { return d.edit == thingRemoved || d.edit == thingReplaced }

// compares reports whether the reference knows the transitions of a behavior despite a change of
// the registry. It does not know when the engine asks again: answers are cached, and a retired
// device is asked for once a day.
func (d *device) compares(behavior string) bool {
	switch d.edit {
	case thingRemoved, thingReplaced:
		return behavior != fewPorts && behavior != offline && behavior != regular
	case thingRenamed:
		return behavior != offline && behavior != regular
	}
	return true
}

// checkRegistry requires that after a day no alarm of time alone is about a thing that does not
// exist, or about a client ID that has become another thing.
func (w *world) checkRegistry() {
	const name = "alarms of retired devices end within a day"
	for _, f := range w.hub.Findings() {
		if f.RecordState != "ACTIVE" || composite(f) {
			continue
		}
		for _, d := range w.fleetOf {
			ends := strings.HasSuffix(f.ID, offline+"/"+d.client) || strings.HasSuffix(f.ID, regular+"/"+d.client)
			if !ends || !d.known || time.Since(d.edited) < restAfterEdit {
				continue
			}
			w.counts["alarms checked after a change of the registry"]++
			_, exists := w.registry.things[f.ProductFields["ThingName"]]
			if d.retired() || !exists {
				w.violations.add(name, "%s after %s: %s of thing %s is active", d.client, d.edit, f.ID, f.ProductFields["ThingName"])
			}
		}
	}
}

// restAfterEdit is after how long a change of the registry must have had its effect: a day, the
// times that answers are cached and calls are retried, and the alarm's own time.
const restAfterEdit = 28 * time.Hour

var errMissing = &types.ResourceNotFoundException{Message: aws.String("not found")}

func (w *world) deviceOf(client string) *device {
	for _, d := range w.fleetOf {
		if d.client == client {
			return d
		}
	}
	return nil
}

func (t things) ListPrincipalThings(ctx context.Context, in *iot.ListPrincipalThingsInput, _ ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error) {
	return ask(ctx, t.environment, "IoT", "ListPrincipalThings", *in.Principal, func() (*iot.ListPrincipalThingsOutput, error) {
		_, certificate, _ := strings.Cut(*in.Principal, ":cert/")
		if !t.world.registry.certificates[certificate] {
			return nil, errMissing
		}
		t.meets(certificate)
		return &iot.ListPrincipalThingsOutput{Things: t.world.registry.thingsOf(certificate)}, nil
	})
}

func (t things) DescribeThing(ctx context.Context, in *iot.DescribeThingInput, _ ...func(*iot.Options)) (*iot.DescribeThingOutput, error) {
	return ask(ctx, t.environment, "IoT", "DescribeThing", *in.ThingName, func() (*iot.DescribeThingOutput, error) {
		t.meets(*in.ThingName)
		if _, exists := t.world.registry.things[*in.ThingName]; !exists {
			return nil, errMissing
		}
		return &iot.DescribeThingOutput{ThingName: in.ThingName}, nil
	})
}

func (t things) ListThingGroupsForThing(ctx context.Context, in *iot.ListThingGroupsForThingInput, _ ...func(*iot.Options)) (*iot.ListThingGroupsForThingOutput, error) {
	return ask(ctx, t.environment, "IoT", "ListThingGroupsForThing", *in.ThingName, func() (*iot.ListThingGroupsForThingOutput, error) {
		return &iot.ListThingGroupsForThingOutput{}, nil
	})
}

func (t things) DescribeThingGroup(ctx context.Context, in *iot.DescribeThingGroupInput, _ ...func(*iot.Options)) (*iot.DescribeThingGroupOutput, error) {
	return ask(ctx, t.environment, "IoT", "DescribeThingGroup", *in.ThingGroupName, func() (*iot.DescribeThingGroupOutput, error) { return nil, errMissing })
}

// connections is the AWS IoT data client of an environment.
type connections struct{ *environment }

func (c connections) GetConnection(ctx context.Context, in *iotdataplane.GetConnectionInput, _ ...func(*iotdataplane.Options)) (*iotdataplane.GetConnectionOutput, error) {
	return ask(ctx, c.environment, "IoTData", "GetConnection", *in.ClientId, func() (*iotdataplane.GetConnectionOutput, error) {
		d := c.world.deviceOf(*in.ClientId)
		if d == nil || d.since.IsZero() {
			return nil, &datatypes.ResourceNotFoundException{Message: aws.String("not found")}
		}
		out := &iotdataplane.GetConnectionOutput{ClientId: in.ClientId, Connected: d.connected}
		if d.connected {
			out.ConnectedSince = d.since.UnixMilli()
		} else {
			out.DisconnectedSince = d.since.UnixMilli()
		}
		return out, nil
	})
}

func (c connections) Publish(ctx context.Context, in *iotdataplane.PublishInput, _ ...func(*iotdataplane.Options)) (*iotdataplane.PublishOutput, error) {
	return ask(ctx, c.environment, "IoTData", "Publish", *in.Topic+" "+digest(string(in.Payload)), func() (*iotdataplane.PublishOutput, error) {
		c.world.counts["answers to devices"]++
		return &iotdataplane.PublishOutput{}, nil
	})
}
