package providers

import (
	"context"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

const (
	kinesisStream = "AWS::Kinesis::Stream"
	kinesisTarget = "Kinesis_20131202."
	onDemand      = "ON_DEMAND"
	// shortestRetention is in hours; a stream has it unless it says otherwise.
	shortestRetention = 24
)

func (a Account) kinesis() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		kinesisStream: {
			Properties: schema.Object{
				"Name":                 schema.Pattern(`[a-zA-Z0-9_.-]+`, 1, 128),
				"RetentionPeriodHours": schema.Integer(shortestRetention, 8760),
				"ShardCount":           schema.Integer(1, 100000),
				"StreamModeDetails":    schema.Map(schema.Object{"StreamMode": schema.Required(schema.Enum(onDemand, "PROVISIONED"))}),
				"StreamEncryption": schema.Map(schema.Object{
					"EncryptionType": schema.Required(schema.Enum("KMS")), "KeyId": schema.Required(schema.Text(1, 2048)),
				}),
				"Tags": schema.Tags,
			},
			Make: a.createStream,
			Remove: func(ctx context.Context, r cloudformation.Request) error {
				return a.API.Target(ctx, "kinesis", kinesisTarget+"DeleteStream", map[string]any{"StreamName": r.PhysicalResourceID}, nil)
			},
		},
	}
}

// createStream makes the stream with its mode and encryption, which the emulator
// overlooks in templates.
func (a Account) createStream(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p := r.ResourceProperties
	name := named(r, "Name", 128)
	if err := a.unique(r, name); err != nil {
		return cloudformation.Resource{}, err
	}
	type object = map[string]any
	create := object{"StreamName": name, "StreamModeDetails": object{"StreamMode": "PROVISIONED"}, "ShardCount": 1}
	if mode, ok := p["StreamModeDetails"]; ok {
		create["StreamModeDetails"] = mode
		if mode.(object)["StreamMode"] == onDemand { // the schema has seen it
			delete(create, "ShardCount")
		}
	}
	if count, ok := schema.Float(p["ShardCount"]); ok && create["ShardCount"] != nil {
		create["ShardCount"] = int(count)
	}
	type call struct {
		operation string
		input     object
	}
	calls := []call{{"CreateStream", create}}
	if hours, ok := schema.Float(p["RetentionPeriodHours"]); ok && hours > shortestRetention {
		calls = append(calls, call{"IncreaseStreamRetentionPeriod", object{"StreamName": name, "RetentionPeriodHours": int(hours)}})
	}
	if encryption, ok := p["StreamEncryption"].(object); ok {
		calls = append(calls, call{"StartStreamEncryption", object{"StreamName": name, "EncryptionType": encryption["EncryptionType"], "KeyId": encryption["KeyId"]}})
	}
	for _, c := range calls {
		if err := a.API.Target(ctx, "kinesis", kinesisTarget+c.operation, c.input, nil); err != nil {
			return cloudformation.Resource{}, err
		}
	}
	return kept(name, map[string]any{"Arn": r.ARN("kinesis", "stream/"+name)}, ""), nil
}
