package restest

import "testing"

// TestMatch: the corners of patterns that the runner's own test does not reach.
func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, actual string
		ok              bool
	}{
		{`{"a":"x...","b":1}`, `{"b":1,"a":"x..."}`, true},
		{`{"a":"\"...\"",...}`, `{"b":1,"a":"\"...\""}`, true},
		{`{...}`, `{"a":1}`, true},
		{`{...}`, `[1]`, false},
		{`[1,2]`, `[2,1]`, false},
		{`[1]`, `[1,1]`, false},
		{`null`, `false`, false},
		{`{"a":null}`, `{}`, false},
		{`"$any"`, `{"a":[1]}`, true},
		{`1E400`, `1E400`, true},
		{`9007199254740993`, `9007199254740992`, false},
		{`text`, `text`, true},
		{`text`, `"text"`, false},
		{`{}`, `{} {}`, false},
	} {
		if err := Match(tt.pattern, tt.actual); (err == nil) != tt.ok {
			t.Errorf("Match(%s, %s): %v", tt.pattern, tt.actual, err)
		}
	}
}
