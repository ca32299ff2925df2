package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

func TestShown(t *testing.T) {
	for in, want := range map[URLs]string{
		"":                                "",
		"nats://h:1":                      "nats://h:1",
		"h":                               "h",
		"nats://[::1]:4222":               "nats://[::1]:4222",
		"nats://user:sesame@h:1":          "nats://…@h:1",
		"nats://token@h":                  "nats://…@h",
		"sesame@h,tls://u:p@ss@k:2":       "…@h,tls://…@k:2",
		"nats://a:1,nats://token@b:1":     "nats://a:1,nats://…@b:1",
		"nats://a:1, b:2 ,c":              "nats://a:1,b:2,c",
		"nats://u:se,same@h:1":            "nats://…@h:1",
		"nats://u:se,sa,me@h:1,k:2":       "nats://…@h:1,k:2",
		"nats://u:12,34@h:1":              "nats://…@h:1",
		"nats://u:se/same@h:1":            "nats://…@h:1",
		"nats://u:se@sa,me@h":             "nats://…@h",
		"nats://u:p@a,sesame,x@b":         "nats://…@b",
		"nats://user:sesame":              "nats://…", // the rest is missing
		"nats://h:1/se?token=sesame#same": "nats://h:1",
		"ws://u:sesame@h/path":            "ws://…@h",
		"nats://se same":                  "nats://…",
		"u:ses://ame@h":                   "u:ses://…@h",
		"nats://u:sesame@h\nx":            "nats://…@…",
	} {
		for _, got := range []string{in.String(), fmt.Sprint(in), fmt.Sprintf("%s", in), fmt.Sprintf("%v", in), fmt.Sprintf("%+v", in), fmt.Sprintf("%#v", in), fmt.Sprintf("%x", in)} {
			if got != want {
				t.Errorf("%q is shown as %q, want %q", string(in), got, want)
			}
		}
		if in.Reveal() != string(in) {
			t.Errorf("%q is revealed as %q", string(in), in.Reveal())
		}
	}
}

// Values that contain the addresses may be printed, logged or encoded.
func TestNothingShowsTheSecret(t *testing.T) {
	u := URLs("nats://user:sesame@h:1")
	holder := struct {
		URL  URLs
		List []URLs
		Map  map[string]URLs
		Ptr  *URLs
	}{u, []URLs{u}, map[string]URLs{"a": u}, &u}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n"+verb+"\n", holder, u)
	}
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	text, err := u.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", "url", u, "holder", holder, "group", slog.GroupValue(slog.Any("u", u)))
	}
	if s := out.String(); strings.Contains(s, "sesame") || strings.Contains(s, "user") || strings.Count(s, "h:1") < 10 {
		t.Errorf("shown:\n%s", s)
	}
}

func TestCheck(t *testing.T) {
	for in, want := range map[URLs]string{
		"":                                    "",
		"h":                                   "",
		"nats://h:1, tls://u:p%2Fw@k:2,":      "",
		"nats://u:p@w@h":                      "", // the client takes the last @
		"http://h:1":                          "",
		"ws://h,wss://k":                      "",
		"ws://h,nats://k":                     "cannot be mixed",
		"nats://h:port":                       "write nats://host:port, or nats://user:password@host:port",
		"nats://sesame:sesame":                "write nats://host:port, or nats://user:password@host:port",
		"nats://u:sesame/sesame@h:1":          "/ as %2F",
		"nats://12/sesame@h:1":                "/ as %2F",
		"nats://u:12/sesame@h:1":              "has an @ after its host",
		"nats://u:12?sesame@h:1":              "? as %3F",
		"nats://u:12#sesame@h:1":              "# as %23",
		"nats://u:sesame,sesame@h:1":          "address 1 of 2 is not a NATS URL: write nats://host:port; in a user name",
		"nats://u:sesame%zz@h:1":              "% as %25",
		"nats://u:sesame sesame@h:1":          "percent-encoded",
		"nats://h:1,nats://u:sesame[same@k:2": "address 2 of 2",
	} {
		err := in.Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", string(in), err, want)
		}
		if err != nil && strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: the error has the secret: %v", string(in), err)
		}
	}
	if n := URLs("http://h,nats://k,l,tcp://u:p@m").OtherSchemes(); n != 2 {
		t.Errorf("%d other schemes, want 2", n)
	}
}

func TestErrorIsScrubbed(t *testing.T) {
	u := URLs("nats://user:open%20sesame@h:1,nats://to,ken/of@k")
	cause := &url.Error{Op: "parse", URL: "open sesame", Err: fs.ErrNotExist}
	err := u.Error(fmt.Errorf("lookup sesame: user ken and open%%20sesame at tls://other:word@x failed: %w", cause))
	if s := err.Error(); strings.Contains(s, "sesame") || strings.Contains(s, "user") || strings.Contains(s, "ken") || strings.Contains(s, "word") || !strings.Contains(s, "failed") {
		t.Errorf("%q", s)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("errors.Is does not find the cause")
	}
	if u.Error(nil) != nil {
		t.Error("nil became an error")
	}
	if plain := errors.New("no server"); u.Error(plain) != plain {
		t.Error("an error without a secret is replaced")
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"x --nats nats://me:sesame@host:1 --port 1": "x --nats nats://…@host:1 --port 1",
		"x --nats=me:se/same@host":                  "x --nats=…@host",
		`"a@h","nats://b@h"`:                        `"…@h","nats://…@h"`,
		"nothing":                                   "nothing",
	} {
		if got := Text(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzShown(f *testing.F) {
	f.Add("nats://u:", "p,a/s@s", "@h:1,k")
	f.Fuzz(func(t *testing.T, before, password, after string) {
		_ = URLs(before + password + after).Check()
		_ = URLs(before + password + after).Error(errors.New(password))
		// No password between a user and a host is shown.
		u := URLs("nats://" + "user:Sesame" + password + "Sesame@host:1")
		if s := u.String(); strings.Contains(s, "Sesame") && !strings.Contains(password, "://") {
			t.Errorf("%q is shown as %q", u.Reveal(), s)
		}
		if err := u.Check(); err != nil && strings.Contains(err.Error(), "Sesame") {
			t.Errorf("%q: %v", u.Reveal(), err)
		}
	})
}
