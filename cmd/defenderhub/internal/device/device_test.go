package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cfntypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	datatypes "github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

var day = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

func certificate(n int) string { return fmt.Sprintf("%064x", n) }

// cloud has the thing pump-7 with certificates and a connection, and a certificate that two things
// share.
type cloud struct {
	certificates int
	stackErr     error
	deployed     bool
	correlates   bool // without an engine
	document     string
	denied       error
	address      *string
	thing        string // one more, with the type pump
}

func (c cloud) DescribeThing(_ context.Context, in *iot.DescribeThingInput, _ ...func(*iot.Options)) (*iot.DescribeThingOutput, error) {
	if c.denied != nil {
		return nil, c.denied
	}
	if *in.ThingName != "pump-7" && *in.ThingName != c.thing {
		return nil, &iottypes.ResourceNotFoundException{}
	}
	return &iot.DescribeThingOutput{ThingName: in.ThingName, ThingTypeName: aws.String("pump")}, nil
}

func (c cloud) DescribeCertificate(_ context.Context, in *iot.DescribeCertificateInput, _ ...func(*iot.Options)) (*iot.DescribeCertificateOutput, error) {
	if *in.CertificateId == certificate(999) {
		return nil, &iottypes.ResourceNotFoundException{}
	}
	return &iot.DescribeCertificateOutput{CertificateDescription: &iottypes.CertificateDescription{
		CertificateArn: aws.String("arn:aws:iot:eu-west-1:1:cert/" + *in.CertificateId), Status: iottypes.CertificateStatusActive,
		CreationDate: aws.Time(day.Add(-time.Hour)), Validity: &iottypes.CertificateValidity{NotAfter: aws.Time(day.AddDate(1, 0, 0))},
	}}, nil
}

func (c cloud) ListPrincipalThings(_ context.Context, in *iot.ListPrincipalThingsInput, _ ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error) {
	out := &iot.ListPrincipalThingsOutput{Things: []string{"pump-7"}}
	if strings.HasSuffix(*in.Principal, certificate(100)) {
		out.Things = append(out.Things, "pump-8")
	}
	return out, nil
}

// ListThingPrincipals returns ten certificates per page.
func (c cloud) ListThingPrincipals(_ context.Context, in *iot.ListThingPrincipalsInput, _ ...func(*iot.Options)) (*iot.ListThingPrincipalsOutput, error) {
	out := &iot.ListThingPrincipalsOutput{}
	from := len(aws.ToString(in.NextToken))
	for i := from; i < min(from+10, c.certificates); i++ {
		out.Principals = append(out.Principals, "arn:aws:iot:eu-west-1:1:cert/"+certificate(i))
	}
	if from+10 < c.certificates {
		out.NextToken = aws.String(strings.Repeat("x", from+10))
	}
	return out, nil
}

func (c cloud) ListThingGroupsForThing(context.Context, *iot.ListThingGroupsForThingInput, ...func(*iot.Options)) (*iot.ListThingGroupsForThingOutput, error) {
	return &iot.ListThingGroupsForThingOutput{ThingGroups: []iottypes.GroupNameAndArn{{GroupName: aws.String("plant")}}}, nil
}

func (c cloud) GetConnection(_ context.Context, in *iotdataplane.GetConnectionInput, _ ...func(*iotdataplane.Options)) (*iotdataplane.GetConnectionOutput, error) {
	switch *in.ClientId {
	case "pump-7":
		return &iotdataplane.GetConnectionOutput{Connected: true, ConnectedSince: day.UnixMilli(), SourceIp: c.address, ThingName: in.ClientId}, nil
	case "gateway":
		return &iotdataplane.GetConnectionOutput{DisconnectedSince: day.UnixMilli(), DisconnectReason: aws.String("CONNECTION_LOST"), ThingName: aws.String("pump-7")}, nil
	}
	return nil, &datatypes.ResourceNotFoundException{}
}

func (c cloud) GetFindings(_ context.Context, in *securityhub.GetFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	finding := func(id, title string, state hubtypes.RecordState, created, updated time.Duration, fields map[string]string) hubtypes.AwsSecurityFinding {
		return hubtypes.AwsSecurityFinding{
			ProductArn: aws.String("own"), Id: &id, Title: &title, RecordState: state, Severity: &hubtypes.Severity{Label: hubtypes.SeverityLabelHigh}, ProductFields: fields,
			CreatedAt: aws.String(day.Add(created).Format(time.RFC3339)), UpdatedAt: aws.String(day.Add(updated).Format(time.RFC3339)),
			Resources: []hubtypes.Resource{{Type: aws.String("Other"), Id: aws.String("pump-7")}},
		}
	}
	out := &securityhub.GetFindingsOutput{}
	for _, r := range in.Filters.ResourceId {
		if *r.Value == "pump-7" {
			out.Findings = append(out.Findings,
				finding("defenderhub/behavior/a", "telnet\x1b[2J", hubtypes.RecordStateArchived, time.Minute, time.Hour, nil),
				finding("defenderhub/correlation/b", "chain", hubtypes.RecordStateActive, 2*time.Minute, 2*time.Minute, map[string]string{"CorrelationRule": "compromise-chain"}))
		}
	}
	return out, nil
}

