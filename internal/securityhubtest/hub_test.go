package securityhubtest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
)

func TestCallsFailBeforeSecurityHubIsEnabled(t *testing.T) {
	c := newCloud(t, Config{})
	client := c.client(account, region)
	ctx := context.Background()
	for name, call := range map[string]func() error{
		"import":        func() error { _, err := tryImport(t, client, sample("1")); return err },
		"get":           func() error { _, err := client.GetFindings(ctx, nil); return err },
		"describe":      func() error { _, err := client.DescribeHub(ctx, nil); return err },
		"disable":       func() error { _, err := client.DisableSecurityHub(ctx, nil); return err },
		"subscriptions": func() error { _, err := client.ListEnabledProductsForImport(ctx, nil); return err },
		"subscribe": func() error {
			_, err := client.EnableImportFindingsForProduct(ctx, &securityhub.EnableImportFindingsForProductInput{ProductArn: aws.String(audit)})
			return err
		},
		"update": func() error {
			_, err := client.BatchUpdateFindings(ctx, &securityhub.BatchUpdateFindingsInput{
				FindingIdentifiers: []types.AwsSecurityFindingIdentifier{id("1")}, Confidence: aws.Int32(1)})
			return err
		},
		"insights": func() error { _, err := client.GetInsights(ctx, nil); return err },
		"actions":  func() error { _, err := client.DescribeActionTargets(ctx, nil); return err },
	} {
		err := call()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, "InvalidAccessException", http.StatusUnauthorized)
		if !strings.Contains(err.Error(), "Account 123456789012 is not subscribed to AWS Security Hub") {
			t.Errorf("%s: error %v, want one that says not subscribed", name, err)
		}
	}
}

func TestHubIsEnabledOnce(t *testing.T) {
	c := newCloud(t, Config{})
	client := c.client(account, region)
	ctx := context.Background()
	input := &securityhub.EnableSecurityHubInput{EnableDefaultStandards: aws.Bool(false), Tags: map[string]string{"team": "a"}}
	if _, err := client.EnableSecurityHub(ctx, input); err != nil {
		t.Fatal(err)
	}
	_, err := client.EnableSecurityHub(ctx, input)
	wantError(t, err, "ResourceConflictException", http.StatusConflict)
	if !strings.Contains(err.Error(), "Account is already subscribed to Security Hub") {
		t.Errorf("error %v, want one that says already subscribed", err)
	}
	hub, err := client.DescribeHub(ctx, &securityhub.DescribeHubInput{HubArn: aws.String(c.Hub(account, region).ARN())})
	if err != nil || *hub.HubArn != "arn:aws:securityhub:eu-west-1:123456789012:hub/default" || *hub.SubscribedAt != "2026-09-15T03:00:00.000Z" ||
		!*hub.AutoEnableControls || hub.ControlFindingGenerator != types.ControlFindingGeneratorSecurityControl {
		t.Errorf("DescribeHub returns %s, error %v", raw(hub), err)
	}
	_, err = client.DescribeHub(ctx, &securityhub.DescribeHubInput{HubArn: aws.String("arn:aws:securityhub:eu-west-1:123456789012:hub/other")})
	wantError(t, err, "ResourceNotFoundException", http.StatusNotFound)
	settings, on := c.Hub(account, region).Settings()
	if !on || settings.DefaultStandards || settings.Tags["team"] != "a" {
		t.Errorf("settings %+v, enabled %v, want those of the call", settings, on)
	}
	_, err = client.ListTagsForResource(ctx, &securityhub.ListTagsForResourceInput{ResourceArn: hub.HubArn})
	wantError(t, err, "NotImplementedException", http.StatusNotImplemented)
	if status, code, _ := newCloud(t, Config{}).signed(t, "POST", "/accounts", `{"ControlFindingGenerator":"NONE"}`); status != 400 || code != "InvalidInputException" {
		t.Errorf("an unknown ControlFindingGenerator: status %d, %s, want 400, InvalidInputException", status, code)
	}
}

