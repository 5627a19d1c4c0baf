package provoke

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cfntypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

const account = "123456789012"

// cloud is an account in which an audit takes one minute. A finding about a policy appears after ten
// minutes, one about a device after three.
type cloud struct {
	policies, things map[string]string // the document of each policy, the certificate of each thing
	tags             map[string]bool
	audits           []time.Time
	calls            []string
	published        []string
	publishedAt      []time.Time
	connected        int
	fail             string
	// since is the time at which the finding's condition began or ended. archived reports that it ended.
	since    time.Time
	archived bool
	check    types.AuditCheckRunStatus
	topic    string
}

func newCloud() *cloud {
	return &cloud{policies: map[string]string{}, things: map[string]string{}, tags: map[string]bool{}, check: types.AuditCheckRunStatusCompletedNonCompliant}
}

func (c *cloud) call(name string) error {
	c.calls = append(c.calls, name)
	if c.fail == name {
		return errors.New(name + " is denied")
	}
	return nil
}

func (c *cloud) condition(archived bool) {
	if c.since.IsZero() || c.archived != archived {
		c.since, c.archived = time.Now(), archived
	}
}

func (c *cloud) CreatePolicy(_ context.Context, in *iot.CreatePolicyInput, _ ...func(*iot.Options)) (*iot.CreatePolicyOutput, error) {
	c.policies[*in.PolicyName] = *in.PolicyDocument
	c.tags[*in.PolicyName] = len(in.Tags) == 1 && *in.Tags[0].Key == tag
	return &iot.CreatePolicyOutput{}, c.call("CreatePolicy")
}

func (c *cloud) CreatePolicyVersion(_ context.Context, in *iot.CreatePolicyVersionInput, _ ...func(*iot.Options)) (*iot.CreatePolicyVersionOutput, error) {
	c.policies[*in.PolicyName] = *in.PolicyDocument
	return &iot.CreatePolicyVersionOutput{}, c.call("CreatePolicyVersion")
}

func (c *cloud) DeletePolicyVersion(context.Context, *iot.DeletePolicyVersionInput, ...func(*iot.Options)) (*iot.DeletePolicyVersionOutput, error) {
	return nil, &types.DeleteConflictException{}
}

func (c *cloud) DeletePolicy(_ context.Context, in *iot.DeletePolicyInput, _ ...func(*iot.Options)) (*iot.DeletePolicyOutput, error) {
	delete(c.policies, *in.PolicyName)
	return &iot.DeletePolicyOutput{}, c.call("DeletePolicy")
}

func (c *cloud) CreateThing(_ context.Context, in *iot.CreateThingInput, _ ...func(*iot.Options)) (*iot.CreateThingOutput, error) {
	c.things[*in.ThingName] = ""
	return &iot.CreateThingOutput{}, c.call("CreateThing")
}

func (c *cloud) DeleteThing(_ context.Context, in *iot.DeleteThingInput, _ ...func(*iot.Options)) (*iot.DeleteThingOutput, error) {
	if c.things[*in.ThingName] != "" {
		return nil, errors.New("the thing has a principal")
	}
	delete(c.things, *in.ThingName)
	return &iot.DeleteThingOutput{}, c.call("DeleteThing")
}

func (c *cloud) CreateKeysAndCertificate(context.Context, *iot.CreateKeysAndCertificateInput, ...func(*iot.Options)) (*iot.CreateKeysAndCertificateOutput, error) {
	return &iot.CreateKeysAndCertificateOutput{CertificateArn: aws.String("arn:aws:iot:eu-west-1:1:cert/abc"), CertificateId: aws.String("abc"), KeyPair: &types.KeyPair{}}, c.call("CreateKeysAndCertificate")
}

func (c *cloud) AttachThingPrincipal(_ context.Context, in *iot.AttachThingPrincipalInput, _ ...func(*iot.Options)) (*iot.AttachThingPrincipalOutput, error) {
	c.things[*in.ThingName] = *in.Principal
	return &iot.AttachThingPrincipalOutput{}, c.call("AttachThingPrincipal")
}

