package providers

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// Native are the types that the emulator makes well enough. It has more, and would make
// them without effect or wrongly: nothing runs a state machine, nobody asks a role alias
// of its own, Ref of an IoT policy is no name there, and an event source mapping would
// have it call functions that it cannot run.
func Native() []string {
	return slices.Sorted(maps.Keys(native))
}

// checkNative refuses what the emulator would take without a word. It does not tell a
// wrong name from one that AWS knows: for that, AWS publishes each type's schema
// (https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schemas.html).
func checkNative(r cloudformation.Request) error {
	properties, known := native[r.ResourceType]
	if !known {
		return fmt.Errorf("the local AWS does not know which properties of %s it follows", r.ResourceType)
	}
	if err := properties.Validate(r.ResourceProperties); err != nil {
		return fmt.Errorf("%w\nThe local AWS follows some properties of %s only: correct it, leave it out of the local deployment, or try it on AWS", err, r.ResourceType)
	}
	if r.RequestType == cloudformation.Update {
		return checkUpdate(r)
	}
	return nil
}

// native are the properties that the local AWS follows of each type that the emulator
// makes, and those that nothing here can tell from being followed: tags, descriptions,
// encryption at rest of tables and streams, backups, tracing, where logs go and how long
// they stay. One that would change what a deployment does is not here.
var native = map[string]schema.Object{
	"AWS::CloudFormation::Stack": {
		"TemplateURL": schema.Required(schema.Text(1, 1024)),
		"Parameters":  schema.Dictionary(`^[A-Za-z0-9]+$`, schema.Any), "Tags": schema.Tags,
	},
	"AWS::DynamoDB::Table": table,
	"AWS::ECR::Repository": {
		"RepositoryName": schema.Text(2, 256), "ImageTagMutability": schema.Enum("MUTABLE", "IMMUTABLE"),
		"ImageScanningConfiguration": schema.Map(schema.Object{
			"ScanOnPush": schema.Bool,
		}),
		"EncryptionConfiguration": schema.Map(schema.Object{
			"EncryptionType": schema.Required(schema.Enum("AES256", "KMS", "KMS_DSSE")), "KmsKey": schema.Text(1, 2048),
		}),
		// Of no effect without images, which nothing here can run.
		"LifecyclePolicy": schema.Map(schema.Object{
			"LifecyclePolicyText": schema.Text(100, 30720), "RegistryId": schema.Text(12, 12),
		}),
		"RepositoryPolicyText": policyDocument, "Tags": schema.Tags,
	},
	"AWS::IAM::AccessKey": {
		"UserName": schema.Required(schema.Text(1, 64)), "Serial": schema.Integer(0, math.MaxInt32),
		"Status": schema.Enum("Active", "Inactive"),
	},
	"AWS::IAM::InstanceProfile": {
		"InstanceProfileName": schema.Text(1, 128), "Path": schema.Text(1, 512),
		"Roles": schema.Required(schema.List(1, 1, schema.Text(1, 64))),
	},
	"AWS::IAM::ManagedPolicy": {
		"ManagedPolicyName": schema.Text(1, 128), "Description": schema.Text(0, 1000),
		"Path": schema.Text(1, 512), "PolicyDocument": schema.Required(policyDocument), "Groups": names,
		"Roles": names, "Users": names,
	},
	"AWS::IAM::Policy": {
		"PolicyName": schema.Required(schema.Text(1, 128)), "PolicyDocument": schema.Required(policyDocument),
		"Groups": names, "Roles": names, "Users": names,
	},
	"AWS::IAM::Role": {
		"RoleName": schema.Text(1, 64), "AssumeRolePolicyDocument": schema.Required(policyDocument),
		"Description":        schema.Text(0, 1000),
		"ManagedPolicyArns":  schema.Unique(schema.List(0, 20, schema.ARN("iam"))),
		"MaxSessionDuration": schema.Integer(3600, 43200), "Path": schema.Text(1, 512),
		"PermissionsBoundary": schema.ARN("iam"),
		"Policies": schema.List(0, math.MaxInt, schema.Map(schema.Object{
			"PolicyName": schema.Required(schema.Text(1, 128)), "PolicyDocument": schema.Required(policyDocument),
		})),
		"Tags": schema.Tags,
	},
	"AWS::IAM::User": {
		"UserName": schema.Text(1, 64), "Path": schema.Text(1, 512), "Tags": schema.Tags,
	},
	"AWS::KMS::Alias": {
		"AliasName":   schema.Required(schema.Pattern(`alias/.+`, 1, 256)),
		"TargetKeyId": schema.Required(schema.Text(1, 256)),
	},
	"AWS::KMS::Key": {
		"Description": schema.Text(0, 8192), "Enabled": schema.Bool, "EnableKeyRotation": schema.Bool,
		"KeyPolicy": schema.Required(policyDocument), // AWS has a default, the emulator has none
		"KeySpec":   schema.Enum("SYMMETRIC_DEFAULT"), "KeyUsage": schema.Enum("ENCRYPT_DECRYPT"),
		"MultiRegion": schema.Enum("false"), "PendingWindowInDays": schema.Integer(7, 30), "Tags": schema.Tags,
	},
	"AWS::Lambda::Function": function,
	"AWS::Lambda::Permission": {
		"Action":       schema.Required(schema.Pattern(`lambda:[*]|lambda:[A-Za-z]+|[*]`, 1, 256)),
		"FunctionName": schema.Required(schema.Text(1, 170)), "Principal": schema.Required(schema.Text(1, 256)),
		"SourceAccount": schema.Pattern(`\d{12}`, 12, 12),
		"SourceArn":     schema.Pattern(`arn:aws[a-zA-Z0-9-]*:.+`, 1, 2048),
	},
	"AWS::Logs::LogGroup": {
		"LogGroupName": schema.Pattern(`[.\-_/#A-Za-z0-9]+`, 1, 512), "KmsKeyId": schema.ARN("kms"),
		"LogGroupClass": schema.Enum("STANDARD"), "RetentionInDays": retention, "Tags": schema.Tags,
	},
	"AWS::Logs::ResourcePolicy": {
		"PolicyName":     schema.Required(schema.Text(1, 255)),
		"PolicyDocument": schema.Required(schema.JSON(policyDocument)),
	},
	"AWS::S3::Bucket": bucket,
	"AWS::SNS::Topic": {
		"TopicName": schema.Text(1, 256), "ContentBasedDeduplication": schema.Bool, "DisplayName": schema.Any,
		"FifoTopic": schema.Bool, "KmsMasterKeyId": schema.Any,
		"Subscription": schema.List(0, math.MaxInt, schema.Map(schema.Object{
			"Endpoint": schema.Required(schema.Any),
			"Protocol": schema.Required(schema.Enum("sqs", "http", "https")), // the others are seen by nobody
		})),
		"Tags": schema.Tags, "TracingConfig": schema.Enum("PassThrough", "Active"),
	},
	"AWS::SQS::Queue": {
		"QueueName": schema.Text(1, 80), "ContentBasedDeduplication": schema.Bool,
		"DelaySeconds": schema.Integer(0, 900), "FifoQueue": schema.Bool,
		"KmsDataKeyReusePeriodSeconds": schema.Integer(60, 86400), "KmsMasterKeyId": schema.Any,
		"MaximumMessageSize":            schema.Integer(1024, 1<<20),
		"MessageRetentionPeriod":        schema.Integer(60, 1209600),
		"ReceiveMessageWaitTimeSeconds": schema.Integer(0, 20),
		"RedrivePolicy": schema.JSON(schema.Map(schema.Object{
			"deadLetterTargetArn": schema.Required(schema.ARN("sqs")),
			"maxReceiveCount":     schema.Required(schema.Integer(1, 1000)),
		})),
		"SqsManagedSseEnabled": schema.Bool, "Tags": schema.Tags, "VisibilityTimeout": schema.Integer(0, 43200),
	},
	"AWS::SSM::Parameter": {
		"Name":           schema.Required(schema.Text(1, 2048)), // AWS makes one up, the emulator does not
		"AllowedPattern": schema.Text(0, 1024), "DataType": schema.Enum("text"),
		"Description": schema.Text(0, 1024), "Tier": schema.Enum("Standard", "Advanced", "Intelligent-Tiering"),
		"Type":  schema.Required(schema.Enum("String", "StringList")),
		"Value": schema.Required(schema.Text(1, 8192)),
	},
}

