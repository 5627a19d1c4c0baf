package providers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/cloudwatch"
	"github.com/defenderhub/defenderhub/test/localaws/eventbridge"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

const (
	cloudWatchVersion = "2010-08-01"
	metricAlarm       = "AWS::CloudWatch::Alarm"
)

// showDashboard accepts a dashboard, which no console shows here.
func showDashboard(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	if body := text(r, "DashboardBody"); !json.Valid([]byte(body)) {
		return cloudformation.Resource{}, errors.New("The field DashboardBody must be a valid JSON object (Service: CloudWatch, Status Code: 400)") //nolint:staticcheck // names a property
	}
	return kept(named(r, "DashboardName", 255), nil, "there is no console to show it"), nil
}

func (a Account) monitoring() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		metricAlarm: {
			Make: a.putAlarm, Change: a.putAlarm,
			Remove: func(ctx context.Context, r cloudformation.Request) error {
				return a.Emulator.Query(ctx, "monitoring", cloudWatchVersion, "DeleteAlarms", url.Values{"AlarmNames.member.1": {r.PhysicalResourceID}}, nil)
			},
		},
		"AWS::CloudWatch::Dashboard": {
			Make: showDashboard, Change: showDashboard,
		},
		schedule: {Make: a.read("Name", func(r cloudformation.Request, name string) (eventbridge.Rule, error) {
			group := cmp.Or(text(r, "GroupName"), "default")
			return eventbridge.ReadSchedule(name, r.ARN("scheduler", "schedule/"+group+"/"+name), time.Time{}, r.ResourceProperties)
		})},
		eventsRule: {Make: a.read("Name", func(r cloudformation.Request, name string) (eventbridge.Rule, error) {
			return eventbridge.ReadRule(name, r.ARN("events", "rule/"+name), time.Time{}, r.ResourceProperties)
		})},
	}
}

func (a Account) putAlarm(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p := r.ResourceProperties
	_, single := p["MetricName"]
	_, several := p["Metrics"]
	if single == several {
		return cloudformation.Resource{}, errors.New("exactly one of MetricName and Metrics is expected (Service: CloudWatch, Status Code: 400)")
	}
	if seconds, ok := schema.Float(p["Period"]); ok && seconds != 10 && seconds != 20 && seconds != 30 && math.Mod(seconds, 60) != 0 {
		return cloudformation.Resource{}, errors.New("Period must be 10, 20, 30 or a multiple of 60 (Service: CloudWatch, Status Code: 400)") //nolint:staticcheck // names a property
	}
	if err := lookBack(p); err != nil {
		return cloudformation.Resource{}, err
	}
	name := r.PhysicalResourceID
	if r.RequestType == cloudformation.Create {
		name = named(r, "AlarmName", 255)
	}
	form := url.Values{}
	flatten(form, "", p)
	form.Set("AlarmName", name)
	if err := a.Emulator.Query(ctx, "monitoring", cloudWatchVersion, "PutMetricAlarm", form, nil); err != nil {
		return cloudformation.Resource{}, err
	}
	arn := r.ARN("cloudwatch", "alarm:"+name)
	if r.RequestType == cloudformation.Create {
		// In the emulator a new alarm is OK.
		if err := a.SetAlarmState(ctx, name, string(cloudwatch.InsufficientData), "Unchecked: Initial alarm creation"); err != nil {
			return cloudformation.Resource{}, err
		}
	}
	inert := ""
	if _, err := cloudwatch.ParseAlarm(name, arn, p); err != nil {
		inert = err.Error()
	}
	return kept(name, map[string]any{"Arn": arn}, inert), nil
}

// lookBack refuses an alarm that looks back further than CloudWatch allows.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
func lookBack(alarm map[string]any) error {
	periods, _ := schema.Float(alarm["EvaluationPeriods"])
	if datapoints, ok := schema.Float(alarm["DatapointsToAlarm"]); ok && datapoints > periods {
		return fmt.Errorf("DatapointsToAlarm is %v, and EvaluationPeriods %v (Service: CloudWatch, Status Code: 400)", datapoints, periods) //nolint:staticcheck // names a property
	}
	seconds, _ := schema.Float(alarm["Period"])
	metrics, _ := alarm["Metrics"].([]any)
	for _, m := range metrics {
		stat, _ := m.(map[string]any)["MetricStat"].(map[string]any) // the schema has validated the object
		if s, ok := schema.Float(stat["Period"]); ok {
			seconds = max(seconds, s)
		}
	}
	limit := 86400.0
	if seconds >= 3600 {
		limit *= 7
	}
	if periods*seconds > limit {
		return fmt.Errorf("EvaluationPeriods of %v and a period of %v s are more than %v s together (Service: CloudWatch, Status Code: 400)", periods, seconds, limit) //nolint:staticcheck // names a property
	}
	return nil
}

// SetAlarmState sets the state of an alarm in the emulator.
func (a Account) SetAlarmState(ctx context.Context, name, state, reason string) error {
	return a.Emulator.Query(ctx, "monitoring", cloudWatchVersion, "SetAlarmState", url.Values{
		"AlarmName": {name}, "StateValue": {state}, "StateReason": {reason},
	}, nil)
}

// Alarms returns the deployed alarms that can be evaluated.
func Alarms(r *cloudformation.Registry) []cloudwatch.Alarm {
	var alarms []cloudwatch.Alarm
	for _, d := range r.Deployed(metricAlarm) {
		arn, _ := d.Attributes["Arn"].(string)
		if a, err := cloudwatch.ParseAlarm(d.PhysicalID, arn, d.Properties); err == nil { // the others are inert
			alarms = append(alarms, a)
		}
	}
	return alarms
}

// flatten converts nested properties to the parameters of a Query request.
func flatten(form url.Values, prefix string, value any) {
	switch v := value.(type) {
	case map[string]any:
		if prefix != "" {
			prefix += "."
		}
		for key, inner := range v {
			flatten(form, prefix+key, inner)
		}
	case []any:
		for i, inner := range v {
			flatten(form, prefix+".member."+strconv.Itoa(i+1), inner)
		}
	default:
		if s, ok := schema.String(v); ok {
			form.Set(prefix, s)
		}
	}
}

const (
	eventsRule = "AWS::Events::Rule"
	schedule   = "AWS::Scheduler::Schedule"
)

// read returns the function that creates a rule or a schedule, which parse validates.
func (a Account) read(property string, parse func(r cloudformation.Request, name string) (eventbridge.Rule, error)) func(context.Context, cloudformation.Request) (cloudformation.Resource, error) {
	return func(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
		name := named(r, property, 64)
		parsed, err := parse(r, name)
		if err == nil {
			err = a.unique(r, name)
		}
		return kept(name, map[string]any{"Arn": parsed.ARN}, ""), err
	}
}

// Rules returns the deployed rules and schedules.
func Rules(r *cloudformation.Registry) []eventbridge.Rule {
	var all []eventbridge.Rule
	for _, d := range append(r.Deployed(eventsRule), r.Deployed(schedule)...) {
		parse := eventbridge.ReadRule
		if d.Type == schedule {
			parse = eventbridge.ReadSchedule
		}
		arn, _ := d.Attributes["Arn"].(string)
		if rule, err := parse(d.PhysicalID, arn, d.Created, d.Properties); err == nil { // deployed ones have no error
			all = append(all, rule)
		}
	}
	return all
}
