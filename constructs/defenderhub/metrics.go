package defenderhub

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// functionMetric returns the sum of a metric over functions, with dimension. options may be nil,
// which means the sum over five minutes.
func functionMetric(dimension, name string, options *awscloudwatch.MetricOptions, functions map[string]awslambda.Function) awscloudwatch.IMetric {
	o := value(options)
	if o.Statistic == nil {
		o.Statistic = new("Sum")
	}
	if o.Period == nil {
		o.Period = seconds(alarmPeriod)
	}
	text, metrics := "", map[string]awscloudwatch.IMetric{}
	for id, function := range functions {
		dimensions := map[string]*string{dimension: function.FunctionName()}
		metrics[id] = awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
			Namespace: new(contract.MetricNamespace), MetricName: new(name), DimensionsMap: &dimensions,
			Statistic: o.Statistic, Period: o.Period, Label: o.Label, Color: o.Color, Unit: o.Unit, Account: o.Account, Region: o.Region,
		})
	}
	for _, id := range slices.Sorted(maps.Keys(metrics)) {
		if len(metrics) == 1 {
			return metrics[id]
		}
		text += " + FILL(" + id + ", 0)"
	}
	if o.Label == nil {
		o.Label = new(name)
	}
	return awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: new(strings.TrimPrefix(text, " + ")), UsingMetrics: &metrics, Period: o.Period, Label: o.Label, Color: o.Color,
	})
}

func (f *forwarder) metric(name string, options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	functions := map[string]awslambda.Function{"events": f.function}
	if f.auditFunction != nil {
		functions["audits"] = f.auditFunction
	}
	return functionMetric(contract.MetricDimensionForwarder, name, options, functions)
}

func (e *selfManaged) metric(name string, options *awscloudwatch.MetricOptions, functions map[string]awslambda.Function) awscloudwatch.IMetric {
	return functionMetric(contract.MetricDimensionEvaluator, name, options, functions)
}

func (e *selfManaged) ofEvaluator() map[string]awslambda.Function {
	return map[string]awslambda.Function{"evaluator": e.evaluator}
}

func (e *selfManaged) ofCloser() map[string]awslambda.Function {
	return map[string]awslambda.Function{"closer": e.closer}
}

func (e *selfManaged) ofBoth() map[string]awslambda.Function {
	return map[string]awslambda.Function{"evaluator": e.evaluator, "closer": e.closer}
}

func (f *forwarder) MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return f.metric(contract.MetricReceived, options)
}

func (f *forwarder) MetricImported(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return f.metric(contract.MetricImported, options)
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
	return e.metric(contract.MetricReceived, options, e.ofEvaluator())
}

func (e *selfManaged) MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricFailed, options, e.ofEvaluator())
}

func (e *selfManaged) MetricTransitions(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricTransitions, options, e.ofBoth())
}

func (e *selfManaged) MetricUnsent(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricUnsent, options, e.ofCloser())
}

func (e *selfManaged) MetricBlind(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricBlind, options, e.ofCloser())
}

func (e *selfManaged) MetricUnfinished(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return e.metric(contract.MetricUnfinished, options, e.ofCloser())
}