func TestDisabledHubIsRestoredWithin90Days(t *testing.T) {
	for _, tt := range []struct {
		pause time.Duration
		want  int
	}{{time.Hour, 1}, {FindingLifetime, 0}} {
		c, h, client := enabled(t)
		mustImport(t, client, sample("1"))
		if _, err := h.EnableProduct(audit); err != nil {
			t.Fatal(err)
		}
		if _, err := client.DisableSecurityHub(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		_, err := tryImport(t, client, sample("2"))
		wantError(t, err, "InvalidAccessException", http.StatusUnauthorized)
		c.pass(tt.pause)
		if err := h.Enable(Settings{}); err != nil {
			t.Fatal(err)
		}
		if len(h.Findings()) != tt.want || len(h.Subscriptions()) != tt.want {
			t.Errorf("after %v: %d findings, subscriptions %v, want %d of each", tt.pause, len(h.Findings()), h.Subscriptions(), tt.want)
		}
	}
}

func TestProductIsEnabledOnce(t *testing.T) {
	c, h, client := enabled(t)
	ctx := context.Background()
	input := &securityhub.EnableImportFindingsForProductInput{ProductArn: aws.String(audit)}
	out, err := client.EnableImportFindingsForProduct(ctx, input)
	const subscription = "arn:aws:securityhub:eu-west-1:123456789012:product-subscription/aws/iot-device-defender-audit"
	if err != nil || *out.ProductSubscriptionArn != subscription {
		t.Fatal(out, err)
	}
	_, err = client.EnableImportFindingsForProduct(ctx, input)
	wantError(t, err, "ResourceConflictException", http.StatusConflict)
	for _, arn := range []string{ownProduct, "arn:aws:securityhub:us-east-1::product/aws/iot-device-defender-audit", "x"} {
		_, err := client.EnableImportFindingsForProduct(ctx, &securityhub.EnableImportFindingsForProductInput{ProductArn: &arn})
		wantError(t, err, "InvalidInputException", http.StatusBadRequest)
	}
	list, err := client.ListEnabledProductsForImport(ctx, nil)
	if err != nil || !slices.Equal(list.ProductSubscriptions, []string{subscription}) || list.NextToken != nil {
		t.Fatal(list, err)
	}
	disable := &securityhub.DisableImportFindingsForProductInput{ProductSubscriptionArn: aws.String(subscription)}
	if _, err := client.DisableImportFindingsForProduct(ctx, disable); err != nil {
		t.Fatal(err)
	}
	_, err = client.DisableImportFindingsForProduct(ctx, disable)
	wantError(t, err, "ResourceNotFoundException", http.StatusNotFound)
	if len(h.Subscriptions()) != 0 || len(c.Hub(account, "us-east-1").Subscriptions()) != 0 {
		t.Error("the subscription still exists, or another Region has it")
	}
}

func TestSettingsAreCopies(t *testing.T) {
	h := newCloud(t, Config{}).Hub(account, region)
	given := map[string]string{"a": "1"}
	if err := h.Enable(Settings{Tags: given}); err != nil {
		t.Fatal(err)
	}
	got, _ := h.Settings()
	got.Tags["a"], given["a"] = "2", "3"
	if s, _ := h.Settings(); s.Tags["a"] != "1" {
		t.Error("a change of the given or the returned tags changes the hub")
	}
}

func TestUnsupportedOperationsAreErrors(t *testing.T) {
	c, h, client := enabled(t)
	ctx, arn := context.Background(), aws.String(c.Hub(account, region).ARN())
	for operation, call := range map[string]func() error{
		"PATCH /accounts": func() error { _, err := client.UpdateSecurityHubConfiguration(ctx, nil); return err },
		"GET /products":   func() error { _, err := client.DescribeProducts(ctx, nil); return err },
		"POST /tags": func() error {
			_, err := client.TagResource(ctx, &securityhub.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"a": "1"}})
			return err
		},
	} {
		err := call()
		if err == nil {
			t.Errorf("%s: no error", operation)
			continue
		}
		wantError(t, err, "NotImplementedException", http.StatusNotImplemented)
		if !strings.Contains(err.Error(), operation) {
			t.Errorf("%s: error %v, want one that names the operation", operation, err)
		}
	}
	if len(h.Findings()) != 0 {
		t.Errorf("findings %v, want none", idsOf(h.Findings()))
	}
}

