// Package suppression creates, changes and deletes the audit suppressions of a stack.
//
// A suppression has no tags, so its description says whose it is: it ends with the stack's name
// and ID. A suppression without this ending was made by somebody else, and is never changed.
package suppression

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/retry"
)

// API is the part of the AWS IoT client that is called. The client must not retry by itself.
type API interface {
	CreateAuditSuppression(context.Context, *iot.CreateAuditSuppressionInput, ...func(*iot.Options)) (*iot.CreateAuditSuppressionOutput, error)
	DescribeAuditSuppression(context.Context, *iot.DescribeAuditSuppressionInput, ...func(*iot.Options)) (*iot.DescribeAuditSuppressionOutput, error)
	UpdateAuditSuppression(context.Context, *iot.UpdateAuditSuppressionInput, ...func(*iot.Options)) (*iot.UpdateAuditSuppressionOutput, error)
	DeleteAuditSuppression(context.Context, *iot.DeleteAuditSuppressionInput, ...func(*iot.Options)) (*iot.DeleteAuditSuppressionOutput, error)
}

// Suppressor handles the events of the custom resource.
type Suppressor struct {
	IoT    API
	Log    *slog.Logger
	Now    func() time.Time
	Random func(n int64) int64
}

// New returns the function's handler.
func New(api API, on host.Host) *Suppressor {
	return &Suppressor{IoT: api, Log: on.Logger(slog.LevelInfo), Now: on.Now, Random: on.Random}
}

// Handle creates or changes the suppression as the event's properties say. It deletes the suppression
// on Delete and after its end. If somebody else made the suppression, Create and Update fail, and
// Delete leaves it.
func (s *Suppressor) Handle(ctx context.Context, event cfn.Event) (physicalID string, data map[string]any, err error) {
	wanted, err := read(event)
	if event.RequestType == cfn.RequestDelete {
		if err != nil {
			return physicalIDOf(event, wanted), nil, nil // Create refused these properties too
		}
		return event.PhysicalResourceID, nil, s.try(ctx, func() error { return s.remove(ctx, wanted) })
	}
	id := physicalIDOf(event, wanted)
	if err != nil {
		return id, nil, err
	}
	if wanted.until != nil && !wanted.until.After(s.Now()) {
		s.Log.Info("the suppression's end has passed", "check", wanted.check, "resource", wanted.name)
		return id, nil, s.try(ctx, func() error { return s.remove(ctx, wanted) })
	}
	return id, nil, s.try(ctx, func() error { return s.put(ctx, wanted) })
}

// errConflict is not retried: only a person can resolve it.
var errConflict = errors.New("somebody else made this suppression")

// try retries a failed call: right after an audit configuration is written, AWS may not know yet
// that a check is enabled, and calls for many suppressions may be throttled.
func (s *Suppressor) try(ctx context.Context, call func() error) error {
	backoff := retry.Backoff{First: 2 * time.Second, Longest: 15 * time.Second, Random: s.Random}
	for failures := 1; ; failures++ {
		err := call()
		if err == nil || errors.Is(err, errConflict) || !backoff.Wait(ctx, failures) {
			return err
		}
	}
}

// put creates the suppression, or changes it if it is ours. It first tries to create it, so that
// nobody else can create it between a check and the creation.
func (s *Suppressor) put(ctx context.Context, w suppression) error {
	_, err := s.IoT.CreateAuditSuppression(ctx, &iot.CreateAuditSuppressionInput{
		CheckName: &w.check, ResourceIdentifier: w.resource, Description: &w.description, ExpirationDate: w.until, SuppressIndefinitely: w.forever(),
	})
	var exists *types.ResourceAlreadyExistsException
	if err == nil || !errors.As(err, &exists) {
		return w.failed("create", err)
	}
	found, err := s.IoT.DescribeAuditSuppression(ctx, &iot.DescribeAuditSuppressionInput{CheckName: &w.check, ResourceIdentifier: w.resource})
	if err != nil {
		return w.failed("describe", err)
	}
	if !w.owns(found) {
		return w.failed("create", fmt.Errorf("%w, and defenderhub does not change it. Delete it in AWS IoT, or here", errConflict))
	}
	_, err = s.IoT.UpdateAuditSuppression(ctx, &iot.UpdateAuditSuppressionInput{
		CheckName: &w.check, ResourceIdentifier: w.resource, Description: &w.description, ExpirationDate: w.until, SuppressIndefinitely: w.forever(),
	})
	return w.failed("update", err)
}