func (c *cloud) DetachThingPrincipal(_ context.Context, in *iot.DetachThingPrincipalInput, _ ...func(*iot.Options)) (*iot.DetachThingPrincipalOutput, error) {
	err := c.call("DetachThingPrincipal")
	if err == nil {
		c.things[*in.ThingName] = ""
	}
	return &iot.DetachThingPrincipalOutput{}, err
}

func (c *cloud) AttachPolicy(context.Context, *iot.AttachPolicyInput, ...func(*iot.Options)) (*iot.AttachPolicyOutput, error) {
	return &iot.AttachPolicyOutput{}, c.call("AttachPolicy")
}

func (c *cloud) DetachPolicy(_ context.Context, in *iot.DetachPolicyInput, _ ...func(*iot.Options)) (*iot.DetachPolicyOutput, error) {
	if _, exists := c.policies[*in.PolicyName]; !exists {
		return nil, &types.InvalidRequestException{}
	}
	return &iot.DetachPolicyOutput{}, c.call("DetachPolicy")
}

func (c *cloud) UpdateCertificate(context.Context, *iot.UpdateCertificateInput, ...func(*iot.Options)) (*iot.UpdateCertificateOutput, error) {
	return &iot.UpdateCertificateOutput{}, c.call("UpdateCertificate")
}

func (c *cloud) DeleteCertificate(context.Context, *iot.DeleteCertificateInput, ...func(*iot.Options)) (*iot.DeleteCertificateOutput, error) {
	return &iot.DeleteCertificateOutput{}, c.call("DeleteCertificate")
}

func (c *cloud) DescribeEndpoint(context.Context, *iot.DescribeEndpointInput, ...func(*iot.Options)) (*iot.DescribeEndpointOutput, error) {
	return &iot.DescribeEndpointOutput{EndpointAddress: aws.String("iot.example")}, c.call("DescribeEndpoint")
}

func (c *cloud) StartOnDemandAuditTask(context.Context, *iot.StartOnDemandAuditTaskInput, ...func(*iot.Options)) (*iot.StartOnDemandAuditTaskOutput, error) {
	c.audits = append(c.audits, time.Now())
	for _, document := range c.policies {
		c.condition(document != everything)
	}
	return &iot.StartOnDemandAuditTaskOutput{TaskId: aws.String("task")}, c.call("StartOnDemandAuditTask")
}

func (c *cloud) DescribeAuditTask(context.Context, *iot.DescribeAuditTaskInput, ...func(*iot.Options)) (*iot.DescribeAuditTaskOutput, error) {
	status := types.AuditTaskStatusInProgress
	if time.Since(c.audits[len(c.audits)-1]) >= time.Minute {
		status = types.AuditTaskStatusCompleted
	}
	return &iot.DescribeAuditTaskOutput{TaskStatus: status, AuditDetails: map[string]types.AuditCheckDetails{"IOT_POLICY_OVERLY_PERMISSIVE_CHECK": {CheckRunStatus: c.check}}}, nil
}

func (c *cloud) ListThings(context.Context, *iot.ListThingsInput, ...func(*iot.Options)) (*iot.ListThingsOutput, error) {
	out := &iot.ListThingsOutput{}
	for _, name := range slices.Sorted(maps.Keys(c.things)) {
		out.Things = append(out.Things, types.ThingAttribute{ThingName: &name})
	}
	return out, nil
}

func (c *cloud) ListThingPrincipals(_ context.Context, in *iot.ListThingPrincipalsInput, _ ...func(*iot.Options)) (*iot.ListThingPrincipalsOutput, error) {
	out := &iot.ListThingPrincipalsOutput{}
	if arn := c.things[*in.ThingName]; arn != "" {
		out.Principals = []string{arn}
	}
	return out, nil
}

func (c *cloud) ListPolicies(context.Context, *iot.ListPoliciesInput, ...func(*iot.Options)) (*iot.ListPoliciesOutput, error) {
	out := &iot.ListPoliciesOutput{}
	for _, name := range slices.Sorted(maps.Keys(c.policies)) {
		out.Policies = append(out.Policies, types.Policy{PolicyName: &name, PolicyArn: &name})
	}
	return out, nil
}

