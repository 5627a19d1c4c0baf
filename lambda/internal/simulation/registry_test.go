package simulation

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	datatypes "github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"
)

// things is the AWS IoT client of an environment.
type things struct{ *environment }

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
		for _, d := range t.world.fleetOf {
			if strings.HasSuffix(*in.Principal, ":cert/"+d.principal) {
				out := &iot.ListPrincipalThingsOutput{}
				if d.registered {
					out.Things = []string{d.client}
				}
				return out, nil
			}
		}
		return nil, errMissing
	})
}

func (t things) DescribeThing(ctx context.Context, in *iot.DescribeThingInput, _ ...func(*iot.Options)) (*iot.DescribeThingOutput, error) {
	return ask(ctx, t.environment, "IoT", "DescribeThing", *in.ThingName, func() (*iot.DescribeThingOutput, error) {
		if d := t.world.deviceOf(*in.ThingName); d == nil || !d.registered {
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
