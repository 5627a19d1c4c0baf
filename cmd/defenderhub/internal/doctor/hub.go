package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
)

// securityHub compares Security Hub CSPM with what the template turns on.
func securityHub(ctx context.Context, e *exam) ([]line, error) {
	_, err := e.hub.DescribeHub(ctx, &securityhub.DescribeHubInput{})
	on := err == nil
	if err != nil && !notFound(err) {
		return nil, err
	}
	administrator, err := e.administrator(ctx)
	if err != nil {
		return nil, err
	}
	hubs := e.resources("AWS::SecurityHub::Hub")
	ours := len(hubs) > 0 && e.owns(ctx, hubs[0])
	var lines []line
	switch {
	case on && len(hubs) > 0 && !ours:
		lines = append(lines, line{fix, "", "Security Hub CSPM is on already, and " + hubs[0].Path() + " would turn it on: Account is already subscribed to Security Hub",
			"defenderhub:enable-security-hub=false in cdk.json, or no Subscriptions.EnableSecurityHub"})
	case on:
		lines = append(lines, line{Status: ok, Finding: "Security Hub CSPM is on"})
	case len(hubs) > 0 && administrator != "":
		lines = append(lines, line{fix, "", "this is a member account of the Security Hub administrator " + administrator + ". With central configuration a member cannot turn Security Hub on",
			"defenderhub:enable-security-hub=false in cdk.json, or no Subscriptions.EnableSecurityHub, and ask the administrator to turn Security Hub CSPM on here"})
	case len(hubs) > 0:
		lines = append(lines, line{Status: ok, Finding: "Security Hub CSPM is off, and the template turns it on"})
	case administrator != "":
		lines = append(lines, line{fix, "", "Security Hub CSPM is off: findings would wait in the queue", "ask the Security Hub administrator " + administrator + " to turn it on here"})
	default:
		lines = append(lines, line{fix, "", "Security Hub CSPM is off: findings would wait in the queue",
			"aws securityhub enable-security-hub --no-enable-default-standards, or defenderhub:enable-security-hub=true in cdk.json (Subscriptions.EnableSecurityHub)"})
	}
	if administrator != "" {
		lines = append(lines, line{Status: note, Finding: "the Security Hub administrator is account " + administrator})
	}
	return lines, nil
}

// administrator returns the account that administers Security Hub for this one, "" for none.
func (e *exam) administrator(ctx context.Context) (string, error) {
	out, err := e.hub.GetAdministratorAccount(ctx, &securityhub.GetAdministratorAccountInput{})
	if err != nil {
		if notFound(err) { // Security Hub is off
			return "", nil
		}
		return "", err
	}
	if out.Administrator == nil {
		return "", nil
	}
	return aws.ToString(out.Administrator.AccountId), nil
}

// securityHubV2 shows whether our findings appear in Security Hub V2. AWS does not document whether
// imported findings do.
func securityHubV2(ctx context.Context, e *exam) ([]line, error) {
	_, err := e.hub.DescribeSecurityHubV2(ctx, &securityhub.DescribeSecurityHubV2Input{})
	if notFound(err) {
		return []line{{Status: note, Finding: "Security Hub V2 is off; defenderhub does not need it"}}, nil
	}
	if err != nil {
		return nil, err
	}
	product := fmt.Sprintf("arn:%s:securityhub:%s:%s:product/%[3]s/default", e.identity.Partition, e.region, e.identity.AccountID)
	out, err := e.hub.GetFindingsV2(ctx, &securityhub.GetFindingsV2Input{MaxResults: aws.Int32(1), Filters: &types.OcsfFindingFilters{CompositeFilters: []types.CompositeFilter{{
		StringFilters: []types.OcsfStringFilter{{FieldName: types.OcsfStringFieldMetadataProductUid, Filter: &types.StringFilter{Value: &product, Comparison: types.StringFilterComparisonEquals}}},
	}}}})
	if err != nil {
		return nil, err
	}
	if len(out.Findings) == 0 {
		return []line{{Status: note, Finding: "Security Hub V2 is on, but has none of this account's own findings. AWS does not document whether they appear there"}}, nil
	}
	return []line{{Status: note, Finding: "Security Hub V2 is on, and has findings of this account's own product"}}, nil
}

// products are Device Defender's integrations, with the context key and the prop of each.
var products = []struct{ product, key, prop string }{
	{"iot-device-defender-audit", "audit-subscription", "Subscriptions.Audit"},
	{"iot-device-defender-detect", "detect-subscription", "Subscriptions.Detect"},
}

// subscribes returns the template's subscription to a product, such as aws/guardduty, nil if there is none.
func (e *exam) subscribes(product string) (found *assembly.Resource) {
	for _, r := range e.resources("AWS::SecurityHub::ProductSubscription") {
		text, _ := json.Marshal(r.Properties["ProductArn"]) // it was JSON
		if strings.Contains(string(text), "product/"+product) {
			found = &r
		}
	}
	return found
}

// subscriptions compares the product subscriptions of the account with those of the template.
func subscriptions(ctx context.Context, e *exam) ([]line, error) {
	var accepted []string
	for pages := securityhub.NewListEnabledProductsForImportPaginator(e.hub, &securityhub.ListEnabledProductsForImportInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if notFound(err) {
			break // Security Hub is off
		}
		if err != nil {
			return nil, err
		}
		accepted = append(accepted, page.ProductSubscriptions...)
	}
	var lines []line
	for _, p := range products {
		has := slices.ContainsFunc(accepted, func(s string) bool { return strings.HasSuffix(s, "product-subscription/aws/"+p.product) })
		creates := e.subscribes("aws/" + p.product)
		switch {
		case has && creates != nil && !e.owns(ctx, *creates):
			lines = append(lines, line{fix, "", fmt.Sprintf("the subscription to aws/%s exists, and %s would create it (ResourceConflictException)", p.product, creates.Path()),
				fmt.Sprintf("defenderhub:%s=existing in cdk.json, or %s: defenderhub.Existing", p.key, p.prop)})
		case has:
			lines = append(lines, line{Status: ok, Finding: "aws/" + p.product + " sends its findings"})
		case creates != nil && e.owns(ctx, *creates):
			lines = append(lines, line{fix, "", "the subscription to aws/" + p.product + " was ended outside the stack",
				fmt.Sprintf("aws securityhub enable-import-findings-for-product --product-arn arn:%s:securityhub:%s::product/aws/%s", e.identity.Partition, e.region, p.product)})
		case creates != nil:
			lines = append(lines, line{Status: ok, Finding: "aws/" + p.product + " is subscribed by the template"})
		default:
			lines = append(lines, line{Status: note, Finding: "aws/" + p.product + " is not subscribed"})
		}
	}
	return lines, nil
}
