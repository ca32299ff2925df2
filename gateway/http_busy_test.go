package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice/internal/httpedge"
	"sluice/internal/owners"
	"sluice/internal/testkit"
	"sluice/netpoll"
)

// While as many long responses are being encoded as may be, a request for another gets 503 with
// Retry-After. A short response is sent, and the connection is kept.
func TestBusyWithLongResponses(t *testing.T) {
	stopped := create(t, nil)
	o := stopped.httpOptions(&stopped.config, nil)
	o.MaxEncoding = -1
	stopped.http = httpedge.New(o)
	stopped.rest = stopped.http.API()
	stopped.owners = owners.New(stopped.ownersOptions())
	var err error
	if stopped.engine, err = netpoll.New(stopped.engineOptions()); err != nil {
		t.Fatal(err)
	}
	g := start(t, stopped)
	g.serve("access.*", always(`{"result":{"get":true}}`))
	g.serve("get.long", always(`{"result":{"model":{"text":"`+strings.Repeat("x", 64<<10)+`"}}}`))
	g.serve("get.short", always(`{"result":{"model":{}}}`))
	get := func(name string) (*http.Response, int) {
		r, err := http.Get("http://" + g.Addr().String() + "/api/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r, len(body)
	}
	r, _ := get("long")
	if r.StatusCode != 503 || r.Header.Get("Retry-After") != "1" || r.Header.Get("Access-Control-Allow-Origin") != "*" || r.Header.Get("Etag") != "" {
		t.Errorf("status %d, header %v", r.StatusCode, r.Header)
	}
	if r, _ := get("short"); r.StatusCode != 200 {
		t.Errorf("a short response has status %d", r.StatusCode)
	}
	// A loop publishes its counts after the flush that has the response.
	testkit.Until(t, "both requests are counted", func() bool { return g.netMetrics.Requests.Load() == 2 })
	if n := g.netMetrics.Accepted.Load(); n != 1 || g.httpMetrics.Busy.Load() != 1 {
		t.Errorf("%d connections, %d requests rejected", n, g.httpMetrics.Busy.Load())
	}
}
