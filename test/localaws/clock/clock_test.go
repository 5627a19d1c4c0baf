package clock

import (
	"testing"
	"time"
)

func TestStepRunsWhatIsRegisteredOnce(t *testing.T) {
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
		t.Errorf("steps seen: %v, want one of 48h", spans)
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
		"at":                          {"at(2026-03-02T00:00:00)", day(1, 0, 0), day(2, 0, 0), []time.Time{day(2, 0, 0)}},
		"at, over":                    {"at(2026-03-02T00:00:00)", day(2, 0, 0), day(9, 0, 0), nil},
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

func TestSchedulesThatCannotBeFollowedAreRefused(t *testing.T) {
	for _, expression := range []string{"", "rate(0 days)", "rate(2 weeks)", "cron(0 0 L * ? *)", "cron(0 0 * *)", "cron(0 0 1 1 ? 2030)", "at(tomorrow)", "every day"} {
		if _, err := ParseSchedule(expression); err == nil {
			t.Errorf("%q: accepted, want an error", expression)
		}
	}
}
