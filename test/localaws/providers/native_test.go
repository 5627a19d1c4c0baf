package providers_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

func check(t *testing.T, resourceType, properties string) error {
	t.Helper()
	r, _ := newAccount(t, nil)
	var p map[string]any
	if err := json.Unmarshal([]byte(properties), &p); err != nil {
		t.Fatalf("%s: %v", properties, err)
	}
	return r.Check(cloudformation.Request{RequestType: cloudformation.Create, ResourceType: resourceType, ResourceProperties: p})
}

const (
	policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:*","Resource":["*"],"Condition":{"StringEquals":{"aws:SourceAccount":"1"}}}]}`
	trust  = `{"Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`
	code   = `"Role":` + role + `,"Code":{"S3Bucket":"assets","S3Key":"f.zip"}`
	keys   = `"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}]`
)

// natives has, for each type that the emulator creates itself, properties that it supports, and
// properties that it would ignore silently.
var natives = map[string]struct {
	good string
	// bad maps properties to a part of their error.
	bad map[string]string
}{
	"AWS::CloudFormation::Stack": {`{"TemplateURL":"https://assets/t.json","Parameters":{"Size":"3"}}`, map[string]string{
		`{"TemplateURL":"https://assets/t.json","Parameter":{}}`: "#: extraneous key [Parameter]",
	}},
	"AWS::DynamoDB::Table": {`{` + keys + `,"BillingMode":"PAY_PER_REQUEST","SSESpecification":{"SSEEnabled":true},"TimeToLiveSpecification":{"AttributeName":"until","Enabled":true},
		"GlobalSecondaryIndexes":[{"IndexName":"due","KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],"Projection":{"ProjectionType":"ALL"}}]}`, map[string]string{
		`{` + keys + `,"BilingMode":"PAY_PER_REQUEST"}`:                                               "#: extraneous key [BilingMode]",
		`{` + keys + `,"KinesisStreamSpecification":{"StreamArn":"arn:aws:kinesis:::stream/s"}}`:      "#: extraneous key [KinesisStreamSpecification]",
		`{` + keys + `,"SSESpecification":{"SSEEnable":true}}`:                                        "#/SSESpecification: required key [SSEEnabled]",
		`{` + keys + `,"TimeToLiveSpecification":{"Attribute":"until","Enabled":true}}`:               "#/TimeToLiveSpecification: extraneous key [Attribute]",
		`{` + keys + `,"GlobalSecondaryIndexes":[{"IndexName":"due","Projection":{"Type":"ALL"}}]}`:   "#/GlobalSecondaryIndexes/0/Projection: extraneous key [Type]",
		`{` + keys + `,"PointInTimeRecoverySpecification":{"PointInTimeRecovery":true}}`:              "#/PointInTimeRecoverySpecification: extraneous key [PointInTimeRecovery]",
		`{"KeySchema":[{"AttributeName":"pk","KeyType":"SORT"}],"AttributeDefinitions":[{"A":"pk"}]}`: "#/KeySchema/0/KeyType: SORT",
	}},
	"AWS::ECR::Repository": {`{"RepositoryName":"images","ImageTagMutability":"IMMUTABLE"}`, map[string]string{
		`{"RepositoryName":"images","EmptyOnDelete":true}`: "#: extraneous key [EmptyOnDelete]",
	}},
	"AWS::IAM::AccessKey":       {`{"UserName":"u"}`, map[string]string{`{"UserName":"u","State":"Active"}`: "#: extraneous key [State]"}},
	"AWS::IAM::InstanceProfile": {`{"Roles":["r"]}`, map[string]string{`{"Roles":["r"],"Role":"r"}`: "#: extraneous key [Role]"}},
	"AWS::IAM::ManagedPolicy": {`{"PolicyDocument":` + policy + `,"Roles":["r"]}`, map[string]string{
		`{"PolicyDocument":` + policy + `,"PolicyName":"p"}`: "#: extraneous key [PolicyName]",
	}},
	"AWS::IAM::Policy": {`{"PolicyName":"p","PolicyDocument":` + policy + `,"Roles":["r"]}`, map[string]string{
		`{"PolicyName":"p","PolicyDocument":` + policy + `,"Role":["r"]}`:                                      "#: extraneous key [Role]",
		`{"PolicyName":"p","PolicyDocument":{"Statement":[{"Effect":"Allow","Actions":["*"]}]}}`:               "#/PolicyDocument/Statement/0: extraneous key [Actions]",
		`{"PolicyName":"p","PolicyDocument":{"Statement":[{"Effect":"allow","Action":["*"]}]}}`:                "#/PolicyDocument/Statement/0/Effect: allow",
		`{"PolicyName":"p","PolicyDocument":{"Statements":[]}}`:                                                "#/PolicyDocument: required key [Statement]",
		`{"PolicyName":"p","PolicyDocument":{"Statement":{"Effect":"Deny","Principal":"a","Action":"sts:*"}}}`: "#/PolicyDocument/Statement/Principal",
	}},
	"AWS::IAM::Role": {`{"AssumeRolePolicyDocument":` + trust + `,"Policies":[{"PolicyName":"p","PolicyDocument":` + policy + `}],"Description":"d","Tags":[{"Key":"k","Value":"v"}]}`, map[string]string{
		`{"AssumeRolePolicyDocument":` + trust + `,"ManagedPolicies":[]}`:                                                      "#: extraneous key [ManagedPolicies]",
		`{"AssumeRolePolicyDocument":` + trust + `,"Policies":[{"PolicyName":"p","Document":{}}]}`:                             "#/Policies/0: extraneous key [Document]",
		`{"AssumeRolePolicyDocument":{"Statement":{"Effect":"Allow","Principal":{"Services":"x"},"Action":"sts:AssumeRole"}}}`: "#/AssumeRolePolicyDocument/Statement/Principal: extraneous key [Services]",
	}},
	"AWS::IAM::User": {`{"UserName":"u"}`, map[string]string{`{"UserName":"u","Policies":[]}`: "#: extraneous key [Policies]"}},
	"AWS::KMS::Alias": {`{"AliasName":"alias/k","TargetKeyId":"k"}`, map[string]string{
		`{"AliasName":"alias/k","TargetKeyId":"k","Description":"d"}`: "#: extraneous key [Description]",
	}},
	"AWS::KMS::Key": {`{"KeyPolicy":` + policy + `,"EnableKeyRotation":true,"MultiRegion":false}`, map[string]string{
		`{"KeyPolicy":` + policy + `,"EnableRotation":true}`: "#: extraneous key [EnableRotation]",
		`{"KeyPolicy":` + policy + `,"MultiRegion":true}`:    "#/MultiRegion: true",
	}},
	"AWS::Lambda::Function": {`{` + code + `,"Runtime":"provided.al2023","Handler":"bootstrap","Timeout":60,"RecursiveLoop":"Allow","Environment":{"Variables":{"QUEUE":"q"}}}`, map[string]string{
		`{` + code + `,"Timout":60}`:                                  "#: extraneous key [Timout]",
		`{` + code + `,"VpcConfig":{"SubnetIds":["s"]}}`:              "#: extraneous key [VpcConfig]",
		`{` + code + `,"ReservedConcurrentExecutions":0}`:             "#: extraneous key [ReservedConcurrentExecutions]",
		`{` + code + `,"RecursiveLoop":"Terminate"}`:                  "#/RecursiveLoop: Terminate",
		`{` + code + `,"Environment":{"QUEUE":"q"}}`:                  "#/Environment: extraneous key [QUEUE]",
		`{` + code + `,"Environment":{"Variables":{"MY-QUEUE":"q"}}}`: "#/Environment/Variables: extraneous key [MY-QUEUE]",
		`{"Role":` + role + `,"Code":{"ZipFile":"x"}}`:                "#/Code: extraneous key [ZipFile]",
	}},
	"AWS::Lambda::Permission": {`{"FunctionName":"f","Action":"lambda:InvokeFunction","Principal":"iot.amazonaws.com","SourceAccount":"123456789012"}`, map[string]string{
		`{"FunctionName":"f","Action":"lambda:InvokeFunction","Principal":"*","PrincipalOrgID":"o-1"}`: "#: extraneous key [PrincipalOrgID]",
	}},
	"AWS::Logs::LogGroup": {`{"LogGroupName":"/aws/lambda/f","RetentionInDays":90}`, map[string]string{
		`{"Retention":90}`:       "#: extraneous key [Retention]",
		`{"RetentionInDays":91}`: "#/RetentionInDays: 91",
	}},
	"AWS::Logs::ResourcePolicy": {`{"PolicyName":"p","PolicyDocument":"{\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"logs:*\"}}"}`, map[string]string{
		`{"PolicyName":"p","PolicyDocument":"{"}`: "#/PolicyDocument: {: got string, want object",
	}},
	"AWS::S3::Bucket": {`{"VersioningConfiguration":{"Status":"Enabled"},"BucketEncryption":{"ServerSideEncryptionConfiguration":[{"ServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms"}}]}}`, map[string]string{
		`{"Versioning":true}`:              "#: extraneous key [Versioning]",
		`{"NotificationConfiguration":{}}`: "#: extraneous key [NotificationConfiguration]",
		`{"BucketEncryption":{"ServerSideEncryptionConfiguration":[{"ServerSideEncryption":{"SSEAlgorithm":"aws:kms"}}]}}`: "0: extraneous key [ServerSideEncryption]",
		`{"LifecycleConfiguration":{"Rules":[{"Status":"Enabled","ExpirationInDays":3}]}}`:                                 "#/LifecycleConfiguration/Rules/0: extraneous key [ExpirationInDays]",
	}},
	"AWS::SNS::Topic": {`{"TopicName":"t","KmsMasterKeyId":"alias/aws/sns","Subscription":[{"Protocol":"sqs","Endpoint":"arn:q"}]}`, map[string]string{
		`{"Name":"t"}`: "#: extraneous key [Name]",
		`{"Subscription":[{"Protocol":"email","Endpoint":"a@example.com"}]}`: "#/Subscription/0/Protocol: email",
	}},
	"AWS::SQS::Queue": {`{"VisibilityTimeout":"60","RedrivePolicy":{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:123456789012:q","maxReceiveCount":3},"SqsManagedSseEnabled":true}`, map[string]string{
		`{"VisibilityTimout":60}`:                                                                    "#: extraneous key [VisibilityTimout]",
		`{"RedriveAllowPolicy":{"redrivePermission":"denyAll"}}`:                                     "#: extraneous key [RedriveAllowPolicy]",
		`{"RedrivePolicy":{"deadLetterTargetArn":"arn:aws:sqs:::q","maxReceives":3}}`:                "#/RedrivePolicy: required key [maxReceiveCount]",
		`{"RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:aws:sqs:::q\",\"maxReceiveCount\":1001}"}`: "#/RedrivePolicy/maxReceiveCount: 1001",
	}},
	"AWS::SSM::Parameter": {`{"Name":"/p","Type":"String","Value":"1"}`, map[string]string{
		`{"Name":"/p","Type":"String","Values":"1"}`: "#: extraneous key [Values]",
	}},
}

func TestUnsupportedNativePropertiesAreRefused(t *testing.T) {
	for _, resourceType := range schema.Native() {
		tt, ok := natives[resourceType]
		if !ok || len(tt.bad) == 0 {
			t.Errorf("natives has no unsupported properties of %s", resourceType)
		}
		if err := check(t, resourceType, tt.good); err != nil {
			t.Errorf("%s: %v", resourceType, err)
		}
		for properties, want := range tt.bad {
			err := check(t, resourceType, properties)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "leave it out of the local deployment, or try it on AWS") {
				t.Errorf("%s %s: got %v, want %q and the fix", resourceType, properties, err, want)
			}
		}
	}
}

func TestNativeTypeWithoutASchemaIsRefused(t *testing.T) {
	const other = "AWS::StepFunctions::StateMachine"
	if err := check(t, other, `{}`); slices.Contains(schema.Native(), other) || err == nil || !strings.Contains(err.Error(), other) {
		t.Errorf("got %v, want an error that names %s", err, other)
	}
}
