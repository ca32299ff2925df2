package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"sluice/internal/config"
	"sluice/internal/metrics"
	"sluice/internal/res"
	"sluice/wsproto"
)

const (
	// handoverQueue is how many connections may wait for the HTTP server's
	// accept loop, which only starts a goroutine for each.
	handoverQueue = 256
	// httpIdle is how long a kept-alive HTTP connection may be silent.
	httpIdle = 60 * time.Second
	// httpExchange bounds reading a request's body and writing its answer.
	httpExchange = 30 * time.Second
	// refuseTimeout bounds the write of the short answer to a connection that
	// finds the queue full. Its send buffer is empty, so the write does not
	// wait in practice.
	refuseTimeout = 10 * time.Millisecond
)

// handoverListener is a net.Listener whose connections come from the event
// loops. Any goroutine may use it.
type handoverListener struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoverListener(addr net.Addr) *handoverListener {
	return &handoverListener{addr: addr, conns: make(chan net.Conn, handoverQueue), done: make(chan struct{})}
}

// offer passes c on without ever waiting; false means that the queue is full or
// the listener closed, and c is still the caller's.
func (l *handoverListener) offer(c net.Conn) bool {
	select {
	case <-l.done:
		return false
	default:
	}
	select {
	case l.conns <- c:
	default:
		return false
	}
	select {
	case <-l.done: // perhaps nobody drains any more
		l.drain()
	default:
	}
	return true
}

// drain closes the connections that nobody accepted.
func (l *handoverListener) drain() {
	for {
		select {
		case c := <-l.conns:
			_ = c.Close()
		default:
			return
		}
	}
}

// Accept implements net.Listener.
func (l *handoverListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It closes what is still in the queue too.
func (l *handoverListener) Close() error {
	l.once.Do(func() { close(l.done) })
	l.drain()
	return nil
}

// Addr implements net.Listener.
func (l *handoverListener) Addr() net.Addr { return l.addr }

// httpOptions is what the HTTP side needs to know.
type httpOptions struct {
	addr        net.Addr // what the loops listen on
	wsPath      string
	maxHead     int           // bytes
	headTimeout time.Duration // for a whole head, after its first byte
	api         http.Handler  // everything below apiPath; nil: none
	apiPath     string        // with a slash at both ends
	pages       http.Handler  // nil: none
	natsUp      func() bool   // called by any goroutine
	// adopt takes a WebSocket upgrade back to a loop: the connection, the
	// request's head and whatever bytes followed it.
	adopt   func(c net.Conn, head []byte)
	metrics *httpMetrics // nil: not of interest
	log     *slog.Logger
}

// httpMetrics counts what the HTTP side does with connections. Any goroutine
// may read it.
type httpMetrics struct {
	refused metrics.Counter                       // closed with 503 because the queue was full
	adopted metrics.Counter                       // WebSocket upgrades given back to a loop
	methods [len(httpMethods) + 1]metrics.Counter // requests below apiPath, others last
}

// httpMethods are those that are counted one by one.
var httpMethods = [...]string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}

// count notes a request for a resource.
func (m *httpMetrics) count(method string) {
	i := 0
	for i < len(httpMethods) && httpMethods[i] != method {
		i++
	}
	m.methods[i].Inc()
}

// httpSide serves what is not WebSocket, on net/http, on connections that the
// event loops hand over. Health checks and pages live here.
type httpSide struct {
	httpOptions
	listener *handoverListener
	server   *http.Server
	served   chan struct{} // closed when the accept loop has ended
}

func newHTTPSide(o httpOptions) *httpSide {
	if o.metrics == nil {
		o.metrics = new(httpMetrics)
	}
	h := &httpSide{httpOptions: o, listener: newHandoverListener(o.addr), served: make(chan struct{})}
	h.server = &http.Server{
		Handler:                      h,
		DisableGeneralOptionsHandler: true, // the target "*" is ours to refuse
		ReadHeaderTimeout:            o.headTimeout,
		ReadTimeout:                  o.headTimeout + httpExchange,
		WriteTimeout:                 httpExchange,
		IdleTimeout:                  httpIdle,
		MaxHeaderBytes:               o.maxHead,
		ErrorLog:                     slog.NewLogLogger(o.log.Handler(), slog.LevelDebug),
	}
	return h
}

