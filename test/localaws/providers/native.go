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
		"Parameters":  schema.Optional(schema.Dictionary(`^[A-Za-z0-9]+$`, schema.Any)),
		"Tags":        schema.Optional(schema.Tags),
	},
	"AWS::DynamoDB::Table": table,
	"AWS::ECR::Repository": {
		"RepositoryName":     schema.Optional(schema.Text(2, 256)),
		"ImageTagMutability": schema.Optional(schema.Enum("MUTABLE", "IMMUTABLE")),
		"ImageScanningConfiguration": schema.Optional(schema.Map(schema.Object{
			"ScanOnPush": schema.Optional(schema.Bool),
		})),
		"EncryptionConfiguration": schema.Optional(schema.Map(schema.Object{
			"EncryptionType": schema.Required(schema.Enum("AES256", "KMS", "KMS_DSSE")), "KmsKey": schema.Optional(schema.Text(1, 2048)),
		})),
		// Of no effect without images, which nothing here can run.
		"LifecyclePolicy": schema.Optional(schema.Map(schema.Object{
			"LifecyclePolicyText": schema.Optional(schema.Text(100, 30720)), "RegistryId": schema.Optional(schema.Text(12, 12)),
		})),
		"RepositoryPolicyText": schema.Optional(policyDocument),
		"Tags":                 schema.Optional(schema.Tags),
	},
	"AWS::IAM::AccessKey": {
		"UserName": schema.Required(schema.Text(1, 64)),
		"Serial":   schema.Optional(schema.Integer(0, math.MaxInt32)),
		"Status":   schema.Optional(schema.Enum("Active", "Inactive")),
	},
	"AWS::IAM::InstanceProfile": {
		"InstanceProfileName": schema.Optional(schema.Text(1, 128)),
		"Path":                schema.Optional(schema.Text(1, 512)),
		"Roles":               schema.Required(schema.List(1, 1, schema.Text(1, 64))),
	},
	"AWS::IAM::ManagedPolicy": {
		"ManagedPolicyName": schema.Optional(schema.Text(1, 128)),
		"Description":       schema.Optional(schema.Text(0, 1000)),
		"Path":              schema.Optional(schema.Text(1, 512)),
		"PolicyDocument":    schema.Required(policyDocument),
		"Groups":            schema.Optional(names),
		"Roles":             schema.Optional(names),
		"Users":             schema.Optional(names),
	},
	"AWS::IAM::Policy": {
		"PolicyName":     schema.Required(schema.Text(1, 128)),
		"PolicyDocument": schema.Required(policyDocument),
		"Groups":         schema.Optional(names),
		"Roles":          schema.Optional(names),
		"Users":          schema.Optional(names),
	},
	"AWS::IAM::Role": {
		"RoleName":                 schema.Optional(schema.Text(1, 64)),
		"AssumeRolePolicyDocument": schema.Required(policyDocument),
		"Description":              schema.Optional(schema.Text(0, 1000)),
		"ManagedPolicyArns":        schema.Optional(schema.Unique(schema.List(0, 20, schema.ARN("iam")))),
		"MaxSessionDuration":       schema.Optional(schema.Integer(3600, 43200)),
		"Path":                     schema.Optional(schema.Text(1, 512)),
		"PermissionsBoundary":      schema.Optional(schema.ARN("iam")),
		"Policies": schema.Optional(schema.List(0, math.MaxInt, schema.Map(schema.Object{
			"PolicyName": schema.Required(schema.Text(1, 128)), "PolicyDocument": schema.Required(policyDocument),
		}))),
		"Tags": schema.Optional(schema.Tags),
	},
	"AWS::IAM::User": {
		"UserName": schema.Optional(schema.Text(1, 64)),
		"Path":     schema.Optional(schema.Text(1, 512)),
		"Tags":     schema.Optional(schema.Tags),
	},
	"AWS::KMS::Alias": {
		"AliasName":   schema.Required(schema.Pattern(`alias/.+`, 1, 256)),
		"TargetKeyId": schema.Required(schema.Text(1, 256)),
	},
	"AWS::KMS::Key": {
		"Description":         schema.Optional(schema.Text(0, 8192)),
		"Enabled":             schema.Optional(schema.Bool),
		"EnableKeyRotation":   schema.Optional(schema.Bool),
		"KeyPolicy":           schema.Required(policyDocument), // AWS has a default, the emulator has none
		"KeySpec":             schema.Optional(schema.Enum("SYMMETRIC_DEFAULT")),
		"KeyUsage":            schema.Optional(schema.Enum("ENCRYPT_DECRYPT")),
		"MultiRegion":         schema.Optional(schema.Enum("false")),
		"PendingWindowInDays": schema.Optional(schema.Integer(7, 30)),
		"Tags":                schema.Optional(schema.Tags),
	},
	"AWS::Lambda::Function": function,
	"AWS::Lambda::Permission": {
		"Action":        schema.Required(schema.Pattern(`lambda:[*]|lambda:[A-Za-z]+|[*]`, 1, 256)),
		"FunctionName":  schema.Required(schema.Text(1, 170)),
		"Principal":     schema.Required(schema.Text(1, 256)),
		"SourceAccount": schema.Optional(schema.Pattern(`\d{12}`, 12, 12)),
		"SourceArn":     schema.Optional(schema.Pattern(`arn:aws[a-zA-Z0-9-]*:.+`, 1, 2048)),
	},
	"AWS::Logs::LogGroup": {
		"LogGroupName":    schema.Optional(schema.Pattern(`[.\-_/#A-Za-z0-9]+`, 1, 512)),
		"KmsKeyId":        schema.Optional(schema.ARN("kms")),
		"LogGroupClass":   schema.Optional(schema.Enum("STANDARD")),
		"RetentionInDays": schema.Optional(retention),
		"Tags":            schema.Optional(schema.Tags),
	},
	"AWS::Logs::ResourcePolicy": {
		"PolicyName":     schema.Required(schema.Text(1, 255)),
		"PolicyDocument": schema.Required(schema.JSON(policyDocument)),
	},
	"AWS::S3::Bucket": bucket,
	"AWS::SNS::Topic": {
		"TopicName":                 schema.Optional(schema.Text(1, 256)),
		"ContentBasedDeduplication": schema.Optional(schema.Bool),
		"DisplayName":               schema.Optional(schema.Any),
		"FifoTopic":                 schema.Optional(schema.Bool),
		"KmsMasterKeyId":            schema.Optional(schema.Any),
		"Subscription": schema.Optional(schema.List(0, math.MaxInt, schema.Map(schema.Object{
			"Endpoint": schema.Required(schema.Any),
			"Protocol": schema.Required(schema.Enum("sqs", "http", "https")), // the others are seen by nobody
		}))),
		"Tags":          schema.Optional(schema.Tags),
		"TracingConfig": schema.Optional(schema.Enum("PassThrough", "Active")),
	},
	"AWS::SQS::Queue": {
		"QueueName":                     schema.Optional(schema.Text(1, 80)),
		"ContentBasedDeduplication":     schema.Optional(schema.Bool),
		"DelaySeconds":                  schema.Optional(schema.Integer(0, 900)),
		"FifoQueue":                     schema.Optional(schema.Bool),
		"KmsDataKeyReusePeriodSeconds":  schema.Optional(schema.Integer(60, 86400)),
		"KmsMasterKeyId":                schema.Optional(schema.Any),
		"MaximumMessageSize":            schema.Optional(schema.Integer(1024, 1<<20)),
		"MessageRetentionPeriod":        schema.Optional(schema.Integer(60, 1209600)),
		"ReceiveMessageWaitTimeSeconds": schema.Optional(schema.Integer(0, 20)),
		"RedrivePolicy": schema.Optional(schema.JSON(schema.Map(schema.Object{
			"deadLetterTargetArn": schema.Required(schema.ARN("sqs")),
			"maxReceiveCount":     schema.Required(schema.Integer(1, 1000)),
		}))),
		"SqsManagedSseEnabled": schema.Optional(schema.Bool),
		"Tags":                 schema.Optional(schema.Tags),
		"VisibilityTimeout":    schema.Optional(schema.Integer(0, 43200)),
	},
	"AWS::SSM::Parameter": {
		"Name":           schema.Required(schema.Text(1, 2048)), // AWS makes one up, the emulator does not
		"AllowedPattern": schema.Optional(schema.Text(0, 1024)),
		"DataType":       schema.Optional(schema.Enum("text")),
		"Description":    schema.Optional(schema.Text(0, 1024)),
		"Tier":           schema.Optional(schema.Enum("Standard", "Advanced", "Intelligent-Tiering")),
		"Type":           schema.Required(schema.Enum("String", "StringList")),
		"Value":          schema.Required(schema.Text(1, 8192)),
	},
}

