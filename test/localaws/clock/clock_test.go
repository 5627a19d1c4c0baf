package clock

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestStepCallsEachHookOnce(t *testing.T) {
	var c Clock
	var spans []time.Duration
	c.OnStep(func(from, to time.Time) { spans = append(spans, to.Sub(from)) })
	before := c.Now()
	c.Step(48 * time.Hour)
	c.Step(-time.Hour)
	if d := c.Now().Sub(before); d < 48*time.Hour {
		t.Errorf("clock moved by %s, want at least 48h", d)
	}
	if len(spans) != 1 || spans[0] != 48*time.Hour {
		t.Errorf("hooks got the steps %v, want one of 48h", spans)
	}
}

func TestEarlierTimesIgnoreLaterSteps(t *testing.T) {
	var c Clock
	first := time.Now()
	c.Step(time.Hour)
	second := time.Now()
	c.Step(time.Hour)
	if got := c.At(first); !got.Equal(first) {
		t.Errorf("before the steps it was %s in the cloud, want %s", got, first)
	}
	if got := c.At(second).Sub(second); got != time.Hour {
		t.Errorf("after the first step the cloud was ahead by %s, want 1h", got)
	}
	if third := time.Now(); c.At(third).Sub(third) != 2*time.Hour {
		t.Errorf("after both steps the cloud is ahead by %s, want 2h", c.At(third).Sub(third))
	}
}

func TestDueTimesOfASchedule(t *testing.T) {
	day := func(d, h, m int) time.Time { return time.Date(2026, 3, d, h, m, 0, 0, time.UTC) }
	created := day(1, 6, 30)
	for name, tc := range map[string]struct {
		expression string
		from, to   time.Time
		want       []time.Time
	}{
		"rate counts from creation":   {"rate(1 day)", created, day(3, 7, 0), []time.Time{day(2, 6, 30), day(3, 6, 30)}},
		"rate, nothing due":           {"rate(1 day)", day(2, 7, 0), day(3, 6, 0), nil},
		"rate, exactly at the end":    {"rate(5 minutes)", day(2, 6, 30), day(2, 6, 35), []time.Time{day(2, 6, 35)}},
		"cron":                        {"cron(15 10 * * ? *)", day(1, 11, 0), day(3, 10, 15), []time.Time{day(2, 10, 15), day(3, 10, 15)}},
		"cron, days of the week":      {"cron(0 12 ? * MON-TUE *)", created, day(8, 0, 0), []time.Time{day(2, 12, 0), day(3, 12, 0)}}, // Monday and Tuesday
		"cron, Saturday":              {"cron(0 12 ? * SAT *)", created, day(8, 0, 0), []time.Time{day(7, 12, 0)}},
		"cron, every 20 minutes":      {"cron(0/20 7 1 * ? *)", created, day(2, 0, 0), []time.Time{day(1, 7, 0), day(1, 7, 20), day(1, 7, 40)}},
		"rate, before it was created": {"rate(1 hour)", day(1, 0, 0), day(1, 7, 30), []time.Time{day(1, 7, 30)}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseSchedule(tc.expression)
			if err != nil {
				t.Fatal(err)
			}
			got := s.Due(created, tc.from, tc.to)
			if len(got) != len(tc.want) {
				t.Fatalf("due %v, want %v", got, tc.want)
			}
			for i := range got {
				if !got[i].Equal(tc.want[i]) {
					t.Errorf("due %v, want %v", got, tc.want)
				}
			}
		})
	}
}

func TestUnsupportedSchedulesAreRefused(t *testing.T) {
	for _, expression := range []string{"", "at(2026-03-02T00:00:00)", "cron(0 12 ? * 2-3 *)", "rate(0 days)", "rate(2 weeks)", "cron(0 0 L * ? *)", "cron(0 0 * *)", "cron(0 0 1 1 ? 2030)", "cron(0 0 * * * *)", "cron(0 0 ? * ? *)", "cron(0 0 ? * 8 *)", "cron(0 0 ? * 0 *)", "cron(0 0 ? * 1/2 *)", "cron(0 0 ? * 2#1 *)", "at(tomorrow)", "every day"} {
		if _, err := ParseSchedule(expression); err == nil {
			t.Errorf("%q: accepted, want an error", expression)
		}
	}
}

func TestScheduleFollowsItsTimeZone(t *testing.T) {
	berlin := time.FixedZone("Berlin", 3600)
	from := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for expression, want := range map[string]time.Time{
		"cron(15 10 * * ? *)": time.Date(2026, 3, 1, 9, 15, 0, 0, time.UTC),
		"rate(5 hours)":       time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC),
	} {
		s, err := ParseSchedule(expression)
		if err != nil {
			t.Fatal(err)
		}
		if due := s.In(berlin).Due(from, from, from.Add(24*time.Hour)); len(due) == 0 || !due[0].Equal(want) {
			t.Errorf("%s is due at %v, want %s", expression, due, want)
		}
	}
}

func TestClockIsSteppedOverHTTP(t *testing.T) {
	var c Clock
	before := c.Now()
	for request, want := range map[string]int{"POST /?step=90m": 200, "POST /?step=-1h": 400, "POST /": 400, "GET /": 200} {
		method, target, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest(method, target, nil))
		if w.Code != want {
			t.Errorf("%s: %d %s, want %d", request, w.Code, w.Body, want)
		}
		var answer struct{ Now time.Time }
		if want == 200 && (json.Unmarshal(w.Body.Bytes(), &answer) != nil || answer.Now.Before(before)) {
			t.Errorf("%s: answer %s, want a time after %s", request, w.Body, before)
		}
	}
	if passed := c.Now().Sub(before); passed < 90*time.Minute || passed > 150*time.Minute {
		t.Errorf("%s passed, want 90 minutes", passed)
	}
}
