package cloudwatch

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAlarmsAreChangedByStacksAndMetricsOnly(t *testing.T) {
	passed := 0
	api := API{Next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed++ })}
	ask := func(path, target, body string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		if target != "" {
			r.Header.Set("X-Amz-Target", target)
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for _, tc := range [][3]string{
		{"/", "", "Action=SetAlarmState&AlarmName=a"}, {"/?Action=SetAlarmState", "", ""}, {"/", "GraniteServiceVersion20100801.SetAlarmState", "{}"},
		{"/service/GraniteServiceVersion20100801/operation/SetAlarmState", "", "\xa1"},
	} {
		if code, body := ask(tc[0], tc[1], tc[2]); code != http.StatusNotImplemented || !strings.Contains(body, "SetAlarmState") {
			t.Errorf("%v: got %d %s, want 501 and the operation", tc, code, body)
		}
	}
	if code, body := ask("/", "", "Action=PutMetricData"); code != http.StatusNotImplemented || !strings.Contains(body, "PutMetricData") {
		t.Errorf("PutMetricData: got %d %s, want 501 and the operation", code, body)
	}
	for _, body := range []string{"Action=DescribeAlarms", "Action=ListMetrics", ""} {
		ask("/", "", body)
	}
	if passed != 3 {
		t.Errorf("%d requests were passed on, want 3", passed)
	}
}
