package defender_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

func TestSchedulesAsCloudFormationWritesThem(t *testing.T) {
	for _, c := range []struct {
		schedule                     defender.Schedule
		text                         string
		frequency, weekday, monthDay string
	}{
		{defender.Schedule{}, "daily", "DAILY", "", ""},
		{defender.Daily(), "daily", "DAILY", "", ""},
		{defender.Weekly(time.Sunday), "weekly:SUN", "WEEKLY", "SUN", ""},
		{defender.Weekly(time.Saturday), "weekly:SAT", "WEEKLY", "SAT", ""},
		{defender.Biweekly(time.Monday), "biweekly:MON", "BIWEEKLY", "MON", ""},
		{defender.Biweekly(time.Thursday), "biweekly:THU", "BIWEEKLY", "THU", ""},
		{defender.Monthly(1), "monthly:1", "MONTHLY", "", "1"},
		{defender.Monthly(31), "monthly:31", "MONTHLY", "", "31"},
		{defender.MonthlyOnLastDay(), "monthly:LAST", "MONTHLY", "", "LAST"},
	} {
		s := c.schedule
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		if s.Frequency() != c.frequency || s.DayOfWeek() != c.weekday || s.DayOfMonth() != c.monthDay {
			t.Errorf("%s: got %s, %q, %q, want %s, %q, %q", c.text, s.Frequency(), s.DayOfWeek(), s.DayOfMonth(), c.frequency, c.weekday, c.monthDay)
		}
		if got, err := defender.ParseSchedule(c.text); got != s || err != nil {
			t.Errorf("%s: parsed as %v, error %v, want %v", c.text, got, err, s)
		}
	}
}

func TestSchedulesOnDaysThatDoNotExist(t *testing.T) {
	wantFault(t, defender.Monthly(0).Validate(), "", 0)
	wantFault(t, defender.Monthly(32).Validate(), "", 32)
	wantFault(t, defender.Monthly(-1).Validate(), "", -1)
	wantFault(t, defender.Weekly(7).Validate(), "", 7)
	wantFault(t, defender.Biweekly(-1).Validate(), "", -1)
}

func TestParseScheduleRejectsInvalidText(t *testing.T) {
	for _, text := range []string{
		"", "Daily", "daily:", "daily:MON", "weekly", "weekly:", "weekly:mon", "weekly:MONDAY", "weekly:1",
		"biweekly", "biweekly:LAST", "monthly", "monthly:", "monthly:0", "monthly:32", "monthly:01", "monthly:last", "monthly:1:2", " daily",
	} {
		if s, err := defender.ParseSchedule(text); err == nil || s != (defender.Schedule{}) {
			t.Errorf("%q: got %v, want an error", text, s)
		}
	}
}

func ExampleParseSchedule() {
	_, err := defender.ParseSchedule("hourly")
	fmt.Println(err)
	// Output: schedule "hourly", want "daily", "weekly:SUN" to "weekly:SAT", "biweekly:SUN" to "biweekly:SAT", "monthly:1" to "monthly:31" or "monthly:LAST"
}

func ExampleSchedule_Validate() {
	fmt.Println(defender.Under("Audit.Schedule", defender.Monthly(32).Validate()))
	fmt.Println(defender.Under("Audit.Schedule", defender.Weekly(9).Validate()))
	// Output:
	// Audit.Schedule: 32, want day 1 to 31, or MonthlyOnLastDay()
	// Audit.Schedule: 9, want time.Sunday to time.Saturday
}