var names = schema.List(0, math.MaxInt, schema.Text(1, 128))

// policyDocument has the elements of the grammar of IAM's policies. What their
// conditions and principals hold is left to AWS.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
var policyDocument = schema.JSON(schema.Map(schema.Object{
	"Version": schema.Enum("2012-10-17", "2008-10-17"), "Id": schema.Any,
	"Statement": schema.Required(schema.OneOrMore(statement)),
}))

var statement = schema.Map(schema.Object{
	"Sid": schema.Any, "Effect": schema.Required(schema.Enum("Allow", "Deny")), "Principal": principal,
	"NotPrincipal": principal, "Action": schema.OneOrMore(schema.Any),
	"NotAction": schema.OneOrMore(schema.Any), "Resource": schema.OneOrMore(schema.Any),
	"NotResource": schema.OneOrMore(schema.Any),
	"Condition":   schema.Dictionary(`^[A-Za-z:]+$`, schema.Document),
})

// principal is * or an object.
func principal(path string, value any) error {
	if value == "*" {
		return nil
	}
	return schema.Dictionary(`^(AWS|Federated|Service|CanonicalUser)$`, schema.OneOrMore(schema.Any))(path, value)
}

// retention is what CloudWatch Logs takes.
// https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
var retention = schema.Enum("1", "3", "5", "7", "14", "30", "60", "90", "120", "150", "180", "365", "400", "545",
	"731", "1096", "1827", "2192", "2557", "2922", "3288", "3653")

