package report

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// sources are the APIs from which a report reads.
type sources struct {
	hub hub.API
	iot interface {
		iot.ListAuditTasksAPIClient
		DescribeAuditTask(context.Context, *iot.DescribeAuditTaskInput, ...func(*iot.Options)) (*iot.DescribeAuditTaskOutput, error)
	}
	cloudwatch cloudwatch.GetMetricDataAPIClient
	stacks     assembly.Stacks
	sqs        interface {
		GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
	}
}

// data is the content of a report before it is summarized.
type data struct {
	Now, Since time.Time
	Days       int
	Region     string
	Stack      string
	Findings   []hub.Finding
	Audit      *auditTask
	Queues     []queueState
	// Counts are the sums of the forwarder's metrics over the period, by name; nil if they could not
	// be read.
	Counts map[string]float64
	// Missing are the parts that could not be read, each with its reason.
	Missing []string
}

type auditTask struct {
	ID     string
	At     time.Time
	Status string
	Checks []auditCheck
}

type auditCheck struct {
	Name, Status                    string
	Total, NonCompliant, Suppressed int64
}

type queueState struct {
	Name        string
	Messages    int
	DeadLetters bool
}

// counted are the forwarder's metrics of the report.
var counted = []string{
	contract.MetricReceived, contract.MetricImported, contract.MetricArchived, contract.MetricUnchanged, contract.MetricFailed, contract.MetricRefused,
}

// read reads all parts of the report. It returns an error for each part that it could not read.
func read(ctx context.Context, from sources, region, stack string, days int, now time.Time) (data, []error) {
	d := data{Now: now, Days: days, Since: now.AddDate(0, 0, -days), Region: region, Stack: stack}
	var left []error
	part := func(name string, err error) {
		if err != nil {
			d.Missing = append(d.Missing, name+": "+cli.Explain(err))
			var todo cli.Todo
			if errors.As(err, &todo) {
				err = errors.New(string(todo)) // the exit status says that the part is missing, not what to do
			}
			left = append(left, fmt.Errorf("%s: %w", name, err))
		}
	}
	var err error
	d.Findings, err = findings(ctx, from.hub, region, d.Since)
	part("findings", err)
	d.Audit, err = lastAudit(ctx, from, now)
	part("audit", err)
	var functions []string
	d.Queues, functions, err = queues(ctx, from, stack)
	part("queues", err)
	if len(functions) > 0 {
		d.Counts, err = counts(ctx, from.cloudwatch, functions, d.Since, now)
		part("metrics", err)
	}
	return d, left
}

// findings returns the findings that were updated in the period, and all active findings.
func findings(ctx context.Context, api hub.API, region string, since time.Time) ([]hub.Finding, error) {
	all := map[string]hub.Finding{}
	for _, q := range []hub.Query{{Since: since}, {State: "ACTIVE"}} {
		found, err := hub.Find(ctx, api, region, q)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			all[f.Key()] = f
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b hub.Finding) int { return strings.Compare(a.Key(), b.Key()) }), nil
}

// lastAudit returns the newest audit that completed, nil if there is none. Device Defender keeps
// tasks for 90 days.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
func lastAudit(ctx context.Context, from sources, now time.Time) (*auditTask, error) {
	var last *auditTask
	start, end := now.AddDate(0, 0, 1-most), now // AWS rejects an older start, and clocks differ
	pages := iot.NewListAuditTasksPaginator(from.iot, &iot.ListAuditTasksInput{StartTime: &start, EndTime: &end, TaskStatus: iottypes.AuditTaskStatusCompleted})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range page.Tasks {
			out, err := from.iot.DescribeAuditTask(ctx, &iot.DescribeAuditTaskInput{TaskId: t.TaskId})
			if err != nil {
				return nil, err
			}
			at := aws.ToTime(out.TaskStartTime)
			if last != nil && !at.After(last.At) {
				continue
			}
			last = &auditTask{ID: aws.ToString(t.TaskId), At: at, Status: string(out.TaskStatus)}
			for _, name := range slices.Sorted(maps.Keys(out.AuditDetails)) {
				c := out.AuditDetails[name]
				last.Checks = append(last.Checks, auditCheck{
					name, string(c.CheckRunStatus), aws.ToInt64(c.TotalResourcesCount), aws.ToInt64(c.NonCompliantResourcesCount), aws.ToInt64(c.SuppressedNonCompliantResourcesCount),
				})
			}
		}
	}
	return last, nil
}

// queues returns our queues of the stack, without those of others, and the names of its functions.
func queues(ctx context.Context, from sources, stack string) (all []queueState, functions []string, err error) {
	template, ids, err := assembly.WithIDs(ctx, from.stacks, stack)
	if err != nil {
		return nil, nil, fmt.Errorf("the stack %s (--stack): %w", cli.Quoted(stack), err)
	}
	ours := template.Queues()
	for _, r := range template.Resources {
		id := ids[r.LogicalID]
		switch {
		case id == "": // not created yet
		case r.Type == "AWS::Lambda::Function":
			functions = append(functions, id)
		case ours[r.LogicalID]:
			out, err := from.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &id, AttributeNames: []sqstypes.QueueAttributeName{
				sqstypes.QueueAttributeNameApproximateNumberOfMessages, sqstypes.QueueAttributeNameApproximateNumberOfMessagesNotVisible, sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed,
			}})
			if err != nil {
				return nil, nil, err
			}
			q := queueState{Name: id[strings.LastIndex(id, "/")+1:], DeadLetters: strings.Contains(r.LogicalID, "DeadLetters")}
			for _, n := range out.Attributes {
				count, err := strconv.Atoi(n)
				if err != nil {
					return nil, nil, errors.New("GetQueueAttributes returned " + cli.Quoted(n))
				}
				q.Messages += count
			}
			all = append(all, q)
		}
	}
	slices.SortFunc(all, func(a, b queueState) int { return strings.Compare(a.Name, b.Name) })
	return all, functions, nil
}

// maxQueries is the maximum number of metrics in one request.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
const maxQueries = 500

// counts sums the forwarder's metrics over all functions. Only the forwarder's functions have them.
func counts(ctx context.Context, api cloudwatch.GetMetricDataAPIClient, functions []string, since, now time.Time) (map[string]float64, error) {
	var queries []cwtypes.MetricDataQuery
	names := map[string]string{}
	for i, f := range functions {
		for j, name := range counted {
			id := fmt.Sprintf("m%d_%d", i, j)
			names[id] = name
			queries = append(queries, cwtypes.MetricDataQuery{Id: &id, MetricStat: &cwtypes.MetricStat{
				Metric: &cwtypes.Metric{
					Namespace: aws.String(contract.MetricNamespace), MetricName: &name,
					Dimensions: []cwtypes.Dimension{{Name: aws.String(contract.MetricDimensionForwarder), Value: &f}},
				},
				Period: aws.Int32(24 * 3600), Stat: aws.String("Sum"),
			}})
		}
	}
	sums := map[string]float64{}
	for some := range slices.Chunk(queries, maxQueries) {
		pages := cloudwatch.NewGetMetricDataPaginator(api, &cloudwatch.GetMetricDataInput{StartTime: &since, EndTime: &now, MetricDataQueries: some})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, r := range page.MetricDataResults {
				for _, v := range r.Values {
					sums[names[aws.ToString(r.Id)]] += v
				}
			}
		}
	}
	return sums, nil
}
