package restest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/gateway"
)

// TestHTTPTheSameBothWays: event loops respond to plain requests, net/http to the others. Status,
// header and body of the responses are the same.
func TestHTTPTheSameBothWays(t *testing.T) {
	ns := startNATS(t)
	serveAnything(t, ns.ClientURL())
	for _, tc := range []struct {
		name   string
		change func(c *gateway.Config)
		prefix string
	}{
		{"defaults", func(*gateway.Config) {}, "/api/"},
		{"all settings", func(c *gateway.Config) {
			c.APIPath, c.APIEncoding = "/rest/v1", "jsonflat"
			c.PUTMethod, c.DELETEMethod, c.PATCHMethod = "put", "gone", "patch"
			c.AllowOrigin = "http://one.example;https://two.example"
			c.HTTPCompression = 300
			c.HeaderAuth = "auth.header.check"
			c.MaxBody = 1500
		}, "/rest/v1/"},
		{"everywhere", func(c *gateway.Config) { c.APIPath = "/" }, "/"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, err := startGateway(Start{NATS: ns.ClientURL(), Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) {
				c.RequestTimeout = time.Minute
				tc.change(c)
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(g.Stop)
			addr := strings.TrimSuffix(strings.TrimPrefix(g.URL(), "ws://"), "/")
			loop, other := dialRaw(t, addr), dialRaw(t, addr)
			statuses := map[int]int{}
			for _, r := range sameRequests {
				target := strings.Replace(r.target, "/api/", tc.prefix, 1)
				// A target in the absolute form is for net/http, and so is all that follows on its
				// connection.
				got := loop.exchange(t, r.method, target, r.fields, r.body)
				want := other.exchange(t, r.method, "http://"+addr+target, r.fields, r.body)
				if got.text != want.text {
					t.Errorf("%s %s %q:\n on the loop %s\n on net/http %s", r.method, target, r.fields, got.text, want.text)
				}
				statuses[got.status]++
				if got.tag == "" {
					continue
				}
				fields := append(slices.Clone(r.fields), "If-None-Match: W/\"x\", "+got.tag)
				got = loop.exchange(t, r.method, target, fields, r.body)
				want = other.exchange(t, r.method, "http://"+addr+target, fields, r.body)
				if got.text != want.text || got.status != http.StatusNotModified {
					t.Errorf("%s %s %q:\n on the loop %s\n on net/http %s", r.method, target, fields, got.text, want.text)
				}
			}
			for _, status := range []int{200, 204, 400, 401, 403, 404, 405, 500} {
				if statuses[status] == 0 && (status != 403 || tc.name == "all settings") {
					t.Errorf("no answer had status %d", status)
				}
			}
			families, err := g.(running).g.Registry().Gatherer().Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() == "sluice_http_handovers_total" && f.GetMetric()[0].GetCounter().GetValue() != 1 {
					t.Errorf("%v connections went to net/http, want 1", f.GetMetric())
				}
			}
			// The last response of a connection announces its end.
			for _, x := range []*raw{loop, other} {
				a := x.exchange(t, "GET", tc.prefix+"m", []string{"Connection: close"}, "")
				if !strings.Contains(a.text, "Connection: close") {
					t.Errorf("got %s", a.text)
				}
				if _, err := x.r.ReadByte(); err != io.EOF {
					t.Errorf("the connection does not end: %v", err)
				}
			}
		})
	}
}