var function = schema.Object{
	"FunctionName": schema.Text(1, 140), "Architectures": schema.List(1, 1, schema.Enum("x86_64", "arm64")),
	"Code": schema.Required(schema.Map(schema.Object{
		"S3Bucket": schema.Required(schema.Text(3, 63)), "S3Key": schema.Required(schema.Text(1, 1024)),
	})),
	"Description": schema.Text(0, 256),
	"Environment": schema.Map(schema.Object{
		"Variables": schema.Dictionary(`^[a-zA-Z][a-zA-Z0-9_]+$`, schema.Any),
	}),
	"EphemeralStorage": schema.Map(schema.Object{"Size": schema.Required(schema.Integer(512, 10240))}),
	"Handler":          schema.Text(0, 128), "KmsKeyArn": schema.ARN("kms"),
	"LoggingConfig": schema.Map(schema.Object{
		"LogFormat": schema.Enum("Text"), "LogGroup": schema.Text(1, 512),
	}),
	"MemorySize": schema.Integer(128, 10240), "PackageType": schema.Enum("Zip"),
	"Role":    schema.Required(schema.ARN("iam")),
	"Runtime": schema.Any, // invoking one that does not run here is an error
	"Tags":    schema.Tags, "Timeout": schema.Integer(1, 900),
	"TracingConfig": schema.Map(schema.Object{"Mode": schema.Enum("Active", "PassThrough")}),
}

var (
	attributeName = schema.Text(1, 255)
	keySchema     = schema.List(1, 2, schema.Map(schema.Object{
		"AttributeName": schema.Required(attributeName), "KeyType": schema.Required(schema.Enum("HASH", "RANGE")),
	}))
	projection = schema.Map(schema.Object{
		"ProjectionType":   schema.Enum("ALL", "KEYS_ONLY", "INCLUDE"),
		"NonKeyAttributes": schema.List(1, 20, attributeName),
	})
	throughput = schema.Map(schema.Object{
		"ReadCapacityUnits": schema.Required(schema.Integer(1, math.MaxInt32)), "WriteCapacityUnits": schema.Required(schema.Integer(1, math.MaxInt32)),
	})
)

