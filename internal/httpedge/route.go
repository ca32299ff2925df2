package httpedge

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"sluice/internal/config"
	"sluice/internal/httpapi"
	"sluice/internal/metrics"
	"sluice/internal/res"
	"sluice/wsproto"
)

// Metrics counts what the HTTP side does. Any goroutine may read it.
type Metrics struct {
	Refused metrics.Counter                       // connections closed with 503 because the queue to net/http was full
	Busy    metrics.Counter                       // requests rejected with 503 because too many long responses were being encoded
	methods [len(httpMethods) + 1]metrics.Counter // requests below apiPath; the last is for other methods
}

// httpMethods are the methods with a counter each.
var httpMethods = [...]string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}

// Methods returns the counters of requests for resources, by method; OTHER is for all other
// methods.
func (m *Metrics) Methods() map[string]*metrics.Counter {
	all := make(map[string]*metrics.Counter, len(httpMethods))
	for i, name := range httpMethods {
		all[name] = &m.methods[i]
	}
	all["OTHER"] = &m.methods[len(httpMethods)]
	return all
}

// count counts a request for a resource.
func (m *Metrics) count(method string) {
	i := 0
	for i < len(httpMethods) && httpMethods[i] != method {
		i++
	}
	m.methods[i].Inc()
}

// ServeHTTP routes a request on net/http.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handled(r)
	e.api.Origins().Vary(w.Header())
	e.hint(w.Header())
	switch {
	case e.isProbe(r):
		e.health(w, r)
	case r.RequestURI == "*":
		w.Header().Set("Connection", "close")
		fail(w, r, http.StatusBadRequest, res.ErrBadRequest)
	case e.isHealth(r.URL.Path):
		e.check(w, r)
	case r.Header["Upgrade"] != nil && e.giveBack(w, r):
	default:
		key, why := e.limit(r)
		if why != nil {
			e.tooActive(w, r, why)
			return
		}
		defer e.o.Addresses.Leave(key)
		e.serve(w, r)
	}
}

// serve is ServeHTTP for a request that is neither a health check nor an upgrade.
func (e *Edge) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case e.api.Below([]byte(r.URL.EscapedPath())) || e.api.IsAPIPath(r.URL.EscapedPath()):
		e.o.Metrics.count(r.Method)
		e.api.ServeHTTP(w, e.takeToken(r))
	case e.o.Pages != nil:
		e.o.Pages.ServeHTTP(w, r)
	case r.URL.Path == e.o.WSPath:
		fail(w, r, http.StatusBadRequest, noUpgrade(r))
	default:
		NotFound(w, r)
	}
}

// isProbe reports whether a request is the health check of a load balancer other than on
// healthPath: HAProxy's is OPTIONS with HTTP/1.0, that of others HEAD or OPTIONS of the root,
// unless the root is a page or the API.
func (e *Edge) isProbe(r *http.Request) bool {
	switch {
	case e.o.HideHealth, r.Method != http.MethodOptions && r.Method != http.MethodHead:
		return false
	case r.RequestURI == "*":
		return r.Method == http.MethodOptions && !r.ProtoAtLeast(1, 1)
	}
	return r.URL.Path == "/" && e.o.Pages == nil && !e.api.Below([]byte("/"))
}

// noUpgrade returns the error for a request to wsPath that is not a WebSocket handshake. If it
// seems meant to be one, the error names the missing fields.
func noUpgrade(r *http.Request) *res.Error {
	raw := appendHead(nil, r)
	var head wsproto.Head
	if n, err := wsproto.ParseHead(raw, len(raw)+1, &head); n == 0 || err != nil {
		return res.ErrBadRequest
	}
	why, meant := wsproto.CheckComplete(&head)
	if why == nil || !meant {
		return res.ErrBadRequest
	}
	return &res.Error{Code: res.CodeBadRequest, Message: "Bad request: " + why.Reason}
}

