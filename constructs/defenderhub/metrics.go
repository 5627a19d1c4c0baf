package defenderhub

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"

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
	o := value(options)
	if o.Statistic == nil {
		o.Statistic = new("Sum")
	}
	if o.Period == nil {
		o.Period = seconds(alarmPeriod)
	}
	return total(name, o, func(function awslambda.Function) awscloudwatch.IMetric {
		dimensions := map[string]*string{dimension: function.FunctionName()}
		maps.Copy(dimensions, value(o.DimensionsMap))
		return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
			Namespace: new(contract.MetricNamespace), MetricName: new(name), DimensionsMap: &dimensions,
			Statistic: o.Statistic, Period: o.Period, Label: o.Label, Color: o.Color, Unit: o.Unit, Account: o.Account, Region: o.Region,
		})
	}, parts...)
}

// failed returns the number of failed invocations, summed over the functions.
func failed(parts ...part) awscloudwatch.IMetric {
	o := *fiveMinutes("Sum")
	return total("failed invocations", o, func(function awslambda.Function) awscloudwatch.IMetric { return function.MetricErrors(&o) }, parts...)
}

// total sums a metric over the functions. label is the label of the sum.
func total(label string, o awscloudwatch.MetricOptions, metric func(awslambda.Function) awscloudwatch.IMetric, parts ...part) awscloudwatch.IMetric {
	if len(parts) == 1 {
		return metric(parts[0].function)
	}
	var terms []string
	metrics := map[string]awscloudwatch.IMetric{}
	for _, p := range parts {
		id := p.idOf(label, o)
		terms = append(terms, "FILL("+id+", 0)")
		metrics[id] = metric(p.function)
	}
	if o.Label == nil {
		o.Label = new(label)
	}
	return awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: new(strings.Join(terms, " + ")), UsingMetrics: &metrics, Period: o.Period, Label: o.Label, Color: o.Color,
	})
}

// idOf returns the ID of a metric of the function in math expressions. Different metrics have
// different IDs, so that one graph or alarm can contain them.
func (p part) idOf(metric string, o awscloudwatch.MetricOptions) string {
	path := strings.TrimPrefix(*p.function.Node().Path(), *awscdk.Stack_Of(p.function).Node().Path())
	text := fmt.Sprint(path, " ", *o.Statistic, " ", *o.Period.ToSeconds(nil))
	dimensions := value(o.DimensionsMap)
	for _, name := range slices.Sorted(maps.Keys(dimensions)) {
		text += " " + name + "=" + *dimensions[name]
	}
	return p.name + "_" + strings.ReplaceAll(metric, " ", "_") + "_" + digest(text)
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
