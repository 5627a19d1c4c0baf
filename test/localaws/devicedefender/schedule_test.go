package devicedefender_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

func daily(name string) *iot.CreateScheduledAuditInput {
	return &iot.CreateScheduledAuditInput{ScheduledAuditName: &name, Frequency: types.AuditFrequencyDaily, TargetCheckNames: []string{logging}}
}

func (w *world) schedule(in *iot.CreateScheduledAuditInput) {
	w.t.Helper()
	must[*iot.CreateScheduledAuditOutput](w.t)(w.CreateScheduledAudit(w.t.Context(), in))
}

// runs returns the times at which scheduled audits ran, from their notifications.
func (w *world) runs() []string {
	w.t.Helper()
	var out []string
	for _, m := range w.messages {
		var n struct {
			TaskType      string
			TaskStartTime int64
		}
		_, text, _ := strings.Cut(m, " ")
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			w.t.Fatal(err)
		}
		if n.TaskType == "SCHEDULED_AUDIT_TASK" {
			out = append(out, time.UnixMilli(n.TaskStartTime).UTC().Format("01-02 15:04"))
		}
	}
	return out
}

// The world starts at noon of Sunday, 2026-11-01.
func TestScheduledAuditsRunWhenDue(t *testing.T) {
	for _, tt := range []struct {
		name                             string
		frequency, dayOfWeek, dayOfMonth string
		days                             int
		want                             string
	}{
		{"daily", "DAILY", "", "", 3, "11-02 11-03 11-04"},
		{"weekly", "WEEKLY", "TUE", "", 20, "11-03 11-10 11-17"},
		{"weekly on the day of its creation", "WEEKLY", "SUN", "", 8, "11-08"},
		{"biweekly", "BIWEEKLY", "SAT", "", 42, "11-07 11-21 12-05"},
		{"monthly", "MONTHLY", "", "15", 75, "11-15 12-15 01-15"},
		{"monthly, a day that not each month has", "MONTHLY", "", "31", 122, "11-30 12-31 01-31 02-28"},
		{"monthly on the last day", "MONTHLY", "", "LAST", 122, "11-30 12-31 01-31 02-28"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, devicedefender.Config{})
			w.enable()
			in := &iot.CreateScheduledAuditInput{
				ScheduledAuditName: aws.String("s"), Frequency: types.AuditFrequency(tt.frequency), DayOfWeek: types.DayOfWeek(tt.dayOfWeek),
				TargetCheckNames: []string{logging},
			}
			if tt.dayOfMonth != "" {
				in.DayOfMonth = &tt.dayOfMonth
			}
			w.schedule(in)
			var want []string
			for _, d := range strings.Fields(tt.want) {
				want = append(want, d+" 12:00")
			}
			w.step(time.Duration(tt.days) * 24 * time.Hour)
			if got := w.runs(); !slices.Equal(got, want) {
				t.Errorf("in one step: %v, want %v", got, want)
			}

			small := newWorld(t, devicedefender.Config{})
			small.enable()
			small.schedule(in)
			for range tt.days * 4 {
				small.step(6 * time.Hour)
			}
			if got := small.runs(); !slices.Equal(got, want) {
				t.Errorf("in small steps: %v, want %v", got, want)
			}
		})
	}
}

func TestSchedulesRunInTheOrderOfTheirTimes(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.schedule(daily("b"))
	w.step(time.Hour)
	w.schedule(daily("a"))
	w.step(48 * time.Hour)
	if want := []string{"11-02 12:00", "11-02 13:00", "11-03 12:00", "11-03 13:00"}; !slices.Equal(w.runs(), want) {
		t.Errorf("runs %v, want %v", w.runs(), want)
	}
	must[*iot.DeleteScheduledAuditOutput](t)(w.DeleteScheduledAudit(t.Context(), &iot.DeleteScheduledAuditInput{ScheduledAuditName: aws.String("a")}))
	w.step(24 * time.Hour)
	if len(w.runs()) != 5 {
		t.Errorf("runs after one schedule was deleted: %v, want five", w.runs())
	}
}

func TestChangedScheduleCountsFromItsChange(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.schedule(daily("s"))
	w.step(36 * time.Hour) // Tuesday
	must[*iot.UpdateScheduledAuditOutput](t)(w.UpdateScheduledAudit(t.Context(), &iot.UpdateScheduledAuditInput{
		ScheduledAuditName: aws.String("s"), Frequency: types.AuditFrequencyWeekly, DayOfWeek: types.DayOfWeekThu,
	}))
	w.step(7 * 24 * time.Hour)
	if want := []string{"11-02 12:00", "11-05 00:00"}; !slices.Equal(w.runs(), want) {
		t.Errorf("runs %v, want %v", w.runs(), want)
	}
}

