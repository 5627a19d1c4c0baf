package certificate_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
)

const (
	account = "123456789012"
	region  = "eu-central-1"
	minute  = time.Minute
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// id returns a certificate's ID.
func id(digit string) string { return strings.Repeat(digit, 64) }

// awsIoT has the things of each certificate, and returns one per page.
type awsIoT struct {
	things map[string][]string
	fails  error
	calls  int
}

func (f *awsIoT) ListPrincipalThings(_ context.Context, in *iot.ListPrincipalThingsInput, _ ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error) {
	f.calls++
	if f.fails != nil {
		return nil, f.fails
	}
	certificate, ok := strings.CutPrefix(*in.Principal, "arn:aws:iot:"+region+":"+account+":cert/")
	if !ok {
		return nil, &types.InvalidRequestException{Message: in.Principal}
	}
	all, exists := f.things[certificate]
	if !exists {
		return nil, &types.ResourceNotFoundException{}
	}
	from, _ := strconv.Atoi(awssdk.ToString(in.NextToken))
	out := &iot.ListPrincipalThingsOutput{Things: all[from:min(from+1, len(all))]}
	if from+1 < len(all) {
		out.NextToken = awssdk.String(strconv.Itoa(from + 1))
	}
	return out, nil
}

func newAWSIoT() *awsIoT {
	return &awsIoT{things: map[string][]string{id("1"): {"pump-1"}, id("2"): {"pump-1", "pump-2", "pump-3"}, id("3"): {}}}
}

// certificates returns a cache that asks f, with the default pattern of client IDs.
func (f *awsIoT) certificates(t *testing.T) *certificate.Certificates {
	t.Helper()
	clients, err := contract.ParseClientPattern("")
	if err != nil {
		t.Fatal(err)
	}
	c, err := certificate.New(f, certificate.Config{MaxAge: 10 * minute, Size: 100, Clients: clients})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// invocation returns the context of an invocation of a function in the account.
func invocation(t *testing.T) context.Context {
	return lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{InvokedFunctionArn: "arn:aws:lambda:" + region + ":" + account + ":function:evaluator"})
}

// The account and Region of certificates are those of the function's ARN.
func TestCertificatesAreThoseOfTheFunctionsAccount(t *testing.T) {
	c := newAWSIoT().certificates(t)
	if _, err := c.Join(t.Context(), "pump-1#2", id("1"), noon); !errors.Is(err, certificate.ErrUnresolved) {
		t.Errorf("without a function's ARN: error %v, want ErrUnresolved", err)
	}
	if thing, err := c.Join(t.Context(), "pump-1", id("1"), noon); thing != "" || err != nil {
		t.Errorf("client ID pump-1 joins %q, error %v; want none", thing, err)
	}
	if thing, err := c.Join(invocation(t), "pump-1#2", id("1"), noon); err != nil || thing != "pump-1" {
		t.Errorf("client ID pump-1#2 joins %q, error %v; want pump-1", thing, err)
	}
}

func TestCacheOfSizeZeroIsAnError(t *testing.T) {
	if _, err := certificate.New(nil, certificate.Config{}); err == nil {
		t.Error("no error for size 0")
	}
}

// A client ID joins the thing that it names only with the thing's own certificate.
func TestOnlyItsOwnCertificateJoinsAThing(t *testing.T) {
	for name, row := range map[string]struct {
		client, principal, want string
		calls                   int
	}{
		"attached to the thing alone":      {"pump-1#2", id("1"), "pump-1", 1},
		"attached to another thing":        {"pump-2#2", id("1"), "", 1},
		"attached to the thing and others": {"pump-2#2", id("2"), "", 2},
		"attached to none":                 {"pump-1#2", id("3"), "", 1},
		"a certificate that AWS IoT lacks": {"pump-1#2", id("4"), "", 1},
		"no certificate":                   {"pump-1#2", "AROAEXAMPLE:pump-1", "", 0},
		"no principal":                     {"pump-1#2", "", "", 0},
		"the thing itself":                 {"pump-1", id("1"), "", 0},
		"a client ID of another form":      {"pump-1-2", id("1"), "", 0},
		"an invalid name of a thing":       {"pump 1#2", id("1"), "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			aws := newAWSIoT()
			c := aws.certificates(t)
			for _, at := range []time.Time{noon, noon.Add(9 * minute)} { // the second answer is cached
				if got, err := c.Join(invocation(t), row.client, row.principal, at); err != nil || got != row.want {
					t.Fatalf("joins %q, %v; want %q", got, err, row.want)
				}
			}
			if aws.calls != row.calls {
				t.Errorf("%d calls, want %d", aws.calls, row.calls)
			}
		})
	}
	aws := newAWSIoT()
	c, err := certificate.New(aws, certificate.Config{MaxAge: minute, Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Join(invocation(t), "pump-1#2", id("1"), noon); got != "" || err != nil || aws.calls != 0 {
		t.Errorf("without a pattern: joins %q, error %v, %d calls; want none", got, err, aws.calls)
	}
}

// An answer expires after MaxAge, and an error is not cached.
func TestCachedAnswersExpire(t *testing.T) {
	aws := newAWSIoT()
	c := aws.certificates(t)
	aws.fails = &types.ThrottlingException{}
	if got, err := c.Join(invocation(t), "pump-1#2", id("1"), noon); !errors.Is(err, certificate.ErrUnresolved) || got != "" {
		t.Errorf("throttled: joins %q, error %v; want ErrUnresolved", got, err)
	}
	aws.fails = nil
	for _, row := range []struct {
		things []string
		at     time.Duration
		want   string
	}{{[]string{"pump-1"}, 0, "pump-1"}, {[]string{"pump-1", "pump-2"}, 5 * minute, "pump-1"}, {[]string{"pump-1", "pump-2"}, 11 * minute, ""}} {
		aws.things[id("1")] = row.things
		if got, err := c.Join(invocation(t), "pump-1#2", id("1"), noon.Add(row.at)); err != nil || got != row.want {
			t.Errorf("after %v: joins %q, error %v; want %q", row.at, got, err, row.want)
		}
	}
}