// remove deletes the suppression if it is ours.
func (s *Suppressor) remove(ctx context.Context, w suppression) error {
	found, err := s.IoT.DescribeAuditSuppression(ctx, &iot.DescribeAuditSuppressionInput{CheckName: &w.check, ResourceIdentifier: w.resource})
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return w.failed("describe", err)
	}
	if !w.owns(found) {
		s.Log.Warn("a suppression that somebody else made is not deleted", "check", w.check, "resource", w.name)
		return nil
	}
	_, err = s.IoT.DeleteAuditSuppression(ctx, &iot.DeleteAuditSuppressionInput{CheckName: &w.check, ResourceIdentifier: w.resource})
	return w.failed("delete", err)
}

// suppression is what the properties of the custom resource ask for.
type suppression struct {
	check string
	// name identifies the resource in logs and errors.
	name     string
	resource *types.ResourceIdentifier
	// until is nil for a suppression without end.
	until *time.Time
	// description ends with owner, which only this stack writes.
	description, owner string
}

func (w suppression) forever() *bool {
	if w.until != nil {
		return nil
	}
	return aws.Bool(true)
}

func (w suppression) owns(found *iot.DescribeAuditSuppressionOutput) bool {
	return strings.HasSuffix(aws.ToString(found.Description), w.owner)
}

func (w suppression) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s the audit suppression of %s for %s: %w", what, w.check, w.name, err)
}

// physicalIDOf returns the ID of a suppression: another check or resource is another suppression,
// which CloudFormation creates before it deletes the first.
func physicalIDOf(event cfn.Event, w suppression) string {
	if w.resource != nil {
		return w.check + " " + w.name
	}
	if event.PhysicalResourceID != "" {
		return event.PhysicalResourceID
	}
	return "suppression-" + event.LogicalResourceID
}

// identifier has the fields of a resource identifier that a suppression can have. CloudFormation
// sends each value as text.
type identifier struct {
	DeviceCertificateID   string            `json:"deviceCertificateId"`
	CACertificateID       string            `json:"caCertificateId"`
	CognitoIdentityPoolID string            `json:"cognitoIdentityPoolId"`
	ClientID              string            `json:"clientId"`
	RoleAliasARN          string            `json:"roleAliasArn"`
	Account               string            `json:"account"`
	Policy                *policyIdentifier `json:"policyVersionIdentifier"`
}

type policyIdentifier struct {
	Name    string `json:"policyName"`
	Version string `json:"policyVersionId"`
}

// resource returns the identifier for the API, and its text.
func (i identifier) resource() (*types.ResourceIdentifier, string) {
	out, name := &types.ResourceIdentifier{}, ""
	for _, field := range []struct {
		value string
		to    **string
	}{
		{i.DeviceCertificateID, &out.DeviceCertificateId}, {i.CACertificateID, &out.CaCertificateId}, {i.CognitoIdentityPoolID, &out.CognitoIdentityPoolId},
		{i.ClientID, &out.ClientId}, {i.RoleAliasARN, &out.RoleAliasArn}, {i.Account, &out.Account},
	} {
		if field.value != "" {
			*field.to, name = aws.String(field.value), field.value
		}
	}
	if i.Policy != nil {
		out.PolicyVersionIdentifier = &types.PolicyVersionIdentifier{PolicyName: &i.Policy.Name, PolicyVersionId: &i.Policy.Version}
		name = i.Policy.Name + "/" + i.Policy.Version
	}
	return out, name
}

// read reads the properties of the custom resource.
func read(event cfn.Event) (suppression, error) {
	text := func(name string) string { value, _ := event.ResourceProperties[name].(string); return value }
	check, err := defender.ParseCheck(text(contract.SuppressionCheck))
	if err != nil {
		return suppression{}, fmt.Errorf("property %s: %w", contract.SuppressionCheck, err)
	}
	var id identifier
	raw, err := json.Marshal(event.ResourceProperties[contract.SuppressionResource])
	if err == nil {
		err = json.Unmarshal(raw, &id)
	}
	resource, name := id.resource()
	if err != nil || name == "" {
		return suppression{}, fmt.Errorf("property %s is not a resource identifier: %s", contract.SuppressionResource, raw)
	}
	w := suppression{check: check.String(), name: name, resource: resource, owner: ownerOf(event.StackID)}
	w.description = strings.TrimSpace(text(contract.SuppressionWhy) + " " + w.owner)
	if until := text(contract.SuppressionUntil); until != "" {
		at, err := time.Parse(time.RFC3339, until)
		if err != nil {
			return suppression{}, fmt.Errorf("property %s: %w", contract.SuppressionUntil, err)
		}
		w.until = &at
	}
	return w, nil
}

// ownerOf returns the end of the description of a stack's suppressions: NAME/UUID of the stack.
func ownerOf(stackID string) string {
	_, stack, _ := strings.Cut(stackID, ":stack/")
	return "[defenderhub " + stack + "]"
}
