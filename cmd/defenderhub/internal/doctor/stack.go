package doctor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/deadletters"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// stackState shows the state of the deployed stacks.
func stackState(ctx context.Context, e *exam) ([]line, error) {
	var lines []line
	for _, name := range e.stackNames() {
		d, err := e.deployment(ctx, name)
		if err != nil {
			return lines, err
		}
		if d == nil {
			lines = append(lines, line{Status: note, Finding: "the stack " + name + " is not deployed"})
			continue
		}
		out, err := e.cloudformation.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &name})
		if err != nil {
			return lines, err
		}
		state := string(out.Stacks[0].StackStatus)
		l := line{Status: ok, Finding: fmt.Sprintf("the stack %s has %d resources, %s", name, len(d), state)}
		l.Status, l.Fix = afterState(state, name)
		lines = append(lines, l)
	}
	return lines, nil
}

// afterState returns what to do about a stack in a state. Only a stack that never worked is destroyed:
// an updated one holds the ledger.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
func afterState(state, name string) (status, string) {
	const why = "; aws cloudformation describe-stack-events says why"
	switch {
	case strings.HasSuffix(state, "_IN_PROGRESS"):
		return note, "wait until the deployment has ended"
	case state == "ROLLBACK_COMPLETE" || state == "ROLLBACK_FAILED" || state == "CREATE_FAILED":
		return fix, "cdk destroy, then deploy again" + why
	case state == "UPDATE_ROLLBACK_FAILED":
		return fix, "correct the cause, then aws cloudformation continue-update-rollback --stack-name " + name + why
	case state == "UPDATE_FAILED":
		return fix, "correct the cause, then deploy again, or aws cloudformation rollback-stack --stack-name " + name + why
	case state == "DELETE_FAILED":
		return fix, "correct the cause, then cdk destroy again" + why
	case strings.HasSuffix(state, "_FAILED"):
		return fix, "correct the cause" + why
	}
	return ok, ""
}

// deployedOf returns the physical IDs of a type in the deployed stacks. It ignores errors, which the
// check stack reports.
func (e *exam) deployedOf(ctx context.Context, kind string) []string {
	var all []string
	for _, name := range e.stackNames() {
		d, err := e.deployment(ctx, name)
		if err != nil {
			continue
		}
		for _, p := range d {
			if p.kind == kind {
				all = append(all, p.id)
			}
		}
	}
	slices.Sort(all)
	return all
}

// template returns the template of a deployed stack, which it reads once.
func (e *exam) template(ctx context.Context, stack string) (assembly.Template, error) {
	if t, known := e.templates[stack]; known {
		return t, nil
	}
	t, err := assembly.Deployed(ctx, e.cloudformation, stack)
	if err == nil {
		e.templates[stack] = t
	}
	return t, err
}

// eachDeployed calls do with each deployed stack and its template, until an error. The check stack
// reports a stack that is not deployed or cannot be read.
func (e *exam) eachDeployed(ctx context.Context, do func(stack string, d deployment, t assembly.Template) error) error {
	for _, stack := range e.stackNames() {
		d, err := e.deployment(ctx, stack)
		if err != nil || len(d) == 0 {
			continue
		}
		t, err := e.template(ctx, stack)
		if err != nil {
			return err
		}
		if err := do(stack, d, t); err != nil {
			return err
		}
	}
	return nil
}

// perCall is the maximum number of alarms per call of DescribeAlarms.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html
const perCall = 100

// alarms reports the stack's alarms that are in the state ALARM.
func alarms(ctx context.Context, e *exam) ([]line, error) {
	ids := e.deployedOf(ctx, "AWS::CloudWatch::Alarm")
	if len(ids) == 0 {
		return nil, nil // the check stack says so
	}
	var lines []line
	for some := range slices.Chunk(ids, perCall) {
		out, err := e.cloudwatch.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{AlarmNames: some, MaxRecords: aws.Int32(perCall)})
		if err != nil {
			return lines, err
		}
		for _, a := range out.MetricAlarms {
			if a.StateValue == cwtypes.StateValueAlarm {
				lines = append(lines, line{fix, "", fmt.Sprintf("the alarm %s is in alarm: %s", aws.ToString(a.AlarmName), aws.ToString(a.StateReason)), "docs/operations.md says what each alarm means"})
			}
		}
	}
	if len(lines) == 0 {
		lines = append(lines, line{Status: ok, Finding: fmt.Sprintf("none of %d alarms is in alarm", len(ids))})
	}
	return lines, nil
}

// queues counts waiting messages, and reports dead letters by reason. It reads no queue of others.
func queues(ctx context.Context, e *exam) ([]line, error) {
	var lines []line
	var dead []string
	waiting, all := 0, 0
	err := e.eachDeployed(ctx, func(_ string, d deployment, template assembly.Template) error {
		for _, logical := range slices.Sorted(maps.Keys(template.Queues())) {
			url := d[logical].id // CloudFormation's ID of a queue
			if url == "" {
				continue // not created yet
			}
			all++
			n, err := e.messages(ctx, url)
			if err != nil {
				return fmt.Errorf("queue %s: %w", logical, err)
			}
			switch {
			case n == 0:
			case strings.Contains(logical, "DeadLetter"):
				dead = append(dead, url)
				lines = append(lines, line{fix, "", fmt.Sprintf("%d dead letters in %s", n, logical), "correct the cause, then defenderhub dead-letters retry, or drop"})
			default:
				waiting += n
			}
		}
		return nil
	})
	if err != nil || all == 0 {
		return lines, err
	}
	l := line{Status: ok, Finding: fmt.Sprintf("%d messages wait in %d queues", waiting, all)}
	if waiting > backlog {
		l.Status, l.Fix = note, "if the number does not fall, see OldestMessage in docs/operations.md"
	}
	lines = append(lines, l)
	reasons, err := deadletters.Reasons(ctx, e.Session, e.sqs, dead, deadRead)
	for _, g := range reasons {
		of := ""
		if g.Source != "" {
			of = " of the source " + g.Source
		}
		lines = append(lines, line{note, "", fmt.Sprintf("%d of the dead letters in %s%s: %s", g.Messages, g.Queue, of, g.Reason), "defenderhub dead-letters list --each shows the messages"})
	}
	return lines, err
}