// health responds with 200 while NATS is connected and the gateway is not being stopped, otherwise
// with 503: load balancers then choose another gateway.
func (e *Edge) health(w http.ResponseWriter, r *http.Request) {
	if !asksHealth(w, r) {
		return
	}
	resp := httpapi.Response{Header: w.Header()}
	switch {
	case e.o.Gateway.Draining():
		resp.JSON(http.StatusServiceUnavailable, []byte(`{"status":"stopping"}`))
	case e.o.Gateway.Healthy():
		resp.JSON(http.StatusOK, []byte(`{"status":"ok","nats":"connected"}`))
	default:
		resp.JSON(http.StatusServiceUnavailable, []byte(`{"status":"unavailable","nats":"disconnected"}`))
	}
	send(w, r, &resp)
}

// Health returns the handler of health checks on another port: of all their paths.
func (e *Edge) Health() http.Handler { return http.HandlerFunc(e.check) }

// check responds to a health check on one of their paths.
func (e *Edge) check(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case config.ReadyPath:
		e.ready(w, r)
	case config.LivePath:
		e.live(w, r)
	default:
		e.health(w, r)
	}
}

// asksHealth reports whether the method is one of health checks, and responds with 405 if it is
// not. OPTIONS is the default of some load balancers.
func asksHealth(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Cache-Control", "no-store")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodOptions:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		return true
	}
	w.Header().Set("Allow", "GET, HEAD, OPTIONS")
	fail(w, r, http.StatusMethodNotAllowed, res.ErrMethodNotAllowed)
	return false
}

// ready responds with 200 while requests can be served in full, otherwise with 503 and the reason.
func (e *Edge) ready(w http.ResponseWriter, r *http.Request) {
	if !asksHealth(w, r) {
		return
	}
	status, text := http.StatusOK, "ready"
	if err := e.o.Gateway.Ready(); err != nil {
		status, text = http.StatusServiceUnavailable, err.Error()
	}
	if e.o.Gateway.Draining() {
		status, text = http.StatusServiceUnavailable, "the gateway is stopping"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the client may be gone
}

// giveBack returns a connection that asks for a WebSocket upgrade after other requests to an event
// loop, with the request's head and the bytes read after it. It decides with the code that a loop
// uses: if the two differed, the connection would go back and forth. The loop checks the rest of
// the handshake. giveBack returns false if the request is no upgrade on wsPath.
func (e *Edge) giveBack(w http.ResponseWriter, r *http.Request) bool {
	raw := appendHead(nil, r)
	var head wsproto.Head
	if n, err := wsproto.ParseHead(raw, len(raw)+1, &head); n == 0 || err != nil {
		return false
	}
	if string(head.Path()) != EscapedPath(e.o.WSPath) || !head.IsUpgrade() {
		return false
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		e.unmoved.Log(e.o.Log, slog.LevelError, e.o.Clock.Now(), time.Second,
			"cannot take a WebSocket upgrade over from net/http", "remote", r.RemoteAddr, "error", err)
		fail(w, r, http.StatusInternalServerError, res.ErrInternal)
		return true
	}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n) // cannot fail: n bytes are buffered
		raw = append(raw, early...)
	}
	e.o.Gateway.Adopt(innerConn(c), raw)
	return true
}

// appendHead appends r's head as received, but for the order and letter case of field names.
// net/http keeps the host and the transfer coding apart from the header.
func appendHead(dst []byte, r *http.Request) []byte {
	b := bytes.NewBuffer(dst)
	fmt.Fprintf(b, "%s %s %s\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Proto, r.Host)
	for _, coding := range r.TransferEncoding {
		fmt.Fprintf(b, "Transfer-Encoding: %s\r\n", coding)
	}
	_ = r.Header.Write(b) // a bytes.Buffer does not fail
	b.WriteString("\r\n")
	return b.Bytes()
}

// NotFound responds as the gateway does to an unknown path: 404 with a system.notFound error. It is
// for handlers of Config.Pages.
func NotFound(w http.ResponseWriter, r *http.Request) {
	fail(w, r, http.StatusNotFound, res.ErrNotFound)
}

// fail responds with an error.
func fail(w http.ResponseWriter, r *http.Request, status int, err *res.Error) {
	resp := httpapi.Response{Header: w.Header()}
	resp.FailAs(status, err)
	send(w, r, &resp)
}

// send sends the response to a request that is not for a resource.
func send(w http.ResponseWriter, r *http.Request, resp *httpapi.Response) {
	resp.Header.Set("X-Content-Type-Options", "nosniff")
	resp.Send(w, r.Method)
}