func (c cloud) ListStackResources(context.Context, *cloudformation.ListStackResourcesInput, ...func(*cloudformation.Options)) (*cloudformation.ListStackResourcesOutput, error) {
	out := &cloudformation.ListStackResourcesOutput{}
	if c.deployed {
		out.StackResourceSummaries = []cfntypes.StackResourceSummary{
			{ResourceType: aws.String("AWS::DynamoDB::Table"), LogicalResourceId: aws.String("HubForwarderLedger1"), PhysicalResourceId: aws.String("ledger")},
			{ResourceType: aws.String("AWS::DynamoDB::Table"), LogicalResourceId: aws.String("HubDetectState1"), PhysicalResourceId: aws.String("state")},
		}
	}
	if c.correlates {
		out.StackResourceSummaries = append(out.StackResourceSummaries, cfntypes.StackResourceSummary{
			ResourceType: aws.String("AWS::DynamoDB::Table"), LogicalResourceId: aws.String("HubCorrelateState1"), PhysicalResourceId: aws.String("incidents")})
	}
	return out, c.stackErr
}

// GetTemplate returns the functions of the engine and of the correlator.
func (c cloud) GetTemplate(context.Context, *cloudformation.GetTemplateInput, ...func(*cloudformation.Options)) (*cloudformation.GetTemplateOutput, error) {
	function := func(id, variables string) string {
		return fmt.Sprintf(`"%s":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{%s}}}}`, id, variables)
	}
	functions := []string{function("Other", "")}
	if c.deployed {
		functions = append(functions, function("Evaluator", `"DEFENDERHUB_STATE_TABLE":{"Ref":"HubDetectState1"},"DEFENDERHUB_TELEMETRY_QUEUE_URL":{"Ref":"Queue"}`))
	}
	if c.correlates {
		functions = append(functions, function("Correlator", `"DEFENDERHUB_STATE_TABLE":{"Ref":"HubCorrelateState1"}`))
	}
	return &cloudformation.GetTemplateOutput{TemplateBody: aws.String(`{"Resources":{` + strings.Join(functions, ",") + `}}`)}, nil
}

func (c cloud) GetItem(_ context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	out := &dynamodb.GetItemOutput{}
	if key := in.Key["pk"].(*types.AttributeValueMemberS).Value; *in.TableName == "state" && key == "thing#pump-7" && c.document != "" {
		out.Item = map[string]types.AttributeValue{"state": &types.AttributeValueMemberS{Value: c.document}}
	}
	return out, nil
}

// look runs the command for a name. It returns its rows, and the notes that it prints.
func look(t *testing.T, c cloud, name string) (facts, events []string, notes string, err error) {
	t.Helper()
	var says strings.Builder
	l := lookup{iot: c, data: c, hub: c, stacks: c, table: c, region: "eu-west-1", stack: "DefenderHub", say: func(f string, args ...any) { fmt.Fprintf(&says, f+"\n", args...) }}
	err = l.do(t.Context(), name)
	for _, f := range l.facts {
		facts = append(facts, strings.TrimSpace(f.Kind+" "+f.Name+" "+f.Detail))
	}
	slices.SortStableFunc(l.events, func(a, b Event) int { return a.Time.Compare(b.Time) })
	for _, e := range l.events {
		events = append(events, fmt.Sprintf("%s %s %s %s", e.Time.Format("15:04"), e.Kind, e.What, e.Text))
	}
	return facts, events, says.String(), err
}

func TestThingHasItsWholeHistory(t *testing.T) {
	c := cloud{certificates: 1, deployed: true, document: `{"v":1,"b":{"plant/telnet":{"a":{"since":1796000700000},"f":"x"}}}`}
	facts, events, _, err := look(t, c, "pump-7")
	if err != nil {
		t.Fatal(err)
	}
	wantFacts := []string{
		"thing pump-7 registered, type pump", "group plant", "certificate " + certificate(0) + " ACTIVE, valid until 2027-11-30",
		"connection pump-7 connected since 2026-11-30T00:00:00Z", "engine plant/telnet in alarm since 2026-11-30T01:05:00Z",
	}
	if !slices.Equal(facts, wantFacts) {
		t.Errorf("facts %q\nwant  %q", facts, wantFacts)
	}
	wantEvents := []string{
		"23:00 certificate created " + certificate(0), "00:00 connection connected pump-7", "00:01 finding began telnet\x1b[2J", "00:02 incident began chain",
		"01:00 finding ended telnet\x1b[2J", "01:05 engine alarm plant/telnet", "00:00 certificate expires " + certificate(0),
	}
	if !slices.Equal(events, wantEvents) {
		t.Errorf("events %q\nwant   %q", events, wantEvents)
	}
}

