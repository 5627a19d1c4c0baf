package iam

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	securityhubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
)

const roleARN = "arn:aws:iam::123456789012:role/path/Worker"

// enforcer returns an enforcer with one role, which has a trust policy and these policies.
func enforcer(t *testing.T, trust string, policies ...string) *Enforcer {
	t.Helper()
	parse := func(statements string) document {
		d, err := parseDocument(`{"Version": "2012-10-17", "Statement": [` + statements + `]}`)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	r := &role{name: "Worker", arn: roleARN, trust: parse(trust)}
	for _, p := range policies {
		r.policies = append(r.policies, parse(p))
	}
	// No queue and no topic has a policy.
	nothing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") == "" { // Amazon SNS
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<ErrorResponse><Error><Code>NotFound</Code></Error></ErrorResponse>")
			return
		}
		w.Header().Set("X-Amzn-Errortype", "com.amazonaws.sqs#QueueDoesNotExist")
		w.WriteHeader(http.StatusBadRequest)
	}))
	t.Cleanup(nothing.Close)
	return &Enforcer{
		Account: "123456789012", Region: "eu-west-1", Roles: &Roles{cache: cache[role]{known: map[string]*role{roleARN: r}}},
		Resources: &Resources{API: awsapi.Client{Endpoint: nothing.URL, Region: "eu-west-1"}},
	}
}

func statementOf(effect, action, resource, more string) string {
	return fmt.Sprintf(`{"Effect": %q, "Action": %s, "Resource": %s%s}`, effect, action, resource, more)
}

func TestPoliciesDecideAsInIAM(t *testing.T) {
	const queue, noAllow = "arn:aws:sqs:eu-west-1:123456789012:jobs", "because no identity-based policy allows the sqs:SendMessage action"
	const explicit = "with an explicit deny in an identity-based policy"
	allow := statementOf("Allow", `"sqs:SendMessage"`, `"`+queue+`"`, "")
	for name, tt := range map[string]struct {
		policies []string
		want     string // "" when it is allowed
	}{
		"nothing":                {nil, noAllow},
		"named":                  {[]string{allow}, ""},
		"another policy":         {[]string{statementOf("Allow", `"sqs:*"`, `"arn:aws:sqs:*:*:other"`, ""), allow}, ""},
		"another action":         {[]string{statementOf("Allow", `"sqs:ReceiveMessage"`, `"*"`, "")}, noAllow},
		"another resource":       {[]string{statementOf("Allow", `"sqs:SendMessage"`, `"`+queue+`-2"`, "")}, noAllow},
		"action in another case": {[]string{statementOf("Allow", `"SQS:sendmessage"`, `"*"`, "")}, ""},
		"wildcards":              {[]string{statementOf("Allow", `["kms:Decrypt", "sqs:Send*"]`, `["arn:aws:sqs:*:123456789012:job?"]`, "")}, ""},
		"deny wins":              {[]string{statementOf("Deny", `"sqs:*"`, `"*"`, ""), allow}, explicit},
		"deny after":             {[]string{allow, statementOf("Deny", `"sqs:*"`, `"*"`, "")}, explicit},
		"deny of something else": {[]string{allow, statementOf("Deny", `"sqs:PurgeQueue"`, `"*"`, "")}, ""},
		"not action":             {[]string{`{"Effect": "Allow", "NotAction": "sqs:Receive*", "Resource": "*"}`}, ""},
		"not resource":           {[]string{`{"Effect": "Allow", "Action": "sqs:*", "NotResource": "` + queue + `"}`}, noAllow},
		"condition met":          {[]string{statementOf("Allow", `"*"`, `"*"`, `, "Condition": {"StringEquals": {"AWS:RequestedRegion": ["us-east-1", "eu-west-1"]}}`)}, ""},
		"condition not met":      {[]string{statementOf("Allow", `"*"`, `"*"`, `, "Condition": {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/Worker"}}`)}, noAllow},
		"unknown condition key":  {[]string{statementOf("Allow", `"*"`, `"*"`, `, "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}`)}, `condition key "aws:MultiFactorAuthPresent" is not supported by the local AWS`},
		"unknown, not evaluated": {[]string{allow, statementOf("Allow", `"kms:Decrypt"`, `"*"`, `, "Condition": {"StringEquals": {"kms:GrantOperations": "sqs"}}`)}, ""},
		"unknown variable":       {[]string{statementOf("Allow", `"*"`, `"arn:aws:sqs:*:*:${aws:username}"`, "")}, `policy variable "aws:username" is not supported by the local AWS`},
	} {
		t.Run(name, func(t *testing.T) {
			e := enforcer(t, "", tt.policies...)
			err := e.Allow(t.Context(), Session{Role: roleARN, Name: "run"}, queue, "sqs:SendMessage")
			if tt.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if denials := e.Denials(); (len(denials) > 0) != (err != nil) {
				t.Errorf("denials are %q after %v", denials, err)
			}
		})
	}
}