// start begins to serve, in a goroutine that ends with stop.
func (h *httpSide) start() {
	go func() {
		defer close(h.served)
		if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			h.log.Error("the HTTP server ended", "error", err)
		}
	}()
}

// handover takes a plain HTTP connection from an event loop. It never waits: if
// the server cannot keep up, the client gets 503 and is closed.
func (h *httpSide) handover(c net.Conn) {
	if h.listener.offer(c) {
		return
	}
	h.metrics.refused.Inc()
	_ = c.SetWriteDeadline(time.Now().Add(refuseTimeout))
	_, _ = c.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	_ = c.Close()
}

// stop ends the server: no new connections, answers under way may finish until
// ctx ends, then everything is closed. It may be called once, after start.
func (h *httpSide) stop(ctx context.Context) error {
	err := h.server.Shutdown(ctx)
	if err != nil {
		_ = h.server.Close()
	}
	_ = h.listener.Close()
	<-h.served
	return err
}

// ServeHTTP routes one request.
func (h *httpSide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.RequestURI == "*":
		w.Header().Set("Connection", "close")
		writeError(w, http.StatusBadRequest, res.ErrBadRequest)
	case r.URL.Path == config.HealthPath:
		h.health(w, r)
	case r.Header["Upgrade"] != nil && h.giveBack(w, r):
	case h.api != nil && (strings.HasPrefix(r.URL.EscapedPath(), h.apiPath) || r.URL.Path+"/" == h.apiPath):
		h.metrics.count(r.Method)
		h.api.ServeHTTP(w, r)
	case h.pages != nil:
		h.pages.ServeHTTP(w, r)
	case r.URL.Path == h.wsPath:
		writeError(w, http.StatusBadRequest, res.ErrBadRequest)
	default:
		NotFound(w, r)
	}
}

// health answers 200 while services can be reached, else 503: a balancer then
// sends new clients elsewhere.
func (h *httpSide) health(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, http.StatusMethodNotAllowed, res.ErrMethodNotAllowed)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	if h.natsUp() {
		writeJSON(w, http.StatusOK, `{"status":"ok","nats":"connected"}`)
	} else {
		writeJSON(w, http.StatusServiceUnavailable, `{"status":"unavailable","nats":"disconnected"}`)
	}
}

// giveBack returns a connection whose earlier requests were plain HTTP, and
// that now asks for WebSocket, to an event loop, with the request's head and
// all that came after it. Whether the request is for a loop is decided by the
// very code that a loop uses: were they of two minds, the connection would go
// back and forth. The rest of the handshake's rules is the loop's to check.
// False means that the request is an ordinary one.
func (h *httpSide) giveBack(w http.ResponseWriter, r *http.Request) bool {
	raw := appendHead(nil, r)
	var head wsproto.Head
	if n, err := wsproto.ParseHead(raw, len(raw)+1, &head); n == 0 || err != nil {
		return false
	}
	if string(head.Path()) != h.wsPath || !head.IsUpgrade() {
		return false
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		h.log.Error("a WebSocket upgrade cannot leave the HTTP server", "error", err)
		writeError(w, http.StatusInternalServerError, res.ErrInternal)
		return true
	}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n) // cannot fail: it asks for what is there
		raw = append(raw, early...)
	}
	h.metrics.adopted.Inc()
	h.adopt(c, raw)
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

// NotFound answers 404 with the body that the gateway gives for any unknown
// path; for Config.Pages handlers.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	writeError(w, http.StatusNotFound, res.ErrNotFound)
}

func writeError(w http.ResponseWriter, status int, e *res.Error) {
	writeJSON(w, status, string(e.AppendJSON(nil)))
}

func writeJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // the client may be gone
}
