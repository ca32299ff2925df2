package res

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for _, c := range []struct {
		s    string
		want Version
		err  *Error
	}{
		{"", V1_1_1, nil},
		{"1.0.0", 1_000_000, nil},
		{"1.1.1", V1_1_1, nil},
		{"1.2.0", V1_2_0, nil},
		{"1.2.1", V1_2_1, nil},
		{"1.2.3", Current, nil},
		{"1.999.999", 1_999_999, nil},
		{"01.002.0003", Current, nil},
		{"1", 0, ErrInvalidParams},
		{"1.0", 0, ErrInvalidParams},
		{"1.2.3.4", 0, ErrInvalidParams},
		{"1.2.", 0, ErrInvalidParams},
		{".1.2", 0, ErrInvalidParams},
		{"1..2", 0, ErrInvalidParams},
		{"v1.0.0", 0, ErrInvalidParams},
		{"1.0.x", 0, ErrInvalidParams},
		{"1.0.1000", 0, ErrInvalidParams},
		{"1.1000.0", 0, ErrInvalidParams},
		{"1000.0.0", 0, ErrInvalidParams},
		{"1.-1.0", 0, ErrInvalidParams},
		{"1.+1.0", 0, ErrInvalidParams},
		{" 1.0.0", 0, ErrInvalidParams},
		{"1.99999999999999999999.0", 0, ErrInvalidParams},
		{"0.0.0", 0, ErrUnsupportedProtocol},
		{"0.999.999", 0, ErrUnsupportedProtocol},
		{"2.0.0", 0, ErrUnsupportedProtocol},
		{"999.999.999", 0, ErrUnsupportedProtocol},
	} {
		if v, err := ParseVersion(c.s); v != c.want || (err == nil) != (c.err == nil) || err != nil && err.Code != c.err.Code {
			t.Errorf("ParseVersion(%q) = %d, %v", c.s, v, err)
		}
	}
}

func TestVersionString(t *testing.T) {
	for v, want := range map[Version]string{V1_1_1: "1.1.1", V1_2_0 - 1: "1.1.999", V1_2_0: "1.2.0", V1_2_1: "1.2.1", Current: "1.2.3"} {
		if v.String() != want {
			t.Errorf("%d: %v, want %s", v, v, want)
		}
	}
}

func FuzzVersion(f *testing.F) {
	for _, s := range []string{"", "1.2.3", "2.0.0", "1.0", "1.1000.0", "01.2.3"} {
		f.Add(s)
	}
	form := regexp.MustCompile(`\A0*[0-9]{1,3}\.0*[0-9]{1,3}\.0*[0-9]{1,3}\z`)
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersion(s)
		switch {
		case s == "":
			if v != V1_1_1 || err != nil {
				t.Fatal(v, err)
			}
		case !form.MatchString(s):
			if err != errProtocol {
				t.Fatalf("%q: %v, %v", s, v, err)
			}
		default:
			major, _ := strconv.Atoi(s[:strings.Index(s, ".")])
			if (err == nil) != (major == 1) || err != nil && err != ErrUnsupportedProtocol {
				t.Fatalf("%q: %v, %v", s, v, err)
			}
			if err == nil {
				if again, err := ParseVersion(v.String()); again != v || err != nil {
					t.Fatalf("%q: %v becomes %v, %v", s, v, again, err)
				}
			}
		}
	})
}