func TestBoundaryMustAllowToo(t *testing.T) {
	e := enforcer(t, "", statementOf("Allow", `"*"`, `"*"`, ""))
	boundary, err := parseDocument(`{"Version": "2012-10-17", "Statement": ` + statementOf("Allow", `"sqs:*"`, `"*"`, "") + `}`)
	if err != nil {
		t.Fatal(err)
	}
	e.Roles.known[roleARN].boundary = []document{boundary}
	session := Session{Role: roleARN, Name: "run"}
	if err := e.Allow(t.Context(), session, "*", "sqs:SendMessage"); err != nil {
		t.Error(err)
	}
	const want = "User: arn:aws:sts::123456789012:assumed-role/Worker/run is not authorized to perform: iot:Publish on resource: * because no permissions boundary allows the iot:Publish action"
	if err := e.Allow(t.Context(), session, "*", "iot:Publish"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestServicesAssumeRolesThatTrustThem(t *testing.T) {
	const source = "arn:aws:iot:eu-west-1:123456789012:rule/hot"
	trust := func(service, more string) string {
		return `{"Effect": "Allow", "Principal": {"Service": ` + service + `}, "Action": "sts:AssumeRole"` + more + `}`
	}
	conditions := func(arn string) string {
		return `, "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}, "ArnLike": {"aws:SourceArn": "` + arn + `"}}`
	}
	for name, tt := range map[string]struct {
		trust, source string
		ok            bool
	}{
		"trusted":          {trust(`"iot.amazonaws.com"`, ""), source, true},
		"one of two":       {trust(`["lambda.amazonaws.com", "iot.amazonaws.com"]`, ""), source, true},
		"another service":  {trust(`"lambda.amazonaws.com"`, ""), source, false},
		"source":           {trust(`"iot.amazonaws.com"`, conditions("arn:aws:iot:*:123456789012:rule/*")), source, true},
		"another source":   {trust(`"iot.amazonaws.com"`, conditions("arn:aws:iot:*:123456789012:job/*")), source, false},
		"source not named": {trust(`"iot.amazonaws.com"`, conditions("arn:aws:iot:*:123456789012:rule/*")), "", false},
		"* over colons":    {trust(`"iot.amazonaws.com"`, conditions("arn:aws:iot:*:rule/hot")), source, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := enforcer(t, tt.trust)
			_, err := e.Assume(t.Context(), "iot.amazonaws.com", tt.source, roleARN, "hot")
			if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), "iot.amazonaws.com is unable to assume role (sts:AssumeRole) on resource: "+roleARN) {
				t.Errorf("got %v, want success %v", err, tt.ok)
			}
		})
	}
}

// client returns an SDK configuration for a server behind the enforcer, and the number of calls
// that the enforcer passed on.
func client(t *testing.T, e *Enforcer, credentials aws.Credentials) (aws.Config, *int) {
	t.Helper()
	passed := 0
	server := httptest.NewServer(e.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed++
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, "{}")
	})))
	t.Cleanup(server.Close)
	return aws.Config{
		Region: "eu-west-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1, HTTPClient: awsapi.HTTPClient,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil }),
	}, &passed
}

