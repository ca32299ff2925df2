package httpedge

import (
	"net/http"
	"testing"
	"time"

	"sluice/internal/httpapi"
	"sluice/internal/metrics"
	"sluice/internal/owner"
	"sluice/wsproto"
)

// TestEncodingBound: pending work is bounded, and more is accepted when some is done.
func TestEncodingBound(t *testing.T) {
	var e encoding
	e.init(maxEncoding, new(metrics.Counter))
	hold, done := make(chan struct{}), make(chan struct{}, 2*maxEncoding)
	work := func() { <-hold; done <- struct{}{} }
	for i := range maxEncoding {
		if !e.run(work) {
			t.Fatalf("rejected with %d pending", i)
		}
	}
	if e.run(work) || e.rejected.Load() != 1 {
		t.Error("not rejected at the bound, or not counted")
	}
	close(hold)
	e.all.Wait()
	if len(done) != maxEncoding || !e.run(work) {
		t.Error("work was lost, or still counts as pending")
	}
	e.all.Wait()
}

func TestDateLine(t *testing.T) {
	var d dateLine
	clock := owner.NewManualClock()
	first := string(d.at(0, clock))
	at, err := http.ParseTime(first)
	if since := time.Since(at); err != nil || since < 0 || since > time.Minute {
		t.Errorf("%q: %v", first, err)
	}
	if d.until <= 0 || d.until > time.Second {
		t.Errorf("valid until %v", d.until)
	}
	d.text[0] = 'x'
	if got := d.at(d.until-1, clock); got[0] != 'x' {
		t.Error("formatted again too early")
	}
	if got := d.at(d.until, clock); got[0] == 'x' {
		t.Error("not formatted again")
	}
	// The clock is set: the date follows a second later.
	for _, jump := range []time.Duration{5 * time.Hour, -10 * time.Hour} {
		before := string(d.at(d.until-1, clock))
		clock.Jump(jump)
		if got := string(d.at(d.until-1, clock)); got != before {
			t.Errorf("%s becomes %s within its second", before, got)
		}
		if got, want := string(d.at(d.until, clock)), clock.Wall().UTC().Format(http.TimeFormat); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestForResource(t *testing.T) {
	for _, tc := range []struct {
		api, path string
		want      bool
	}{
		{"/api", "/api/a", true}, {"/api", "/api/", true}, {"/api", "/api", false}, {"/api", "/apis/a", false},
		{"/api", "/healthz", false}, {"/api", "/", false}, {"/api", "/%61pi/a", false}, {"/api", "/api%2Fa", false},
		{"/my api", "/my%20api/a", true}, {"api", "/api/a", false},
		{"/", "/a", true}, {"/", "/%61", true}, {"/", "/healthz", false}, {"/", "/readyz", false}, {"/", "/livez", false}, {"/", "/l%69vez", false}, {"/", "/ready%7a", false}, {"/", "/%68ealthz", false}, {"/", "/", true},
	} {
		g := &Edge{api: httpapi.New(httpapi.Options{APIPath: tc.api}, nil)}
		if got := g.forResource([]byte(tc.path)); got != tc.want {
			t.Errorf("%s with the API at %s: %v", tc.path, tc.api, got)
		}
		g.o.HideHealth = true
		if got := g.forResource([]byte(tc.path)); got != (tc.want || tc.api == "/") {
			t.Errorf("%s with the API at %s, health checks hidden: %v", tc.path, tc.api, got)
		}
	}
}

func TestReadQuery(t *testing.T) {
	var head wsproto.Head
	text := []byte("GET /api/a%2Fb?c=d?e HTTP/1.1\r\nHost: h\r\norigin: one\r\nOrigin: two\r\nAccept: */*\r\naccept: text/event-stream;q=0\r\n" +
		"ACCEPT-encoding: gzip\r\nIf-None-Match: \"a\"\r\nif-none-match: \"b\"\r\nAccess-Control-Request-Headers: X\r\n\r\n")
	if _, err := wsproto.ParseHead(text, 0, &head); err != nil {
		t.Fatal(err)
	}
	var q httpapi.Query
	readQuery(&q, &head, nil)
	clear(text) // the query must not refer to it
	if q.Method != "GET" || q.Path != "/api/a%2Fb" || q.RawQuery != "c=d?e" || q.Origin != "one" || len(q.Accept) != 1 ||
		q.AcceptEncoding[0] != "gzip" || len(q.IfNoneMatch) != 2 || q.IfNoneMatch[1] != `"b"` || q.RequestHeaders[0] != "X" {
		t.Errorf("got %+v", q)
	}
}
