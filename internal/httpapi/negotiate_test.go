package httpapi

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"

	"sluice/internal/res"
)

// RFC 9110 section 12.5.3.
func TestChooseCoding(t *testing.T) {
	for accept, want := range map[string]coding{
		"":                            identity,
		"gzip":                        gzipped,
		"x-gzip":                      gzipped,
		"GZIP":                        gzipped,
		"br":                          brotlied,
		"gzip, br":                    brotlied,
		"gzip, deflate, br, zstd":     brotlied,
		"br;q=0.5, gzip":              gzipped,
		"br;q=0.5,gzip;q=0.500":       brotlied,
		"br; q=0, gzip":               gzipped,
		"br;q=0":                      identity,
		"gzip;q=0, br;q=0.0, *":       identity,
		"*":                           brotlied,
		"*;q=0":                       identity,
		"br;q=0, *":                   gzipped,
		"deflate":                     identity,
		"identity":                    identity,
		"identity;q=0":                identity,
		"identity, gzip;q=0.5":        identity,
		"identity;q=0.5, gzip;q=0.5":  gzipped,
		"gzip;level=1;q=0.3":          gzipped,
		"gzip;Q=0.3":                  gzipped,
		"gzip;q=2":                    identity,
		"gzip;q=":                     identity,
		"gzip;q=0.1234":               identity,
		"gzip;q=1.1":                  identity,
		"gzip;q=-1":                   identity,
		"gzip;q=a":                    identity,
		"gzip;q=0.x":                  identity,
		"gzip;q=1.":                   gzipped,
		" , ,\tgzip\t;\tq=0.001\t, ,": gzipped,
		";q=1":                        identity,
		"gzip br":                     identity,
	} {
		if got := chooseCoding([]string{accept}); got != want {
			t.Errorf("%q: %v, want %v", accept, got, want)
		}
	}
	if got := chooseCoding([]string{"gzip", "br"}); got != brotlied {
		t.Errorf("two fields: %v", got)
	}
	if got := chooseCoding(nil); got != identity {
		t.Errorf("no field: %v", got)
	}
}

// RFC 9110 section 13.1.2.
func TestMatchesTag(t *testing.T) {
	const tag = `W/"abc"`
	for _, tt := range []struct {
		field string
		want  bool
	}{
		{"", false}, {`"abc"`, true}, {`W/"abc"`, true}, {"*", true}, {`"x"`, false}, {`"x","abc"`, true}, {`W/"x" ,	W/"abc"`, true},
		{`"x", "y", "z"`, false}, {`abc`, false}, {`"abc`, false}, {`w/"abc"`, false}, {`W/abc`, false}, {`W/`, false}, {`,`, false},
		{`"a,b", "abc"`, true}, {`"", "abc"`, true}, {`x, "abc"`, false}, {`"ABC"`, false}, {`, ,"abc"`, true},
	} {
		if got := matchesTag([]string{tt.field}, tag); got != tt.want {
			t.Errorf("%q: %t", tt.field, got)
		}
	}
	if !matchesTag([]string{`"x"`, `"abc"`}, tag) || !matchesTag([]string{"junk", `"abc"`}, tag) || matchesTag(nil, tag) {
		t.Error("several fields")
	}
}

func TestWantsStream(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "text/*": false, "application/json": false,
		"text/event-stream": true, "Text/Event-Stream; charset=utf-8": true, "text/event-stream, */*": true,
		"text/event-stream;q=0": false, "text/event-stream;q=0.1": true,
		"application/json, text/event-stream":       true,
		"application/json, text/event-stream;q=0.9": false,
		"application/json;q=0.5, text/event-stream": true,
		"text/event-streams":                        false,
	} {
		if got := WantsStream([]string{accept}); got != want {
			t.Errorf("%q: %t", accept, got)
		}
	}
	if WantsStream(nil) {
		t.Error("without the field")
	}
}

