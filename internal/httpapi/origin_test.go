package httpapi

import (
	"strings"
	"testing"
)

// RES.md section 4, CORS.
func TestOrigins(t *testing.T) {
	for _, tt := range []struct {
		setting, origin string
		want            bool
	}{
		{"*", "http://any.example", true},
		{"http://a.example", "", true},
		{"http://a.example", "null", true},
		{"http://a.example", "http://a.example", true},
		{"http://A.example", "HTTP://a.EXAMPLE", true},
		{"http://a.example", "https://a.example", false},
		{"http://a.example", "http://a.example:81", false},
		{"http://a.example", "http://a.example.evil", false},
		{"http://a.example", "http://b.example", false},
		{"http://a.example;https://b.example:444", "https://B.example:444", true},
		{"http://a.example;https://b.example:444", "https://b.example", false},
		// Only A to Z are folded: the Kelvin sign is not a k.
		{"http://k.example", "http://\u212a.example", false},
	} {
		if got := NewOrigins(strings.Split(tt.setting, ";")).Allow([]byte(tt.origin)); got != tt.want {
			t.Errorf("%s allows %q: %v, want %v", tt.setting, tt.origin, got, tt.want)
		}
	}
}

func TestOriginCheckDoesNotAllocate(t *testing.T) {
	o := NewOrigins([]string{"http://a.example", "http://b.example"})
	origin := []byte("HTTP://B.example")
	if n := testing.AllocsPerRun(100, func() { o.Allow(origin) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
