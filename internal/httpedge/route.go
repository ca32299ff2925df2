package httpedge

import (
	"bytes"
	"fmt"
	"net/http"

	"sluice/internal/config"
	"sluice/internal/httpapi"
	"sluice/internal/metrics"
	"sluice/internal/res"
	"sluice/wsproto"
)

// Metrics counts what the HTTP side does. Any goroutine may read it.
type Metrics struct {
	Refused metrics.Counter                       // connections closed with 503 because the queue was full
	Busy    metrics.Counter                       // answered with 503 because too many long responses were being encoded
	methods [len(httpMethods) + 1]metrics.Counter // requests below apiPath, others last
}

// httpMethods are those that are counted one by one.
var httpMethods = [...]string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}

// Methods returns the counters of requests for resources, by method; OTHER counts all others.
func (m *Metrics) Methods() map[string]*metrics.Counter {
	all := make(map[string]*metrics.Counter, len(httpMethods))
	for i, name := range httpMethods {
		all[name] = &m.methods[i]
	}
	all["OTHER"] = &m.methods[len(httpMethods)]
	return all
}

// count notes a request for a resource.
func (m *Metrics) count(method string) {
	i := 0
	for i < len(httpMethods) && httpMethods[i] != method {
		i++
	}
	m.methods[i].Inc()
}

// ServeHTTP routes one request that net/http has.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handled(r)
	e.api.Origins().Vary(w.Header())
	switch {
	case e.isProbe(r):
		e.health(w, r)
	case r.RequestURI == "*":
		w.Header().Set("Connection", "close")
		fail(w, r, http.StatusBadRequest, res.ErrBadRequest)
	case r.URL.Path == config.HealthPath:
		e.health(w, r)
	case r.URL.Path == config.ReadyPath:
		e.ready(w, r)
	case r.Header["Upgrade"] != nil && e.giveBack(w, r):
	case e.api.Below([]byte(r.URL.EscapedPath())) || e.api.IsAPIPath(r.URL.EscapedPath()):
		e.o.Metrics.count(r.Method)
		e.api.ServeHTTP(w, r)
	case e.o.Pages != nil:
		e.o.Pages.ServeHTTP(w, r)
	case r.URL.Path == e.o.WSPath:
		fail(w, r, http.StatusBadRequest, noUpgrade(r))
	default:
		NotFound(w, r)
	}
}

// isProbe reports whether a load balancer asks, at a place that has nothing else
// to say, whether the gateway can serve: HAProxy by OPTIONS and an old version,
// others by HEAD or OPTIONS of the root.
func (e *Edge) isProbe(r *http.Request) bool {
	switch {
	case r.Method != http.MethodOptions && r.Method != http.MethodHead:
		return false
	case r.RequestURI == "*":
		return r.Method == http.MethodOptions && !r.ProtoAtLeast(1, 1)
	}
	return r.URL.Path == "/" && e.o.Pages == nil && !e.api.Below([]byte("/"))
}

// noUpgrade is the error of a request for wsPath that is no handshake. If it was
// meant to be one, the error names the header fields that are missing.
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

// health answers 200 while services can be reached and the gateway is not being
// stopped, else 503: a balancer then sends new clients elsewhere.
func (e *Edge) health(w http.ResponseWriter, r *http.Request) {
	if !asksHealth(w, r) {
		return
	}
	a := httpapi.Answer{Header: w.Header()}
	switch {
	case e.o.Gateway.Draining():
		a.JSON(http.StatusServiceUnavailable, []byte(`{"status":"stopping"}`))
	case e.o.Gateway.Healthy():
		a.JSON(http.StatusOK, []byte(`{"status":"ok","nats":"connected"}`))
	default:
		a.JSON(http.StatusServiceUnavailable, []byte(`{"status":"unavailable","nats":"disconnected"}`))
	}
	send(w, r, &a)
}

// asksHealth reports whether the method is one of health checks, and answers if
// it is not. OPTIONS is the default of some load balancers.
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

// ready answers 200 while new clients are served in full, else 503 with the
// reason.
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

// giveBack returns a connection whose earlier requests were plain HTTP, and
// that now asks for WebSocket, to an event loop, with the request's head and
// all that came after it. Whether the request is for a loop is decided by the
// very code that a loop uses: were they of two minds, the connection would go
// back and forth. The rest of the handshake's rules is the loop's to check.
// False means that the request is an ordinary one.
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
		e.o.Log.Error("a WebSocket upgrade cannot leave the HTTP server", "error", err)
		fail(w, r, http.StatusInternalServerError, res.ErrInternal)
		return true
	}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n) // cannot fail: it asks for what is there
		raw = append(raw, early...)
	}
	e.o.Gateway.Adopt(innerConn(c), raw)
	return true
}

// appendHead writes r's head again as it came, but for the order and case of
// the header's names, which have no meaning. net/http keeps some of it apart:
// the host, the length of a body and its encoding.
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

// NotFound responds with 404 and the body that the gateway gives for any unknown
// path; for Config.Pages handlers.
func NotFound(w http.ResponseWriter, r *http.Request) {
	fail(w, r, http.StatusNotFound, res.ErrNotFound)
}

// fail responds with an error.
func fail(w http.ResponseWriter, r *http.Request, status int, err *res.Error) {
	a := httpapi.Answer{Header: w.Header()}
	a.FailAs(status, err)
	send(w, r, &a)
}

// send sends the response to a request that is not for a resource.
func send(w http.ResponseWriter, r *http.Request, a *httpapi.Answer) {
	a.Header.Set("X-Content-Type-Options", "nosniff")
	a.Send(w, r.Method)
}
