package defenderhub

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecurityhub"

	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

// filters are the filters of an insight. A finding must match one value of each attribute.
type filters = awssecurityhub.CfnInsight_AwsSecurityFindingFiltersProperty

// addInsights creates the insights. Their filters match the findings of the forwarder and those of
// Device Defender's own integration, which have the same resource types.
func (d *dashboard) addInsights(incidents bool) {
	d.insight("Resources", "AWS IoT: devices and resources with the most findings", "ResourceId", open(filters{}))
	// The title of an audit finding is its check and its reason. GeneratorId does not group findings:
	// each audit finding has its own, and a behavior's is its security profile.
	ofAudits := &[]any{&awssecurityhub.CfnInsight_MapFilterProperty{Comparison: new("EQUALS"), Key: new("ReportType"), Value: new("AuditFinding")}}
	d.insight("Checks", "AWS IoT: audit checks with the most findings", "Title", open(filters{ProductFields: ofAudits}))
	d.insight("Urgent", "AWS IoT: critical and high findings", "Title", open(filters{SeverityLabel: equal("CRITICAL", "HIGH")}))
	if incidents {
		f := open(filters{})
		f.GeneratorId = &[]any{comparison("PREFIX", correlation.GeneratorPrefix)}
		d.insight("Incidents", "AWS IoT: devices with incidents", "ResourceId", f)
	}
	d.insight("FalsePositives", "AWS IoT: false positives", "Title", ofIoT(filters{VerificationState: equal("FALSE_POSITIVE")}))
}

func (d *dashboard) insight(id, name, groupBy string, f filters) {
	d.insights = append(d.insights, awssecurityhub.NewCfnInsight(d, new(id+"Insight"), &awssecurityhub.CfnInsightProps{
		Name: &name, GroupByAttribute: &groupBy, Filters: &f,
	}))
}

// open adds filters for active findings that no analyst has resolved or suppressed.
func open(f filters) filters {
	f = ofIoT(f)
	f.RecordState, f.WorkflowStatus = equal("ACTIVE"), equal("NEW", "NOTIFIED")
	return f
}

// ofIoT adds filters for findings about AWS IoT. Other programs may also import findings as the
// account's default product, but with other resource types.
func ofIoT(f filters) filters {
	f.ProductArn = equal(defaultProductARN(), productARN("", findingevent.AuditProduct), productARN("", findingevent.DetectProduct))
	f.ResourceType = &[]any{comparison("PREFIX", "AwsIot"), comparison("EQUALS", "Other")}
	return f
}

// productARN returns the ARN of a product, such as aws/iot-device-defender-audit. account is "" for
// AWS's products.
func productARN(account, product string) string {
	return fmt.Sprintf("arn:%s:securityhub:%s:%s:product/%s", *awscdk.Aws_PARTITION(), *awscdk.Aws_REGION(), account, product)
}

// defaultProductARN returns the ARN of the product as which the forwarder imports findings.
func defaultProductARN() string {
	account := *awscdk.Aws_ACCOUNT_ID()
	return productARN(account, account+"/"+findingevent.DefaultProduct)
}

func equal(values ...string) *[]any {
	var all []any
	for _, v := range values {
		all = append(all, comparison("EQUALS", v))
	}
	return &all
}

func comparison(how, value string) *awssecurityhub.CfnInsight_StringFilterProperty {
	return &awssecurityhub.CfnInsight_StringFilterProperty{Comparison: &how, Value: &value}
}