func TestAddressOfAConnectionIsShownIfAWSReturnsIt(t *testing.T) {
	facts, _, _, err := look(t, cloud{address: aws.String("192.0.2.7")}, "pump-7")
	if want := "connection pump-7 connected since 2026-11-30T00:00:00Z, from 192.0.2.7"; err != nil || !slices.Contains(facts, want) {
		t.Errorf("facts %q, error %v, want %q", facts, err, want)
	}
}

func TestOtherNamesLeadToTheThing(t *testing.T) {
	for _, name := range []string{certificate(0), "pump-7#2", "gateway"} {
		facts, events, notes, err := look(t, cloud{certificates: 1}, name)
		if err != nil || facts[0] != "thing pump-7 registered, type pump" || len(events) < 5 || !strings.Contains(notes, "not deployed") {
			t.Errorf("%s: facts %q, events %q, notes %q, error %v, want those of pump-7", name, facts, events, notes, err)
		}
	}
}

func TestSeveralMatchesAreListed(t *testing.T) {
	facts, _, _, err := look(t, cloud{}, certificate(100))
	if !errors.As(err, new(cli.Todo)) || len(facts) != 2 || !strings.HasPrefix(facts[1], "thing pump-8") {
		t.Errorf("facts %q, error %v, want both things and a cli.Todo", facts, err)
	}
}

func TestAllCertificatesAreRead(t *testing.T) {
	facts, _, _, err := look(t, cloud{certificates: 300}, "pump-7")
	if n := strings.Count(strings.Join(facts, "\n"), "certificate "); err != nil || n != 300 {
		t.Errorf("%d certificates, error %v, want 300", n, err)
	}
}

func TestUnknownNames(t *testing.T) {
	for _, name := range []string{"pump-9", certificate(999)} {
		if _, _, _, err := look(t, cloud{}, name); !errors.As(err, new(cli.Todo)) || !strings.Contains(err.Error(), "is unknown: no thing") {
			t.Errorf("%s: error %v, want a cli.Todo that says unknown", name, err)
		}
	}
	for _, name := range []string{"", " pump-7"} {
		if _, _, _, err := look(t, cloud{}, name); err == nil || errors.As(err, new(cli.Todo)) {
			t.Errorf("%q: error %v, want one that is no cli.Todo", name, err)
		}
	}
}

// A thing's name may look like the ID of a certificate.
func TestThingOf64Digits(t *testing.T) {
	facts, _, _, err := look(t, cloud{thing: certificate(999)}, certificate(999))
	if err != nil || len(facts) == 0 || facts[0] != "thing "+certificate(999)+" registered, type pump" {
		t.Errorf("facts %q, error %v, want the thing", facts, err)
	}
}

func TestMissingStackAndDeniedCallsAreReported(t *testing.T) {
	_, _, notes, err := look(t, cloud{stackErr: &smithy.GenericAPIError{Code: "ValidationError", Message: "Stack with id DefenderHub does not exist"}}, "pump-7")
	if err != nil || !strings.Contains(notes, "no stack DefenderHub") {
		t.Errorf("missing stack: notes %q, error %v, want a note alone", notes, err)
	}
	denied := &smithy.GenericAPIError{Code: "AccessDenied"}
	for name, c := range map[string]cloud{"ListStackResources": {stackErr: denied}, "DescribeThing": {denied: denied}} {
		if _, _, _, err := look(t, c, "pump-7"); !errors.Is(err, denied) {
			t.Errorf("%s is denied: error %v, want %v", name, err, denied)
		}
	}
	facts, _, _, err := look(t, cloud{deployed: true, document: `{"v":2}`}, "pump-7")
	if err == nil || !strings.Contains(err.Error(), "version 2, want 1") || !strings.Contains(err.Error(), "Install") || len(facts) == 0 {
		t.Errorf("newer state: facts %q, error %v, want the other facts and an error about the version", facts, err)
	}
	facts, _, notes, err = look(t, cloud{correlates: true}, "pump-7")
	if err != nil || strings.Contains(strings.Join(facts, "\n"), "engine") || !strings.Contains(notes, "engine is not deployed") {
		t.Errorf("only a correlator: facts %q, notes %q, error %v, want a note that there is no engine", facts, notes, err)
	}
	facts, _, _, err = look(t, cloud{deployed: true, correlates: true}, "pump-7")
	if err != nil || !strings.Contains(strings.Join(facts, "\n"), "engine pump-7 no state") {
		t.Errorf("no state: facts %q, error %v, want a fact that says so", facts, err)
	}
}
