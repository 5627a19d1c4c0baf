package defenderhub

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// part is a function of a construct, with its name in math expressions.
type part struct {
	name     string
	function awslambda.Function
}

// emitted returns a metric that functions write in the embedded metric format, summed over the
// functions. dimension is the name of the dimension with the function's name. options may be nil,
// which means the sum over five minutes. Its DimensionsMap adds dimensions.
func emitted(dimension, name string, options *awscloudwatch.MetricOptions, parts ...part) awscloudwatch.IMetric {
	o := counted(options)
	return total(name, o, func(function awslambda.Function) awscloudwatch.IMetric {
		return newMetric(contract.MetricNamespace, name, dimension, function.FunctionName(), o)
	}, parts...)
}

// counted returns options with the defaults of counters: the sum over five minutes.
func counted(options *awscloudwatch.MetricOptions) awscloudwatch.MetricOptions {
	o := value(options)
	if o.Statistic == nil {
		o.Statistic = new("Sum")
	}
	if o.Period == nil {
		o.Period = seconds(alarmPeriod)
	}
	return o
}

// newMetric returns the metric of a resource, whose name is the value of dimension.
func newMetric(namespace, name, dimension string, resource *string, o awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	dimensions := map[string]*string{dimension: resource}
	maps.Copy(dimensions, value(o.DimensionsMap))
	return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
		Namespace: new(namespace), MetricName: new(name), DimensionsMap: &dimensions,
		Statistic: o.Statistic, Period: o.Period, Label: o.Label, Color: o.Color, Unit: o.Unit, Account: o.Account, Region: o.Region,
	})
}

// maxAlarmMetrics is the number of metrics that the expression of an alarm can contain.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Create-alarm-on-metric-math-expression.html
const maxAlarmMetrics = 10

// throttled returns the number of messages to the rules that AWS IoT throttled, summed over the
// rules.
// https://docs.aws.amazon.com/iot/latest/developerguide/metrics_dimensions.html
func throttled(options *awscloudwatch.MetricOptions, rules []awscdk.CfnResource) awscloudwatch.IMetric {
	o := counted(options)
	var terms []term
	for _, rule := range rules {
		terms = append(terms, term{"rule", rule, newMetric("AWS/IoT", "RuleMessageThrottled", "RuleName", rule.Ref(), o)})
	}
	return sum("throttled messages", o, terms...)
}

// failed returns the number of failed invocations, summed over the functions.
func failed(parts ...part) awscloudwatch.IMetric {
	o := *fiveMinutes("Sum")
	return total("failed invocations", o, func(function awslambda.Function) awscloudwatch.IMetric { return function.MetricErrors(&o) }, parts...)
}

// total sums a metric over the functions. label is the label of the sum.
func total(label string, o awscloudwatch.MetricOptions, metric func(awslambda.Function) awscloudwatch.IMetric, parts ...part) awscloudwatch.IMetric {
	var terms []term
	for _, p := range parts {
		terms = append(terms, term{p.name, p.function, metric(p.function)})
	}
	return sum(label, o, terms...)
}

// term is a metric of a resource in a sum.
type term struct {
	name     string
	resource constructs.IConstruct
	metric   awscloudwatch.IMetric
}

// sum adds metrics up. label is the label of the sum.
func sum(label string, o awscloudwatch.MetricOptions, terms ...term) awscloudwatch.IMetric {
	if len(terms) == 1 {
		return terms[0].metric
	}
	var filled []string
	metrics := map[string]awscloudwatch.IMetric{}
	for _, t := range terms {
		id := t.id(label, o)
		filled = append(filled, "FILL("+id+", 0)")
		metrics[id] = t.metric
	}
	if o.Label == nil {
		o.Label = new(label)
	}
	return awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: new(strings.Join(filled, " + ")), UsingMetrics: &metrics, Period: o.Period, Label: o.Label, Color: o.Color,
	})
}

// id returns the ID of the metric in math expressions. Different metrics have different IDs, so that
// one graph or alarm can contain them.
func (t term) id(metric string, o awscloudwatch.MetricOptions) string {
	path := strings.TrimPrefix(*t.resource.Node().Path(), *awscdk.Stack_Of(t.resource).Node().Path())
	text := fmt.Sprint(path, " ", *o.Statistic, " ", *o.Period.ToSeconds(nil))
	dimensions := value(o.DimensionsMap)
	for _, name := range slices.Sorted(maps.Keys(dimensions)) {
		text += " " + name + "=" + *dimensions[name]
	}
	return t.name + "_" + strings.ReplaceAll(metric, " ", "_") + "_" + digest(text)
}

func (f *forwarder) parts() []part {
	parts := []part{{"events", f.function}}
	if f.auditFunction != nil {
		parts = append(parts, part{"audits", f.auditFunction})
	}
	return parts
}

func (f *forwarder) metric(name string, options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return emitted(contract.MetricDimensionForwarder, name, options, f.parts()...)
}

func (e *selfManaged) evaluatorPart() part { return part{"evaluator", e.evaluator} }
func (e *selfManaged) closerPart() part    { return part{"closer", e.closer} }

func (e *selfManaged) metric(name string, options *awscloudwatch.MetricOptions, parts ...part) awscloudwatch.IMetric {
	return emitted(contract.MetricDimensionEvaluator, name, options, parts...)
}

func (f *forwarder) MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return f.metric(contract.MetricReceived, options)
}

func (f *forwarder) MetricImported(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return f.metric(contract.MetricImported, options)
}

func (f *forwarder) MetricImportCalls(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	if !f.detailed {
		return nil
	}
	return f.metric(contract.MetricImportCalls, options)
}

func (f *forwarder) MetricArchived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return f.metric(contract.MetricArchived, options)
}

func (f *forwarder) MetricUnchanged(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return f.metric(contract.MetricUnchanged, options)
}

func (f *forwarder) MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return f.metric(contract.MetricFailed, options)
}

func (f *forwarder) MetricRefused(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return f.metric(contract.MetricRefused, options)
}

func (f *forwarder) MetricSecurityHubOff(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return f.metric(contract.MetricHubOff, options)
}

func (e *selfManaged) MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricReceived, options, e.evaluatorPart())
}

func (e *selfManaged) MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricFailed, options, e.evaluatorPart())
}

func (r *rules) MetricThrottledMessages(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return throttled(options, r.all())
}

func (e *selfManaged) MetricThrottledMessages(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return throttled(options, e.allRules())
}

func (e *selfManaged) MetricTransitions(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricTransitions, options, e.evaluatorPart(), e.closerPart())
}

func (e *selfManaged) MetricUnsent(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricUnsent, options, e.closerPart())
}

func (e *selfManaged) MetricBlind(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricBlind, options, e.closerPart())
}

func (e *selfManaged) MetricUnfinished(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricUnfinished, options, e.closerPart())
}