func TestScheduledAuditLooksBackToItsLastRun(t *testing.T) {
	cut := func(at time.Duration) mqtt.Connection {
		return mqtt.Connection{ClientID: at.String(), Principal: "anonymous", ConnectedAt: start, DisconnectedAt: start.Add(at)}
	}
	past := history{cut(time.Hour), cut(25 * time.Hour), cut(49 * time.Hour)}
	w := newWorld(t, devicedefender.Config{Connections: since{past}})
	w.enable()
	in := daily("s")
	in.TargetCheckNames = []string{defender.ConflictingClientIDs.String()}
	w.schedule(in)
	w.step(72 * time.Hour)
	var found []string
	for _, f := range must[*iot.ListAuditFindingsOutput](t)(w.ListAuditFindings(t.Context(), &iot.ListAuditFindingsInput{StartTime: &start, EndTime: aws.Time(w.clock())})).Findings {
		found = append(found, f.FindingTime.Format("01-02 ")+*f.NonCompliantResource.ResourceIdentifier.ClientId)
	}
	if want := []string{"11-02 1h0m0s", "11-03 25h0m0s", "11-04 49h0m0s"}; !slices.Equal(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
}

// since is a history that returns only the conflicts after a time.
type since struct{ history }

func (h since) Conflicts(since time.Time) []mqtt.Connection {
	return slices.DeleteFunc(slices.Clone(h.history), func(c mqtt.Connection) bool { return c.DisconnectedAt.Before(since) })
}

func TestWrongScheduledAuditsAreRefused(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable(defender.LoggingDisabled)
	for _, tt := range []struct {
		name   string
		change func(*iot.CreateScheduledAuditInput)
		want   string
	}{
		{"name with a colon", func(in *iot.CreateScheduledAuditInput) { in.ScheduledAuditName = aws.String("a:b") }, "a:b"},
		{"name too long", func(in *iot.CreateScheduledAuditInput) { in.ScheduledAuditName = aws.String(strings.Repeat("a", 129)) }, "1 to 128"},
		{"frequency", func(in *iot.CreateScheduledAuditInput) { in.Frequency = "HOURLY" }, "HOURLY"},
		{"weekly without a day", func(in *iot.CreateScheduledAuditInput) { in.Frequency = "WEEKLY" }, "dayOfWeek"},
		{"weekly on no day", func(in *iot.CreateScheduledAuditInput) { in.Frequency, in.DayOfWeek = "WEEKLY", "FUN" }, "FUN"},
		{"monthly without a day", func(in *iot.CreateScheduledAuditInput) { in.Frequency = "MONTHLY" }, "dayOfMonth"},
		{"monthly on no day", func(in *iot.CreateScheduledAuditInput) { in.Frequency, in.DayOfMonth = "MONTHLY", aws.String("32") }, "32"},
		{"daily on a day", func(in *iot.CreateScheduledAuditInput) { in.DayOfWeek = "SUN" }, "DAILY"},
		{"no check", func(in *iot.CreateScheduledAuditInput) { in.TargetCheckNames = []string{} }, "targetCheckNames"},
		{"unknown check", func(in *iot.CreateScheduledAuditInput) { in.TargetCheckNames = []string{"X"} }, "invalid Audit Check Name"},
		{"disabled check", func(in *iot.CreateScheduledAuditInput) { in.TargetCheckNames = []string{shared} }, "not enabled"},
		{"a check twice", func(in *iot.CreateScheduledAuditInput) { in.TargetCheckNames = []string{logging, logging} }, "twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := daily("s")
			tt.change(in)
			_, err := w.CreateScheduledAudit(t.Context(), in)
			wantCode(t, err, "InvalidRequestException", tt.want)
		})
	}
}

func TestScheduledAuditsAreReadBack(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	in := daily("weekly")
	in.Frequency, in.DayOfWeek = types.AuditFrequencyWeekly, types.DayOfWeekMon
	made := must[*iot.CreateScheduledAuditOutput](t)(w.CreateScheduledAudit(t.Context(), in))
	if want := "arn:aws:iot:us-east-1:123456789012:scheduledaudit/weekly"; *made.ScheduledAuditArn != want {
		t.Errorf("ARN %s, want %s", *made.ScheduledAuditArn, want)
	}
	_, err := w.CreateScheduledAudit(t.Context(), in)
	wantCode(t, err, "ResourceAlreadyExistsException", "weekly")
	for _, name := range []string{"a", "b", "c", "d"} {
		w.schedule(daily(name))
	}
	_, err = w.CreateScheduledAudit(t.Context(), daily("e"))
	wantCode(t, err, "LimitExceededException", "5")

	got := must[*iot.DescribeScheduledAuditOutput](t)(w.DescribeScheduledAudit(t.Context(), &iot.DescribeScheduledAuditInput{ScheduledAuditName: aws.String("weekly")}))
	if got.Frequency != types.AuditFrequencyWeekly || got.DayOfWeek != types.DayOfWeekMon || got.DayOfMonth != nil || !slices.Equal(got.TargetCheckNames, []string{logging}) {
		t.Errorf("described %+v, want a weekly audit on Monday", got)
	}
	var names []string
	pages := iot.NewListScheduledAuditsPaginator(w, &iot.ListScheduledAuditsInput{MaxResults: aws.Int32(2)})
	for pages.HasMorePages() {
		for _, a := range must[*iot.ListScheduledAuditsOutput](t)(pages.NextPage(t.Context())).ScheduledAudits {
			names = append(names, *a.ScheduledAuditName)
		}
	}
	if !slices.Equal(names, []string{"a", "b", "c", "d", "weekly"}) {
		t.Errorf("listed %v, want a, b, c, d and weekly", names)
	}
	_, err = w.DescribeScheduledAudit(t.Context(), &iot.DescribeScheduledAuditInput{ScheduledAuditName: aws.String("none")})
	wantCode(t, err, "ResourceNotFoundException", "none")
	_, err = w.DeleteScheduledAudit(t.Context(), &iot.DeleteScheduledAuditInput{ScheduledAuditName: aws.String("none")})
	wantCode(t, err, "ResourceNotFoundException", "none")
}

func TestTagsAreRefused(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	in := daily("s")
	in.Tags = []types.Tag{{Key: aws.String("b"), Value: aws.String("2")}}
	_, err := w.CreateScheduledAudit(t.Context(), in)
	wantCode(t, err, "NotImplementedException", `"tags"`)
}