func (c *cloud) ListTagsForResource(_ context.Context, in *iot.ListTagsForResourceInput, _ ...func(*iot.Options)) (*iot.ListTagsForResourceOutput, error) {
	out := &iot.ListTagsForResourceOutput{}
	if c.tags[*in.ResourceArn] {
		out.Tags = []types.Tag{{Key: aws.String(tag), Value: aws.String(tagValue)}}
	}
	return out, nil
}

func (c *cloud) DescribeStacks(context.Context, *cloudformation.DescribeStacksInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error) {
	stack := cfntypes.Stack{}
	if c.topic != "" {
		stack.Outputs = []cfntypes.Output{{OutputKey: aws.String("ReportTopic"), OutputValue: &c.topic}}
	}
	return &cloudformation.DescribeStacksOutput{Stacks: []cfntypes.Stack{stack}}, c.call("DescribeStacks")
}

func (c *cloud) GetFindings(_ context.Context, in *securityhub.GetFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	out := &securityhub.GetFindingsOutput{}
	if c.since.IsZero() || len(in.Filters.ResourceId) == 0 {
		return out, nil
	}
	after := 3 * time.Minute
	if len(c.audits) > 0 {
		after = 10 * time.Minute
	}
	state := hubtypes.RecordStateArchived
	if late := time.Since(c.since) < after; late == c.archived {
		state = hubtypes.RecordStateActive
	}
	if !c.archived && time.Since(c.since) < after {
		return out, nil
	}
	at := aws.String("2026-11-30T03:00:00Z")
	out.Findings = []hubtypes.AwsSecurityFinding{{
		Id: aws.String("defenderhub/x"), ProductArn: aws.String("own"), Title: aws.String("t"), CreatedAt: at, UpdatedAt: at, RecordState: state,
		Resources: []hubtypes.Resource{{Type: aws.String("x"), Id: in.Filters.ResourceId[0].Value}}, ProductFields: map[string]string{"BehaviorName": messageSize},
	}}
	if strings.Contains(strings.Join(c.published, ""), "ports") {
		out.Findings[0].ProductFields["BehaviorName"] = telnet
	}
	return out, nil
}

// mqtt is a connection to the cloud. A message that is too long or an open port 23 begins the
// condition.
type mqtt struct{ *cloud }

func (m mqtt) Publish(_ context.Context, topic, payload string) error {
	m.publishedAt = append(m.publishedAt, time.Now())
	m.published = append(m.published, topic+" "+payload)
	switch {
	case strings.HasPrefix(payload, "{"):
		m.condition(!strings.Contains(payload, `"port":23`))
	case len(m.published) > 1:
		m.condition(len(payload) < 8)
	}
	return m.call("Publish")
}

func (m mqtt) Close() { m.connected-- }

// provoke runs an experiment in virtual time. Everything must be removed afterwards.
func provoke(t *testing.T, name string, c *cloud, wait time.Duration) (out, progress string, err error) {
	t.Helper()
	var outs, errs bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		s := &cli.Session{Out: &outs, Err: &errs, In: strings.NewReader(""), Yes: true}
		l := testLab(c, s)
		l.wait = wait
		for _, e := range experiments {
			if e.name == name {
				err = errors.Join(l.do(t.Context(), e), s.Close())
			}
		}
	})
	if len(c.policies)+len(c.things) != 0 || c.connected != 0 {
		t.Errorf("%s did not remove the policies %v, the things %v and %d connections", name, c.policies, c.things, c.connected)
	}
	return outs.String(), errs.String(), err
}

func testLab(c *cloud, s *cli.Session) *lab {
	return &lab{
		s: s, iot: c, hub: c, stacks: c, name: prefix + "0000", region: "eu-west-1", account: account,
		options: options{stack: "DefenderHub", poll: 10 * time.Second},
		dial: func(context.Context, string, string, keys, string) (client, error) {
			if c.connected++; c.connected == 2 {
				c.condition(false)
			}
			return mqtt{c}, nil
		},
	}
}

func TestExperimentsAreFollowedToTheEnd(t *testing.T) {
	for name, want := range map[string]string{"policy": "ARCHIVED", "message-size": "ARCHIVED", "telnet": "ARCHIVED", "disconnect": "ACTIVE"} {
		t.Run(name, func(t *testing.T) {
			c := newCloud()
			out, progress, err := provoke(t, name, c, time.Hour)
			if err != nil || !strings.Contains(out, want) || !strings.Contains(progress, "removed the IoT policy") {
				t.Errorf("error %v, output %q, want %s, progress:\n%s", err, out, want, progress)
			}
		})
	}
}