// A client can decompress the body, and gets the uncompressed one then.
func TestCompression(t *testing.T) {
	random := make([]byte, 3000)
	r := rand.New(rand.NewChaCha8([32]byte{}))
	for i := range random {
		random[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[r.IntN(64)]
	}
	long := `["` + strings.Repeat("abc ", 1000) + `"]`
	for _, tt := range []struct {
		name   string
		body   string
		above  int
		accept string
		coding string
		vary   string
	}{
		{"br", long, 0, "gzip, br", "br", "Accept-Encoding"},
		{"gzip", long, 0, "gzip", "gzip", "Accept-Encoding"},
		{"none asked", long, 0, "", "", "Accept-Encoding"},
		{"none known", long, 0, "zstd", "", "Accept-Encoding"},
		{"too short", `["a"]`, 0, "gzip, br", "", ""},
		{"off", long, -1, "gzip, br", "", ""},
		{"at the threshold", long, len(long), "gzip", "gzip", "Accept-Encoding"},
		{"below the threshold", long, len(long) + 1, "gzip", "", ""},
		{"not worth it", `["a"]`, 1, "gzip", "", "Accept-Encoding"},
		{"random", `["` + string(random) + `"]`, 0, "br", "br", "Accept-Encoding"},
	} {
		f := &fakeBackend{graph: resources{"c": tt.body}.graph(t, "c"), result: res.CallResult{Payload: []byte(tt.body)}}
		h := New(Options{CompressAbove: tt.above, Metrics: new(Metrics)}, f)
		for _, method := range []string{"GET", "POST"} {
			w := ask(t, h, method, "/api/c/x", "", "Accept-Encoding", tt.accept)
			expectHeader(t, w, "Content-Encoding", tt.coding, "Vary", tt.vary, "Content-Type", jsonType)
			var from io.Reader = bytes.NewReader(w.Body.Bytes())
			var err error
			switch tt.coding {
			case "br":
				from = brotli.NewReader(from)
			case "gzip":
				from, err = gzip.NewReader(from)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(from)
			if err != nil || string(got) != tt.body {
				t.Errorf("%s, %s: %d bytes, %v", tt.name, method, len(got), err)
			}
			if tt.coding != "" && w.Body.Len() >= len(tt.body) {
				t.Errorf("%s: %d bytes became %d", tt.name, len(tt.body), w.Body.Len())
			}
		}
		want := uint64(0)
		if tt.coding != "" {
			want = 2
		}
		if n := h.o.Metrics.Compressed.Load(); n != want {
			t.Errorf("%s: counted %d", tt.name, n)
		}
	}
}

// Vary has both fields on which responses depend.
func TestVaryAddsUp(t *testing.T) {
	f := &fakeBackend{graph: resources{"c": `["` + strings.Repeat("abc ", 1000) + `"]`}.graph(t, "c")}
	h := New(Options{AllowOrigin: []string{"http://a.example"}}, f)
	expectHeader(t, ask(t, h, "GET", "/api/c", "", "Origin", "http://a.example"), "Vary", "Origin|Accept-Encoding")
}

// The entity tag does not depend on the content coding.
func TestTagIgnoresCoding(t *testing.T) {
	f := &fakeBackend{graph: resources{"c": `["` + strings.Repeat("abc ", 1000) + `"]`}.graph(t, "c")}
	h := New(Options{}, f)
	tag := ask(t, h, "GET", "/api/c", "", "Accept-Encoding", "br").Header().Get("Etag")
	w := ask(t, h, "GET", "/api/c", "", "If-None-Match", tag)
	expect(t, w, 304, "")
	expectHeader(t, w, "Vary", "Accept-Encoding", "Content-Encoding", "")
}

// No header field causes a hang or a panic, and weights are in range.
func FuzzNegotiation(f *testing.F) {
	for _, s := range []string{"gzip;q=0.5, br", `W/"a", "b"`, "*", "a;q=;q,;", `"`, "W/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		items([]string{s}, func(item string, weight int) {
			if item == "" || weight < 0 || weight > 1000 {
				t.Fatalf("%q has the weight %d", item, weight)
			}
		})
		if c := chooseCoding([]string{s}); c >= codings {
			t.Fatal(c)
		}
		WantsStream([]string{s})
		if !matchesTag([]string{`"x` + strings.ReplaceAll(s, `"`, "") + `", "tag"`}, `W/"tag"`) {
			t.Fatalf("the tag after %q is not found", s)
		}
		matchesTag([]string{s}, `"tag"`)
	})
}
