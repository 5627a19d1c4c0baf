package providers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/cloudwatch"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

const (
	cloudWatchVersion = "2010-08-01"
	metricAlarm       = "AWS::CloudWatch::Alarm"
)

// showDashboard accepts a dashboard, which nothing shows here.
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
		"AWS::Scheduler::Schedule": {
			Make: a.createSchedule,
			Remove: func(ctx context.Context, r cloudformation.Request) error {
				path := "/schedules/" + url.PathEscape(r.PhysicalResourceID)
				if group := text(r, "GroupName"); group != "" {
					path += "?groupName=" + url.QueryEscape(group)
				}
				return a.API.REST(ctx, "scheduler", http.MethodDelete, path, nil, nil)
			},
		},
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

// lookBack refuses an alarm that would look further back than CloudWatch does.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
func lookBack(alarm map[string]any) error {
	periods, _ := schema.Float(alarm["EvaluationPeriods"])
	if datapoints, ok := schema.Float(alarm["DatapointsToAlarm"]); ok && datapoints > periods {
		return fmt.Errorf("DatapointsToAlarm is %v, and EvaluationPeriods %v (Service: CloudWatch, Status Code: 400)", datapoints, periods) //nolint:staticcheck // names a property
	}
	seconds, _ := schema.Float(alarm["Period"])
	metrics, _ := alarm["Metrics"].([]any)
	for _, m := range metrics {
		stat, _ := m.(map[string]any)["MetricStat"].(map[string]any) // the schema has seen the object
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

// SetAlarmState sets what the API says about an alarm.
func (a Account) SetAlarmState(ctx context.Context, name, state, reason string) error {
	return a.Emulator.Query(ctx, "monitoring", cloudWatchVersion, "SetAlarmState", url.Values{
		"AlarmName": {name}, "StateValue": {state}, "StateReason": {reason},
	}, nil)
}

// Alarms are the deployed alarms that can be judged.
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

// flatten writes nested properties as the parameters of a Query request.
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

func (a Account) createSchedule(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p := r.ResourceProperties
	window := p["FlexibleTimeWindow"].(map[string]any) // the schema has seen it
	if _, minutes := window["MaximumWindowInMinutes"]; minutes != (window["Mode"] == "FLEXIBLE") {
		return cloudformation.Resource{}, errors.New("MaximumWindowInMinutes is needed with mode FLEXIBLE and with no other (Service: Scheduler, Status Code: 400)")
	}
	name := named(r, "Name", 64)
	body := map[string]any{"ClientToken": r.PhysicalResourceID}
	for key, value := range p {
		if key != "Name" {
			body[key] = value
		}
	}
	if minutes, ok := schema.Float(window["MaximumWindowInMinutes"]); ok {
		body["FlexibleTimeWindow"] = map[string]any{"Mode": "FLEXIBLE", "MaximumWindowInMinutes": int(minutes)}
	}
	var answer struct{ ScheduleArn string }
	if err := a.API.REST(ctx, "scheduler", http.MethodPost, "/schedules/"+url.PathEscape(name), body, &answer); err != nil {
		return cloudformation.Resource{}, err
	}
	return cloudformation.Resource{PhysicalID: name, Attributes: map[string]any{"Arn": answer.ScheduleArn}}, nil
}

const eventsRule = "AWS::Events::Rule"

func (a Account) events() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		eventsRule: {Make: a.putRule, Remove: a.deleteRule},
	}
}

// putRule makes the rule through the API, which refuses what it cannot follow.
func (a Account) putRule(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p := r.ResourceProperties
	_, pattern := p["EventPattern"]
	_, schedule := p["ScheduleExpression"]
	if !pattern && !schedule {
		return cloudformation.Resource{}, errors.New("Parameter(s) EventPattern or ScheduleExpression must be specified. (Service: EventBridge, Status Code: 400)") //nolint:staticcheck // AWS's words
	}
	name := named(r, "Name", 64)
	if err := a.unique(r, name); err != nil {
		return cloudformation.Resource{}, err
	}
	body := map[string]any{"Name": name}
	for _, property := range []string{"Description", "EventBusName", "RoleArn", "ScheduleExpression", "State", "Tags"} {
		if value, ok := p[property]; ok {
			body[property] = value
		}
	}
	if pattern {
		encoded, err := json.Marshal(p["EventPattern"])
		if err != nil {
			return cloudformation.Resource{}, err
		}
		body["EventPattern"] = string(encoded)
	}
	var answer struct{ RuleArn string }
	if err := a.API.Target(ctx, "events", "AWSEvents.PutRule", body, &answer); err != nil {
		return cloudformation.Resource{}, err
	}
	if targets, _ := p["Targets"].([]any); len(targets) > 0 {
		var out struct {
			FailedEntries []struct{ TargetId, ErrorMessage string }
		}
		if err := a.API.Target(ctx, "events", "AWSEvents.PutTargets", map[string]any{"Rule": name, "Targets": targets}, &out); err != nil {
			return cloudformation.Resource{}, err
		}
		for _, f := range out.FailedEntries {
			return cloudformation.Resource{}, fmt.Errorf("target %s: %s", f.TargetId, f.ErrorMessage)
		}
	}
	return cloudformation.Resource{PhysicalID: name, Attributes: map[string]any{"Arn": answer.RuleArn}}, nil
}

func (a Account) deleteRule(ctx context.Context, r cloudformation.Request) error {
	var listed struct{ Targets []struct{ Id string } }
	if err := a.API.Target(ctx, "events", "AWSEvents.ListTargetsByRule", map[string]string{"Rule": r.PhysicalResourceID}, &listed); err != nil {
		return err
	}
	if len(listed.Targets) > 0 {
		ids := make([]string, len(listed.Targets))
		for i, t := range listed.Targets {
			ids[i] = t.Id
		}
		if err := a.API.Target(ctx, "events", "AWSEvents.RemoveTargets", map[string]any{"Rule": r.PhysicalResourceID, "Ids": ids}, nil); err != nil {
			return err
		}
	}
	return a.API.Target(ctx, "events", "AWSEvents.DeleteRule", map[string]string{"Name": r.PhysicalResourceID}, nil)
}