func TestPolicyIsAttachedToNothing(t *testing.T) {
	c := newCloud()
	if _, _, err := provoke(t, "policy", c, time.Hour); err != nil || slices.Contains(c.calls, "AttachPolicy") || len(c.audits) != 2 {
		t.Errorf("error %v, %d audits, want 2 and no AttachPolicy in the calls %v", err, len(c.audits), c.calls)
	}
}

func TestReportsGoToTheTopicOfTheStack(t *testing.T) {
	for topic, want := range map[string]string{
		"":                       "$aws/things/" + prefix + "0000/defender/metrics/json",
		"$aws/rules/reports/x/+": "$aws/rules/reports/x/" + prefix + "0000",
	} {
		c := newCloud()
		c.topic = topic
		if _, _, err := provoke(t, "telnet", c, time.Hour); err != nil || !strings.HasPrefix(c.published[0], want+" {") {
			t.Errorf("report topic %q: error %v, published %v, want on %s", topic, err, c.published, want)
		}
	}
}

// Device Defender does not accept reports of a device that are less than five minutes apart.
func TestReportsAreFiveMinutesApart(t *testing.T) {
	c := newCloud()
	if _, _, err := provoke(t, "telnet", c, time.Hour); err != nil || !strings.Contains(c.published[len(c.published)-1], `"total":1`) {
		t.Fatalf("error %v, published %v, want a last report with one port", err, c.published)
	}
	for i := range len(c.publishedAt) - 1 {
		if gap := c.publishedAt[i+1].Sub(c.publishedAt[i]); gap < 5*time.Minute {
			t.Errorf("reports %d and %d are %s apart, want at least 5m", i, i+1, gap)
		}
	}
}

func TestPolicyOfADeviceAllowsOnlyItsTopics(t *testing.T) {
	for _, e := range []struct {
		run  func(context.Context, *lab) error
		want string
	}{
		{longMessage, `"Action":"iot:Publish","Resource":["arn:aws:iot:*:*:topic/defenderhub/provoke/` + prefix + `0000"]}`},
		{duplicate, `"Action":"iot:Publish","Resource":["arn:aws:iot:*:*:topic/defenderhub/provoke/` + prefix + `0000"]}`},
		{openPort, `"Action":"iot:Publish","Resource":["arn:aws:iot:*:*:topic/defenderhub/provoke/` + prefix + `0000","arn:aws:iot:*:*:topic/$aws/things/` + prefix + `0000/defender/metrics/json"]}`},
	} {
		c := newCloud()
		c.fail = "CreateThing" // after the policy
		l := testLab(c, &cli.Session{Out: new(bytes.Buffer), Err: new(bytes.Buffer), Yes: true})
		_ = e.run(t.Context(), l)
		if got := c.policies[l.name]; !strings.Contains(got, e.want) {
			t.Errorf("policy %s, want %s", got, e.want)
		}
	}
}

// silentHub is a Security Hub that does not answer.
type silentHub struct{}

