// Package hub reads findings about devices from Security Hub: the findings of Device Defender's own
// integration and of defenderhub's forwarder.
package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

// Action and Resource are the permission that reading findings needs.
const (
	Action   = "securityhub:GetFindings"
	Resource = "arn:aws:securityhub:*:*:hub/default"
)

// API is the call to Security Hub.
type API = securityhub.GetFindingsAPIClient

// ValuesPerFilter is the maximum number of values in one filter of GetFindings.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_GetFindings.html
const ValuesPerFilter = 20

// Query selects findings. All fields that are set must match; one element of a list is enough. The
// zero value selects all findings.
type Query struct {
	// Devices are names of a device: thing names, client IDs and certificate IDs.
	Devices []string
	// IDs are finding IDs.
	IDs []string
	// Checks are API names of audit checks, Behaviors are names of behaviors.
	Checks, Behaviors []string
	// Severity is the minimum severity.
	// Default: all severities.
	Severity defender.Severity
	// State is ACTIVE or ARCHIVED.
	// Default: both.
	State asff.RecordState
	// Since is the earliest time of the last update.
	// Default: all times.
	Since time.Time
}

// Finding is a finding, with the values that tables show.
type Finding struct {
	findingevent.Event
	// Source is the source of defenderhub, or the product of AWS's integration.
	Source string
	// Device is the name of the thing, or the client ID or resource that the finding is about.
	Device string
	// Check, Behavior and Rule are "" unless the finding is of an audit check, of a behavior, or an
	// incident of a correlation rule.
	Check, Behavior, Rule string
}

// Find returns the findings that match a query, each once, the last updated first. region is the
// Region of the calls.
func Find(ctx context.Context, api API, region string, q Query) ([]Finding, error) {
	found := map[string]Finding{}
	for _, filters := range q.filters(region) {
		pages := securityhub.NewGetFindingsPaginator(api, &securityhub.GetFindingsInput{Filters: filters, MaxResults: aws.Int32(100)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, Explain(err)
			}
			for _, f := range page.Findings {
				one, err := read(f)
				if err != nil {
					return nil, err
				}
				if q.matches(one) {
					found[one.Key()] = one
				}
			}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Finding) int {
		return cmp.Or(b.Order.Updated.Compare(a.Order.Updated), cmp.Compare(a.Key(), b.Key()))
	}), nil
}

// Explain returns a [cli.Todo] if an error of GetFindings means that Security Hub is off, else the
// error itself.
func Explain(err error) error {
	var off *types.InvalidAccessException
	if errors.As(err, &off) {
		return cli.Todo("Security Hub CSPM is off in this account and Region: aws securityhub enable-security-hub --no-enable-default-standards")
	}
	return err
}

// filters returns the filters of several calls that together find all findings of the query, because
// GetFindings combines different filters with AND.
func (q Query) filters(region string) []*types.AwsSecurityFindingFilters {
	product := "arn:" + cli.Partition(region) + ":securityhub:" + region + "::product/"
	var all []*types.AwsSecurityFindingFilters
	for _, scope := range []types.AwsSecurityFindingFilters{
		{ProductArn: equals(product+findingevent.AuditProduct, product+findingevent.DetectProduct)},
		{Id: []types.StringFilter{{Comparison: types.StringFilterComparisonPrefix, Value: aws.String("defenderhub/")}}},
	} {
		scope.SeverityLabel = equals(labels(q.Severity)...)
		if q.State != "" {
			scope.RecordState = equals(string(q.State))
		}
		if !q.Since.IsZero() {
			scope.UpdatedAt = []types.DateFilter{{Start: aws.String(q.Since.UTC().Format(time.RFC3339)), End: aws.String("2999-12-31T00:00:00Z")}}
		}
		switch {
		case len(q.IDs) > 0:
			for ids := range slices.Chunk(q.IDs, ValuesPerFilter) {
				one := scope
				one.Id = equals(ids...)
				all = append(all, &one)
			}
		case len(q.Devices) > 0:
			for names := range slices.Chunk(q.Devices, ValuesPerFilter) {
				one := scope
				one.ResourceId = equals(names...)
				all = append(all, &one)
				for _, key := range deviceFields {
					one := scope
					one.ProductFields = pairs(key, names)
					all = append(all, &one)
				}
			}
		case len(q.Checks) > 0:
			all = append(all, scoped(scope, "CheckName", q.Checks)...)
		case len(q.Behaviors) > 0:
			all = append(all, scoped(scope, "BehaviorName", q.Behaviors)...)
		default:
			all = append(all, &scope)
		}
	}
	return all
}