// messages returns how many messages wait in a queue.
func (e *exam) messages(ctx context.Context, url string) (int, error) {
	out, err := e.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameApproximateNumberOfMessages}})
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(out.Attributes[string(sqstypes.QueueAttributeNameApproximateNumberOfMessages)])
}

// deadRead is how many dead letters are read for their reasons.
const deadRead = 1000

// backlog is the number of waiting messages above which doctor gives a note. A batch or two may wait
// at any time.
const backlog = 1000

// importsWithin is the age up to which lastImport looks for an import, importStep its resolution.
const (
	importsWithin = 7 * 24 * time.Hour
	importStep    = time.Hour
)

// lastImport finds the last hour in which a function imported findings.
func lastImport(ctx context.Context, e *exam) ([]line, error) {
	functions := e.deployedOf(ctx, "AWS::Lambda::Function")
	if len(functions) == 0 {
		return nil, nil // the check stack says so
	}
	now := time.Now()
	in := &cloudwatch.GetMetricDataInput{StartTime: aws.Time(now.Add(-importsWithin)), EndTime: aws.Time(now.Add(importStep))} // with the whole current hour
	for i, f := range functions {
		in.MetricDataQueries = append(in.MetricDataQueries, cwtypes.MetricDataQuery{
			Id: aws.String(fmt.Sprintf("m%d", i)),
			MetricStat: &cwtypes.MetricStat{Stat: aws.String("Sum"), Period: aws.Int32(int32(importStep.Seconds())), Metric: &cwtypes.Metric{
				Namespace: aws.String(contract.MetricNamespace), MetricName: aws.String(contract.MetricImported),
				Dimensions: []cwtypes.Dimension{{Name: aws.String(contract.MetricDimensionForwarder), Value: &f}},
			}},
		})
	}
	var last time.Time
	for pages := cloudwatch.NewGetMetricDataPaginator(e.cloudwatch, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.MetricDataResults {
			for i, at := range r.Timestamps {
				if i < len(r.Values) && r.Values[i] > 0 && at.After(last) {
					last = at
				}
			}
		}
	}
	if last.IsZero() {
		return []line{{note, "", "no finding was imported in the last 7 days", "if you expect findings, see \"A finding is missing: where to look\" in docs/operations.md"}}, nil
	}
	return []line{{Status: ok, Finding: "the last findings were imported in the hour from " + last.UTC().Format("2006-01-02T15:04Z")}}, nil
}

// heartbeat shows when the evaluator last judged telemetry.
func heartbeat(ctx context.Context, e *exam) ([]line, error) {
	var lines []line
	err := e.eachDeployed(ctx, func(stack string, d deployment, template assembly.Template) error {
		tables := slices.DeleteFunc(template.EngineTables(), func(logical string) bool { return d[logical].id == "" })
		if len(tables) == 0 {
			lines = append(lines, line{Status: note, Finding: "the stack " + stack + " has no self-managed engine"})
		}
		for _, logical := range tables {
			l, err := e.progress(ctx, d[logical].id)
			if err != nil {
				return err
			}
			lines = append(lines, l)
		}
		return nil
	})
	return lines, err
}

// progress reads the engine's last judgment from its table.
func (e *exam) progress(ctx context.Context, table string) (line, error) {
	key := &dbtypes.AttributeValueMemberS{Value: contract.StateProgressKey}
	out, err := e.dynamodb.GetItem(ctx, &dynamodb.GetItemInput{TableName: &table, Key: map[string]dbtypes.AttributeValue{contract.StatePartitionKey: key, contract.StateSortKey: key}})
	if err != nil {
		return line{}, err
	}
	if len(out.Item) == 0 {
		return line{Status: note, Finding: "no telemetry was judged: devices send nothing that the self-managed engine needs"}, nil
	}
	version, err := number(out.Item, contract.StateProgressVersion)
	if err == nil && version != contract.ProgressVersion {
		err = fmt.Errorf("it has version %d, this command reads version %d", version, contract.ProgressVersion)
	}
	ms, wrong := number(out.Item, contract.StateHeartbeat)
	if err = cmp.Or(err, wrong); err != nil {
		return line{}, fmt.Errorf("the engine's progress in the table %s cannot be read: %w. Install the version of this command that matches the deployment", table, err)
	}
	return line{Status: ok, Finding: "the self-managed engine last judged telemetry at " + time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05Z")}, nil
}

func number(item map[string]dbtypes.AttributeValue, name string) (int64, error) {
	n, ok := item[name].(*dbtypes.AttributeValueMemberN)
	if !ok {
		return 0, fmt.Errorf("it has no number %q", name)
	}
	return strconv.ParseInt(n.Value, 10, 64)
}
