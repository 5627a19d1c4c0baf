package providers

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

func (a Account) securityHub() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		"AWS::SecurityHub::Hub": {
			Properties: schema.Object{
				"AutoEnableControls":      schema.Bool,
				"ControlFindingGenerator": schema.Enum("SECURITY_CONTROL", "STANDARD_CONTROL"),
				"EnableDefaultStandards":  schema.Bool,
				"Tags":                    schema.Dictionary(`^.{1,128}$`, schema.Text(0, 256)),
			},
			Make: a.enableSecurityHub,
			Remove: func(ctx context.Context, _ cloudformation.Request) error {
				return a.API.REST(ctx, "securityhub", http.MethodDelete, "/accounts", nil, nil)
			},
		},
		"AWS::SecurityHub::ProductSubscription": {
			Properties: schema.Object{"ProductArn": schema.Required(schema.Pattern(`arn:aws\S*:securityhub:\S*`, 12, 2048))},
			Make:       a.subscribeProduct,
			Remove: func(ctx context.Context, r cloudformation.Request) error {
				return a.API.REST(ctx, "securityhub", http.MethodDelete, "/productSubscriptions/"+url.PathEscape(r.PhysicalResourceID), nil, nil)
			},
		},
	}
}

func (a Account) enableSecurityHub(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	body := map[string]any{}
	for _, property := range []string{"ControlFindingGenerator", "Tags"} {
		if value, ok := r.ResourceProperties[property]; ok {
			body[property] = value
		}
	}
	if on, ok := schema.Boolean(r.ResourceProperties["EnableDefaultStandards"]); ok {
		body["EnableDefaultStandards"] = on
	}
	if err := a.API.REST(ctx, "securityhub", http.MethodPost, "/accounts", body, nil); err != nil {
		return cloudformation.Resource{}, err
	}
	arn := r.ARN("securityhub", "hub/default")
	return cloudformation.Resource{PhysicalID: arn, Attributes: map[string]any{"ARN": arn}}, nil
}

func (a Account) subscribeProduct(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	var answer struct{ ProductSubscriptionArn string }
	err := a.API.REST(ctx, "securityhub", http.MethodPost, "/productSubscriptions", map[string]string{"ProductArn": text(r, "ProductArn")}, &answer)
	if err != nil {
		return cloudformation.Resource{}, err
	}
	arn := answer.ProductSubscriptionArn
	inert := "the product sends no findings"
	if strings.HasSuffix(arn, "/aws/iot-device-defender-audit") { // the local Device Defender sends some
		inert = ""
	}
	return kept(arn, map[string]any{"ProductSubscriptionArn": arn}, inert), nil
}
