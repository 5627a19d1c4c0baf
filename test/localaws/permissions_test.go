package localaws_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/test/localaws"
	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
)

// callIAM calls IAM with the user's credentials, which allow everything.
func callIAM(ctx context.Context, cloud *localaws.Cloud, out any, action string, parameters url.Values) error {
	return awsapi.Client{Endpoint: cloud.Endpoint, Region: cloud.Region}.Query(ctx, "iam", "2010-05-08", action, parameters, out)
}

// grant creates a role that a service may assume, with one statement.
func grant(t *testing.T, cloud *localaws.Cloud, role, service, statement string) {
	t.Helper()
	trust := `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "` + service + `.amazonaws.com"}, "Action": "sts:AssumeRole"}]}`
	if err := callIAM(t.Context(), cloud, nil, "CreateRole", url.Values{"RoleName": {role}, "AssumeRolePolicyDocument": {trust}}); err != nil {
		t.Fatal(err)
	}
	putPolicy(t, cloud, role, statement)
}

func putPolicy(t *testing.T, cloud *localaws.Cloud, role, statement string) {
	t.Helper()
	document := `{"Version": "2012-10-17", "Statement": [` + statement + `]}`
	if err := callIAM(t.Context(), cloud, nil, "PutRolePolicy", url.Values{"RoleName": {role}, "PolicyName": {"Inline"}, "PolicyDocument": {document}}); err != nil {
		t.Fatal(err)
	}
}

// checkPermissions removes permissions from a deployed role.
func checkPermissions(t *testing.T, cloud *localaws.Cloud, outputs map[string]string) {
	ctx := t.Context()
	if denials := cloud.Permissions.Denials(); len(denials) > 0 {
		t.Fatalf("denied: %v", denials)
	}
	arn := outputs["FunctionArn"]
	name := arn[strings.LastIndex(arn, ":")+1:]
	var roles struct {
		Names []string `xml:"ListRolesResult>Roles>member>RoleName"`
	}
	if err := callIAM(ctx, cloud, &roles, "ListRoles", nil); err != nil {
		t.Fatal(err)
	}
	role := roles.Names[slices.IndexFunc(roles.Names, func(n string) bool { return strings.HasPrefix(n, "Sample-Role-") })]
	send := func() string {
		out, err := lambda.NewFromConfig(cloud.Config()).Invoke(ctx, &lambda.InvokeInput{FunctionName: &arn, Payload: []byte(`{"Records":[{"messageId":"m1","body":"one"}]}`)})
		if err != nil {
			t.Fatal(err)
		}
		return string(out.Payload)
	}
	const elsewhere = `{"Effect": "Allow", "Action": "sqs:*", "Resource": "arn:aws:sqs:*:*:other"}`
	queue := outputs["OutputUrl"][strings.LastIndex(outputs["OutputUrl"], "/")+1:]
	user := "arn:aws:sts::123456789012:assumed-role/" + role + "/" + name
	on := " is not authorized to perform: sqs:SendMessage on resource: arn:aws:sqs:us-east-1:123456789012:" + queue + " "
	putPolicy(t, cloud, role, elsewhere)
	if got, want := send(), "AccessDenied: User: "+user+on+"because no identity-based policy allows the sqs:SendMessage action"; !strings.Contains(got, want) {
		t.Errorf("without the permission the function answers %s, want %q", got, want)
	}
	putPolicy(t, cloud, role, `{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "sqs:Send*", "Resource": "*"}`)
	if got := send(); !strings.Contains(got, on+"with an explicit deny in an identity-based policy") {
		t.Errorf("with an explicit deny the function answers %s", got)
	}
	if err := cloud.Drained(ctx); err == nil || !strings.Contains(err.Error(), user+on) {
		t.Errorf("Drained returns %v, want the denials", err)
	}
	if _, err := sqs.NewFromConfig(cloud.Config()).SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(outputs["OutputUrl"]), MessageBody: aws.String("a user's")}); err != nil {
		t.Errorf("the user cannot send a message: %v", err)
	}
}
