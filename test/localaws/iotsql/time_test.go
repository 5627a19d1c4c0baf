package iotsql

import (
	"fmt"
	"testing"
)

func TestParseTimeFollowsJoda(t *testing.T) {
	// 2009-02-13T23:31:30.123Z, a Friday.
	for _, tt := range []struct{ pattern, zone, want string }{
		{"yyyy-MM-dd'T'HH:mm:ss.SSSZZ", "UTC", "2009-02-13T23:31:30.123+00:00"},
		{"yy M d H m s S", "UTC", "09 2 13 23 31 30 1"}, {"YYYY C G", "UTC", "2009 20 AD"},
		{"EEE EEEE e", "UTC", "Fri Friday 5"}, {"MMM MMMM", "UTC", "Feb February"}, {"x-'W'ww", "UTC", "2009-W07"}, {"DDD", "UTC", "044"},
		{"hh a, K a, kk", "UTC", "11 PM, 11 PM, 23"}, {"h K k", "GMT+0029", "12 0 24"}, {"HH:mm z", "America/New_York", "18:31 EST"},
		{"Z ZZ ZZZ", "Asia/Kolkata", "+0530 +05:30 Asia/Kolkata"}, {"HH:mm", "+05:30", "05:01"}, {"HH o''clock 'and' 'it''s'", "UTC", "23 o'clock and it's"},
		{"SSSSSS", "UTC", "123000"}, {"HH–mm", "UTC", "23–31"}, {"HH", "Nowhere/City", ""}, {"HH", "Local", ""}, {"HH", "", ""}, {"HH", "+25:00", ""},
	} {
		expr := fmt.Sprintf(`parse_time("%s", 1234567890123, "%s")`, tt.pattern, tt.zone)
		if tt.pattern == "HH o''clock 'and' 'it''s'" {
			expr = `parse_time("HH 'o''clock' 'and' 'it''s'", 1234567890123)`
		}
		want := tt.want
		if want != "" {
			want = `"` + want + `"`
		}
		if got := evalExpr(t, expr, `{}`); got != want {
			t.Errorf("%s = %s, want %s", expr, got, want)
		}
	}
	for expr, want := range map[string]string{
		`parse_time("y", -100000000000000)`: `"-1199"`, `parse_time("G Y", -100000000000000)`: `"BC 1200"`,
		`parse_time(p, 0)`: ``, `parse_time("y", "x")`: ``, `parse_time("y", 0, missing)`: ``, `parse_time("y", 1E30)`: ``, `parse_time(null, 1)`: ``,
	} {
		if got := evalExpr(t, expr, `{"p":"qq"}`); got != want {
			t.Errorf("%s = %s, want %s", expr, got, want)
		}
	}
}

func TestTimeToEpochFollowsTheJDK(t *testing.T) {
	for _, tt := range []struct{ text, pattern, want string }{
		{"2009-02-13T23:31:30.123Z", "yyyy-MM-dd'T'HH:mm:ss.SSSX", "1234567890123"},
		{"20090213233130", "yyyyMMddHHmmss", "1234567890000"}, {"13/2/09", "d/M/yy", "1234483200000"},
		{"Fri, 13 Feb 2009 11:31:30 PM +0000", "EEE, dd MMM yyyy hh:mm:ss a Z", "1234567890000"},
		{"Thu, 13 Feb 2009", "EEE, dd MMM yyyy", ""}, {"2009-044", "uuuu-DDD", "1234483200000"}, {"2009-366", "uuuu-DDD", ""},
		{"2009-02-31", "yyyy-MM-dd", "1235779200000"}, {"2009-02-32", "yyyy-MM-dd", ""}, {"2009-13-01", "yyyy-MM-dd", ""},
		{"2009-02-13 24", "yyyy-MM-dd HH", ""}, {"2009-02-13 24", "yyyy-MM-dd kk", "1234483200000"}, {"2009-02-13 12 AM", "yyyy-MM-dd hh a", "1234483200000"},
		{"2009-02-13 0 PM", "yyyy-MM-dd K a", "1234526400000"}, {"2009-02-13 11", "yyyy-MM-dd hh", ""}, {"2009-02-13 13 PM", "yyyy-MM-dd hh a", ""},
		{"2009-02-13 23:60", "yyyy-MM-dd HH:mm", ""}, {"2009-02-13x", "yyyy-MM-dd", ""}, {"2009-02", "yyyy-MM", ""}, {"23:31", "HH:mm", ""},
		{"0001-01-01 BC", "yyyy-MM-dd G", "-62167219200000"}, {"2009-02-13 PST", "yyyy-MM-dd z", "1234512000000"}, {"2009-02-13 XYZ", "yyyy-MM-dd z", ""},
		{"2009-02-13 +05:30", "yyyy-MM-dd xxx", "1234463400000"}, {"2009-02-13 UTC", "yyyy-MM-dd X", ""}, {"2009-2-3 4", "y-M-d H", "1233633600000"},
		{"2009213", "yyyyMdd", "1234483200000"}, {"2009-02-13 5", "yyyy-MM-dd SSS", ""}, {"", "yyyy", ""},
	} {
		expr := fmt.Sprintf(`time_to_epoch("%s", "%s")`, tt.text, tt.pattern)
		if got := evalExpr(t, expr, `{}`); got != tt.want {
			t.Errorf("%s = %s, want %s", expr, orUndefined(got), orUndefined(tt.want))
		}
	}
	if got := evalExpr(t, `time_to_epoch("2009", p)`, `{"p":"QQ"}`); got != "" {
		t.Errorf("an unknown pattern of the message gave %s", got)
	}
}