var table = schema.Object{
	"TableName": schema.Pattern(`[a-zA-Z0-9_.-]+`, 3, 255),
	"AttributeDefinitions": schema.Required(schema.List(1, math.MaxInt, schema.Map(schema.Object{
		"AttributeName": schema.Required(attributeName), "AttributeType": schema.Required(schema.Enum("S", "N", "B")),
	}))),
	"BillingMode": schema.Enum("PROVISIONED", "PAY_PER_REQUEST"), "DeletionProtectionEnabled": schema.Bool,
	"GlobalSecondaryIndexes": schema.List(0, 20, schema.Map(schema.Object{
		"IndexName": schema.Required(schema.Text(3, 255)), "KeySchema": schema.Required(keySchema),
		"Projection": schema.Required(projection), "ProvisionedThroughput": throughput,
	})),
	"KeySchema": schema.Required(keySchema),
	"LocalSecondaryIndexes": schema.List(0, 5, schema.Map(schema.Object{
		"IndexName": schema.Required(schema.Text(3, 255)), "KeySchema": schema.Required(keySchema), "Projection": schema.Required(projection),
	})),
	"PointInTimeRecoverySpecification": schema.Map(schema.Object{
		"PointInTimeRecoveryEnabled": schema.Bool, "RecoveryPeriodInDays": schema.Integer(1, 35),
	}),
	"ProvisionedThroughput": throughput,
	"SSESpecification": schema.Map(schema.Object{
		"SSEEnabled": schema.Required(schema.Bool), "SSEType": schema.Enum("KMS"), "KMSMasterKeyId": schema.Text(1, 2048),
	}),
	"StreamSpecification": schema.Map(schema.Object{
		"StreamViewType": schema.Required(schema.Enum("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")),
	}),
	"TableClass": schema.Enum("STANDARD", "STANDARD_INFREQUENT_ACCESS"), "Tags": schema.Tags,
	"TimeToLiveSpecification": schema.Map(schema.Object{
		"AttributeName": attributeName, "Enabled": schema.Required(schema.Bool),
	}),
}

// bucket is as the bootstrap stack of the CDK makes its own, too: the local bucket keeps
// no versions, so that rules about old ones have nothing to do, and is nobody else's.
var bucket = schema.Object{
	"BucketName": schema.Pattern(`[a-z0-9][a-z0-9.-]*[a-z0-9]`, 3, 63), "AccessControl": schema.Enum("Private"),
	"BucketEncryption": schema.Map(schema.Object{
		"ServerSideEncryptionConfiguration": schema.Required(schema.List(1, 1, schema.Map(schema.Object{
			"BucketKeyEnabled": schema.Bool,
			"ServerSideEncryptionByDefault": schema.Required(schema.Map(schema.Object{
				"SSEAlgorithm": schema.Required(schema.Enum("AES256", "aws:kms", "aws:kms:dsse")), "KMSMasterKeyID": schema.Text(1, 2048),
			})),
		}))),
	}),
	"LifecycleConfiguration": schema.Map(schema.Object{
		"Rules": schema.Required(schema.List(1, 1000, schema.Map(schema.Object{
			"Id": schema.Text(1, 255), "Prefix": schema.Any,
			"Status": schema.Required(schema.Enum("Enabled", "Disabled")),
			"AbortIncompleteMultipartUpload": schema.Map(schema.Object{
				"DaysAfterInitiation": schema.Required(schema.Integer(1, math.MaxInt32)),
			}),
			"NoncurrentVersionExpiration": schema.Map(schema.Object{
				"NoncurrentDays": schema.Required(schema.Integer(1, math.MaxInt32)), "NewerNoncurrentVersions": schema.Integer(1, 100),
			}),
		}))),
	}),
	"OwnershipControls": schema.Map(schema.Object{
		"Rules": schema.Required(schema.List(1, 1, schema.Map(schema.Object{
			"ObjectOwnership": schema.Required(schema.Enum("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter")),
		}))),
	}),
	"PublicAccessBlockConfiguration": schema.Map(schema.Object{
		"BlockPublicAcls": schema.Bool, "BlockPublicPolicy": schema.Bool,
		"IgnorePublicAcls": schema.Bool, "RestrictPublicBuckets": schema.Bool,
	}),
	"Tags": schema.Tags,
	"VersioningConfiguration": schema.Map(schema.Object{
		"Status": schema.Required(schema.Enum("Enabled", "Suspended")),
	}),
}
