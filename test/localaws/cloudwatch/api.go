package cloudwatch

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/edge"
)

// changing are the operations after which alarms, their states or what they are judged by
// would be others than those that are judged.
var changing = []string{"PutMetricData", "PutMetricAlarm", "PutCompositeAlarm", "DeleteAlarms", "SetAlarmState", "EnableAlarmActions", "DisableAlarmActions"}

// API refuses to change alarms, which come from stacks, their states, which come from
// metrics, and metrics, which come from the logs of functions. It leaves all else to next, the emulator.
func API(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := edge.Body(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if name := operation(r, body); slices.Contains(changing, name) {
			edge.Refuse(w, r, name+": alarms come from CloudFormation stacks, their states from metrics, and metrics from queues and from what functions log in the embedded metric format, only")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// operation is what a request asks for in any of CloudWatch's protocols.
func operation(r *http.Request, body []byte) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target[strings.LastIndex(target, ".")+1:]
	}
	if strings.HasPrefix(r.URL.Path, "/service/") {
		return path.Base(r.URL.Path)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("Action") == "" {
		return r.URL.Query().Get("Action")
	}
	return form.Get("Action")
}