// TestStreamHeadsTheSameBothWays: a stream's head, and the response to a GET that gets no stream,
// are the same on an event loop and at net/http, but for what frames the body and ends the
// connection.
func TestStreamHeadsTheSameBothWays(t *testing.T) {
	ns := startNATS(t)
	serveAnything(t, ns.ClientURL())
	g, err := startGateway(Start{NATS: ns.ClientURL(), Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) {
		c.RequestTimeout = time.Minute
		c.AllowOrigin = "http://one.example;https://two.example"
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	addr := strings.TrimSuffix(strings.TrimPrefix(g.URL(), "ws://"), "/")
	for _, tt := range []struct {
		target string
		fields []string
		status int
	}{
		{"/api/m", nil, 200},
		{"/api/m", origin, 200},
		{"/api/metacache", nil, 200},
		{"/api/means-nothing", nil, 200},
		{"/api/missing", nil, 404},
		{"/api/denied", origin, 401},
		{"/api/redirect", nil, 302},
		{"/api/notmodified", nil, 304},
		{"/api/teapot", nil, 418},
		{"/api/odd", nil, 499},
		{"/api/m", foreign, 403},
		{"/api/a.b", nil, 404},
	} {
		var texts [2]string
		for i, target := range []string{tt.target, "http://" + addr + tt.target} {
			a := dialRaw(t, addr).exchange(t, "GET", target, append([]string{"Accept: text/event-stream"}, tt.fields...), "")
			if a.status != tt.status {
				t.Errorf("%s %q: status %d, want %d", target, tt.fields, a.status, tt.status)
			}
			if !strings.Contains(a.text, `"Date: now"`) && !strings.Contains(a.text, `"Date: never"`) {
				t.Errorf("%s: no Date in %s", target, a.text)
			}
			for _, line := range []string{` "Transfer-Encoding: chunked"`, ` "Connection: close"`} {
				a.text = strings.Replace(a.text, line, "", 1)
			}
			texts[i] = a.text
		}
		if texts[0] != texts[1] {
			t.Errorf("%s %q:\n on the loop %s\n on net/http %s", tt.target, tt.fields, texts[0], texts[1])
		}
	}
}

var (
	gzipped = []string{"Accept-Encoding: gzip"}
	origin  = []string{"Origin: https://two.example"}
	foreign = []string{"Origin: https://three.example"}
)

var sameRequests = []struct {
	method, target string
	fields         []string
	body           string
}{
	{"GET", "/api/m", nil, ""},
	{"HEAD", "/api/m", nil, ""},
	{"GET", "/api/m?q=1&r=%41/?", nil, ""},
	{"GET", "/api/m", origin, ""},
	{"GET", "/api/m", foreign, ""},
	{"GET", "/api/m", []string{"Origin: null"}, ""},
	{"GET", "/api/m", []string{"If-None-Match: *"}, ""},
	{"GET", "/api/%6D", nil, ""},
	{"GET", "/api/parent", nil, ""},
	{"GET", "/api/long", nil, ""},
	{"GET", "/api/long", gzipped, ""},
	{"GET", "/api/long", []string{"Accept-Encoding: br;q=0.5, gzip;q=0.1"}, ""},
	{"HEAD", "/api/long", gzipped, ""},
	{"GET", "/api/longer", nil, ""},
	{"HEAD", "/api/longer", nil, ""},
	{"GET", "/api/longer", []string{"accept-encoding: BR"}, ""},
	{"GET", "/api/wide", nil, ""},
	{"GET", "/api/wide", gzipped, ""},
	{"GET", "/api/missing", nil, ""},
	{"HEAD", "/api/missing", nil, ""},
	{"GET", "/api/denied", nil, ""},
	{"GET", "/api/nonsense", nil, ""},
	{"GET", "/api/", nil, ""},
	{"GET", "/api/a.b", nil, ""},
	{"GET", "/api/a//b", nil, ""},
	{"GET", "/api/m/", nil, ""},
	{"GET", "/api/metafields", nil, ""},
	{"GET", "/api/metacache", nil, ""},
	{"GET", "/api/metatag", nil, ""},
	{"GET", "/api/redirect", nil, ""},
	{"HEAD", "/api/redirect", nil, ""},
	{"GET", "/api/teapot", nil, ""},
	{"GET", "/api/odd", nil, ""},
	{"GET", "/api/notmodified", nil, ""},
	{"GET", "/api/means-nothing", nil, ""},
	{"OPTIONS", "/api/m", nil, ""},
	{"OPTIONS", "/api/m", []string{"Origin: https://two.example", "Access-Control-Request-Headers: A, B", "access-control-request-headers: C"}, ""},
	{"OPTIONS", "/api/m", foreign, ""},
	{"POST", "/api/m/echo", nil, `{"a": 1}`},
	{"POST", "/api/m/echo", nil, ""},
	{"POST", "/api/m/echo", []string{"Cookie: a=b", "X-A: 1", "x-a: 2"}, ` [1, "2"] `},
	{"POST", "/api/m/echo", gzipped, `"` + strings.Repeat("x", 2000) + `"`},
	{"POST", "/api/m/echo", nil, `"` + strings.Repeat("x", 60000) + `"`},
	{"POST", "/api/m/echo", nil, "{"},
	{"POST", "/api/m/nothing", nil, ""},
	{"POST", "/api/m/resource", nil, ""},
	{"POST", "/api/m/missing", nil, ""},
	{"POST", "/api/m/metaerror", nil, ""},
	{"POST", "/api/denied/echo", nil, "1"},
	{"POST", "/api/m", foreign, ""},
	{"POST", "/api/m", nil, ""},
	{"PUT", "/api/m", nil, "1"},
	{"PATCH", "/api/m", nil, "1"},
	{"DELETE", "/api/m", nil, ""},
	{"PROPFIND", "/api/m", nil, ""},
	{"GET", "/api/m", nil, "an unexpected body"},
}

// serveAnything is a service that answers by the names of resources and methods.
func serveAnything(t testing.TB, url string) {
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	model := func(v string) string { return `{"result":{"model":` + v + `}}` }
	wide := make([]string, 200)
	for i := range wide {
		wide[i] = fmt.Sprintf(`{"rid":"item.%d"}`, i)
	}
	gets := map[string]string{
		"parent":   model(`{"child":{"rid":"m"},"soft":{"rid":"m","soft":true},"bad":{"rid":"missing"},"data":{"data":{"a":1}}}`),
		"long":     model(`{"text":"` + strings.Repeat("long ", 500) + `"}`),
		"longer":   model(`{"text":"` + strings.Repeat("longer ", 30000) + `"}`),
		"wide":     `{"result":{"collection":[` + strings.Join(wide, ",") + `]}}`,
		"missing":  `{"error":{"code":"system.notFound","message":"Not found"}}`,
		"nonsense": `{"result":{"model":17}}`,
	}
	meta := func(meta string) string { return `{"result":{"get":true,"call":"*"},"meta":` + meta + `}` }
	accesses := map[string]string{
		"denied":        `{"result":{"get":false}}`,
		"metafields":    meta(`{"header":{"X-A":["1","2"],"Set-Cookie":["a=b","c=d"],"X-Evil":["x\r\nInjected: y\n "],"Bad Name":["x"],"Date":["never"],"Content-Length":["1"],"Vary":["Cookie"]}}`),
		"metacache":     meta(`{"header":{"Cache-Control":["max-age=5"]}}`),
		"metatag":       meta(`{"header":{"Etag":["\"mine\""]}}`),
		"redirect":      meta(`{"status":302,"header":{"Location":["/elsewhere"]}}`),
		"teapot":        meta(`{"status":418}`),
		"odd":           meta(`{"status":499,"header":{"Set-Cookie":["a=b"]}}`),
		"notmodified":   meta(`{"status":304,"header":{"X-A":["1"]}}`),
		"means-nothing": meta(`{"status":207}`),
	}
	calls := map[string]string{
		"nothing":   `{"result":null}`,
		"resource":  `{"resource":{"rid":"m.made?x=1"}}`,
		"missing":   `{"error":{"code":"system.methodNotFound","message":"Method not found"}}`,
		"gone":      `{"error":{"code":"system.methodNotFound","message":"Method not found"}}`,
		"metaerror": `{"error":{"code":"a.b","message":"C"},"meta":{"status":409,"header":{"X-A":["1"]}}}`,
	}
	answer := func(m *nats.Msg) {
		kind, name, _ := strings.Cut(m.Subject, ".")
		reply := ""
		switch kind {
		case "access":
			if reply = accesses[name]; reply == "" {
				reply = meta(`{}`)
			}
		case "get":
			if reply = gets[name]; reply == "" {
				reply = model(`{"name":"` + name + `"}`)
			}
		case "call":
			method := name[strings.LastIndexByte(name, '.')+1:]
			if reply = calls[method]; reply == "" {
				_, params, _ := bytes.Cut(m.Data, []byte(`"params":`))
				params, _, _ = bytes.Cut(params, []byte(`,"cid":`))
				reply = `{"result":{"is":` + fmt.Sprintf("%q", params) + `}}`
			}
		case "auth": // the reply returns what the request says of the client
			_, seen, _ := bytes.Cut(m.Data, []byte(`"header":`))
			seen, _, _ = bytes.Cut(seen, []byte(`"remoteAddr"`))
			reply = `{"result":null,"meta":{"header":{"X-Seen":[` + fmt.Sprintf("%q", seen) + `]}}}`
		}
		_ = m.Respond([]byte(reply))
	}
	for _, kind := range []string{"access", "get", "call", "auth"} {
		if _, err := nc.Subscribe(kind+".>", answer); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// raw is a connection that requests are sent on one after the other, as they are.
type raw struct {
	net.Conn
	r *bufio.Reader
}

func dialRaw(t testing.TB, addr string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return &raw{c, bufio.NewReader(c)}
}

// answered is an answer in a form to be compared.
type answered struct {
	status int
	tag    string
	text   string
	whole  int // bytes
}

// exchange sends a request and reads the response, with its fields sorted and its time replaced.
func (x *raw) exchange(t testing.TB, method, target string, fields []string, body string) (a answered) {
	t.Helper()
	request := method + " " + target + " HTTP/1.1\r\nHost: " + x.RemoteAddr().String() + "\r\n"
	for _, f := range fields {
		request += f + "\r\n"
	}
	if body != "" {
		request += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if _, err := io.WriteString(x, request+"\r\n"+body); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for {
		line, err := x.r.ReadString('\n')
		if err != nil {
			t.Fatalf("%s %s: %v after %q", method, target, err, lines)
		}
		a.whole += len(line)
		if line = strings.TrimSuffix(line, "\r\n"); line == "" {
			break
		}
		lines = append(lines, line)
	}
	if _, err := fmt.Sscanf(lines[0], "HTTP/1.1 %d", &a.status); err != nil {
		t.Fatal(lines[0], err)
	}
	slices.Sort(lines[1:])
	length := 0
	for i, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "Content-Length":
			if _, err := fmt.Sscan(value, &length); err != nil {
				t.Fatal(line)
			}
		case "Etag":
			a.tag = value
		case "Date":
			if _, err := http.ParseTime(value); err == nil {
				lines[i] = "Date: now"
			}
		}
	}
	if method == http.MethodHead {
		length = 0
	}
	got := make([]byte, length)
	if _, err := io.ReadFull(x.r, got); err != nil {
		t.Fatal(err)
	}
	a.whole += length
	a.text = fmt.Sprintf("%q\n%.500q %d %x", lines, got, len(got), sha256.Sum256(got))
	return a
}

// TestHTTPClientGoes: nothing is left of a request whose client has gone before the answer.
func TestHTTPClientGoes(t *testing.T) {
	ns := startNATS(t)
	service, err := NewService(ns.ClientURL(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	g, err := startGateway(Start{NATS: ns.ClientURL(), Log: slog.New(slog.DiscardHandler)}, func(c *gateway.Config) { c.RequestTimeout = time.Hour })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	sessions := func() (n float64) {
		families, err := g.(running).g.Registry().Gatherer().Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "sluice_sessions" {
				n = f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return n
	}
	until := func(what string, want float64) {
		for end := time.Now().Add(20 * time.Second); sessions() != want; {
			if time.Now().After(end) {
				t.Fatalf("timed out waiting: %s", what)
			}
		}
	}
	c := dialRaw(t, strings.TrimSuffix(strings.TrimPrefix(g.URL(), "ws://"), "/"))
	if _, err := io.WriteString(c, "GET /api/a HTTP/1.1\r\nHost: h\r\n\r\nGET /api/b HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	until("the request is there", 1)
	// With a reset: the end of its input alone may be the client's last word before it reads the
	// response.
	if err := c.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	until("it is gone", 0)
}

// BenchmarkHTTPGet is a GET from the client's socket through gateway, NATS and service, and back.
func BenchmarkHTTPGet(b *testing.B) {
	ns := startNATS(b)
	serveAnything(b, ns.ClientURL())
	g, err := startGateway(Start{NATS: ns.ClientURL(), Log: slog.New(slog.DiscardHandler)}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(g.Stop)
	x := dialRaw(b, strings.TrimSuffix(strings.TrimPrefix(g.URL(), "ws://"), "/"))
	request := []byte("GET /api/m HTTP/1.1\r\nHost: h\r\n\r\n")
	length := x.exchange(b, "GET", "/api/m", nil, "").whole
	got := make([]byte, length)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(x.r, got); err != nil {
			b.Fatal(err)
		}
	}
}