// deviceFields are the product fields that name a device.
var deviceFields = []string{"ThingName", "ClientId", "CorrelationEntity"}

func scoped(scope types.AwsSecurityFindingFilters, key string, values []string) []*types.AwsSecurityFindingFilters {
	var all []*types.AwsSecurityFindingFilters
	for part := range slices.Chunk(values, ValuesPerFilter) {
		one := scope
		one.ProductFields = pairs(key, part)
		all = append(all, &one)
	}
	return all
}

func equals(values ...string) []types.StringFilter {
	var all []types.StringFilter
	for _, v := range values {
		all = append(all, types.StringFilter{Comparison: types.StringFilterComparisonEquals, Value: aws.String(v)})
	}
	return all
}

func pairs(key string, values []string) []types.MapFilter {
	var all []types.MapFilter
	for _, v := range values {
		all = append(all, types.MapFilter{Comparison: types.MapFilterComparisonEquals, Key: aws.String(key), Value: aws.String(v)})
	}
	return all
}

func labels(least defender.Severity) []string {
	if least == defender.SeverityDefault {
		return nil
	}
	var all []string
	for s := least; s <= defender.Critical; s++ {
		all = append(all, s.String())
	}
	return all
}

func (q Query) matches(f Finding) bool {
	return (len(q.IDs) == 0 || slices.Contains(q.IDs, f.ID)) &&
		(len(q.Devices) == 0 || slices.ContainsFunc(q.Devices, f.about)) &&
		(len(q.Checks) == 0 || slices.Contains(q.Checks, f.Check)) &&
		(len(q.Behaviors) == 0 || slices.Contains(q.Behaviors, f.Behavior))
}

// about reports whether the finding is about a device with this name.
func (f Finding) about(name string) bool {
	return slices.ContainsFunc(f.Resources, func(r findingevent.Resource) bool { return r.ID == name }) ||
		slices.ContainsFunc(deviceFields, func(key string) bool { return f.ProductFields[key] == name })
}

// Has reports whether part is a part of the incident f.
func (f Finding) Has(part Finding) bool {
	return slices.ContainsFunc(f.Related, func(r asff.RelatedFinding) bool { return r.ID == part.ID && r.ProductARN == part.ProductARN })
}

// read converts a finding with the parser of the Lambda functions.
func read(f types.AwsSecurityFinding) (Finding, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return Finding{}, err
	}
	e, err := findingevent.ParseFinding(text)
	if err != nil {
		return Finding{}, fmt.Errorf("finding %s: %w", cli.Quoted(aws.ToString(f.Id)), err)
	}
	one := Finding{Event: e, Source: e.Product()}
	if source, ours := e.DeviceSource(); ours && e.Product() == findingevent.DefaultProduct {
		one.Source = source.String()
	}
	fields := e.ProductFields
	one.Check, one.Behavior, one.Rule = fields["CheckName"], fields["BehaviorName"], fields["CorrelationRule"]
	one.Device = cmp.Or(fields["ThingName"], fields["CorrelationEntity"], fields["ClientId"])
	if one.Device == "" && len(e.Resources) > 0 {
		one.Device = e.Resources[0].ID
	}
	return one, nil
}

// ParseSeverity parses the value of a flag. "" means SeverityDefault.
func ParseSeverity(text string) (defender.Severity, error) {
	if text == "" {
		return defender.SeverityDefault, nil
	}
	return defender.ParseSeverity(strings.ToUpper(text))
}
