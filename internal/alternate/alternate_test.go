package alternate

import (
	"strings"
	"testing"

	"sluice/wsproto"
)

func TestCheck(t *testing.T) {
	long := "wss://example.com/" + strings.Repeat("a", MaxURL)
	for url, wrong := range map[string]string{
		"wss://eu2.example.com/":      "",
		"ws://127.0.0.1:8080/ws?a=b":  "",
		"https://[2001:db8::1]:8443/": "",
		"http://localhost":            "",
		long[:MaxURL]:                 "",
		long[:MaxURL+1]:               "at most 119",
		"":                            "begins with none",
		"eu2.example.com":             "begins with none",
		"ftp://example.com/":          "begins with none",
		"//example.com/":              "begins with none",
		"wss:///path":                 "no host",
		"wss://:8080/":                "no host",
		"wss://u:secret@example.com/": "user name or password",
		"wss://example.com/#top":      "fragment",
		"wss://example.com/#":         "fragment",
		"wss://example.com/a b":       "space",
		"wss://example.com/\r\nX: y":  "space",
		"wss://exämple.com/":          "beyond ASCII",
		"wss://example.com:secret/":   "not a URL",
	} {
		err := Check(url)
		switch {
		case wrong == "" && err != nil:
			t.Errorf("%q: %v", url, err)
		case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)):
			t.Errorf("%q: %v, want an error with %q", url, err, wrong)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%q: the error quotes it: %v", url, err)
		}
	}
}

// TestReasonFits: the longest URL reaches the client whole.
func TestReasonFits(t *testing.T) {
	url := "wss://example.com/" + strings.Repeat("a", MaxURL)
	url = url[:MaxURL]
	frame := wsproto.AppendClose(nil, wsproto.CloseGoingAway, Reason(url))
	if len(frame) != 2+125 || !strings.HasSuffix(string(frame), "try "+url) {
		t.Errorf("a frame of %d bytes: %q", len(frame), frame)
	}
}

// TestRotation: each URL is given to an equal share of the clients.
func TestRotation(t *testing.T) {
	var none *Rotation
	var r Rotation
	if none.Next() != "" || r.Next() != "" {
		t.Error("a URL of none")
	}
	r.Set([]string{"a", "b", "c"})
	got := map[string]int{}
	for range 300 {
		got[r.Next()]++
	}
	if len(got) != 3 || got["a"] != 100 || got["b"] != 100 || got["c"] != 100 {
		t.Error(got)
	}
	r.Set(nil)
	if url := r.Next(); url != "" {
		t.Error(url)
	}
}
