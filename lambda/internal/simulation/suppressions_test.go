package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// suppressions has the suppressions of AWS IoT, and the one that the stack wants.
type suppressions struct {
	// descriptions are by check and certificate.
	descriptions map[string]string
	// wanted is what the last deployment asked for, done reports that its function said so.
	wanted string
	done   bool
	// running counts invocations; unsure reports that two ran at once.
	running int
	unsure  bool
}

// suppressed is the certificate of the stack's suppression. No audit finds it.
const suppressed = "resource-suppressed"

func keyOf(check *string, resource *types.ResourceIdentifier) string {
	return aws.ToString(check) + " " + aws.ToString(resource.DeviceCertificateId)
}

func (t things) CreateAuditSuppression(ctx context.Context, in *iot.CreateAuditSuppressionInput, _ ...func(*iot.Options)) (*iot.CreateAuditSuppressionOutput, error) {
	key := keyOf(in.CheckName, in.ResourceIdentifier)
	return ask(ctx, t.environment, "IoT", "CreateAuditSuppression", key, func() (*iot.CreateAuditSuppressionOutput, error) {
		if _, exists := t.world.suppressions.descriptions[key]; exists {
			return nil, &types.ResourceAlreadyExistsException{Message: aws.String("exists")}
		}
		t.world.suppressions.descriptions[key] = aws.ToString(in.Description)
		return &iot.CreateAuditSuppressionOutput{}, nil
	})
}

func (t things) DescribeAuditSuppression(ctx context.Context, in *iot.DescribeAuditSuppressionInput, _ ...func(*iot.Options)) (*iot.DescribeAuditSuppressionOutput, error) {
	key := keyOf(in.CheckName, in.ResourceIdentifier)
	return ask(ctx, t.environment, "IoT", "DescribeAuditSuppression", key, func() (*iot.DescribeAuditSuppressionOutput, error) {
		text, exists := t.world.suppressions.descriptions[key]
		if !exists {
			return nil, errMissing
		}
		return &iot.DescribeAuditSuppressionOutput{CheckName: in.CheckName, ResourceIdentifier: in.ResourceIdentifier, Description: &text}, nil
	})
}

func (t things) UpdateAuditSuppression(ctx context.Context, in *iot.UpdateAuditSuppressionInput, _ ...func(*iot.Options)) (*iot.UpdateAuditSuppressionOutput, error) {
	key := keyOf(in.CheckName, in.ResourceIdentifier)
	return ask(ctx, t.environment, "IoT", "UpdateAuditSuppression", key, func() (*iot.UpdateAuditSuppressionOutput, error) {
		if _, exists := t.world.suppressions.descriptions[key]; !exists {
			return nil, errMissing
		}
		t.world.suppressions.descriptions[key] = aws.ToString(in.Description)
		return &iot.UpdateAuditSuppressionOutput{}, nil
	})
}

func (t things) DeleteAuditSuppression(ctx context.Context, in *iot.DeleteAuditSuppressionInput, _ ...func(*iot.Options)) (*iot.DeleteAuditSuppressionOutput, error) {
	key := keyOf(in.CheckName, in.ResourceIdentifier)
	return ask(ctx, t.environment, "IoT", "DeleteAuditSuppression", key, func() (*iot.DeleteAuditSuppressionOutput, error) {
		delete(t.world.suppressions.descriptions, key)
		return &iot.DeleteAuditSuppressionOutput{}, nil
	})
}

// suppress lets CloudFormation create, change or delete the stack's suppression: asynchronously,
// with two retries.
func (w *world) suppress(number int) {
	s := &w.suppressions
	s.unsure = s.unsure || s.running > 0
	kind := cfn.RequestUpdate
	s.wanted, s.done = fmt.Sprintf("deployment %d", number), false
	if w.chance(0.2) {
		kind, s.wanted = cfn.RequestDelete, ""
	}
	event, err := json.Marshal(cfn.Event{
		RequestType: kind, RequestID: fmt.Sprint(number), ResourceType: contract.SuppressionResourceType, LogicalResourceID: "Suppress", PhysicalResourceID: "suppress",
		StackID: "arn:aws:cloudformation:" + region + ":" + account + ":stack/fleet/1",
		ResourceProperties: map[string]any{
			contract.SuppressionCheck: sharedCertificate, contract.SuppressionWhy: s.wanted,
			contract.SuppressionResource: map[string]any{"deviceCertificateId": suppressed},
		},
	})
	if err != nil {
		panic(err) // texts always marshal
	}
	s.running++
	w.suppressWith(event, 2)
}

func (w *world) suppressWith(event []byte, retries int) {
	w.invoke(w.resources, event, func(_ any, err error, _ bool) {
		if err != nil && retries > 0 {
			w.after(time.Minute, func() { w.suppressWith(event, retries-1) })
			return
		}
		w.suppressions.running--
		w.suppressions.done = err == nil
	})
}

// checkSuppressions requires that the suppression is as the last successful deployment wants it.
func (w *world) checkSuppressions() {
	s := &w.suppressions
	if !s.done || s.unsure {
		return
	}
	w.counts["suppressions compared"]++
	got, exists := s.descriptions[sharedCertificate+" "+suppressed]
	if exists != (s.wanted != "") || !strings.HasPrefix(got, s.wanted) {
		w.violations.add("suppressions are those of the last deployment", "%q exists: %t, want %q", got, exists, s.wanted)
	}
}
