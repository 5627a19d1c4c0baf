package defender

import (
	"fmt"
	"strings"
	"time"
)

// Schedule is when a scheduled audit runs. AWS chooses the time of day. The zero value is [Daily].
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-iot-scheduledaudit.html
type Schedule struct {
	kind     scheduleKind
	weekday  time.Weekday
	monthDay int
}

type scheduleKind int

const (
	daily scheduleKind = iota
	weekly
	biweekly
	monthly
	monthlyOnLastDay
)

// Daily runs the audit each day.
func Daily() Schedule { return Schedule{} }

// Weekly runs the audit each week on this day.
func Weekly(day time.Weekday) Schedule { return Schedule{kind: weekly, weekday: day} }

// Biweekly runs the audit every second week on this day.
func Biweekly(day time.Weekday) Schedule { return Schedule{kind: biweekly, weekday: day} }

// Monthly runs the audit each month on this day, 1 to 31. In a shorter month it runs on the last
// day.
func Monthly(day int) Schedule { return Schedule{kind: monthly, monthDay: day} }

// MonthlyOnLastDay runs the audit on the last day of each month.
func MonthlyOnLastDay() Schedule { return Schedule{kind: monthlyOnLastDay} }

// Frequency returns DAILY, WEEKLY, BIWEEKLY or MONTHLY.
func (s Schedule) Frequency() string {
	return [...]string{"DAILY", "WEEKLY", "BIWEEKLY", "MONTHLY", "MONTHLY"}[s.kind]
}

// DayOfWeek returns SUN to SAT for weekly and biweekly schedules, else "".
func (s Schedule) DayOfWeek() string {
	if s.kind != weekly && s.kind != biweekly || s.weekday < time.Sunday || s.weekday > time.Saturday {
		return ""
	}
	return strings.ToUpper(s.weekday.String()[:3])
}

// DayOfMonth returns "1" to "31" or "LAST" for monthly schedules, else "".
func (s Schedule) DayOfMonth() string {
	switch s.kind {
	case monthly:
		return fmt.Sprint(s.monthDay)
	case monthlyOnLastDay:
		return "LAST"
	}
	return ""
}

// Validate reports a day that does not exist.
func (s Schedule) Validate() error {
	switch {
	case s.kind == monthly && (s.monthDay < 1 || s.monthDay > 31):
		return invalid("", s.monthDay, "day 1 to 31, or MonthlyOnLastDay()")
	case (s.kind == weekly || s.kind == biweekly) && s.DayOfWeek() == "":
		return invalid("", int(s.weekday), "time.Sunday to time.Saturday")
	}
	return nil
}

// ParseSchedule parses the text form in the app's configuration: "daily", "weekly:SUN",
// "biweekly:MON", "monthly:1" to "monthly:31", "monthly:LAST".
func ParseSchedule(text string) (Schedule, error) {
	kind, day, hasDay := strings.Cut(text, ":")
	s := Schedule{}
	switch kind {
	case "daily":
		if !hasDay {
			return s, nil
		}
	case "weekly", "biweekly":
		s.kind = weekly
		if kind == "biweekly" {
			s.kind = biweekly
		}
		for s.weekday = time.Sunday; s.weekday <= time.Saturday; s.weekday++ {
			if s.DayOfWeek() == day {
				return s, nil
			}
		}
	case "monthly":
		if day == "LAST" {
			return MonthlyOnLastDay(), nil
		}
		for n := 1; n <= 31; n++ {
			if fmt.Sprint(n) == day {
				return Monthly(n), nil
			}
		}
	}
	return Schedule{}, fmt.Errorf(`schedule %q, want "daily", "weekly:SUN" to "weekly:SAT", "biweekly:SUN" to "biweekly:SAT", "monthly:1" to "monthly:31" or "monthly:LAST"`, text)
}