// TestCallsOfFunctions makes the calls of the functions with the SDK. Each is denied without
// policies, with the error code of its service, and allowed by exactly the wanted permissions.
func TestCallsOfFunctions(t *testing.T) {
	const (
		queueURL = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"
		queueARN = "arn:aws:sqs:eu-west-1:123456789012:jobs"
		tableARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/state"
		stream   = "arn:aws:kinesis:eu-west-1:123456789012:stream/telemetry"
		product  = "arn:aws:securityhub:eu-west-1:123456789012:product/123456789012/default"
		things   = "arn:aws:iot:eu-west-1:123456789012:"
		topicARN = "arn:aws:sns:eu-west-1:123456789012:people"
	)
	key := map[string]dynamodbtypes.AttributeValue{"pk": &dynamodbtypes.AttributeValueMemberS{Value: "1"}}
	url, state, name := aws.String(queueURL), aws.String("state"), aws.String("telemetry")
	for call, tt := range map[string]struct {
		do   func(aws.Config) error
		code string
		want []need
	}{
		"SendMessage": {func(c aws.Config) error {
			_, err := sqs.NewFromConfig(c).SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: url})
			return err
		}, "AccessDenied", []need{{"sqs:SendMessage", queueARN}}},
		"SendMessageBatch": {func(c aws.Config) error {
			_, err := sqs.NewFromConfig(c).SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: url, Entries: []sqstypes.SendMessageBatchRequestEntry{{Id: url, MessageBody: url}}})
			return err
		}, "AccessDenied", []need{{"sqs:SendMessage", queueARN}}},
		"GetQueueUrl": {func(c aws.Config) error {
			_, err := sqs.NewFromConfig(c).GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("jobs")})
			return err
		}, "AccessDenied", []need{{"sqs:GetQueueUrl", queueARN}}},
		"ChangeMessageVisibility": {func(c aws.Config) error {
			_, err := sqs.NewFromConfig(c).ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: url, ReceiptHandle: url})
			return err
		}, "AccessDenied", []need{{"sqs:ChangeMessageVisibility", queueARN}}},
		"GetQueueAttributes": {func(c aws.Config) error {
			_, err := sqs.NewFromConfig(c).GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: url})
			return err
		}, "AccessDenied", []need{{"sqs:GetQueueAttributes", queueARN}}},
		"GetItem": {func(c aws.Config) error {
			_, err := dynamodb.NewFromConfig(c).GetItem(t.Context(), &dynamodb.GetItemInput{TableName: state, Key: key})
			return err
		}, "AccessDeniedException", []need{{"dynamodb:GetItem", tableARN}}},
		"PutItem": {func(c aws.Config) error {
			_, err := dynamodb.NewFromConfig(c).PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(tableARN), Item: key})
			return err
		}, "AccessDeniedException", []need{{"dynamodb:PutItem", tableARN}}},
		"Query": {func(c aws.Config) error {
			_, err := dynamodb.NewFromConfig(c).Query(t.Context(), &dynamodb.QueryInput{TableName: state})
			return err
		}, "AccessDeniedException", []need{{"dynamodb:Query", tableARN}}},
		"Query of an index": {func(c aws.Config) error {
			_, err := dynamodb.NewFromConfig(c).Query(t.Context(), &dynamodb.QueryInput{TableName: state, IndexName: aws.String("due")})
			return err
		}, "AccessDeniedException", []need{{"dynamodb:Query", tableARN + "/index/due"}}},
		"BatchGetItem": {func(c aws.Config) error {
			_, err := dynamodb.NewFromConfig(c).BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{RequestItems: map[string]dynamodbtypes.KeysAndAttributes{
				"state": {Keys: []map[string]dynamodbtypes.AttributeValue{key}}, "other": {Keys: []map[string]dynamodbtypes.AttributeValue{key}},
			}})
			return err
		}, "AccessDeniedException", []need{{"dynamodb:BatchGetItem", strings.Replace(tableARN, "state", "other", 1)}, {"dynamodb:BatchGetItem", tableARN}}},
		"BatchExecuteStatement": {func(c aws.Config) error {
			_, err := dynamodb.NewFromConfig(c).BatchExecuteStatement(t.Context(), &dynamodb.BatchExecuteStatementInput{Statements: []dynamodbtypes.BatchStatementRequest{
				{Statement: aws.String(`INSERT INTO "state" VALUE {'pk': ?}`)}, {Statement: aws.String(`UPDATE "state" SET "a" = ? WHERE "pk" = ?`)}, {Statement: aws.String(`INSERT INTO "state" VALUE {'pk': ?}`)},
			}})
			return err
		}, "AccessDeniedException", []need{{"dynamodb:PartiQLInsert", tableARN}, {"dynamodb:PartiQLUpdate", tableARN}}},
		"ListShards": {func(c aws.Config) error {
			_, err := kinesis.NewFromConfig(c).ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: name})
			return err
		}, "AccessDeniedException", []need{{"kinesis:ListShards", stream}}},
		"GetShardIterator": {func(c aws.Config) error {
			_, err := kinesis.NewFromConfig(c).GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamARN: aws.String(stream), ShardId: name, ShardIteratorType: kinesistypes.ShardIteratorTypeLatest})
			return err
		}, "AccessDeniedException", []need{{"kinesis:GetShardIterator", stream}}},
		"GetRecords": {func(c aws.Config) error { // "telemetry:shard:0"
			_, err := kinesis.NewFromConfig(c).GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: aws.String("dGVsZW1ldHJ5OnNoYXJkOjA=")})
			return err
		}, "AccessDeniedException", []need{{"kinesis:GetRecords", stream}}},
		"BatchImportFindings": {func(c aws.Config) error {
			finding := securityhubtypes.AwsSecurityFinding{ProductArn: aws.String(product), AwsAccountId: name, CreatedAt: name, Description: name, GeneratorId: name,
				Id: name, SchemaVersion: name, Title: name, UpdatedAt: name, Resources: []securityhubtypes.Resource{{Id: name, Type: name}}}
			_, err := securityhub.NewFromConfig(c).BatchImportFindings(t.Context(), &securityhub.BatchImportFindingsInput{Findings: []securityhubtypes.AwsSecurityFinding{finding, finding}})
			return err
		}, "AccessDeniedException", []need{{"securityhub:BatchImportFindings", product}}},
		"GetFindings": {func(c aws.Config) error {
			_, err := securityhub.NewFromConfig(c).GetFindings(t.Context(), &securityhub.GetFindingsInput{})
			return err
		}, "AccessDeniedException", []need{{"securityhub:GetFindings", "*"}}},
		"Publish to a topic": {func(c aws.Config) error {
			_, err := sns.NewFromConfig(c).Publish(t.Context(), &sns.PublishInput{TopicArn: aws.String(topicARN), Message: aws.String("a & b = 1")})
			return err
		}, "AuthorizationError", []need{{"sns:Publish", topicARN}}},
		"ListThings": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).ListThings(t.Context(), &iot.ListThingsInput{AttributeName: name, AttributeValue: name})
			return err
		}, "AccessDeniedException", []need{{"iot:ListThings", "*"}}},
		"GetEffectivePolicies": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).GetEffectivePolicies(t.Context(), &iot.GetEffectivePoliciesInput{Principal: name, ThingName: name})
			return err
		}, "AccessDeniedException", []need{{"iot:GetEffectivePolicies", "*"}}},
		"DescribeRoleAlias": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).DescribeRoleAlias(t.Context(), &iot.DescribeRoleAliasInput{RoleAlias: name})
			return err
		}, "AccessDeniedException", []need{{"iot:DescribeRoleAlias", things + "rolealias/telemetry"}}},
		"ListThingPrincipals": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).ListThingPrincipals(t.Context(), &iot.ListThingPrincipalsInput{ThingName: name})
			return err
		}, "AccessDeniedException", []need{{"iot:ListThingPrincipals", things + "thing/telemetry"}}},
		"DescribeThing": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String("a:b")})
			return err
		}, "AccessDeniedException", []need{{"iot:DescribeThing", things + "thing/a:b"}}},
		"ListThingGroupsForThing": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).ListThingGroupsForThing(t.Context(), &iot.ListThingGroupsForThingInput{ThingName: name})
			return err
		}, "AccessDeniedException", []need{{"iot:ListThingGroupsForThing", things + "thing/telemetry"}}},
		"DescribeThingGroup": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).DescribeThingGroup(t.Context(), &iot.DescribeThingGroupInput{ThingGroupName: name})
			return err
		}, "AccessDeniedException", []need{{"iot:DescribeThingGroup", things + "thinggroup/telemetry"}}},
		"AttachPolicy": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: name, Target: aws.String(things + "cert/a")})
			return err
		}, "AccessDeniedException", []need{{"iot:AttachPolicy", things + "cert/a"}}},
		"CreatePolicy": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: name, PolicyDocument: name, Tags: []iottypes.Tag{{Key: name}}})
			return err
		}, "AccessDeniedException", []need{{"iot:CreatePolicy", things + "policy/telemetry"}, {"iot:TagResource", things + "policy/telemetry"}}},
		"DeletePolicyVersion": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).DeletePolicyVersion(t.Context(), &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("1")})
			return err
		}, "AccessDeniedException", []need{{"iot:DeletePolicyVersion", things + "policy/telemetry"}}},
		"ListTagsForResource": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).ListTagsForResource(t.Context(), &iot.ListTagsForResourceInput{ResourceArn: aws.String(things + "policy/a")})
			return err
		}, "AccessDeniedException", []need{{"iot:ListTagsForResource", things + "policy/a"}}},
		"ListPrincipalThings": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).ListPrincipalThings(t.Context(), &iot.ListPrincipalThingsInput{Principal: name})
			return err
		}, "AccessDeniedException", []need{{"iot:ListPrincipalThings", "*"}}},
		"StartOnDemandAuditTask": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).StartOnDemandAuditTask(t.Context(), &iot.StartOnDemandAuditTaskInput{TargetCheckNames: []string{"A"}})
			return err
		}, "AccessDeniedException", []need{{"iot:StartOnDemandAuditTask", "*"}}},
		"DescribeAccountAuditConfiguration": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).DescribeAccountAuditConfiguration(t.Context(), &iot.DescribeAccountAuditConfigurationInput{})
			return err
		}, "AccessDeniedException", []need{{"iot:DescribeAccountAuditConfiguration", "*"}}},
		"ListAuditFindings": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).ListAuditFindings(t.Context(), &iot.ListAuditFindingsInput{TaskId: name})
			return err
		}, "AccessDeniedException", []need{{"iot:ListAuditFindings", "*"}}},
		"ListRelatedResourcesForAuditFinding": {func(c aws.Config) error {
			_, err := iot.NewFromConfig(c).ListRelatedResourcesForAuditFinding(t.Context(), &iot.ListRelatedResourcesForAuditFindingInput{FindingId: name})
			return err
		}, "AccessDeniedException", []need{{"iot:ListRelatedResourcesForAuditFinding", "*"}}},
		"Publish": {func(c aws.Config) error {
			_, err := iotdataplane.NewFromConfig(c).Publish(t.Context(), &iotdataplane.PublishInput{Topic: aws.String("fleet/pump 1/rejected"), Payload: []byte("no JSON")})
			return err
		}, "ForbiddenException", []need{{"iot:Publish", things + "topic/fleet/pump 1/rejected"}}},
		"GetConnection": {func(c aws.Config) error {
			_, err := iotdataplane.NewFromConfig(c).GetConnection(t.Context(), &iotdataplane.GetConnectionInput{ClientId: aws.String("pump/7#2")})
			return err
		}, "ForbiddenException", []need{{"iot:GetConnection", things + "client/pump/7#2"}}},
	} {
		t.Run(call, func(t *testing.T) {
			session := Session{Role: roleARN, Name: "run"}
			e := enforcer(t, "")
			config, passed := client(t, e, e.Issue(session))
			err := tt.do(config)
			var refused smithy.APIError
			if !errors.As(err, &refused) || refused.ErrorCode() != tt.code || *passed != 0 ||
				!strings.Contains(err.Error(), "is not authorized to perform: "+tt.want[0].action[:strings.Index(tt.want[0].action, ":")]) {
				t.Errorf("without a policy: %v, passed %d, want %s", err, *passed, tt.code)
			}
			var statements []string
			for _, n := range tt.want {
				statements = append(statements, statementOf("Allow", `"`+n.action+`"`, `"`+n.resource+`"`, ""))
			}
			for missing := range statements {
				e := enforcer(t, "", slices.Delete(slices.Clone(statements), missing, missing+1)...)
				config, passed := client(t, e, e.Issue(session))
				if tt.do(config); *passed != 0 {
					t.Errorf("allowed without %v", tt.want[missing])
				}
			}
			e = enforcer(t, "", statements...)
			config, passed = client(t, e, e.Issue(session))
			tt.do(config) // the empty answer may be an error
			if *passed == 0 || e.Denials() != nil {
				t.Errorf("with %v: denied %q", tt.want, e.Denials())
			}
		})
	}
}