func (silentHub) GetFindings(ctx context.Context, _ *securityhub.GetFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestSilentSecurityHubDoesNotKeepResourcesAfterCtrlC(t *testing.T) {
	c := newCloud()
	synctest.Test(t, func(t *testing.T) {
		s := &cli.Session{Out: new(bytes.Buffer), Err: new(bytes.Buffer), Yes: true}
		l := testLab(c, s)
		l.hub, l.wait = silentHub{}, time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		begin := time.Now()
		if err := errors.Join(l.do(ctx, experiments[1]), s.Close()); err == nil {
			t.Error("no error")
		}
		if late := time.Since(begin) - 5*time.Minute; late > time.Minute || len(c.policies)+len(c.things) > 0 {
			t.Errorf("ended %s after Ctrl-C with the policies %v and the things %v, want none within a minute", late, c.policies, c.things)
		}
	})
}

func TestResourcesAreRemovedAfterAFailure(t *testing.T) {
	for _, name := range []string{"message-size", "policy", "telnet"} {
		c := newCloud()
		if _, _, err := provoke(t, name, c, time.Hour); err != nil {
			t.Fatal(err)
		}
		for _, fail := range slices.Compact(slices.Sorted(slices.Values(c.calls))) {
			if strings.HasPrefix(fail, "De") || fail == "UpdateCertificate" {
				continue // if the removal itself fails, its resource stays
			}
			broken := newCloud()
			broken.fail = fail
			if _, _, err := provoke(t, name, broken, time.Hour); err == nil || errors.As(err, new(cli.Todo)) {
				t.Errorf("%s without %s: error %v, want one that is no cli.Todo", name, fail, err)
			}
		}
	}
}

// If its removal fails, a certificate stays attached to its thing, where --cleanup finds it. The
// policy is already deleted.
func TestCleanupRemovesTheCertificateOfAFailedRemoval(t *testing.T) {
	for _, fail := range []string{"UpdateCertificate", "DetachThingPrincipal"} {
		c := newCloud()
		c.fail = fail
		synctest.Test(t, func(t *testing.T) {
			s := &cli.Session{Out: new(bytes.Buffer), Err: new(bytes.Buffer), In: strings.NewReader(""), Yes: true}
			l := testLab(c, s)
			if err := errors.Join(longMessage(t.Context(), l), s.Close()); err == nil {
				t.Errorf("no error without %s", fail)
			}
			c.fail = ""
			if err := l.cleanup(t.Context()); err != nil || len(c.policies)+len(c.things) > 0 || !slices.Contains(c.calls, "DeleteCertificate") {
				t.Errorf("without %s: error %v, policies %v, things %v, want none and DeleteCertificate in %v", fail, err, c.policies, c.things, c.calls)
			}
		})
	}
}

func TestFindingThatDoesNotAppear(t *testing.T) {
	for name, want := range map[string]string{"policy": "doctor", "message-size": "profile demo", "telnet": "profile starter", "disconnect": "security-disconnect"} {
		if _, _, err := provoke(t, name, newCloud(), time.Minute); !errors.As(err, new(cli.Todo)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want a cli.Todo that names %s", name, err, want)
		}
	}
	c := newCloud()
	c.check = types.AuditCheckRunStatusFailed
	if _, _, err := provoke(t, "policy", c, time.Hour); !errors.As(err, new(cli.Todo)) || !strings.Contains(err.Error(), "FAILED") {
		t.Errorf("failed audit: error %v, want a cli.Todo that says FAILED", err)
	}
}

func TestCleanupRemovesOnlyResourcesOfProvoke(t *testing.T) {
	c := newCloud()
	c.policies = map[string]string{prefix + "1": "", prefix + "somebody": "", "production": ""}
	c.tags = map[string]bool{prefix + "1": true, "production": true}
	c.things = map[string]string{prefix + "2": "arn:aws:iot:eu-west-1:1:cert/abc", "pump-7": "arn:aws:iot:eu-west-1:1:cert/def"}
	for range 2 {
		if err := testLab(c, &cli.Session{Out: new(bytes.Buffer), Err: new(bytes.Buffer), Yes: true}).cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(slices.Sorted(maps.Keys(c.policies)), slices.Sorted(maps.Keys(c.things))); got != "["+prefix+"somebody production] [pump-7]" || !slices.Contains(c.calls, "DeleteCertificate") {
		t.Errorf("policies and things %s, want those of others alone; calls %v", got, c.calls)
	}
}

func TestNothingIsCreatedWithoutTheAccountID(t *testing.T) {
	c := newCloud()
	s := &cli.Session{Out: new(bytes.Buffer), Err: new(bytes.Buffer), In: strings.NewReader("y\n")}
	for _, e := range experiments {
		if err := testLab(c, s).do(t.Context(), e); err == nil || len(c.calls) != 0 {
			t.Errorf("%s: error %v, calls %v, want an error and no call", e.name, err, c.calls)
		}
	}
}

func TestDeviceReport(t *testing.T) {
	const want = `{"header":{"report_id":7,"version":"1.0"},"metrics":{"listening_tcp_ports":{"ports":[{"interface":"eth0","port":22},{"interface":"eth0","port":23}],"total":2}}}`
	if got := deviceReport(time.Unix(7, 0), 22, 23); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
