package defenderhub

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
)

// must panics with an error that lists all faults of a construct's props.
func must(scope constructs.Construct, err error) {
	if err != nil {
		panic(fmt.Errorf("defenderhub: invalid props of %s:\n%w", *scope.Node().Path(), err))
	}
}

// faults collects the faults of one props struct.
type faults []error

func (f *faults) add(field string, value any, want string, args ...any) {
	if len(args) > 0 {
		want = fmt.Sprintf(want, args...)
	}
	switch v := reflect.ValueOf(value); {
	case v.CanInt() && v.Int() == tokenInteger, v.Kind() == reflect.String && tokenText.MatchString(v.String()):
		value = deployTime
	}
	*f = append(*f, &defender.FieldError{Field: field, Value: value, Want: want})
}

// under adds the faults of a part below field. With field "" it adds them unchanged.
func (f *faults) under(field string, err error) {
	if field != "" {
		err = defender.Under(field, err)
	}
	if err != nil {
		*f = append(*f, err)
	}
}

func (f *faults) err() error { return errors.Join(*f...) }

// number reports a value outside of least to most; 0 means the default.
func (f *faults) number(field string, value, least, most int, unit string) {
	if value != 0 && (value < least || value > most) {
		f.add(field, value, "%d to %d %s, or 0 for the default", least, most, unit)
	}
}

// threshold reports a number of days that the check does not allow; 0 means its default.
func (f *faults) threshold(field string, days int, c defender.Check) {
	if t := c.Info().Threshold; days != 0 && (days < t.Min || days > t.Max) {
		f.add(field, days, "%d to %d days, or 0 for the default of %d", t.Min, t.Max, t.Default)
	}
}

// duration reports a value outside of least to most, or with a fraction of a second; 0 means the
// default.
func (f *faults) duration(field string, value, least, most time.Duration) {
	if value != 0 && (value < least || value > most || value%time.Second != 0) {
		f.add(field, value.String(), "whole seconds from %s to %s, or 0 for the default", brief(least), brief(most))
	}
}

// minutes is duration for whole minutes.
func (f *faults) minutes(field string, value, least, most time.Duration) {
	if value != 0 && (value < least || value > most || value%time.Minute != 0) {
		f.add(field, value.String(), "whole minutes from %s to %s, or 0 for the default", brief(least), brief(most))
	}
}

// batch reports invalid props of an event source.
func (f *faults) batch(size int, unit string, window time.Duration, concurrency int) {
	f.number("BatchSize", size, 1, 10000, unit)
	f.duration("BatchWindow", window, time.Second, 5*time.Minute)
	f.number("MaxConcurrency", concurrency, 2, 1000, "invocations")
}

// function reports invalid props of a function.
func (f *faults) function(props *FunctionProps, prebuilt string) {
	f.under("Function", value(props).validate())
	f.prebuilt("Prebuilt", prebuilt)
}

func (f *faults) severity(field string, s defender.Severity) {
	if s < defender.SeverityDefault || s > defender.Critical {
		f.add(field, int(s), "SeverityDefault, Informational, Low, Medium, High or Critical")
	}
}

// brief returns d as people write it: "5m" for 5m0s, "80 days" for 1920h0m0s.
func brief(d time.Duration) string {
	if day := 24 * time.Hour; d > day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// network reports props that need a VPC, and subnets without network access.
func (f *faults) network(vpc awsec2.IVpc, subnets *awsec2.SubnetSelection, groups []awsec2.ISecurityGroup) {
	if vpc == nil {
		const instead = "set VPC as well"
		f.connected("VPCSubnets", subnets, instead, defender.Alternative{Field: "VPC"})
		f.connected("SecurityGroups", groups, instead, defender.Alternative{Field: "VPC"})
	}
	f.subnetType("VPCSubnets.SubnetType", value(subnets).SubnetType)
}

// connected reports a prop that must not be set here. instead says what to do. With alternatives, the
// prop may stay set. An empty list is not set.
func (f *faults) connected(field string, value any, instead string, alternatives ...defender.Alternative) {
	v := reflect.ValueOf(value)
	empty := (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
	if !v.IsValid() || v.IsZero() || empty {
		return
	}
	code := ""
	if len(alternatives) > 0 {
		code = CodeRuledOut
	}
	f.coded(code, field, "set", "nothing here: "+instead, alternatives...)
}

// seconds converts d for the CDK.
func seconds(d time.Duration) awscdk.Duration {
	return awscdk.Duration_Seconds(new(math.Round(d.Seconds())))
}

// or returns value, or other if value is zero.
func or[T comparable](value, other T) T {
	var zero T
	if value == zero {
		return other
	}
	return value
}

// orNil returns nil for an empty string, as optional CDK props require.
func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// texts converts strings for the CDK.
func texts[T ~string](list []T) *[]*string {
	out := make([]*string, len(list))
	for i, s := range list {
		out[i] = new(string(s))
	}
	return &out
}

// orKey returns key, or other if key is nil.
func orKey(key, other awskms.IKey) awskms.IKey {
	if key == nil {
		return other
	}
	return key
}

// value returns a copy of *props, the zero value for nil.
func value[T any](props *T) T {
	if props == nil {
		var zero T
		return zero
	}
	return *props
}

// copied returns a pointer to a copy of *props, nil for nil.
func copied[T any](props *T) *T {
	if props == nil {
		return nil
	}
	return new(*props)
}

// checks reports unknown and repeated checks of a list, by index.
func (f *faults) checks(field string, list []defender.Check) {
	eachOnce(f, field, list, "one of the checks of package defender, such as defender.LoggingDisabled", "each check once")
}

// sources reports unknown and repeated sources of a list, by index.
func (f *faults) sources(field string, list []defender.Source) {
	eachOnce(f, field, list, "one of the sources of package defender, such as defender.RejectedReports", "each source once")
}

func eachOnce[T interface {
	comparable
	fmt.Stringer
	Known() bool
}](f *faults, field string, list []T, known, once string) {
	for i, v := range list {
		if !v.Known() {
			f.add(field+index(i), v.String(), known)
		} else if slices.Index(list, v) < i {
			f.add(field+index(i), v.String(), once)
		}
	}
}

// orProps returns props, or other if props is nil.
func orProps[T any](props, other *T) *T {
	if props == nil {
		return other
	}
	return props
}

// orTopic returns topic, or other if topic is nil.
func orTopic(topic, other awssns.ITopic) awssns.ITopic {
	if topic == nil {
		return other
	}
	return topic
}

// index returns the last part of the path of a list's element.
func index(i int) string { return fmt.Sprintf("[%d]", i) }