func TestUnsupportedCallsOfFunctionsAreRefused(t *testing.T) {
	e := enforcer(t, "", statementOf("Allow", `"*"`, `"*"`, ""))
	config, passed := client(t, e, e.Issue(Session{Role: roleARN, Name: "run"}))
	_, purge := sqs.NewFromConfig(config).PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: aws.String("https://sqs/1/q")})
	_, groups := iot.NewFromConfig(config).ListThingGroups(t.Context(), &iot.ListThingGroupsInput{})
	_, retained := iotdataplane.NewFromConfig(config).Publish(t.Context(), &iotdataplane.PublishInput{Topic: aws.String("t"), Retain: true})
	_, transaction := dynamodb.NewFromConfig(config).TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{TransactItems: []dynamodbtypes.TransactWriteItem{
		{Delete: &dynamodbtypes.Delete{TableName: aws.String("t"), Key: map[string]dynamodbtypes.AttributeValue{}}},
	}})
	_, next := kinesis.NewFromConfig(config).ListShards(t.Context(), &kinesis.ListShardsInput{NextToken: aws.String("x")})
	_, socket := iotdataplane.NewFromConfig(config).GetConnection(t.Context(), &iotdataplane.GetConnectionInput{ClientId: aws.String("c"), IncludeSocketInformation: true})
	_, subscribe := sns.NewFromConfig(config).Subscribe(t.Context(), &sns.SubscribeInput{TopicArn: aws.String("arn:aws:sns:eu-west-1:123456789012:people"), Protocol: aws.String("sqs")})
	_, phone := sns.NewFromConfig(config).Publish(t.Context(), &sns.PublishInput{PhoneNumber: aws.String("+1"), Message: aws.String("m")})
	_, update := securityhub.NewFromConfig(config).BatchUpdateFindings(t.Context(), &securityhub.BatchUpdateFindingsInput{FindingIdentifiers: []securityhubtypes.AwsSecurityFindingIdentifier{{Id: aws.String("1"), ProductArn: aws.String("p")}}})
	for want, err := range map[string]error{"TransactWriteItems": transaction, "Subscribe": subscribe, "names no topic": phone, "/findings/batchupdate": update, "/connections/c": socket, "PurgeQueue": purge, "/thing-groups": groups, "/topics/t": retained, "names no stream": next} {
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the local AWS does not support") {
			t.Errorf("got %v, want a refusal with %q", err, want)
		}
	}
	if *passed != 0 || len(e.Denials()) != 9 || !strings.HasPrefix(e.Denials()[0], "run called sqs AmazonSQS.PurgeQueue") {
		t.Errorf("passed %d, denials %q, want none passed and nine denials", *passed, e.Denials())
	}
	users, passed := client(t, e, aws.Credentials{AccessKeyID: "local", SecretAccessKey: "local"})
	if _, err := sqs.NewFromConfig(users).PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: aws.String("https://sqs/1/q")}); err != nil || *passed != 1 {
		t.Errorf("a call with the user's credentials: error %v, passed %d, want it passed", err, *passed)
	}
}