var names = schema.List(0, math.MaxInt, schema.Text(1, 128))

// policyDocument has the elements of the grammar of IAM's policies. What their
// conditions and principals hold is left to AWS.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
var policyDocument = schema.JSON(schema.Map(schema.Object{
	"Version":   schema.Optional(schema.Enum("2012-10-17", "2008-10-17")),
	"Id":        schema.Optional(schema.Any),
	"Statement": schema.Required(schema.OneOrMore(statement)),
}))

var statement = schema.Map(schema.Object{
	"Sid":          schema.Optional(schema.Any),
	"Effect":       schema.Required(schema.Enum("Allow", "Deny")),
	"Principal":    schema.Optional(principal),
	"NotPrincipal": schema.Optional(principal),
	"Action":       schema.Optional(schema.OneOrMore(schema.Any)),
	"NotAction":    schema.Optional(schema.OneOrMore(schema.Any)),
	"Resource":     schema.Optional(schema.OneOrMore(schema.Any)),
	"NotResource":  schema.Optional(schema.OneOrMore(schema.Any)),
	"Condition":    schema.Optional(schema.Dictionary(`^[A-Za-z:]+$`, schema.Document)),
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
	"FunctionName":  schema.Optional(schema.Text(1, 140)),
	"Architectures": schema.Optional(schema.List(1, 1, schema.Enum("x86_64", "arm64"))),
	"Code": schema.Required(schema.Map(schema.Object{
		"S3Bucket": schema.Required(schema.Text(3, 63)), "S3Key": schema.Required(schema.Text(1, 1024)),
	})),
	"Description": schema.Optional(schema.Text(0, 256)),
	"Environment": schema.Optional(schema.Map(schema.Object{
		"Variables": schema.Optional(schema.Dictionary(`^[a-zA-Z][a-zA-Z0-9_]+$`, schema.Any)),
	})),
	"EphemeralStorage": schema.Optional(schema.Map(schema.Object{"Size": schema.Required(schema.Integer(512, 10240))})),
	"Handler":          schema.Optional(schema.Text(0, 128)),
	"KmsKeyArn":        schema.Optional(schema.ARN("kms")),
	"LoggingConfig": schema.Optional(schema.Map(schema.Object{
		"LogFormat": schema.Optional(schema.Enum("Text")), "LogGroup": schema.Optional(schema.Text(1, 512)),
	})),
	"MemorySize":    schema.Optional(schema.Integer(128, 10240)),
	"PackageType":   schema.Optional(schema.Enum("Zip")),
	"Role":          schema.Required(schema.ARN("iam")),
	"Runtime":       schema.Optional(schema.Any), // who invokes one that does not run here hears of it
	"Tags":          schema.Optional(schema.Tags),
	"Timeout":       schema.Optional(schema.Integer(1, 900)),
	"TracingConfig": schema.Optional(schema.Map(schema.Object{"Mode": schema.Optional(schema.Enum("Active", "PassThrough"))})),
}

var (
	attributeName = schema.Text(1, 255)
	keySchema     = schema.List(1, 2, schema.Map(schema.Object{
		"AttributeName": schema.Required(attributeName), "KeyType": schema.Required(schema.Enum("HASH", "RANGE")),
	}))
	projection = schema.Map(schema.Object{
		"ProjectionType":   schema.Optional(schema.Enum("ALL", "KEYS_ONLY", "INCLUDE")),
		"NonKeyAttributes": schema.Optional(schema.List(1, 20, attributeName)),
	})
	throughput = schema.Map(schema.Object{
		"ReadCapacityUnits": schema.Required(schema.Integer(1, math.MaxInt32)), "WriteCapacityUnits": schema.Required(schema.Integer(1, math.MaxInt32)),
	})
)

var table = schema.Object{
	"TableName": schema.Optional(schema.Pattern(`[a-zA-Z0-9_.-]+`, 3, 255)),
	"AttributeDefinitions": schema.Required(schema.List(1, math.MaxInt, schema.Map(schema.Object{
		"AttributeName": schema.Required(attributeName), "AttributeType": schema.Required(schema.Enum("S", "N", "B")),
	}))),
	"BillingMode":               schema.Optional(schema.Enum("PROVISIONED", "PAY_PER_REQUEST")),
	"DeletionProtectionEnabled": schema.Optional(schema.Bool),
	"GlobalSecondaryIndexes": schema.Optional(schema.List(0, 20, schema.Map(schema.Object{
		"IndexName": schema.Required(schema.Text(3, 255)), "KeySchema": schema.Required(keySchema),
		"Projection": schema.Required(projection), "ProvisionedThroughput": schema.Optional(throughput),
	}))),
	"KeySchema": schema.Required(keySchema),
	"LocalSecondaryIndexes": schema.Optional(schema.List(0, 5, schema.Map(schema.Object{
		"IndexName": schema.Required(schema.Text(3, 255)), "KeySchema": schema.Required(keySchema), "Projection": schema.Required(projection),
	}))),
	"PointInTimeRecoverySpecification": schema.Optional(schema.Map(schema.Object{
		"PointInTimeRecoveryEnabled": schema.Optional(schema.Bool), "RecoveryPeriodInDays": schema.Optional(schema.Integer(1, 35)),
	})),
	"ProvisionedThroughput": schema.Optional(throughput),
	"SSESpecification": schema.Optional(schema.Map(schema.Object{
		"SSEEnabled": schema.Required(schema.Bool), "SSEType": schema.Optional(schema.Enum("KMS")), "KMSMasterKeyId": schema.Optional(schema.Text(1, 2048)),
	})),
	"StreamSpecification": schema.Optional(schema.Map(schema.Object{
		"StreamViewType": schema.Required(schema.Enum("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")),
	})),
	"TableClass": schema.Optional(schema.Enum("STANDARD", "STANDARD_INFREQUENT_ACCESS")),
	"Tags":       schema.Optional(schema.Tags),
	"TimeToLiveSpecification": schema.Optional(schema.Map(schema.Object{
		"AttributeName": schema.Optional(attributeName), "Enabled": schema.Required(schema.Bool),
	})),
}

// bucket is as the bootstrap stack of the CDK makes its own, too: the local bucket keeps
// no versions, so that rules about old ones have nothing to do, and is nobody else's.
var bucket = schema.Object{
	"BucketName":    schema.Optional(schema.Pattern(`[a-z0-9][a-z0-9.-]*[a-z0-9]`, 3, 63)),
	"AccessControl": schema.Optional(schema.Enum("Private")),
	"BucketEncryption": schema.Optional(schema.Map(schema.Object{
		"ServerSideEncryptionConfiguration": schema.Required(schema.List(1, 1, schema.Map(schema.Object{
			"BucketKeyEnabled": schema.Optional(schema.Bool),
			"ServerSideEncryptionByDefault": schema.Required(schema.Map(schema.Object{
				"SSEAlgorithm": schema.Required(schema.Enum("AES256", "aws:kms", "aws:kms:dsse")), "KMSMasterKeyID": schema.Optional(schema.Text(1, 2048)),
			})),
		}))),
	})),
	"LifecycleConfiguration": schema.Optional(schema.Map(schema.Object{
		"Rules": schema.Required(schema.List(1, 1000, schema.Map(schema.Object{
			"Id":     schema.Optional(schema.Text(1, 255)),
			"Prefix": schema.Optional(schema.Any),
			"Status": schema.Required(schema.Enum("Enabled", "Disabled")),
			"AbortIncompleteMultipartUpload": schema.Optional(schema.Map(schema.Object{
				"DaysAfterInitiation": schema.Required(schema.Integer(1, math.MaxInt32)),
			})),
			"NoncurrentVersionExpiration": schema.Optional(schema.Map(schema.Object{
				"NoncurrentDays": schema.Required(schema.Integer(1, math.MaxInt32)), "NewerNoncurrentVersions": schema.Optional(schema.Integer(1, 100)),
			})),
		}))),
	})),
	"OwnershipControls": schema.Optional(schema.Map(schema.Object{
		"Rules": schema.Required(schema.List(1, 1, schema.Map(schema.Object{
			"ObjectOwnership": schema.Required(schema.Enum("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter")),
		}))),
	})),
	"PublicAccessBlockConfiguration": schema.Optional(schema.Map(schema.Object{
		"BlockPublicAcls": schema.Optional(schema.Bool), "BlockPublicPolicy": schema.Optional(schema.Bool),
		"IgnorePublicAcls": schema.Optional(schema.Bool), "RestrictPublicBuckets": schema.Optional(schema.Bool),
	})),
	"Tags": schema.Optional(schema.Tags),
	"VersioningConfiguration": schema.Optional(schema.Map(schema.Object{
		"Status": schema.Required(schema.Enum("Enabled", "Suspended")),
	})),
}