func TestInsights(t *testing.T) {
	_, client := variedFindings(t)
	ctx := context.Background()
	create := &securityhub.CreateInsightInput{
		Name: aws.String("by resource"), GroupByAttribute: aws.String("ResourceType"),
		Filters: &types.AwsSecurityFindingFilters{SeverityLabel: texts("NOT_EQUALS", "CRITICAL")},
	}
	made, err := client.CreateInsight(ctx, create)
	if err != nil || !strings.HasPrefix(*made.InsightArn, "arn:aws:securityhub:eu-west-1:123456789012:insight/123456789012/custom/") {
		t.Fatal(made, err)
	}
	_, err = client.GetInsightResults(ctx, &securityhub.GetInsightResultsInput{InsightArn: made.InsightArn})
	wantError(t, err, "NotImplementedException", http.StatusNotImplemented)
	if _, err := client.UpdateInsight(ctx, &securityhub.UpdateInsightInput{InsightArn: made.InsightArn, GroupByAttribute: aws.String("SeverityLabel")}); err != nil {
		t.Fatal(err)
	}
	_, err = client.UpdateInsight(ctx, &securityhub.UpdateInsightInput{InsightArn: made.InsightArn, GroupByAttribute: aws.String("Resource")})
	wantError(t, err, "InvalidInputException", http.StatusBadRequest)
	list, err := client.GetInsights(ctx, nil)
	if err != nil || len(list.Insights) != 1 || *list.Insights[0].Name != "by resource" || *list.Insights[0].GroupByAttribute != "SeverityLabel" || list.Insights[0].Filters.SeverityLabel[0].Comparison != "NOT_EQUALS" {
		t.Errorf("GetInsights returns %s, error %v, want the updated insight", raw(list), err)
	}
	for name, change := range map[string]func(*securityhub.CreateInsightInput){
		"name":  func(in *securityhub.CreateInsightInput) { in.Name = aws.String(letters(129)) },
		"group": func(in *securityhub.CreateInsightInput) { in.GroupByAttribute = aws.String("Resource") },
		"filter": func(in *securityhub.CreateInsightInput) {
			in.Filters = &types.AwsSecurityFindingFilters{Id: texts("CONTAINS", "x")}
		},
	} {
		in := *create
		change(&in)
		if _, err := client.CreateInsight(ctx, &in); err == nil {
			t.Errorf("a wrong %s is no error", name)
		}
	}
	if _, err := client.DeleteInsight(ctx, &securityhub.DeleteInsightInput{InsightArn: made.InsightArn}); err != nil {
		t.Fatal(err)
	}
	_, err = client.DeleteInsight(ctx, &securityhub.DeleteInsightInput{InsightArn: made.InsightArn})
	wantError(t, err, "ResourceNotFoundException", http.StatusNotFound)
	_, err = client.GetInsights(ctx, &securityhub.GetInsightsInput{InsightArns: []string{*made.InsightArn}})
	wantError(t, err, "InvalidInputException", http.StatusBadRequest)
}

func TestInsightsAreLimitedTo100(t *testing.T) {
	_, _, client := enabled(t)
	in := &securityhub.CreateInsightInput{Name: aws.String("x"), GroupByAttribute: aws.String("Id"), Filters: &types.AwsSecurityFindingFilters{}}
	for range 100 {
		if _, err := client.CreateInsight(context.Background(), in); err != nil {
			t.Fatal(err)
		}
	}
	_, err := client.CreateInsight(context.Background(), in)
	wantError(t, err, "LimitExceededException", http.StatusTooManyRequests)
}

func TestCustomActions(t *testing.T) {
	_, _, client := enabled(t)
	ctx := context.Background()
	create := &securityhub.CreateActionTargetInput{Id: aws.String("Isolate"), Name: aws.String(letters(20)), Description: aws.String("d")}
	made, err := client.CreateActionTarget(ctx, create)
	if err != nil || *made.ActionTargetArn != "arn:aws:securityhub:eu-west-1:123456789012:action/custom/Isolate" {
		t.Fatal(made, err)
	}
	_, err = client.CreateActionTarget(ctx, create)
	wantError(t, err, "ResourceConflictException", http.StatusConflict)
	if !strings.Contains(err.Error(), "Action with Id: Isolate already exists") {
		t.Errorf("error %v, want one that says already exists", err)
	}
	for _, wrong := range []securityhub.CreateActionTargetInput{
		{Id: aws.String("a-b"), Name: aws.String("n"), Description: aws.String("d")},
		{Id: aws.String(strings.Repeat("a", 21)), Name: aws.String("n"), Description: aws.String("d")},
		{Id: aws.String("b"), Name: aws.String(letters(21)), Description: aws.String("d")},
		{Id: aws.String("b"), Name: aws.String("n"), Description: aws.String(" ")},
	} {
		_, err := client.CreateActionTarget(ctx, &wrong)
		wantError(t, err, "InvalidInputException", http.StatusBadRequest)
	}
	_, err = client.UpdateActionTarget(ctx, &securityhub.UpdateActionTargetInput{ActionTargetArn: made.ActionTargetArn, Description: aws.String("e")})
	wantError(t, err, "NotImplementedException", http.StatusNotImplemented)
	list, err := client.DescribeActionTargets(ctx, nil)
	if err != nil || len(list.ActionTargets) != 1 || *list.ActionTargets[0].Description != "d" || *list.ActionTargets[0].Name != letters(20) {
		t.Errorf("DescribeActionTargets returns %s, error %v, want the created one", raw(list), err)
	}
	if _, err := client.DeleteActionTarget(ctx, &securityhub.DeleteActionTargetInput{ActionTargetArn: made.ActionTargetArn}); err != nil {
		t.Fatal(err)
	}
	_, err = client.DeleteActionTarget(ctx, &securityhub.DeleteActionTargetInput{ActionTargetArn: made.ActionTargetArn})
	wantError(t, err, "ResourceNotFoundException", http.StatusNotFound)
	for i := range 50 {
		if _, err := client.CreateActionTarget(ctx, &securityhub.CreateActionTargetInput{Id: aws.String(fmt.Sprint(i)), Name: aws.String("n"), Description: aws.String("d")}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = client.CreateActionTarget(ctx, create)
	wantError(t, err, "LimitExceededException", http.StatusTooManyRequests)
}
