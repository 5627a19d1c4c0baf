package handler_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/defenderhub/defenderhub/defender"
)

// tamper returns a device event on the topic of the thing pump-7.
func (r *rig) tamper(client, certificate, state string, at time.Duration) events.SQSMessage {
	return r.message(ruleBody(defender.DeviceEvents, "defenderhub/events/pump-7", `{"type":"tamper","state":"`+state+`"}`,
		map[string]any{"clientId": client, "principal": certificate, "time": start.Add(at).UnixMilli()}))
}

// One connection of a thing clears an event that another one reported. An unrelated client does
// not.
func TestFurtherConnectionsClearTheThingsEvent(t *testing.T) {
	const own, other = "device-event/us-east-1/pump-7/tamper", "device-event/us-east-1/pump-7%232/tamper"
	for _, row := range []struct {
		name                     string
		first, client, by, state string
		want                     map[string]string
		mismatch                 bool
	}{
		{"the second clears", "pump-7", "pump-7#2", "cert-pump-7", "cleared", map[string]string{own: "ARCHIVED"}, false},
		{"the first clears", "pump-7#2", "pump-7", "cert-pump-7", "cleared", map[string]string{own: "ARCHIVED"}, false},
		{"another thing's certificate clears no event", "pump-7", "pump-7#2", "cert-pump-8", "cleared", map[string]string{own: "ACTIVE"}, false},
		{"without a certificate no event is cleared", "pump-7", "pump-7#2", "", "cleared", map[string]string{own: "ACTIVE"}, false},
		{"an event with another thing's certificate is separate", "pump-7", "pump-7#2", "cert-pump-8", "active", map[string]string{own: "ACTIVE", other: "ACTIVE"}, true},
	} {
		r := newRig(t)
		r.must(r.tamper(row.first, "cert-pump-7", "active", 0))
		r.now = start.Add(time.Hour)
		r.must(r.tamper(row.client, row.by, row.state, time.Hour))
		if got := r.states(); !maps.Equal(got, row.want) {
			t.Errorf("%s: Security Hub shows %v, want %v", row.name, got, row.want)
		}
		mismatch := false
		for _, f := range r.hub.Findings() {
			mismatch = mismatch || f.ProductFields["TopicMismatch"] != ""
			if strings.HasSuffix(f.ID, own) && f.Resources[0].ID != "pump-7" {
				t.Errorf("%s: resource %s, want pump-7", row.name, f.Resources[0].ID)
			}
		}
		if mismatch != row.mismatch {
			t.Errorf("%s: marked as a mismatch: %v, want %v", row.name, mismatch, row.mismatch)
		}
	}
}

// answered returns the AWS SDK's error for a response of AWS IoT.
func answered(status int, code string) error {
	return &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: &smithy.GenericAPIError{Code: code},
	}}
}

// The lookup of a certificate is retried after a temporary failure. Without permission for the
// lookup, a certificate proves nothing.
func TestEventWaitsForItsCertificate(t *testing.T) {
	for _, fault := range []error{answered(http.StatusTooManyRequests, "ThrottlingException"), errors.New("dial tcp: timeout")} {
		r := newRig(t)
		r.things.fails = fault
		if again := r.handle(context.Background(), r.tamper("pump-7#2", "cert-pump-7", "active", 0)); len(again) != 1 || len(r.hub.Findings()) != 0 {
			t.Errorf("%v: messages %v are retried, findings %v", fault, again, r.states())
		}
		r.must(r.tamper("pump-7", "cert-pump-7", "active", 0)) // needs no lookup
	}
	r := newRig(t)
	r.things.fails = answered(http.StatusForbidden, "AccessDeniedException")
	r.must(r.tamper("pump-7#2", "cert-pump-7", "active", 0))
	r.want(map[string]string{"device-event/us-east-1/pump-7%232/tamper": "ACTIVE"})
	if !strings.Contains(r.logs.String(), "certificate of a further connection was not looked up") {
		t.Errorf("the log does not say that the lookup was denied: %s", &r.logs)
	}
}

func TestOtherMessagesDoNotWaitForACertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.things.hangs = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		again := r.handle(ctx, r.tamper("pump-7#2", "cert-pump-7", "active", 0), r.tamper("pump-7#3", "cert-pump-7", "active", 0), r.device("pump-8", start, tamper))
		if !slices.Equal(again, []string{"m1", "m2"}) || ctx.Err() != nil {
			t.Errorf("messages %v are retried, time over: %v; want the first two, within the time", again, ctx.Err())
		}
		r.want(map[string]string{"device-event/us-east-1/pump-8/tamper": "ACTIVE"})
	})
}
