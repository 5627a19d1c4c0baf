package defenderhub

import (
	"errors"
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecurityhub"
	"github.com/aws/constructs-go/constructs/v10"
)

// ProductSubscriptionsProps configure [ProductSubscriptions].
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-securityhub-productsubscription.html
type ProductSubscriptionsProps struct {
	// Audit is the subscription to the findings of audits. Off does not end a subscription that
	// this stack created earlier, unless RemovalPolicy deletes it. To end it, run aws securityhub
	// disable-import-findings-for-product.
	// Default: Create, a new subscription.
	Audit Provision
	// Detect is the subscription to the findings of Detect. A DefenderHub creates it only with
	// DetectProps.Native. The subscription stays if you change the engine. To change back, set
	// Existing.
	// Default: Create, a new subscription.
	Detect Provision
	// EnableSecurityHub turns on Security Hub CSPM in this account and Region, without standards.
	// The deployment fails if Security Hub CSPM is already on, or if an organization's policy
	// forbids it.
	EnableSecurityHub bool
	// RemovalPolicy applies to the subscriptions, and to Security Hub if EnableSecurityHub is
	// set.
	// Default: awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE, which keeps them when the stack
	// is deleted: other users may rely on them, and turning off Security Hub deletes its findings.
	// Only a failed first deployment removes them. A later stack must set Existing for those that
	// were kept.
	RemovalPolicy awscdk.RemovalPolicy
}

func (p ProductSubscriptionsProps) validate() error {
	var f faults
	for _, s := range []struct {
		field string
		value Provision
	}{{"Audit", p.Audit}, {"Detect", p.Detect}} {
		if s.value < Create || s.value > Off {
			f.add(s.field, int(s.value), "Create, Existing or Off")
		}
	}
	f.removalPolicy("RemovalPolicy", p.RemovalPolicy)
	return f.err()
}

func (p ProductSubscriptionsProps) taken(scope constructs.Construct) error {
	var f faults
	f.taken(scope, auditSubscription, p.Audit == Create, "Audit", p.Audit.String(), "Existing for this one")
	f.taken(scope, detectSubscription, p.Detect == Create, "Detect", p.Detect.String(), "Existing for this one")
	f.taken(scope, securityHub, p.EnableSecurityHub, "EnableSecurityHub", true, "false for this one")
	return f.err()
}

// ProductSubscriptions let Device Defender's own integration send findings to Security
// Hub.
type ProductSubscriptions interface {
	constructs.Construct
	// SecurityHub is the resource that turns on Security Hub; nil without EnableSecurityHub.
	SecurityHub() awscdk.CfnResource
	// Audit is the subscription to the findings of audits; nil if none is created.
	Audit() awscdk.CfnResource
	// Detect is the subscription to the findings of Detect; nil if none is created.
	Detect() awscdk.CfnResource
}

type productSubscriptions struct {
	constructs.Construct
	hub, audit, detect awscdk.CfnResource
}

func (s *productSubscriptions) SecurityHub() awscdk.CfnResource { return s.hub }
func (s *productSubscriptions) Audit() awscdk.CfnResource       { return s.audit }
func (s *productSubscriptions) Detect() awscdk.CfnResource      { return s.detect }

// NewProductSubscriptions subscribes to the findings of Device Defender's audit and Detect. It
// panics with one error that lists every fault of props.
func NewProductSubscriptions(scope constructs.Construct, id *string, props *ProductSubscriptionsProps) ProductSubscriptions {
	s := &productSubscriptions{}
	constructs.NewConstruct_Override(s, scope, id)
	p := value(props)
	must(s, errors.Join(p.validate(), p.taken(s)))

	policy := or(p.RemovalPolicy, awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE)
	if p.EnableSecurityHub {
		take(s, securityHub)
		s.hub = awssecurityhub.NewCfnHub(s, new("SecurityHub"), &awssecurityhub.CfnHubProps{
			// Standards have their own checks, which cost money.
			EnableDefaultStandards: false,
		})
		s.hub.ApplyRemovalPolicy(policy, nil)
	}
	subscribe := func(id, product string, wanted Provision, only single) awscdk.CfnResource {
		if wanted != Create {
			return nil
		}
		take(s, only)
		r := awssecurityhub.NewCfnProductSubscription(s, new(id), &awssecurityhub.CfnProductSubscriptionProps{
			ProductArn: new(fmt.Sprintf("arn:%s:securityhub:%s::product/aws/%s", *awscdk.Aws_PARTITION(), *awscdk.Aws_REGION(), product)),
		})
		r.ApplyRemovalPolicy(policy, nil)
		if s.hub != nil {
			r.AddResourceDependency(s.hub, nil)
		}
		return r
	}
	s.audit = subscribe("Audit", "iot-device-defender-audit", p.Audit, auditSubscription)
	s.detect = subscribe("Detect", "iot-device-defender-detect", p.Detect, detectSubscription)
	return s
}
